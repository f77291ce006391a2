"""Artifacts appear whole or not at all, are made once, and whatever is wrong with one is named."""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import psutil
import pytest
from conftest import PATIENCE
from safetensors.numpy import save_file

from flowlib.runtime import artifacts, code, kept
from flowlib.runtime.artifacts import Artifact, ArtifactError, array_hash, cached, digest, key, read, write
from flowlib.runtime.code import code_hash

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
    with pytest.raises(ValueError, match="JSON"):
        key({"learning_rate": float("nan")})


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
from flowlib.runtime.artifacts import Artifact, cached
def make(checkpoint):
    with Path(sys.argv[1]).open("a") as file:
        file.write("made\\n")
    time.sleep(0.7)  # so that the other one meets the lock; with less a fault might pass unseen
    return Artifact({"x": np.ones(3)}, {})
Path(sys.argv[1] + sys.argv[2]).touch()
while not all(Path(sys.argv[1] + other).exists() for other in "ab"):
    time.sleep(0.01)
print(cached("model", {"seed": 1}, make).arrays["x"].sum())
"""
    made = tmp_path / "made"
    command = [sys.executable, "-c", script, str(made)]
    running = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in "ab"]
    assert [process.communicate(timeout=PATIENCE)[0] for process in running] == ["3.0\n", "3.0\n"]
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
    other.join(PATIENCE)
    assert made == []
    assert capsys.readouterr().err == ""
    assert path.read_bytes() == whole


def lock_is_free(path: Path) -> bool:
    with filelock.FileLock(path.with_suffix(".lock"), timeout=0):
        return True


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def test_arrays_are_in_one_order_made_or_read():
    made, read_again = (
        cached("model", {"seed": 1}, lambda _: Artifact({name: np.zeros(2) for name in ("b", "a10", "a9")}, {}))
        for _ in range(2)
    )
    assert list(made.arrays) == list(read_again.arrays) == ["a10", "a9", "b"]


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
    known = "No space left" in message
    assert message.endswith(f": free space{'' if known else ' or make it writable'}, or set FLOWLIB_DATA")
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


# --- crafted files that would hang, fill the memory or end the interpreter -----------------------------------------


def refused(path: Path, reason: str) -> None:
    with pytest.raises(ArtifactError, match=rf"^{path} is damaged \(.*{reason}"):
        read(path)


def test_petabytes_of_nothing_are_refused_before_they_are_mapped(tmp_path: Path):
    """A sparse file, whose header is right: it takes no room on disk, and more than there is in memory."""
    path = tmp_path / "a.safetensors"
    many = psutil.virtual_memory().total // 4 * 4 + 4
    head = header(
        __metadata__={"notes": "{}", "sha256": ""}, x={"dtype": "F32", "shape": [many // 4], "data_offsets": [0, many]}
    )
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + many)
    refused(path, "GB are more than the memory of this machine")


def test_what_is_no_file_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        refused(tmp_path / name, "it is no file")


def test_notes_within_notes_are_refused(tmp_path: Path):
    path, arrays, notes = tmp_path / "a.safetensors", {"x": np.zeros(1)}, "[" * 100_000 + "]" * 100_000
    save_file(arrays, path, {"notes": notes, "sha256": digest(arrays, notes)})
    refused(path, "recursion")
    deep = b'{"a":' + b"[" * 10_000_000 + b"}"
    path.write_bytes(len(deep).to_bytes(8, "little") + deep)
    refused(path, "recursion")


def test_shapes_that_overflow_and_types_that_numpy_has_not_are_refused(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    metadata = {"notes": "{}", "sha256": ""}
    for dtype, shape in (("F32", [2**32, 2**32, 2**32]), ("BF16", [2])):
        path.write_bytes(
            header(__metadata__=metadata, x={"dtype": dtype, "shape": shape, "data_offsets": [0, 4]}) + b"1234"
        )
        refused(path, "")


def test_names_of_arrays_are_no_paths(tmp_path: Path):
    """They name entries of a dictionary, and nothing is written by them."""
    path = tmp_path / "a" / "a.safetensors"
    path.parent.mkdir()
    write(path, Artifact({"../../outside": np.ones(1), "/etc/outside": np.ones(2)}, {}))
    assert set(read(path).arrays) == {"../../outside", "/etc/outside"}
    assert [found.name for found in tmp_path.rglob("*")] == ["a", "a.safetensors"]


# --- what is kept, and what of it no one needs (flowlib.runtime.kept) ------------------------------------------------


def made_with(module: str, seed: int) -> Path:
    """An artifact of code that is there."""
    parts = {"seed": seed, "code": code_hash(module), "recipe": {"model": "Glow", "steps": 7, "seed": seed}}
    cached("model", parts, make)
    return file_of(parts)


def states() -> dict[str, str]:
    return {item.path.name: item.state for item in kept.listed()}


@pytest.fixture
def all_kinds(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A file in every state, and one that is not ours."""
    paths = {"": made_with("flowlib.glow", 1)}
    with monkeypatch.context() as patch:  # code that has changed since
        patch.setattr(code, "files_of", lambda module: iter(()))
        code_hash.cache_clear()
        paths["older code"] = made_with("flowlib.metrics", 2)
    code_hash.cache_clear()
    paths["of old"] = artifacts.artifact_folder() / "scores" / f"{key({'model': paths['older code'].stem})}.safetensors"
    cached("scores", {"model": paths["older code"].stem}, make)
    paths["damaged"] = paths[""].with_name(f"{'d' * 64}.safetensors")
    paths["damaged"].write_bytes(paths[""].read_bytes()[:-9])
    paths["put aside"] = paths[""].with_name(f"{'e' * 64}.damaged")
    paths["checkpoint"] = paths[""].with_name(f"{'f' * 64}.checkpoint")
    paths["done checkpoint"] = paths[""].with_suffix(".checkpoint")
    paths["partial"] = paths[""].with_name(f".{'a' * 64}.safetensors.x1_y.partial")
    paths["partial checkpoint"] = paths[""].with_name(f".{'a' * 64}.checkpoint.x2.partial")
    paths["foreign"] = paths[""].with_name("notes.txt")
    for name in ("put aside", "checkpoint", "done checkpoint", "partial", "partial checkpoint", "foreign"):
        paths[name].write_bytes(b"1234")
    return paths


def test_list_names_every_state(all_kinds: dict[str, Path]):
    found = states()
    expected = {name: name for name in ("", "older code", "damaged", "checkpoint", "done checkpoint", "partial")}
    expected |= {"of old": "older code", "put aside": "damaged", "partial checkpoint": "partial"}
    assert {name: found[all_kinds[name].name] for name in expected} == expected
    assert "notes.txt" not in found
    text = "\n".join(kept.lines(kept.listed()))
    row = next(line for line in text.splitlines() if all_kinds[""].stem[:12] in line and "done" not in line)
    assert row.split("  ")[0] == "model"
    assert "Glow, 7 steps, seed 1" in row
    assert "2 s" in row  # 1.5, rounded
    assert f"{len(found)} files, " in text.splitlines()[-1]


def test_verified_list_finds_a_flipped_bit(data_folder: Path):
    path = made_with("flowlib.glow", 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert [item.state for item in kept.listed() if item.path == path] == [""]
    assert [item.state for item in kept.listed(verify=True) if item.path == path] == ["damaged"]


def test_cleaning_leaves_what_is_needed(all_kinds: dict[str, Path]):
    removed = kept.remove(kept.needless(kept.listed()))
    left = {name for name, path in all_kinds.items() if path.exists()}
    assert left == {"", "checkpoint", "foreign"}
    assert not list(artifacts.artifact_folder().rglob("*.lock"))
    assert len(removed) == len({item.path for item in removed}) > 7
    assert cached("model", {"seed": 1, "code": code_hash("flowlib.glow")}, make)  # and the folder is as good as new
    os.utime(all_kinds[""], (time.time() - 10 * kept.DAY,) * 2)
    assert kept.needless(kept.listed(), days=11) == [item for item in kept.listed() if item.state == "lock"]
    kept.remove(kept.needless(kept.listed(), days=9))
    assert not all_kinds[""].exists()
    assert all_kinds["checkpoint"].exists()
    kept.remove(kept.needless(kept.listed(), everything=True))
    assert [path.name for path in artifacts.artifact_folder().rglob("*") if path.is_file()] == ["notes.txt"]


def test_cleaning_leaves_what_a_running_process_makes(all_kinds: dict[str, Path]):
    """It holds the lock: neither the lock nor what it is writing is touched."""
    with filelock.FileLock(all_kinds["partial"].with_name(f"{'a' * 64}.lock")) as lock:
        kept.remove(kept.needless(kept.listed(), everything=True))
        left = sorted(path.name for path in artifacts.artifact_folder().rglob("*") if path.is_file())
        names = [all_kinds[name].name for name in ("partial", "partial checkpoint", "foreign")]
        assert left == sorted([*names, Path(lock.lock_file).name])


def test_crafted_notes_are_listed_as_damaged(data_folder: Path):
    folder = artifacts.artifact_folder() / "model"
    folder.mkdir(parents=True)
    crafted = [
        [],
        {"parts": []},
        {"seconds": "x"},
        {"modules": []},
        {"modules": {"0": "os"}},
        {"modules": {"0": ["os"]}},
    ]
    for number, notes in enumerate([*crafted, {"modules": {"0": ["flowlib.glow x"]}}]):
        write(folder / f"{number:064}.safetensors", Artifact({"x": np.ones(1)}, notes))  # type: ignore[arg-type]
    os.mkfifo(folder / f"{'a' * 64}.safetensors")
    assert set(states().values()) == {"damaged"}


def test_a_module_that_is_no_more_is_older_code(data_folder: Path):
    write_to = artifacts.artifact_folder() / "model" / f"{0:064}.safetensors"
    write_to.parent.mkdir(parents=True)
    write(write_to, Artifact({"x": np.ones(1)}, {"parts": {}, "modules": {"0": ["flowlib.no_such_module"]}}))
    assert set(states().values()) == {"older code"}


def test_nothing_kept_is_listed_in_a_line(data_folder: Path):
    assert kept.lines(kept.listed()) == [f"{artifacts.artifact_folder()}: 0 files, 0.0 kB"]
    with pytest.raises(kept.KeptError, match="days is -1"):
        kept.needless([], days=-1)
