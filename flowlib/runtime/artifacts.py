"""What was computed once is kept: arrays under a key made of everything that determines them.

An artifact is one safetensors file, ``data/artifacts/<kind>/<key>.safetensors``: named arrays, and in its metadata the
parts of the key, notes, and a SHA-256 over all of it. Nothing is ever unpickled. Files appear whole or not at all; a
truncated or altered one is named, put aside and made anew. Two processes that want the same artifact make it once.
"""

import hashlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from flowlib.runtime import code
from flowlib.runtime.files import mend
from flowlib.runtime.paths import data_folder

Arrays = dict[str, np.ndarray]


class ArtifactError(RuntimeError):
    """An artifact cannot be read or written, and the message names the file and says what to do."""


class Artifact(NamedTuple):
    arrays: Arrays
    notes: dict[str, Any]  # JSON


def artifact_folder() -> Path:
    """Where artifacts are kept: ``artifacts`` in the data folder (`flowlib.runtime.paths.data_folder`)."""
    return data_folder() / "artifacts"


def path_of(kind: str, parts: dict[str, Any]) -> Path:
    """The file of the artifact determined by `parts`, whether it is there or not."""
    return artifact_folder() / kind / f"{key(parts)}.safetensors"


def cached(kind: str, parts: dict[str, Any], make: Callable[[Path], Artifact]) -> Artifact:
    """The artifact determined by `parts`, made by `make` if it is not there; its arrays in the order of their names.

    Arguments
    ---------
    kind: a word for the folder, such as "model".
    parts: all that determines the result, as JSON: hashes of data and code, options, seeds.
    make: is given a path for checkpoints of its own, which is removed when the artifact is complete.

    Raises ArtifactError when the folder cannot be written.
    """
    path = path_of(kind, parts)
    with suppress(FileNotFoundError, ArtifactError):  # a damaged one is dealt with below, by one process at a time
        return read(path)
    with clear_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"))
        lock.acquire()
    try:
        if (found := read_or_discard(path)) is not None:  # made while this process waited
            return found
        checkpoint = path.with_suffix(".checkpoint")
        made = make(checkpoint)
        write(path, Artifact(made.arrays, {**made.notes, "parts": parts, **modules_of(parts)}))
        checkpoint.unlink(missing_ok=True)
    finally:
        lock.release()
    return Artifact(dict(sorted(made.arrays.items())), made.notes)  # as it will be read


def key(parts: dict[str, Any]) -> str:
    """SHA-256 of `parts` as canonical JSON."""
    return hashlib.sha256(canonical(parts)).hexdigest()


def array_hash(array: np.ndarray) -> str:
    """SHA-256 of an array's type, shape and content."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


def modules_of(parts: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    """A note, ``{"modules": {hash: names}}``, of the code in a key: by it `flowlib.runtime.kept` knows older code."""
    text = json.dumps(parts)
    modules = {found: list(names) for found, names in code.HASHED.items() if f'"{found}"' in text}
    return {"modules": modules} if modules else {}


@contextmanager
def clear_error(path: Path) -> Iterator[None]:
    """An ArtifactError for whatever keeps a file from being written."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors' own when the disk is full
        raise ArtifactError(f"{path.parent} cannot be written ({error}): {mend(error)}, or set FLOWLIB_DATA") from error


def write(path: Path, artifact: Artifact) -> None:
    """Write atomically: under a temporary name in the same folder, flushed to disk, then renamed."""
    notes = canonical(artifact.notes).decode()
    arrays = {name: np.ascontiguousarray(array) for name, array in artifact.arrays.items()}
    metadata = {"notes": notes, "sha256": digest(arrays, notes)}
    with clear_error(path):
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(handle)
        try:
            save_file(arrays, temporary, metadata)
            with Path(temporary).open("rb") as file:
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def read(path: Path) -> Artifact:
    """Read and verify. Raises FileNotFoundError, or ArtifactError naming the file when it is not what was written."""
    try:
        check_file(path)
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
        notes = json.loads(metadata["notes"])
        intact = metadata["sha256"] == digest(arrays, metadata["notes"])
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise ArtifactError(f"{path} is damaged ({error}): delete it, it will be made anew") from error
    if not intact:
        raise ArtifactError(f"{path} is damaged (its SHA-256 differs): delete it, it will be made anew")
    return Artifact(arrays, notes)


# RecursionError: JSON within JSON within JSON
UNREADABLE = (SafetensorError, KeyError, OSError, ValueError, TypeError, AttributeError, RecursionError, MemoryError)


def check_file(path: Path) -> None:
    """Refuse what must not be opened or mapped. Raises FileNotFoundError, ValueError."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is no file")
    if state.st_size > psutil.virtual_memory().total:
        raise ValueError(f"its {state.st_size / 1e9:.0f} GB are more than the memory of this machine")


def read_or_discard(path: Path) -> Artifact | None:
    """The artifact, or None when there is none; a damaged one is named on standard error and put aside."""
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except ArtifactError as error:
        print(f"{error}; made anew now", file=sys.stderr)
        path.replace(path.with_suffix(".damaged"))
        return None


def digest(arrays: Arrays, notes: str) -> str:
    content = "".join(f"{name}:{array_hash(array)};" for name, array in sorted(arrays.items()))
    return hashlib.sha256((content + notes).encode()).hexdigest()


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
