"""Notebook 04's design and measures, on scores whose slopes, gaps and order are known."""

from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from flowlib.datasets import HIGH, LOW, frequencies
from flowlib.experiments.frequencies import (
    centred,
    frequency_means,
    frequency_scores,
    frequency_slope,
    intensity_correlation,
    intensity_slope,
    intensity_slopes,
    relative,
    relative_gap,
    scaled_ranks,
    split,
    stands_out,
)
from flowlib.metrics import Interval
from flowlib.training import Recipe, build, score

IMAGES, TABLE = frequencies()
properties = settings(derandomize=True, max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)
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
    assert stands_out(TABLE, scores, 14, (14, 15), errors=False).value == pytest.approx(14 - 23, abs=0.2)
    assert stands_out(TABLE, scores, 15, (3, 14, 15), errors=False).value == pytest.approx(15 - 13, abs=0.2)
    found = stands_out(TABLE, scores, 14, (3, 14, 15), errors=False)
    assert found.value == pytest.approx(1, abs=0.2), "15 is left aside"
    assert 0 < found.low < found.value < found.high
    ratio = stands_out(TABLE, scores + 2 + noise(0.1), 12, (14, 15), errors=True)
    assert ratio.value == pytest.approx(14 / 25 - 1, abs=0.02)
    assert -1 < ratio.low < ratio.value < ratio.high < 0


@pytest.mark.parametrize("errors", [False, True])
def test_choosing_the_highest_does_not_move_the_interval(errors: bool) -> None:
    """Six frequencies alike, but for what seeds and images add: the highest of four is so by chance alone."""
    rng = np.random.default_rng(1)
    frequency = np.repeat(np.array([1, 2, 3, 4, 14, 15]), 12)
    table = pd.DataFrame({"frequency": frequency})
    found, naive = [], []
    for _ in range(30):
        of_seed = 0.1 * rng.normal(size=(3, 6)).repeat(12, axis=1)  # a seed finds another frequency hard
        scores = of_seed + 0.2 * rng.normal(size=(3, 72))
        scores = np.exp(scores) if errors else scores
        found.append(stands_out(table, scores, 14, (14, 15), errors))
        naive.append(found[-1].value < 0)
    assert np.mean([low <= 0 <= high for _, low, high in found]) > 0.95
    assert np.mean(naive) > 0.5  # by value alone 14 would seem to lie below


def test_the_relative_gap_is_the_ratio_less_one_and_knows_both_spreads() -> None:
    rng = np.random.default_rng(1)
    scale = np.array([[1.0], [2.0], [4.0]])  # seeds differ in scale, not in ratio
    first, second = scale * rng.normal(4.0, 0.4, (3, 600)), scale * rng.normal(1.0, 0.15, (3, 600))
    gap = relative_gap(first, second)
    assert gap.value == pytest.approx(np.exp(np.log(first.mean(1) / second.mean(1)).mean()) - 1, abs=1e-12)
    holds(gap, 3.0)
    one_seed = relative_gap(first[:1], second[:1])
    expected = 2 * 1.96 * 4 * np.hypot(0.1, 0.15) / np.sqrt(600)  # of a ratio, by the delta method
    assert one_seed.high - one_seed.low == pytest.approx(expected, rel=0.15)
    spread = relative_gap(np.array([[1.0, 1.0], [9.0, 9.0], [81.0, 81.0]]), np.ones((3, 2)))
    assert spread.value == pytest.approx(8)
    assert spread.low > -1  # a ratio is never negative, however seeds differ


def test_relative_scores_have_mean_one_by_seed() -> None:
    assert relative(np.array([[1.0, 3.0], [10.0, 30.0]])).tolist() == [[0.5, 1.5], [0.5, 1.5]]


def test_means_of_each_frequency() -> None:
    scores = np.stack([FREQUENCY, FREQUENCY + 2]) + 5 + noise(0.1, seeds=2)
    means = frequency_means(TABLE, scores - 5, errors=False)
    assert means["value"].to_numpy() == pytest.approx(np.array([*LOW, *HIGH]) + 1.0, abs=0.05)
    assert (means["low"] < means["value"]).all()
    assert (means["value"] < means["high"]).all()
    assert isinstance(means, pd.DataFrame)
    assert list(means) == ["frequency", "value", "low", "high"]
    errors = frequency_means(TABLE, np.exp(scores), errors=True)  # of which one seed has 7 times the other's
    assert (errors["low"] > 0).all()
    assert errors["value"].to_numpy() == pytest.approx(np.exp(np.array([*LOW, *HIGH]) + 6.0), rel=0.05)


@st.composite
def designs(draw) -> tuple[pd.DataFrame, np.ndarray]:
    """A table of three to six frequencies, four to nine images each in any order, and scores of one to three seeds."""
    rng = np.random.default_rng(draw(seeds))
    each = draw(st.lists(st.integers(4, 9), min_size=3, max_size=6))
    frequency = rng.permutation(np.repeat(rng.choice(np.arange(1, 16), len(each), replace=False), each))
    table = pd.DataFrame({"frequency": frequency, "intensity": rng.permutation(np.arange(75, 257))[: len(frequency)]})
    return table, rng.normal(size=(draw(st.integers(1, 3)), len(frequency)))


@given(designs(), seeds)
@properties
def test_any_table_is_halved_within_each_frequency(design: tuple[pd.DataFrame, np.ndarray], seed: int) -> None:
    table, _ = design
    train, test = split(table, seed)
    assert sorted([*train, *test]) == list(range(len(table)))
    for rows in table.groupby("frequency").indices.values():
        assert np.isin(rows, train).sum() == len(rows) // 2


@given(designs(), st.floats(0.1, 10), st.floats(-50, 50))
@properties
def test_slopes_follow_the_scale_of_the_scores_and_not_their_shift(
    design: tuple[pd.DataFrame, np.ndarray], scale: float, shift: float
) -> None:
    table, scores = design
    for slope in (frequency_slope, intensity_slope):
        found, turned = slope(table, scores), slope(table, scale * scores + shift)
        assert found.low <= found.value <= found.high
        assert turned == pytest.approx([scale * end for end in found], rel=1e-6, abs=1e-9)
        value, low, high = slope(table, -scores)
        assert (value, low, high) == pytest.approx((-found.value, -found.high, -found.low), rel=1e-6, abs=1e-9)
    exact = intensity_slope(
        table, scores * 0 + 0.07 * table["intensity"].to_numpy() + 3.0 * table["frequency"].to_numpy()
    )
    assert exact == pytest.approx((7, 7, 7)), "at equal frequency, per 100 grey levels"


@given(designs())
@properties
def test_rank_correlation_knows_the_order_within_a_frequency_alone(design: tuple[pd.DataFrame, np.ndarray]) -> None:
    table, scores = design
    found = intensity_correlation(table, scores)
    assert -1 <= found.low <= found.value <= found.high <= 1
    offset = 1000.0 * table["frequency"].to_numpy() ** 2
    assert intensity_correlation(table, np.exp(scores) + offset) == pytest.approx(found, abs=1e-9)
    rising = np.log(table["intensity"].to_numpy(float))[None] - offset
    assert intensity_correlation(table, rising) == pytest.approx((1, 1, 1))


@given(designs())
@properties
def test_centred_values_and_scaled_ranks_have_mean_zero_in_each_frequency(
    design: tuple[pd.DataFrame, np.ndarray],
) -> None:
    table, scores = design
    before = scores.copy()
    values, ranks = centred(table, scores), scaled_ranks(table, scores[0])
    assert np.array_equal(scores, before)
    for rows in table.groupby("frequency").indices.values():
        np.testing.assert_allclose(values[:, rows].mean(1), 0, atol=1e-12)
        np.testing.assert_allclose(np.diff(values[:, rows]), np.diff(scores[:, rows]), atol=1e-12)
        assert ranks[rows].mean() == pytest.approx(0, abs=1e-12)
        assert ranks[rows].std() == pytest.approx(1)
        assert (np.argsort(ranks[rows]) == np.argsort(scores[0, rows])).all()
    assert (scaled_ranks(table, np.ones(len(table))) == 0).all()


@given(designs(), st.data())
@settings(properties, max_examples=5)
def test_what_stands_out_by_so_much_stands_out_by_so_much(design: tuple[pd.DataFrame, np.ndarray], data) -> None:
    table, _ = design
    frequency = table["frequency"].to_numpy()
    names = np.unique(frequency)
    height = dict(zip(names, data.draw(st.permutations(range(len(names)))), strict=True))
    scores = np.array([[height[f] for f in frequency]] * 2, dtype=float)
    for name in names:
        others = [height[other] for other in names if other != name]
        difference = height[name] - max(others)
        assert stands_out(table, scores, name, apart=(name,), errors=False) == (difference, difference, difference)


@given(st.integers(1, 3), st.integers(2, 20), st.integers(2, 20), st.floats(0.01, 100), seeds)
@properties
def test_the_relative_gap_knows_no_unit(n: int, first: int, second: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(1, 2, (n, first)), rng.uniform(1, 2, (n, second))
    gap = relative_gap(a, b)
    assert relative_gap(scale * a, scale * b) == pytest.approx(gap, rel=1e-6, abs=1e-9)
    assert gap.low <= gap.value <= gap.high
    assert relative_gap(3 * np.ones((n, first)), 2 * np.ones((n, second))) == pytest.approx((0.5, 0.5, 0.5))
