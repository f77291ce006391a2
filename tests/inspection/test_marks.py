"""False alarms of a marks.csv, as the page saves it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowlib.inspection.marks import MarksError, false_alarms

HEAD = '"file","state","score","mark","note","at","folder"\r\n'


def write(path: Path, *rows: tuple[str, str, Path]) -> Path:
    lines = [
        f'"{file}","flag","9.1","{mark}","a ""note"", with a comma","2026","{folder}"' for file, mark, folder in rows
    ]
    path.write_text(HEAD + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    return path


def test_only_false_alarms_are_taken_whatever_they_are_of(tmp_path: Path) -> None:
    for name in ("a.mp4", "sub/b.png", "c.png", "frames/v_f000000.png", "frames/v_f000001.png", "one.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    header = "file,source,frame,seconds,width,height,x0,y0,x1,y1,status,message,fingerprint\n"
    frames = "".join(f"v_f00000{i}.png,v.mp4,{i},{i / 10},64,48,0,0,64,48,ok,,1@1\n" for i in range(2))
    (tmp_path / "frames" / "manifest.csv").write_text(header + frames)
    path = write(
        tmp_path / "marks.csv",
        ("a.mp4", "false alarm", tmp_path),
        ("sub/b.png", "false alarm", tmp_path),
        ("c.png", "confirmed", tmp_path),
        ("v.mp4", "false alarm", tmp_path / "frames"),
        ("one.png", "false alarm", tmp_path / "one.png"),
    )
    found = false_alarms(path)
    assert {file.relative_to(tmp_path).as_posix() for file in found} == {
        "a.mp4", "sub/b.png", "frames/v_f000000.png", "frames/v_f000001.png", "one.png",
    }  # fmt: skip
    assert len(set(found.values())) == 4, "frames of a video are of one source"


def test_marks_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "marks.csv", ("gone.png", "false alarm", tmp_path))
    with pytest.raises(MarksError, match=r"marks\.csv marks .*gone\.png, which is not there"):
        false_alarms(path)
    path.write_text("file,mark\na,b\n")
    with pytest.raises(MarksError, match="has no column folder"):
        false_alarms(path)
    with pytest.raises(MarksError, match="cannot be read"):
        false_alarms(tmp_path / "none.csv")
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "image.png")
    with pytest.raises(MarksError, match="cannot be read"):
        false_alarms(tmp_path / "image.png")
