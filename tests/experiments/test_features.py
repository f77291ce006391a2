"""The comparison of notebook 08's methods: what each sees, and rows by hand."""

import numpy as np
import pandas as pd
import pytest

from flowlib.detector import fitting
from flowlib.detector.model import OWN_WAY, SHARE, WAYS, image_score
from flowlib.experiments import features
from flowlib.experiments.features import METHODS, Case, Outcome, compared, regret
from flowlib.metrics import auroc, auroc_interval
from flowlib.training import Recipe


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    monkeypatch.setattr(fitting, "POSITIONS", 2000)


def texture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    stripes = 40 * np.sin(np.arange(64) * 0.8 + rng.uniform(0, 6))
    return (120 + stripes + rng.normal(0, 5, (1, 64, 64))).clip(0, 255).astype(np.uint8)


@pytest.fixture
def case() -> Case:
    """Stripes; in the anomalous images a corner of them is turned."""
    test, mask = [texture(seed) for seed in range(100, 110)], np.zeros((64, 64), bool)
    mask[8:32, 8:32] = True
    for image in test[5:]:
        image[0, mask] = image[0].T[mask]
    anomalous = np.arange(10) >= 5
    return Case("stripes", [texture(s) for s in range(80)], list(range(80)), test, anomalous, np.arange(10),
                [mask & bad for bad in anomalous])  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_what_is_turned(case, method):
    row, scores, maps, (low, high) = compared(case, "pixels", method, steps=60, shown=(7, 0))
    assert (row["set"], row["features"], row["method"]) == ("stripes", "pixels", method)
    assert row["top 3 %"] == 1
    assert row["pixel AUROC"] > 0.8
    assert 0.3 < row["AUPRO"] <= 1
    assert row["found"] == 1
    assert row["alarms"] <= 0.4
    assert row["fit, s"] > 0
    assert row["image, ms"] > 0
    assert row["low"] < 1 == row["high"]  # five of either kind: certainty is not to be had
    assert [image_score(values, SHARE) for values in maps] == pytest.approx(scores[OWN_WAY][[7, 0]])
    assert low < np.median(maps[1]) < high < maps[0].max()


def test_surrounds_are_made_where_they_are_asked_for(case):
    """The same positions either way."""
    seen = [
        features.some_positions(case.normal[:9], lambda image: image / np.float32(255), np.random.default_rng(3), asked)
        for asked in (False, True)
    ]
    assert np.array_equal(seen[0].vectors, seen[1].vectors)
    n, d = seen[0].vectors.shape
    assert (seen[0].surrounds.shape, seen[1].surrounds.shape) == ((n, 0), (n, 2 * d))


def test_glow_on_patches_is_compared_alike(case):
    options = {"levels": 1, "steps": 2, "hidden_channels": 4}
    glow = features.likelihood(case, Recipe("Glow", options, 3, 8), 64, shown=(9,))
    of_pixels = compared(case, "pixels", "Gaussian").row
    assert list(glow.row) == list(of_pixels)
    assert (glow.row["features"], glow.row["method"]) == ("pixels", features.GLOW)
    assert (glow.maps[0].shape, glow.maps[0].dtype) == ((64, 64), np.float32)
    assert image_score(glow.maps[0], SHARE) == pytest.approx(glow.scores[OWN_WAY][9])
    for way, scores in glow.scores.items():
        assert glow.row[way] == auroc(scores[:5], scores[5:])


def test_intervals_are_over_origins(case):
    """Images of one origin are one draw: the fewer origins, the wider."""
    scores = np.array([1.0, 2, 3, 4, 5, 3, 4, 6, 7, 8])
    each = features.interval(case, scores)
    few = features.interval(case._replace(origins=np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3])), scores)
    assert few["low"] < each["low"]
    expected = auroc_interval(scores[:5], scores[5:], clusters=(np.arange(5), np.arange(5, 10)))
    assert each == {"low": expected.low, "high": expected.high}


def test_several_seeds_are_one_row(case):
    """Means of all numbers, and an interval that holds what differs between seeds."""
    one, two = np.array([1.0, 2, 3, 4, 5, 3, 4, 6, 7, 8]), np.array([5.0, 4, 3, 2, 1, 1, 2, 3, 4, 9])
    rows = [{"set": "stripes", OWN_WAY: value, "low": 0.0, "high": 1.0, "found": value} for value in (0.9, 0.5)]
    outcomes = [
        Outcome(row, {OWN_WAY: s, "mean": np.arange(10.0)}, [], (0, 1)) for row, s in zip(rows, (one, two), strict=True)
    ]
    found = features.over_seeds(case, outcomes)
    assert (found["set"], found[OWN_WAY], found["found"]) == ("stripes", pytest.approx(0.7), pytest.approx(0.7))
    assert {name: found[name] for name in ("low", "high")} == features.interval(case, np.stack([one, two]))
    other = features.over_seeds(case, outcomes, "mean")
    by_mean = features.interval(case, np.stack([one.scores["mean"] for one in outcomes]))
    assert {name: other[name] for name in ("low", "high")} == by_mean != {name: found[name] for name in by_mean}


def test_examples_are_even_through_the_anomalous(case):
    assert features.examples(case, 3) == [5, 7, 9]
    assert features.examples(case, 9) == [5, 6, 7, 8, 9]
    shown = features.example(case, 7)
    assert shown.image is case.test[7]
    assert np.array_equal(shown.mask, case.masks[7])
    assert not features.example(case._replace(masks=[]), 7).mask.any()


def test_without_masks_there_are_no_pixels(case):
    row = compared(case._replace(masks=[]), "pixels", "Gaussian").row
    assert "pixel AUROC" not in row
    assert "AUPRO" not in row


def test_a_mask_at_another_size_is_taken_at_the_middles():
    mask = np.zeros((6, 4), bool)
    mask[2:4, 1] = True
    assert np.array_equal(features.at_shape(mask, (3, 4)), np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], bool))
    assert np.array_equal(features.at_shape(mask, (12, 8)), mask.repeat(2, 0).repeat(2, 1))


def test_regret_is_what_the_best_way_has_more():
    row = {"set": "a", "features": "pixels", "method": "flow"} | dict(zip(WAYS, (0.9, 0.8, 0.75, 0.5), strict=True))
    (found,) = regret(pd.DataFrame([row])).to_dict("records")
    assert found["best"] == "maximum"
    assert found["regret"] == pytest.approx(0.1)


def test_cells_are_divided_by_their_probability(monkeypatch):
    probability = np.array([0, 1, 0, 1 / 3, 0, 1, 0, 2 / 3, 0, 1])
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    monkeypatch.setattr(features.solar_cells, "load", lambda: (images, probability))
    found = features.cells(train=3, test=2)
    trained, tested = ([int(image[0, 0, 0]) for image in some] for some in (found.normal, found.test))
    assert len(trained) == 3
    assert len(tested) == 4
    assert not set(trained) & set(tested)
    assert all(probability[i] == 0 for i in trained)
    assert found.origins.tolist() == tested
    assert [probability[i] == 1 for i in tested] == found.anomalous.tolist() == [False, False, True, True]
