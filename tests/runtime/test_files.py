"""Folders that a run fills and the next goes on with."""

import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from flowlib.runtime.files import resuming


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
    with pytest.raises(FolderError, match="file cannot be written"):
        fill(tmp_path / "file")
    with pytest.raises(FolderError, match=r"cannot be written \(disk full\)"), resuming(tmp_path, {}, str, FolderError):
        raise OSError("disk full")
