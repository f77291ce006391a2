"""Where and from what a run is made."""

import contextlib
import importlib.metadata
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from flowlib.runtime.parallel import cores

PACKAGES = ("flowlib", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "matplotlib", "papermill")
ORIGIN = ("commit", "dirty", "device", "versions")  # of `provenance`: kept of each notebook, whose runs may differ


def provenance(root: Path) -> dict[str, Any]:
    """Where and from what a run is made: git commit and whether files differ from it, versions, device."""

    def output(*command: str) -> str | None:
        try:
            return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip() or None
        except (OSError, subprocess.CalledProcessError):
            return None

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    # compiled here, once, before all notebooks want it
    probe = (
        "from flowlib.runtime import compiled; print('compiled' if compiled.library('kernels/steps.cpp') else 'torch')"
    )
    versions["steps of flow"] = output(sys.executable, "-c", probe) or "unknown"
    gpu = None
    if shutil.which("nvidia-smi"):  # torch knows; asked in a process of its own, which gives the GPU's memory back
        probe = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
        gpu = output(sys.executable, "-c", probe)
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return {
        "commit": output("git", "rev-parse", "HEAD"),
        "dirty": output("git", "status", "--porcelain") is not None,
        "versions": versions,
        "device": {"gpu": gpu, "cpu": models[0] if models else platform.machine(), "cores": cores()},
    }
