"""Every class against every other by flows of features: which score lies where, and tables by hand."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from flowlib.detector import fitting
from flowlib.detector.model import OWN_WAY
from flowlib.experiments import feature_pairs


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    monkeypatch.setattr(fitting, "POSITIONS", 2000)


def garments(level: int, n: int, seed: int) -> np.ndarray:
    """Small images of one brightness, noisy."""
    rng = np.random.default_rng(seed)
    return (level + rng.normal(0, 10, (n, 1, 28, 28))).clip(0, 255).astype(np.uint8)


def test_pairs_are_told_apart_and_every_score_lies_at_its_place():
    train, test = ([garments(level, 6, seed + level) for level in (60, 190)] for seed in (0, 1))
    with ThreadPoolExecutor(1) as pool:
        found = feature_pairs.pair_scores(train, [*test, test[0]], "pixels", 40, 0, pool)
    assert found.shape == (len(feature_pairs.PAIR_WAYS), 2, 3, 6)
    assert np.array_equal(found[:, :, 0], found[:, :, 2])
    for a, b in ((0, 1), (1, 0)):
        assert (found[:, a, a].max(1) < found[:, a, b].min(1)).all()
    assert (found[0] <= found[1]).all()  # a mean is no more than the mean of the highest


def test_a_small_image_has_a_size_for_each_kind():
    image = garments(60, 1, 0)[0]
    vectors, shape = feature_pairs.small(image, "pixels")
    assert (vectors.shape, shape) == ((16, 4, 4), (32, 32))


@pytest.fixture
def pairs() -> pd.DataFrame:
    """Three classes, each as far from the others as their numbers on features, and the other way round on pixels."""
    noise = np.random.default_rng(0).normal(0, 1e-3, (2, 3, 3, 8))
    away = np.abs(np.subtract.outer(np.arange(3), np.arange(3)))[None, :, :, None] + noise
    whole = np.concatenate([np.zeros((2, 1, 3, 8)), np.ones((2, 1, 2, 8))], axis=2)
    return feature_pairs.pair_table(
        {"pixels": -away, "features": away}, {"pixels": -whole, "features": whole}, ["a", "b", "c"]
    )


def test_a_row_a_way_and_a_pair(pairs):
    assert len(pairs) == 2 * (6 + 1)
    assert pairs.groupby("way").size().to_dict() == dict.fromkeys(feature_pairs.PAIR_WAYS, 7)
    assert pairs["features"].tolist() == [1.0] * 14
    assert pairs["pixels"].tolist() == [0.0] * 14
    assert (pairs["features low"] < 1).all()
    assert pairs[["normal", "anomaly"]].drop_duplicates().to_numpy().tolist()[-1] == list(feature_pairs.WHOLE)


def test_the_summary_counts_the_pairs_of_classes_alone(pairs):
    pairs.loc[(pairs["way"] == OWN_WAY) & (pairs["normal"] == "a") & (pairs["anomaly"] == "b"), "features"] = 0.4
    pairs.loc[pairs["normal"] == feature_pairs.WHOLE[0], "features"] = 0.1
    found = feature_pairs.pair_summary(pairs).set_index(["way", "features"])
    assert found.loc[(OWN_WAY, "features"), "mean of pairs"] == pytest.approx(5.4 / 6)
    assert found.loc[(OWN_WAY, "features"), "lowest"] == 0.4
    assert found["below 0.5"].to_dict() == {
        ("mean", "pixels"): 6, ("mean", "features"): 0, (OWN_WAY, "pixels"): 6, (OWN_WAY, "features"): 1
    }  # fmt: skip
    assert found.loc[("mean", "features"), "Fashion-MNIST → MNIST"] == 0.1
