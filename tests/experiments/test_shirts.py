"""What notebook 03 runs: every group of jobs comes back under its name, a result a seed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from flowlib.experiments import detection, shirts, squares
from flowlib.experiments.shirts import Seeds, every_run, flat, grouped
from flowlib.metrics import auroc_interval
from flowlib.training import Recipe, train_and_score

GLOW = Recipe("Glow", {"levels": 2, "steps": 2, "hidden_channels": 4}, steps=2, batch_size=4)
AUTOENCODER = Recipe("ConvAutoencoder", {}, steps=2, batch_size=4)
SEEDS = Seeds([0, 1], [0, 1, 2], [1])


@pytest.fixture(scope="module")
def marked() -> squares.Marked:
    rng = np.random.default_rng(0)
    images = np.zeros((30, 1, 28, 28), np.uint8)
    images[:, :, 6:22, 6:22] = rng.integers(60, 200, (30, 1, 16, 16))
    with_squares = images[20:].copy()
    with_squares[:, :, 9:12, 9:12] = 255
    masks = (with_squares != images[20:])[:, 0]
    table = pd.DataFrame({"size": [2, 3, 4, 2, 3, 4, 2, 3, 4, 2], "colour": "white"})
    return squares.Marked(
        images, images[:10], 255 - images[:10], images[10:20], images[20:], with_squares, masks, table
    )


@pytest.fixture(scope="module")
def runs(marked: squares.Marked, tmp_path_factory: pytest.TempPathFactory) -> shirts.Runs:
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setenv("FLOWLIB_DATA", str(tmp_path_factory.mktemp("data")))
        return every_run(marked, {"bags": marked}, GLOW, AUTOENCODER, 2, 2, SEEDS, pool)


def test_groups_come_back_as_they_went():
    groups = {"a": [(1,), (2,)], "b": [], "c": [(3,)]}
    assert flat(groups) == [(1,), (2,), (3,)]
    assert grouped([10, 20, 30], groups) == {"a": [10, 20], "b": [], "c": [30]}


def test_every_model_has_its_seeds_and_scores(runs: shirts.Runs, marked: squares.Marked, tmp_path, monkeypatch):
    assert runs.nll["marked"].shape == (2, 10)
    assert runs.error["marked"].shape == (3, 10)
    assert runs.rebuilt.shape == (3, 10, 28, 28)
    np.testing.assert_allclose(runs.saved["Glow"]["marked"], runs.nll["marked"], rtol=1e-4)
    np.testing.assert_allclose(runs.saved["convolutional autoencoder"]["marked"], runs.error["marked"], rtol=1e-4)
    assert runs.saved["Glow"]["marked, saved as PNG"].tolist() == runs.saved["Glow"]["marked"].tolist()
    assert set(runs.larger) == {f"{side}x{side}" for side in squares.LARGER}
    assert {scores.shape for pair in runs.by_bottleneck.values() for scores in pair} == {(2, 10)}
    np.testing.assert_allclose(runs.by_bottleneck[72][1], runs.error["marked"][:2], rtol=1e-4)  # the autoencoder's own
    assert not np.allclose(runs.by_bottleneck[18][1], runs.by_bottleneck[288][1], rtol=1e-4)
    assert len(runs.controls) == 10
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    again = train_and_score(marked.train, Recipe(**{**vars(GLOW), "seed": 1}), {"marked": marked.marked})
    np.testing.assert_allclose(runs.nll["marked"][1], again["marked"], rtol=1e-4)
    np.testing.assert_allclose(runs.controls["as above, one seed"][0]["marked"], again["marked"], rtol=1e-4)


def test_ratios_are_by_inputs_and_by_class(runs: shirts.Runs, marked: squares.Marked):
    assert {inputs: maps["marked"].shape for inputs, maps in runs.ratio_maps.items()} == {
        "pixels": (2, 10, 28, 28),
        "flow statistics": (1, 10, 28, 28),
    }
    table, scores = shirts.window_table(runs)
    assert list(table["inputs"]) == list(squares.INPUTS)
    pixels = scores["local ratio, pixels"]
    assert table["auroc"][0] == auroc_interval(pixels["held"], pixels["changed"]).value
    assert set(pixels) == set(shirts.RATIO_SETS)
    blind = shirts.blind_table(runs, {"bags": marked})
    assert blind["size"].tolist() == ["2x2", "3x3", "4x4"]


def test_changes_by_training_are_image_by_image():
    early, late = ([{"normal": np.arange(5.0) + shift, "marked": np.arange(4.0) * shift}] for shift in (0, -2))
    found = detection.training_changes({"early": early, "late": late}, "early", "late")
    assert found["normal"] == (-2, -2, -2)
    assert found["marked"].value == -3


def test_differences_are_of_every_size_and_bottleneck(runs: shirts.Runs, marked: squares.Marked):
    first = (runs.nll["normal"], runs.nll["marked"])
    found = detection.by_size_and_bottleneck(first, runs.by_bottleneck, marked.table)
    assert list(found) == [f"{size}x{size}, {n} numbers" for n in (18, 72, 288) for size in (2, 3, 4)]
    of_one = detection.differences_by_size(first, runs.by_bottleneck[288], marked.table)
    assert found["3x3, 288 numbers"] == of_one["3x3"]
