"""The comparison of notebook 08's methods: what each sees, and rows by hand."""

import numpy as np
import pandas as pd
import pytest

from flowlib.detector import fitting
from flowlib.experiments import features
from flowlib.experiments.features import METHODS, WAYS, Case, compared, regret


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
    return Case("stripes", [texture(s) for s in range(60)], list(range(60)), test, anomalous,
                [mask & bad for bad in anomalous])  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_what_is_turned(case, method):
    row = compared(case, "pixels", method, steps=60)
    assert (row["set"], row["features"], row["method"]) == ("stripes", "pixels", method)
    assert row["top 10 %"] == 1
    assert row["pixel AUROC"] > 0.8
    assert 0.3 < row["AUPRO"] <= 1
    assert row["found"] == 1
    assert row["alarms"] <= 0.4
    assert row["fit, s"] > 0
    assert row["image, ms"] > 0


def test_without_masks_there_are_no_pixels(case):
    row = compared(case._replace(masks=[]), "pixels", "Gaussian")
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
    assert found["regret"] == pytest.approx(0.15)


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
    assert [probability[i] == 1 for i in tested] == found.anomalous.tolist() == [False, False, True, True]
