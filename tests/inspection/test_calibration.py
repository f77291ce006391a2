"""Thresholds set anew on other good parts, when to fit again, and what lies beside a detector."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from inspection.small_detector import lossless, small_detector, weave
from PIL import Image

from flowlib.detector import storage
from flowlib.detector.model import DetectorError
from flowlib.inspection import calibration, scan
from flowlib.inspection.calibration import Good, after_fit, calibrate, measured, unlike


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_detector(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others would take longer to start than the work takes."""
    monkeypatch.setattr(scan, "PROCESSES_FROM", 10_000)


@pytest.fixture
def model(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "detector"))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of seven good videos of ten frames and two images."""
    folder = tmp_path_factory.mktemp("good")
    for video in range(7):
        lossless(folder / f"v{video}.mkv", [np.roll(weave(video), 7 * i, 1) for i in range(10)])
    for image in range(2):
        Image.fromarray(weave(20 + image)).save(folder / f"i{image}.png")
    return folder


def made_up(rng: np.random.Generator, n: int, shift: float = 0.0) -> Good:
    """n good videos and images."""
    tracks = rng.normal(shift, 1, (n, 1)) + rng.normal(0, 1, (n, 12))
    images = rng.normal(shift, 1, n)
    return Good(
        images={str(i): float(x) for i, x in enumerate(images)},
        videos={str(i): track.tolist() for i, track in enumerate(tracks)},
        sampling="12 frames",
    )


def test_good_parts_like_those_of_the_fit_are_seldom_told_to_fit_again() -> None:
    rng = np.random.default_rng(0)
    draws = 1000
    told = sum(bool(unlike(made_up(rng, 19), made_up(rng, 30))) for _ in range(draws))
    assert told / draws < calibration.UNLIKE + 3 * np.sqrt(calibration.UNLIKE / draws)
    shifted = sum(bool(unlike(made_up(rng, 19), made_up(rng, 30, 2))) for _ in range(100))
    assert shifted > 95


def test_what_is_told_names_kind_and_side_and_needs_like_frames() -> None:
    rng = np.random.default_rng(1)
    old, new = made_up(rng, 19), made_up(rng, 30, -4)
    lines = unlike(old, new)
    assert [line.split(" score ")[0] for line in lines] == ["warning: the good images", "warning: the good videos"]
    assert all("score lower" in line and "1% at most" in line for line in lines)
    assert len(unlike(old, new.model_copy(update={"sampling": "each 2th frame"}))) == 1, "videos cannot be compared"
    assert unlike(Good(), new) == []


def test_calibrating_sets_the_thresholds_and_nothing_else(model: Path, good: Path, tmp_path: Path) -> None:
    before = storage.load(model)
    with ThreadPoolExecutor(1) as executor:
        detector, reasons, refused = calibrate(model, good, frames=10, executor=executor)
    assert not refused
    assert reasons == [], "nothing was noted at the fit to compare with"
    assert len(detector.calibration) == 7 * 10 + 2
    assert (storage.load(model).calibration == detector.calibration).all()
    image = weave(3)[None]
    assert storage.load(model).score_samples([image]) == before.score_samples([image])
    kept = calibration.read(model)
    assert set(kept.good.videos) == {f"v{i}.mkv" for i in range(7)}
    assert set(kept.good.images) == {"i0.png", "i1.png"}
    table = scan.scan(model, good, tmp_path / "out", frames=10)
    scored = table[table["file"] == "v3.mkv"]["score"].to_list()
    assert scored == kept.good.videos["v3.mkv"], "the same frames and scores as score's"
    decisions = pd.read_csv(tmp_path / "out" / "decisions.csv")
    assert decisions["kind"].value_counts().to_dict() == {"video": 7, "image": 2}
    assert (decisions["state"] == "pass").all() or (decisions["p"].min() <= 0.2)
    videos = decisions[decisions["kind"] == "video"]
    assert (videos["flag"] == videos["score"].max()).all(), "seven can stand for one in eight"
    page = (tmp_path / "out" / "index.html").read_text()
    assert "7 good videos can stand for no rate below 0.125; 0.05 takes 19" in page
    for name in decisions["file"]:
        assert f'data-file="{name}"' in page
    small = {path.stem for path in (tmp_path / "out" / "thumbnails").iterdir()}
    assert 2 + 7 * 3 <= len(small) <= 2 + 7 * 5, "three to five frames of a video"
    assert small == {path.stem for path in (tmp_path / "out" / "plain").iterdir()}


def test_videos_get_no_verdict_where_nothing_was_calibrated_alike(model: Path, good: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        scan.scan(model, good / "v0.mkv", tmp_path / "one", frames=10)
        assert pd.read_csv(tmp_path / "one" / "decisions.csv")["state"].tolist() == ["unjudged"]
        assert "no good video was held out" in (tmp_path / "one" / "index.html").read_text()
        calibrate(model, good, every=2, executor=executor)
    scan.scan(model, good / "v0.mkv", tmp_path / "two", frames=10)
    assert pd.read_csv(tmp_path / "two" / "decisions.csv")["state"].tolist() == ["unjudged"]
    assert "calibrated on each 2th frame" in (tmp_path / "two" / "index.html").read_text()
    table = scan.scan(model, good / "v0.mkv", tmp_path / "three", every=2)
    assert table["frame"].tolist() == [0, 2, 4, 6, 8]
    assert pd.read_csv(tmp_path / "three" / "decisions.csv")["state"].tolist() != ["unjudged"]


def test_a_fit_notes_what_it_held_out_and_a_calibration_leaves_out_what_trained(model: Path, good: Path) -> None:
    sources = [str(good / f"v{i}.mkv") for i in range(7) for _ in range(3)]
    with ThreadPoolExecutor(1) as executor:
        after_fit(model, good, sources, seed=0, executor=executor)
    kept = calibration.read(model)
    assert len(kept.good.videos) == 2, "a quarter"
    assert all(len(track) == 10 for track in kept.good.videos.values()), "all frames, not those of the fit alone"
    assert {Path(file).name for file in kept.trained} | set(kept.good.videos) == {f"v{i}.mkv" for i in range(7)}
    with ThreadPoolExecutor(1) as executor:
        detector, _, _ = calibrate(model, good, executor=executor)
    assert len(detector.calibration) == 2 * 10 + 2
    again = calibration.read(model)
    assert again.of_fit == kept.of_fit, "compared with the fit's, also after a calibration"
    alone = good.parent / "only what trained"
    alone.mkdir()
    (alone / "v.mkv").symlink_to(kept.trained[0])
    with pytest.raises(DetectorError, match="that the detector was not fitted on"), ThreadPoolExecutor(1) as executor:
        calibrate(model, alone, executor=executor)


def test_what_is_noted_of_another_detector_is_not_used(model: Path, good: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        calibrate(model, good, frames=3, executor=executor)
    assert calibration.read(model).good.videos
    detector = storage.load(model)
    detector.calibration[0] += 1
    storage.save(detector, model)
    assert not calibration.read(model).good.videos
    (model / calibration.FILE).write_text(json.dumps({"detector": 3}))
    with pytest.raises(DetectorError, match=r"good_parts\.json is damaged .*: delete it"):
        calibration.read(model)


def test_a_video_that_ends_early_calibrates_nothing(model: Path, tmp_path: Path) -> None:
    """Its score is the highest of fewer frames: it would promise too much."""
    path = lossless(tmp_path / "cut.mkv", [np.roll(weave(0), 7 * i, 1) for i in range(20)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with ThreadPoolExecutor(1) as executor:
        found, refused = measured(model, tmp_path, [path], executor=executor)
    assert not found.videos
    assert len(refused) == 1
