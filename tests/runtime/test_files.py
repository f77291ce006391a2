"""Folders that a run fills and the next goes on with; tables that are read as written, whatever names hold."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock

from flowlib.runtime.files import mend, read_rows, replacing, resuming, write_rows

TYPES = {"file": "str", "score": "Float64"}


class FolderError(ValueError):
    pass


def other_seed(noted: dict[str, Any]) -> str:
    return "" if noted.get("seed", 1) == 1 else f"made with seed {noted['seed']}"


def fill(folder: Path, seed: int = 1) -> None:
    with resuming(folder, {"seed": seed}, other_seed, FolderError):
        (folder / "made").write_text(str(seed))


def test_a_folder_says_what_it_is_made_with(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "b")
    assert json.loads((tmp_path / "a" / "b" / "settings.json").read_text()) == {"seed": 1}


def test_other_settings_are_refused_before_anything_is_touched(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"seed": 2}')
    (tmp_path / ".left.partial").touch()
    with pytest.raises(FolderError, match="made with seed 2"):
        fill(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {"settings.json", ".left.partial"}


@pytest.mark.parametrize("text", ["", "[1]", "{half", "\xff"])
def test_damaged_settings_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_bytes(text.encode("latin-1"))
    fill(tmp_path)
    assert json.loads((tmp_path / "settings.json").read_text()) == {"seed": 1}


def test_what_killed_runs_left_is_deleted_but_nothing_of_a_stranger(tmp_path: Path) -> None:
    """A folder without settings was made by someone else."""
    left = tmp_path / "inside" / ".a.mp4.partial"
    left.parent.mkdir()
    left.touch()
    fill(tmp_path)
    assert left.exists()
    (tmp_path / ".stage.partial").mkdir()
    (tmp_path / ".stage.partial" / "0.png").touch()
    fill(tmp_path)
    assert list(tmp_path.rglob("*.partial")) == []
    assert (tmp_path / "made").exists()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(FolderError, match="is being written by another run"):
        fill(tmp_path)
    assert not (tmp_path / "made").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        FolderError, match=r"file cannot be written .*: move the file away that stands in its place, or"
    ):
        fill(tmp_path / "file")
    with pytest.raises(FolderError, match=r"cannot be written \(disk full\)"), resuming(tmp_path, {}, str, FolderError):
        raise OSError("disk full")


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "free space"), (errno.EROFS, "make it writable"), (errno.EIO, "free space or make it writable")],
)
def test_a_fault_of_writing_is_mended_by_its_own_cause(code: int, words: str) -> None:
    assert mend(OSError(code, os.strerror(code))) == words


@pytest.mark.parametrize(
    "name", ["lot7\r/1.png", "a\r\nb", "line\nbreak", '"a", b', " space ", "NA", "", "1e5", "-x", "\x1b[2J", "翼 é é"]
)
def test_a_table_comes_back_whatever_the_names_hold(tmp_path: Path, name: str) -> None:
    rows = {name: [{"file": name, "score": 1.5}], "b.png": [{"file": "b.png", "score": pd.NA}]}
    write_rows(tmp_path / "a.csv", TYPES, rows, rows)
    found = read_rows(tmp_path / "a.csv", TYPES, "file")
    assert list(found) == [name, "b.png"]
    assert found[name][0]["score"] == 1.5


def test_bytes_that_are_no_utf8_are_written_so_that_anyone_can_read_them(tmp_path: Path) -> None:
    rows = {"a": [{"file": "M\udcfcller ü"}]}
    assert write_rows(tmp_path / "a.csv", TYPES, rows, rows)["file"][0] == r"M\xfcller ü"
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()[1] == r"M\xfcller ü,"


def test_a_file_may_have_the_longest_name_there_is(tmp_path: Path) -> None:
    with replacing(tmp_path / ("a" * 255)) as path:
        path.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["a" * 255]
