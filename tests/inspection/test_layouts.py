"""Every file of a folder is read, refused by name, or left out and said; data sets are read in their layouts."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowlib.inspection.ingest import ingest
from flowlib.inspection.layouts import check_normal, contents, layout, left_out
from flowlib.inspection.media import MediaError
from flowlib.inspection.normals import read_normal
from flowlib.inspection.pictures import read_mask


def picture(path: Path, grey: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(grey, grey + 32, dtype=np.uint8) + np.zeros((32, 1), np.uint8)).save(path)
    return path


def write(path: Path, content: bytes = b"something") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(folder: Path, paths: list) -> list[str]:
    return [os.fsencode((path[0] if isinstance(path, tuple) else path).relative_to(folder)).decode(errors="replace")
            for path in paths]  # fmt: skip


def test_whatever_may_be_a_picture_is_read_or_refused_and_the_rest_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    for name in ("a.png", "x.avif", "y.pgm", "z.gif", "j.jp2", "k/b.TIF", "v.mp4"):
        write(folder / name)
    refused = ["IMG_1.HEIC", "c.dng", "d.zip", "scan", "dangling.png", ".hidden.png", "pipe.png", "M\udcfcller.png"]
    for name in refused[:4] + refused[5:6] + refused[7:]:
        write(folder / name)
    (folder / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    for name in ("notes.txt", "Thumbs.db", "README", ".DS_Store", ".git/x.png", "@eaDir/a.png/small.jpg"):
        write(folder / name)
    write(folder / "._a.png", b"\0\5\x16\7\0\2")
    found = contents(folder)
    assert names(folder, found.media) == ["a.png", "j.jp2", "k/b.TIF", "v.mp4", "x.avif", "y.pgm", "z.gif"]
    assert sorted(names(folder, found.refused)) == sorted(name.replace("\udcfc", "\ufffd") for name in refused)
    (line,) = left_out(folder)
    for name in ("notes.txt", "Thumbs.db", "README", ".DS_Store", ".git", "._a.png", "@eaDir"):
        assert name in line
    assert left_out(folder / "k") == []


def test_links_are_followed_once_and_never_in_a_circle(tmp_path: Path) -> None:
    parts, elsewhere = tmp_path / "parts", tmp_path / "disk"
    picture(parts / "real" / "a.png")
    picture(elsewhere / "b.png")
    (elsewhere / "back").symlink_to(parts)
    (parts / "linked").symlink_to(elsewhere)
    (parts / "again").symlink_to("real")
    (parts / "c.png").symlink_to(elsewhere / "b.png")
    found = contents(parts)
    assert names(parts, found.media) == ["c.png", "linked/b.png", "real/a.png"]
    assert names(parts, found.left_out) == ["again", "linked/back"]
    assert found.refused == []


def test_a_folder_that_cannot_be_opened_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "locked" / "b.png")
    iterdir = Path.iterdir

    def locked(path: Path):
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", locked)
    ((path, why),) = contents(tmp_path).refused
    assert (path.name, why) == ("locked", "cannot be opened (Permission denied): check its permissions")


@pytest.mark.parametrize(
    ("good", "others", "masks"),
    [
        ("train/good", {"good": "test/good", "scratch": "test/scratch"}, "ground_truth/scratch/000_mask.png"),
        ("Train/Good", {"good": "Test/Good", "Scratch": "Test/Scratch"}, "Ground_Truth/Scratch/000_mask.png"),
        ("train/ok", {"good": "test/ok", "ko": "test/ko"}, "ground_truth/ko/000.png"),
        ("train/good", {"good": "test/good", "logical_anomalies": "test/logical_anomalies"},
         "ground_truth/logical_anomalies/000/000.png"),
    ],
    ids=["MVTec AD", "capitals", "BTAD", "MVTec LOCO"],
)  # fmt: skip
def test_layouts_of_data_sets_are_read(tmp_path: Path, good: str, others: dict[str, str], masks: str) -> None:
    picture(tmp_path / good / "000.png")
    for folder in others.values():
        picture(tmp_path / folder / "000.png")
    mask = np.zeros((32, 32), np.uint8)
    for number in range(2 if masks.endswith("000/000.png") else 1):
        path = tmp_path / masks.replace("/000.png", f"/00{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        mask[number] = 255
        Image.fromarray(mask * (np.arange(32) == number)[:, None].astype(np.uint8)).save(path)
    found = layout(tmp_path)
    assert found.normal == [tmp_path / good / "000.png"]
    assert dict(found.test) == {label: tmp_path / folder / "000.png" for label, folder in others.items()}
    ((shown, place),) = found.masks.items()
    assert shown.parent.name in masks
    assert (read_mask(place, (32, 32)) == mask.astype(bool)).all(), "of several files, all"
    assert [Path(source).parent for source in read_normal(tmp_path).sources] == [tmp_path / good]


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("bolt/train/good", "bolt/test/scratch"),  # the folder above MVTec AD trees
        ("bolt/train/good", "bolt/test_public/bad"),  # MVTec AD 2
        ("01/train/ok", "01/test/ko"),  # above BTAD
        ("candle/Data/Images/Normal", "candle/Data/Images/Anomaly"),  # VisA
        ("Data/Images/Normal", "Data/Masks/Anomaly"),  # an object of it
        ("good", "NOK"),
        ("training/good", "testing/scratch"),
        ("train/good parts", "train/defective"),
    ],
)
def test_folders_with_more_than_good_parts_are_refused_with_the_one_to_use(tmp_path: Path, good: str, bad: str) -> None:
    for folder in (good, bad):
        picture(tmp_path / "set" / folder / "000.png")
    hint = f"such as .*{good}$" if good != "train/good parts" else "move the good parts apart"
    with pytest.raises(MediaError, match=f"set holds more than good parts .*: .*{hint}"):
        read_normal(tmp_path / "set")
    assert len(read_normal(tmp_path / "set" / good).sources) == 1


def test_a_folder_named_test_is_read_when_it_is_named_itself(tmp_path: Path) -> None:
    for name in ("test/a.png", "test/sub/b.png", "bad/c.png"):
        picture(tmp_path / name)
    check_normal(tmp_path / "bad", [tmp_path / "bad" / "c.png"])
    check_normal(tmp_path / "test", [tmp_path / "test" / "a.png"])
    with pytest.raises(MediaError, match="holds more than good parts"):
        check_normal(tmp_path / "test", [tmp_path / "test" / "sub" / "b.png"])


def test_what_is_taken_for_good_parts_in_spite_of_its_name_is_said(tmp_path: Path) -> None:
    for name in ("line/good/a.png", "line/kratzer/b.png", "line/ok/c.png", "x/ng-07.png", "x/defect.png", "x/band.png"):
        picture(tmp_path / name)
    beside, named = read_normal(tmp_path).notes[:2]
    assert beside.startswith(f"warning: {tmp_path}/line/kratzer beside {tmp_path}/line/ok taken for good parts, too")
    assert all(name in named for name in ("x/ng-07.png", "x/defect.png"))
    assert "band" not in named
    assert not [note for note in read_normal(tmp_path / "line" / "good").notes if "taken for good" in note]


def test_what_this_tool_wrote_is_no_part(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    picture(parts / "good" / "a.png")
    write(parts / "results" / "scores.csv", b"file,score,threshold,anomalous\n")
    picture(parts / "results" / "overlays" / "x.png")
    picture(parts / "results" / "photo.png")  # put there by someone
    picture(parts / "maps" / "b.png")  # no table of ours beside it
    write(parts / "theirs" / "manifest.csv", b"name,points\n")
    picture(parts / "theirs" / "c.png")
    ingest(parts / "good", parts / "frames")
    found = read_normal(parts)
    assert names(parts, [Path(source) for source in found.sources]) == [
        "good/a.png", "maps/b.png", "results/photo.png", "theirs/c.png"]  # fmt: skip
    (line,) = left_out(parts)
    assert "pictures that score wrote (results/overlays)" in line
    assert "frames that ingest wrote: name it itself to use it (frames)" in line
    assert len(read_normal(parts / "frames").sources) == 1
