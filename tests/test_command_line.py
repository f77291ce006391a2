"""simulate, ingest, fit and score as they are typed: what is printed, and the exit status."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image

from flowlib import __main__
from flowlib.detector import storage
from flowlib.detector.model import Settings
from flowlib.inspection import ingest
from flowlib.runtime import parallel
from flowlib.simulator import dataset


def texture(seed: int, width: int = 48, height: int = 40) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).normal(0, 4, (height, width))
    return np.clip(110 + 30 * np.sin(x / 3 + seed) * np.cos(y / 4) + noise, 0, 255).astype(np.uint8)


def images(folder: Path, n: int, **size: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.fromarray(texture(i, **size)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that is trained in a second, in this process."""

    @contextmanager
    def threads(workers: int = 0) -> Iterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(1) as executor:
            yield executor

    monkeypatch.setattr(parallel, "processes", threads)
    monkeypatch.setattr(Settings.__init__, "__defaults__", ("pixels", 64, 3, 0))  # features, size, steps, seed
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path / "data"))


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of ``flowlib ARGUMENTS``, by the very function that the shell calls."""
    monkeypatch.setattr(sys, "argv", ["flowlib", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        __main__.main()
    return int(end.value.code or 0)


def test_fit_and_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    normal = images(tmp_path / "good parts", 12)
    Image.fromarray(np.stack([texture(30, 90, 70)] * 3, -1)).save(normal / "large and colour.jpg")
    model, out = tmp_path / "model", tmp_path / "out"
    assert call(monkeypatch, "fit", normal, "--out", model) == 0
    told = capsys.readouterr()
    assert "10 of 10 files to train, 3 of 3 files to calibrate the threshold" in told.out
    assert "a false-alarm rate of 5%; 3 calibration images can guarantee 25.0% and more" in told.out
    assert f"{model / 'detector.safetensors'}" in told.out
    assert "warning: 3 calibration images are too few for a false-alarm rate of 0.05, which takes 19" in told.err
    assert call(monkeypatch, "score", model, images(tmp_path / "new", 3), "--out", out, "--maps") == 0
    told = capsys.readouterr()
    assert "of 3 images and frames anomalous" in told.out
    assert str(out / "scores.csv") in told.out
    assert "warning: 3 calibration images" in told.err, "a promise that cannot be kept is told whenever it is made"
    assert list(pd.read_csv(out / "scores.csv").columns[:4]) == ["file", "score", "threshold", "anomalous"]
    assert len(list((out / "maps").iterdir())) == len(list((out / "overlays").iterdir())) == 3

    (tmp_path / "settings.yaml").write_text("false_alarm_rate: 0.5\n")
    assert (
        call(monkeypatch, "score", model, tmp_path / "new", "--out", out, "--settings", tmp_path / "settings.yaml") == 0
    )
    table = pd.read_csv(out / "scores.csv")
    known = storage.load(model)
    assert table["threshold"][0] == pytest.approx(np.sort(known.calibration)[1], abs=1e-5)
    (tmp_path / "settings.yaml").write_text("stride: 4\n")
    capsys.readouterr()
    assert (
        call(monkeypatch, "score", model, tmp_path / "new", "--out", out, "--settings", tmp_path / "settings.yaml") == 2
    )
    assert capsys.readouterr().err == "flowlib: settings have stride: the keys are false_alarm_rate\n"


def test_one_refused_file_gives_status_1_and_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    normal, model, out = images(tmp_path / "in", 5), tmp_path / "model", tmp_path / "out"
    (normal / "text.png").write_text("no image")
    (normal / "cut off.mp4").touch()
    assert call(monkeypatch, "fit", normal, "--out", model) == 1
    told = capsys.readouterr().err
    assert f"{normal / 'text.png'} is not a BMP" in told
    assert "flowlib: 2 refused or damaged" in told
    assert (model / "detector.safetensors").exists()
    assert call(monkeypatch, "score", model, normal, "--out", out) == 1
    told = capsys.readouterr().err
    assert f"{normal / 'cut off.mp4'} is empty" in told
    assert "flowlib: 2 refused or damaged" in told
    assert pd.read_csv(out / "scores.csv")["status"].value_counts().to_dict() == {"ok": 5, "refused": 2}
    assert call(monkeypatch, "score", model, normal, "--out", out) == 1, "again, though nothing is left to do"
    assert call(monkeypatch, "score", model, normal / "text.png", "--out", tmp_path / "one") == 2
    assert "nothing in" in capsys.readouterr().err


def test_calibrate_and_marked_false_alarms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    assert call(monkeypatch, "fit", images(tmp_path / "good", 12), "--out", model) == 0
    capsys.readouterr()
    assert call(monkeypatch, "calibrate", model, images(tmp_path / "more", 25)) == 0
    told = capsys.readouterr()
    assert "images: of good images like the 25 that it was calibrated on, at most 0.05 are flagged" in told.out
    assert "videos: no video of a good part was held out" in told.out
    assert "too few" not in told.err
    assert call(monkeypatch, "score", model, tmp_path / "more", "--out", out) == 0
    told = capsys.readouterr()
    assert "25 images: " in told.out
    assert str(out / "index.html") in told.out
    assert "too few" not in told.err
    (tmp_path / "marks.csv").write_text(f"file,mark,folder\n3.png,false alarm,{tmp_path / 'more'}\n4.png,unsure,\n")
    assert (
        call(monkeypatch, "fit", tmp_path / "good", "--out", tmp_path / "next", "--also", tmp_path / "marks.csv") == 0
    )
    told = capsys.readouterr().out
    assert "10 of 10 files to train, 3 of 3 files to calibrate" in told, "13 in all"
    assert call(monkeypatch, "calibrate", tmp_path / "next", tmp_path / "good" / "nothing") == 2
    assert call(monkeypatch, "fit", tmp_path / "good", "--out", model, "--also", tmp_path / "none.csv") == 2
    assert "none.csv cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("n", [1, 3])
def test_few_normal_images_make_a_detector_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], n: int
) -> None:
    normal = images(tmp_path / "in", n, width=32, height=32)
    assert call(monkeypatch, "fit", normal, "--out", tmp_path / "model") == 0
    assert "the threshold guarantees nothing" in capsys.readouterr().err
    assert call(monkeypatch, "score", tmp_path / "model", normal / "0.png", "--out", tmp_path / "out") == 0


def test_calibration_on_few_videos_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """30 frames of one video are not 30 parts."""
    images(tmp_path / "in", 40)
    rows = [{"file": f"{i}.png", "source": f"{i // 10}.mp4", "status": "ok"} for i in range(40)]
    pd.DataFrame(rows, columns=list(ingest.TYPES)).to_csv(tmp_path / "in" / "manifest.csv", index=False)
    assert call(monkeypatch, "fit", tmp_path / "in", "--out", tmp_path / "model") == 0
    told = capsys.readouterr()
    assert "30 of 3 files to train, 10 of 1 file to calibrate the threshold" in told.out
    assert "10 calibration images are too few" in told.err
    options = ("--out", tmp_path / "out", "--false-alarm-rate", 0.2)
    assert call(monkeypatch, "score", tmp_path / "model", images(tmp_path / "new", 1), *options) == 0
    assert "warning: the 10 calibration images are of 1 video only" in capsys.readouterr().err


def test_wrong_usage_gives_status_2_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    images(tmp_path / "five", 1, width=5, height=5)
    for arguments, message in [
        (("fit", tmp_path / "empty", "--out", tmp_path / "m"), "empty holds no normal image or video"),
        (("fit", tmp_path / "five", "--out", tmp_path / "m"), "the image has 5x5 pixels"),
        (("fit", tmp_path / "none", "--out", tmp_path / "m"), "none is missing: name a folder"),
        (("fit", tmp_path / "five", "--out", tmp_path / "m", "--size", 8), "size must be at least 32"),
        (("score", tmp_path / "m", tmp_path / "five", "--out", tmp_path / "o"), "fit a detector first"),
        (("ingest", tmp_path / "empty", tmp_path / "o"), "empty holds no image or video"),
        (("simulate", tmp_path / "s", "--frames", 0), "frames is 0"),
    ]:
        assert call(monkeypatch, *arguments) == 2
        told = capsys.readouterr().err
        assert message in told
        assert len(told.strip().splitlines()) == 1
    assert not (tmp_path / "m").exists()
    assert call(monkeypatch, "score", tmp_path / "m") == 2
    assert call(monkeypatch, "nonsense") == 2


def test_simulate_and_ingest_pass_on_what_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.DataFrame(
        {
            "video": ["a", "a", "b"],
            "source": ["a", "a", "b"],
            "status": ["ok", "refused", "ok"],
            "message": ["", "b is bad", ""],
        }
    )
    asked = []
    monkeypatch.setattr(dataset, "simulate", lambda *arguments: asked.append(arguments) or table)
    monkeypatch.setattr(ingest, "ingest", lambda *arguments: asked.append(arguments) or table)
    numbers = ("--normal", 6, "--test-normal", 2, "--defective", 7, "--frames", 20, "--seed", 3)
    assert call(monkeypatch, "simulate", tmp_path, *numbers) == 0
    assert asked[0][:-1] == (tmp_path, 6, 2, 7, 20, 3)
    assert "2 videos of 20 frames" in capsys.readouterr().out
    assert call(monkeypatch, "ingest", "in", tmp_path, "--every", 5, "--crop", "1,2,3,4", "--grey") == 1
    assert asked[1] == (Path("in"), tmp_path, 300, 5, "1,2,3,4", True)
    told = capsys.readouterr()
    assert "2 images" in told.out
    assert "b is bad" in told.err


def test_the_shell_sees_the_exit_status_and_no_import_is_slow(tmp_path: Path) -> None:
    def shell(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-X", "importtime", "-m", "flowlib", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)

    asked = shell("--help")
    assert asked.returncode == 0
    assert all(name in asked.stdout for name in ("simulate", "ingest", "fit", "calibrate", "score"))
    assert "torch" not in asked.stderr
    refused = shell("ingest", tmp_path, tmp_path / "out")
    assert refused.returncode == 2
    assert "holds no image or video" in refused.stderr


def test_artifacts_are_listed_and_removed_when_it_is_said_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left_over = tmp_path / "data" / "artifacts" / "model" / f"{'a' * 64}.damaged"
    left_over.parent.mkdir(parents=True)
    left_over.write_bytes(b"1234")
    assert call(monkeypatch, "artifacts") == 0
    assert "model  aaaaaaaaaaaa" in capsys.readouterr().out
    assert call(monkeypatch, "artifacts", "--clean") == 0
    assert "nothing was removed: add --yes to remove these" in capsys.readouterr().out
    assert left_over.exists()
    for option in ("--yes", "--all", ("--days", 3)):
        assert call(monkeypatch, "artifacts", *([option] if isinstance(option, str) else option)) == 2
        assert "add --clean" in capsys.readouterr().err
    with FileLock(left_over.with_suffix(".lock")):
        assert call(monkeypatch, "artifacts", "--clean", "--yes") == 0
        told = capsys.readouterr().out
        assert "removed: 0 files" in told
        assert "2 left: a running process holds them" in told
    assert call(monkeypatch, "artifacts", "--clean", "--yes") == 0
    assert "removed: 2 files" in capsys.readouterr().out
    assert list(left_over.parent.iterdir()) == []
    assert call(monkeypatch, "artifacts", "--clean", "--yes") == 0
    assert "0 files" in capsys.readouterr().out
