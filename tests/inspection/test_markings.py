"""A cheat test: markings in the corners (clock, logo, cursor) do not decide, whatever they say, raw or ingested."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from inspection.small_detector import lossless, small_detector, weave
from PIL import Image, ImageDraw, ImageFont

from flowlib.inspection import normals
from flowlib.inspection import scan as scanning
from flowlib.inspection.ingest import ingest
from flowlib.inspection.scan import scan

WIDTH, HEIGHT, FRAMES = 192, 144, 24
MARKINGS = {
    "a serial number": ("SN 4711 / 88", "12:00:0{}", "ACME"),
    "another": ("SN 0042 / 17", "09:41:0{}", "OTHER"),
    "a third": ("BLADE 3 / 63", "23:59:0{}", "LOGO TWO"),
}


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "PROCESSES_FROM", 10_000)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_detector(tmp_path_factory.mktemp("model"))


def scene(number: int, still: bool) -> np.ndarray:
    """A weave that moves by 5 pixels a frame, or stands still; from frame 12 on there is a blotch on it."""
    image = weave(3, WIDTH, HEIGHT).copy()
    if number >= 12:
        image[60:84, 90:120] = 250
    return image if still else np.roll(image, 5 * number, 1)


def write(path: Path, texts: tuple[str, str, str], still: bool = False) -> Path:
    """Lossless, so that nothing but the markings differs."""
    frames = []
    for number in range(FRAMES):
        image = Image.fromarray(scene(number, still))
        draw, font = ImageDraw.Draw(image), ImageFont.load_default(10)
        for (x, y, anchor), text in zip(((4, 2, "lt"), (188, 2, "rt"), (4, 142, "lb")), texts, strict=True):
            draw.text((x, y), text.format(number // 10), 255, font, anchor=anchor, stroke_width=1, stroke_fill=0)
        frames.append(np.asarray(image))
    return lossless(path, frames)


def scores(model: Path, source: Path, out: Path) -> dict[str, np.ndarray]:
    table = scan(model, source, out, frames=FRAMES)
    assert (table["status"] == "ok").all()
    table["video"] = table["file"].str.replace(r"(_f\d+)?\.\w+$", "", regex=True)
    return {str(name): rows["score"].to_numpy(float) for name, rows in table.groupby("video")}


@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize("raw", [True, False])
def test_what_the_markings_say_moves_no_score(model: Path, tmp_path: Path, raw: bool, still: bool) -> None:
    source = tmp_path / "videos"
    for name, texts in MARKINGS.items():
        write(source / f"{name}.mkv", texts, still)
    if not raw:
        ingest(source, tmp_path / "frames", frames=FRAMES, every=1)
        source = tmp_path / "frames"
    found = scores(model, source, tmp_path / "out")
    decisions = pd.read_csv(tmp_path / "out" / "decisions.csv")
    assert decisions["kind"].tolist() == ["video"] * 3, "frames that were ingested are of their video"
    assert decisions["score"].nunique() == 1
    first, *others = found.values()
    assert len(first) == FRAMES
    assert len(others) == len(MARKINGS) - 1
    assert np.ptp(first) > 0, "the test must be able to fail: the scores tell the scenes apart"
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_uncropped_they_would_decide(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cropping the same comparison fails, so that it would notice."""
    monkeypatch.setattr(scanning, "unmarked", lambda path: slice(None))
    for name, texts in MARKINGS.items():
        write(tmp_path / "in" / f"{name}.mkv", texts)
    found = list(scores(model, tmp_path / "in", tmp_path / "out").values())
    assert any((found[0] != other).any() for other in found[1:])


def test_what_is_cut_off_holds_all_of_them(tmp_path: Path) -> None:
    for still in (False, True):
        videos = [write(tmp_path / f"{still}" / f"{name}.mkv", texts, still) for name, texts in MARKINGS.items()]
        first, *others = [normals.unmarked(video) for video in videos]
        assert 12 <= first.start <= 30
        assert HEIGHT - 30 <= first.stop <= HEIGHT - 12
        assert all(other == first for other in others)
