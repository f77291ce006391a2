"""The C++ of this package, compiled when it is first needed; without a compiler everything works, slower."""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from flowlib.runtime.code import with_headers
from flowlib.runtime.files import write_text
from flowlib.runtime.paths import PACKAGE, cache_folder

FLAGS = ["-O3", "-std=c++17", "-shared", "-fPIC"]
# what torch has found the processor to be able to do, not "native": a library may be met by another machine
INSTRUCTIONS = {
    "AVX512": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma"],
    "AVX2": ["-mavx2", "-mfma"],
}
SECONDS = 120  # to compile


@cache
def library(name: str) -> ctypes.CDLL | None:
    """The functions of a C++ file of the package, such as ``kernels/steps.cpp``; None where it can neither be loaded
    nor compiled.

    Compiled by ``$CXX``, c++, g++ or clang++ (a few seconds) to ``~/.cache/flowlib`` (``$XDG_CACHE_HOME/flowlib``),
    under a name made of its source and flags: an old library is never taken for a new one.
    """
    source = PACKAGE / name
    flags = FLAGS + INSTRUCTIONS.get(torch.backends.cpu.get_cpu_capability(), [])
    with suppress(OSError, RuntimeError, ValueError, subprocess.SubprocessError):
        key = hashlib.sha256(
            b"".join(path.read_bytes() for path in with_headers(source)) + " ".join(flags).encode()
        ).hexdigest()
        path = cache_folder() / f"{source.stem}-{key[:16]}.so"
        if not intact(path):
            build(source, flags, path)
            write_text(path.with_suffix(".sha256"), digest(path))
        return ctypes.CDLL(str(path))
    return None


def intact(path: Path) -> bool:
    """Whether `path` is there and as it was made: the loader would crash on half of a library."""
    try:
        return digest(path) == path.with_suffix(".sha256").read_text()
    except FileNotFoundError:
        return False


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def build(source: Path, flags: list[str], path: Path) -> None:
    """Compile `source` to `path`, which appears whole or not at all, whoever else is at it.

    Raises FileNotFoundError without a compiler, CalledProcessError or TimeoutExpired when it fails, OSError when `path`
    cannot be written.
    """
    compilers = filter(shutil.which, ("c++", "g++", "clang++"))
    compiler = shlex.split(os.environ.get("CXX") or next(compilers, "c++"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        command = [*compiler, *flags, str(source), "-o", str(made)]
        try:  # torch's own OpenMP serves it, which is loaded before
            subprocess.run([*command, "-fopenmp"], check=True, capture_output=True, timeout=SECONDS)
        except subprocess.CalledProcessError:  # a compiler without: one thread
            subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
        made.replace(path)
