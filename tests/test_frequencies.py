"""Notebook 04's design and measures, on scores whose slopes, gaps and order are known."""

from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from flowlib.frequencies import (
    frequency_means,
    frequency_scores,
    frequency_slope,
    intensity_correlation,
    intensity_slope,
    intensity_slopes,
    relative_gap,
    split,
    stands_out,
)
from flowlib.metrics import Interval
from flowlib.toys import HIGH, LOW, frequencies
from flowlib.training import Recipe, build, score

IMAGES, TABLE = frequencies()
FREQUENCY, INTENSITY = TABLE["frequency"].to_numpy(float), TABLE["intensity"].to_numpy(float)


class Inline(Executor):
    """Runs each job at once, in this process."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def noise(scale: float, seeds: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(0, scale, (seeds, len(TABLE)))


def holds(interval: Interval, truth: float) -> None:
    assert interval.low < truth < interval.high
    assert interval.low < interval.value < interval.high


def test_the_split_halves_every_frequency_at_random() -> None:
    train, test = split(TABLE)
    assert sorted([*train, *test]) == list(range(1200))
    assert TABLE.iloc[train]["frequency"].value_counts().to_dict() == dict.fromkeys(LOW + HIGH, 60)
    assert (np.diff(test) > 0).all()
    assert abs(TABLE.iloc[train]["intensity"].mean() - TABLE.iloc[test]["intensity"].mean()) < 10
    assert (split(TABLE)[0] == train).all()
    assert (split(TABLE, seed=1)[0] != train).any()
    of_fourteen = TABLE[TABLE["frequency"] == 14]  # the numbers are the table's rows, whatever its index is called
    assert set(split(of_fourteen)[0]) <= set(range(120))


def test_each_model_is_trained_on_its_own_group_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    recipes = {
        "wide": Recipe("FullyConnectedAutoencoder", {"hidden": (8, 8, 8)}, 2, 4, 1e-3),
        "narrow": Recipe("FullyConnectedAutoencoder", {"hidden": (8, 8, 2)}, 2, 4, 1e-3),
    }
    of_test, of_train = frequency_scores(IMAGES, TABLE, recipes, ("all", "high"), (0, 7), Inline(), "test")
    train, test = split(TABLE)
    assert list(of_test) == [("wide", "all"), ("wide", "high"), ("narrow", "all"), ("narrow", "high")]
    assert {scores.shape for scores in of_test.values()} == {(2, 600)}
    assert of_train["wide", "all"].shape == (2, 600)
    assert of_train["wide", "high"].shape == (2, 300)
    for (model, trained_on), scores in of_test.items():
        # Two steps hardly move a model from where its seed put it, so its scores tell which one it is.
        for seed, row in zip((0, 7), scores, strict=True):
            recipe = recipes[model]
            untrained = score(build(Recipe(recipe.model, recipe.options, seed=seed), (1, 32, 32)), IMAGES)
            assert np.abs(row / untrained[test] - 1).max() < 0.02
            fitted = train[FREQUENCY[train] > 5] if trained_on == "high" else train
            number = (0, 7).index(seed)
            assert np.abs(of_train[model, trained_on][number] / untrained[fitted] - 1).max() < 0.02
        assert not np.array_equal(of_test["wide", "all"], of_test["wide", "high"]), "the groups must differ"


def test_slopes_are_found_with_intervals() -> None:
    scores = 5 + 0.5 * FREQUENCY + 0.02 * INTENSITY + noise(1.0)
    intensity_of = TABLE.groupby("frequency")["intensity"].transform("mean").to_numpy()
    holds(frequency_slope(TABLE, scores - 0.02 * intensity_of), 0.5)
    uneven = frequency_slope(TABLE, scores + 5 * np.cos(FREQUENCY))  # ten observations, however many images
    assert uneven.high - uneven.low > 0.5
    holds(intensity_slope(TABLE, scores), 2.0)
    each = intensity_slopes(TABLE, np.where(FREQUENCY == 4, scores - 0.05 * INTENSITY, scores)).set_index("frequency")
    assert list(each.index) == [*LOW, *HIGH]
    for frequency, row in each.iterrows():
        assert row["low"] < (-3.0 if frequency == 4 else 2.0) < row["high"]


def test_the_intensity_slope_does_not_take_frequency_for_intensity() -> None:
    confounded = TABLE[((FREQUENCY > 5) & (INTENSITY > 150)) | ((FREQUENCY <= 5) & (INTENSITY < 200))]
    table = confounded.reset_index(drop=True)
    scores = np.where(table["frequency"] > 5, 100.0, 0.0) + noise(1.0)[:, : len(table)]
    slope = intensity_slope(table, scores)
    holds(slope, 0.0)
    assert slope.high - slope.low < 1, "differences between frequencies are no noise"
    holds(intensity_correlation(table, scores), 0.0)


def test_the_rank_correlation_is_the_mean_of_spearmans_within_frequencies() -> None:
    scores = np.round(np.exp((INTENSITY - 165) / 40) + 50 * FREQUENCY + noise(1.0))  # with ties
    rows = TABLE.groupby("frequency").indices.values()
    expected = np.mean([spearmanr(INTENSITY[r], each[r]).statistic for each in scores for r in rows])
    found = intensity_correlation(TABLE, scores)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.low < found.value < found.high
    assert intensity_correlation(TABLE, -scores).value == pytest.approx(-expected, abs=1e-12)
    assert intensity_correlation(TABLE, np.exp(INTENSITY[None] / 20)).value == pytest.approx(1)


def test_a_frequency_stands_out_against_the_highest_of_the_others() -> None:
    scores = FREQUENCY + np.where(FREQUENCY == 3, 20, 0) + noise(0.5)  # 3 has 23, above 14 and 15 both
    assert stands_out(TABLE, scores, 14, apart=(14, 15)).value == pytest.approx(14 - 23, abs=0.2)
    assert stands_out(TABLE, scores, 15, apart=(3, 14, 15)).value == pytest.approx(15 - 13, abs=0.2)
    assert stands_out(TABLE, scores, 14, apart=(3, 14, 15)).value == pytest.approx(1, abs=0.2), "15 is left aside"


def test_the_relative_gap_is_the_ratio_less_one_and_knows_both_spreads() -> None:
    rng = np.random.default_rng(1)
    scale = np.array([[1.0], [2.0], [4.0]])  # seeds differ in scale, not in ratio
    first, second = scale * rng.normal(4.0, 0.4, (3, 600)), scale * rng.normal(1.0, 0.3, (3, 600))
    gap = relative_gap(first, second)
    assert gap.value == pytest.approx(np.mean(first.mean(1) / second.mean(1)) - 1, abs=1e-12)
    holds(gap, 3.0)
    one_seed = relative_gap(first[:1], second[:1])
    expected = 2 * 1.96 * 4 * np.hypot(0.1, 0.3) / np.sqrt(600)  # of a ratio, by the delta method
    assert one_seed.high - one_seed.low == pytest.approx(expected, rel=0.15)


def test_means_of_each_frequency() -> None:
    means = frequency_means(TABLE, np.stack([FREQUENCY, FREQUENCY + 2]) + noise(0.1, seeds=2))
    assert means["value"].to_numpy() == pytest.approx(np.array([*LOW, *HIGH]) + 1.0, abs=0.05)
    assert (means["low"] < means["value"]).all()
    assert (means["value"] < means["high"]).all()
    assert isinstance(means, pd.DataFrame)
    assert list(means) == ["frequency", "value", "low", "high"]
