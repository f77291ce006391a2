"""Artifacts appear whole or not at all, are made once, and whatever is wrong with one is named."""

import json
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
from safetensors.numpy import save_file

from flowlib import artifacts
from flowlib.artifacts import Artifact, ArtifactError, array_hash, cached, code_hash, digest, key, read, write

ARRAYS = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "losses": np.array([2.5, 1.5]), "step": np.array(7)}


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    return tmp_path


def make(_: Path) -> Artifact:
    return Artifact(ARRAYS, {"seconds": 1.5})


def file_of(parts: dict[str, Any]) -> Path:
    return artifacts.artifact_folder() / "model" / f"{key(parts)}.safetensors"


def test_what_is_written_is_read(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    write(path, Artifact({**ARRAYS, "turned": ARRAYS["weights"].T}, {"seed": 3, "parts": {"a": [1, "b"]}}))
    arrays, notes = read(path)
    assert notes == {"seed": 3, "parts": {"a": [1, "b"]}}
    assert arrays.keys() == {*ARRAYS, "turned"}
    assert np.array_equal(arrays["turned"], ARRAYS["weights"].T)
    assert arrays["weights"].dtype == np.float32
    assert arrays["losses"].tolist() == [2.5, 1.5]
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_artifact_is_made_once_and_notes_its_parts(data_folder: Path):
    parts = {"seed": 1, "options": {"b": 2, "a": [1.5, None]}}
    given: list[Path] = []

    def counted(checkpoint: Path) -> Artifact:
        given.append(checkpoint)
        checkpoint.write_bytes(b"half of it")
        return make(checkpoint)

    first = cached("model", parts, counted)
    again = cached("model", {"options": {"a": [1.5, None], "b": 2}, "seed": 1}, counted)  # order says nothing
    assert len(given) == 1
    assert not given[0].exists()
    assert all(np.array_equal(again.arrays[name], first.arrays[name]) for name in ("weights", "losses"))
    assert again.notes == {"seconds": 1.5, "parts": parts}
    assert file_of(parts).exists()
    cached("scores", parts, counted)
    cached("model", parts | {"seed": 2}, counted)
    assert len(given) == 3


def test_keys_tell_what_differs():
    assert key({"a": 1}) != key({"a": 2}) != key({"b": 2})
    zeros = np.zeros(4, np.uint8)
    hashes = [zeros, zeros.reshape(2, 2), zeros.astype(np.int8), np.zeros(5, np.uint8), zeros + np.uint8(1)]
    assert len({array_hash(array) for array in hashes}) == 5
    assert array_hash(ARRAYS["weights"].T) == array_hash(ARRAYS["weights"].T.copy())
    assert code_hash("json") != code_hash("json", "flowlib.artifacts")
    with pytest.raises(ValueError, match="JSON"):
        key({"learning_rate": float("nan")})


def test_code_hash_is_that_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = tmp_path / "some_module.py"
    hashes = []
    monkeypatch.syspath_prepend(tmp_path)
    for source in ("x = 1\n", "x = 2\n"):
        module.write_text(source)
        __import__("some_module")
        code_hash.cache_clear()
        hashes.append(code_hash("some_module"))
    monkeypatch.delitem(sys.modules, "some_module")
    assert hashes[0] != hashes[1]


def test_truncations_and_flipped_bits_are_refused(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    write(path, make(tmp_path))
    whole = path.read_bytes()
    flipped = [whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :] for i in range(len(whole))]
    for damaged in [whole[:i] for i in range(0, len(whole), 5)] + flipped[::2] + [whole + b"\0"]:
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=rf"{path} is damaged .*delete it, it will be made anew"):
            read(path)
    path.write_bytes(whole)
    assert read(path).notes == {"seconds": 1.5}


def header(**entries: Any) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


CRAFTED = {
    "empty": b"",
    "huge header": (2**40).to_bytes(8, "little") + b"{}",
    "huge shape": header(x={"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}) + b"1234",
    "negative shape": header(x={"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}) + b"1234",
    "wrong shape": header(x={"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}) + b"1234",
    "outside": header(x={"dtype": "F32", "shape": [1], "data_offsets": [400, 404]}) + b"1234",
    "no metadata": header(x={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}) + b"1234",
    "odd type": header(
        __metadata__={"notes": "{}", "sha256": ""}, x={"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}
    )
    + b"1234",
    "pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x94\x8c\x04true\x85R.",
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_file_is_refused(name: str, tmp_path: Path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(CRAFTED[name])
    with pytest.raises(ArtifactError, match=f"{path} is damaged"):
        read(path)


def test_notes_that_are_no_json_are_refused(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    arrays = {"x": np.zeros(2)}
    for notes, sha256 in (("nonsense", digest(arrays, "nonsense")), ("{}", "0"), ("{}", digest({"y": np.ones(1)}, ""))):
        save_file(arrays, path, {"notes": notes, "sha256": sha256})
        with pytest.raises(ArtifactError, match=f"{path} is damaged"):
            read(path)
    save_file(arrays, path, {"notes": "{}", "sha256": digest(arrays, "{}")})
    assert read(path).arrays["x"].tolist() == [0, 0]


def test_damaged_artifact_is_named_put_aside_and_made_anew(capsys: pytest.CaptureFixture[str]):
    parts = {"seed": 1}
    cached("model", parts, make)
    path = file_of(parts)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert cached("model", parts, make).notes == {"seconds": 1.5}
    printed = capsys.readouterr().err
    assert printed.startswith(f"{path} is damaged")
    assert printed.endswith("made anew now\n")
    assert printed.count("\n") == 1
    assert np.array_equal(read(path).arrays["weights"], ARRAYS["weights"])
    assert path.with_suffix(".damaged").read_bytes() == whole[:-1]
    cached("model", parts, make)
    assert capsys.readouterr().err == ""


def test_two_processes_make_an_artifact_once(tmp_path: Path):
    script = """
import sys, time
from pathlib import Path
import numpy as np
from flowlib.artifacts import Artifact, cached
def make(checkpoint):
    with Path(sys.argv[1]).open("a") as file:
        file.write("made\\n")
    time.sleep(0.7)
    return Artifact({"x": np.ones(3)}, {})
Path(sys.argv[1] + sys.argv[2]).touch()
while not all(Path(sys.argv[1] + other).exists() for other in "ab"):
    time.sleep(0.01)
print(cached("model", {"seed": 1}, make).arrays["x"].sum())
"""
    made = tmp_path / "made"
    command = [sys.executable, "-c", script, str(made)]
    running = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in "ab"]
    assert [process.communicate(timeout=60)[0] for process in running] == ["3.0\n", "3.0\n"]
    assert made.read_text() == "made\n"


def test_waiting_process_finds_a_damaged_artifact_already_mended(capsys: pytest.CaptureFixture[str]):
    """Both saw the damage; only the one that had the lock first puts it aside."""
    parts = {"seed": 1}
    cached("model", parts, make)
    path = file_of(parts)
    whole = path.read_bytes()
    path.write_bytes(b"half")
    made: list[int] = []

    def counted(checkpoint: Path) -> Artifact:
        made.append(1)
        return make(checkpoint)

    with filelock.FileLock(path.with_suffix(".lock")):
        other = threading.Thread(target=cached, args=("model", parts, counted))
        other.start()
        other.join(0.3)
        assert other.is_alive()
        path.write_bytes(whole)
    other.join(10)
    assert made == []
    assert capsys.readouterr().err == ""
    assert path.read_bytes() == whole


def lock_is_free(path: Path) -> bool:
    with filelock.FileLock(path.with_suffix(".lock"), timeout=0):
        return True


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("how", ["save_file", "limit", "replace"])
def test_full_disk_is_one_clear_error(how: str, monkeypatch: pytest.MonkeyPatch):
    parts = {"seed": 1}
    path = file_of(parts)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    try:
        with monkeypatch.context() as patch:
            if how == "save_file":
                patch.setattr(artifacts, "save_file", full)
            elif how == "replace":
                patch.setattr(Path, "replace", full)
            else:  # what safetensors itself raises when the system refuses to write
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
            with pytest.raises(ArtifactError) as error:
                cached("model", parts, lambda _: Artifact({"x": np.zeros(10_000)}, {}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    message = str(error.value)
    assert message.startswith(f"{path.parent} cannot be written (")
    assert "No space left" in message or "File too large" in message
    assert message.endswith("free space or make it writable, or set FLOWLIB_DATA")
    assert files_in(path.parent) == []
    assert lock_is_free(path)
    assert cached("model", parts, make).notes["seconds"] == 1.5


def test_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("a file, where a folder is asked for")
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path / "file"))
    with pytest.raises(ArtifactError, match=r"file/artifacts/model cannot be written .*or set FLOWLIB_DATA"):
        cached("model", {"seed": 1}, make)


def test_read_only_folder(monkeypatch: pytest.MonkeyPatch):
    """What is there can be read; what is not gives one clear error. Refused by hand: root may write anywhere."""
    cached("model", {"seed": 1}, make)

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(artifacts, "FileLock", refused)
    monkeypatch.setattr(artifacts.tempfile, "mkstemp", refused)
    assert cached("model", {"seed": 1}, make).notes["seconds"] == 1.5
    for parts in ({"seed": 2}, {"seed": 1}):
        with pytest.raises(ArtifactError, match=r"model cannot be written .*Permission denied.*make it writable"):
            cached("model", parts, make)
        file_of({"seed": 1}).write_bytes(b"damaged")


def test_error_while_making_leaves_no_file_and_frees_the_lock():
    path = file_of({"seed": 1})

    def fail(checkpoint: Path) -> Artifact:
        checkpoint.write_bytes(b"half of it")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cached("model", {"seed": 1}, fail)
    assert files_in(path.parent) == [path.with_suffix(".checkpoint").name]  # what is done is not lost
    assert lock_is_free(path)
    assert cached("model", {"seed": 1}, make).notes["seconds"] == 1.5
    assert files_in(path.parent) == [path.name]
