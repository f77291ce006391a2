"""What is concluded from every class against every other, by hand."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flowlib.experiments.pairs import (
    class_bootstrap,
    class_grid,
    fail_both_ways,
    failing_pairs,
    inclusion,
    one_order,
    pair_matrix,
    pair_table,
    rule_accuracy,
)
from flowlib.training import Recipe, score, train

NAN = np.nan


def test_class_grid_puts_scores_where_they_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two seeds, two classes trained, three tested: the scores are those of training and scoring one by one."""
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    rng = np.random.default_rng(0)
    sets = [rng.integers(0, 256, (4, 1, 8, 8), dtype=np.uint8) for _ in range(5)]
    recipe = Recipe("FullyConnectedAutoencoder", {"hidden": [4, 4, 2]}, steps=2, batch_size=2)
    with ThreadPoolExecutor(1) as executor:
        grid = class_grid(sets[:2], sets[2:], recipe, [5, 6], executor, "grid")
    assert grid.shape == (2, 2, 3, 4)
    for s, seed in enumerate((5, 6)):
        for a in range(2):
            model, _ = train(sets[a], Recipe(recipe.model, recipe.options, 2, 2, seed=seed))
            for b in range(3):
                np.testing.assert_array_equal(grid[s, a, b], score(model, sets[2 + b]))


@pytest.fixture
def scores() -> np.ndarray:
    """(1 seed, 3 trained, 3 tested, 2 images): class 0 fails against 1 and ties with 2; class 2 behaves."""
    from_0 = [[10, 12], [1, 2], [10, 12]]
    from_1 = [[2, 8], [5, 6], [7, 5.5]]
    from_2 = [[3, 4], [5, 6], [1, 2]]
    return np.array([[from_0, from_1, from_2]])


def test_pair_matrix(scores: np.ndarray):
    expected = [[NAN, 0, 0.5], [0.5, NAN, 0.75], [1, 1, NAN]]
    np.testing.assert_array_equal(pair_matrix(scores), expected)
    two_seeds = np.concatenate([scores, -scores])
    np.testing.assert_array_equal(pair_matrix(two_seeds), [[NAN, 0.5, 0.5], [0.5, NAN, 0.5], [0.5, 0.5, NAN]])


def test_pair_table(scores: np.ndarray):
    table = pair_table(scores, ["a", "b", "c"])
    pairs = [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b")]
    assert list(zip(table["normal"], table["anomaly"], strict=True)) == pairs
    assert table["auroc"].tolist() == [0, 0.5, 0.5, 0.75, 1, 1]
    assert (table["low"] <= table["auroc"]).all()
    assert (table["auroc"] <= table["high"]).all()
    assert table["low"].between(0, 1).all()
    assert table["high"].between(0, 1).all()


def test_rule_accuracy():
    """The rule says 'fails' of 0 -> 1, 0 -> 2 and 1 -> 2; what fails is 0 -> 1, 1 -> 0 and 1 -> 2: four are right."""
    matrix = np.array([[NAN, 0.2, 0.9], [0.4, NAN, 0.3], [0.8, 0.5, NAN]])
    interval = rule_accuracy(matrix, np.array([1.0, 2.0, 3.0]))
    assert interval.value == pytest.approx(4 / 6)
    assert interval.low < interval.value < interval.high
    order = np.array([[NAN, 0.2, 0.2], [0.8, NAN, 0.2], [0.8, 0.8, NAN]])
    assert rule_accuracy(order, np.array([1.0, 2.0, 3.0])) == (1, 1, 1)
    assert rule_accuracy(order, np.array([3.0, 2.0, 1.0])) == (0, 0, 0)


def test_class_bootstrap():
    """Against the bootstrap written out: pairs (i, j) of drawn classes, those of a class with itself left out."""
    values = np.random.default_rng(1).random((4, 4))
    np.fill_diagonal(values, NAN)
    values[0, 3] = NAN
    interval = class_bootstrap(values, resamples=50, seed=7)
    rng = np.random.default_rng(7)
    means = []
    for _ in range(50):
        drawn = rng.integers(4, size=4)
        kept = [values[i, j] for i in drawn for j in drawn if not np.isnan(values[i, j])]
        means += [np.mean(kept)] if kept else []
    assert interval.value == pytest.approx(np.nanmean(values))
    middle, stretch = interval.value, (4 / 3) ** 0.5 * 3.182446 / 1.959964  # four classes are few: t with three degrees
    ends = middle + stretch * (np.quantile(means, [0.025, 0.975]) - middle)
    np.testing.assert_allclose(interval[1:], np.clip(ends, np.nanmin(values), np.nanmax(values)), rtol=1e-6)
    assert class_bootstrap(values, 50, 7) == interval
    narrow = class_bootstrap(np.tile(values, (5, 5)), resamples=50)
    assert narrow.high - narrow.low < interval.high - interval.low  # 20 classes say more than 4
    pairs = np.full((3, 3), NAN)
    pairs[0, 1] = 1.0
    assert class_bootstrap(pairs, resamples=20) == (1, 1, 1)  # draws without the pair say nothing, and do not warn


def test_intervals_over_ten_classes_cover_what_they_say():
    """Classes that are easy to find, and hard to find others with: what a pair shares with others."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        values = rng.normal(size=(10, 1)) + rng.normal(size=10) + rng.normal(size=(10, 10))
        np.fill_diagonal(values, NAN)
        interval = class_bootstrap(values, resamples=200)
        covered.append(interval.low <= 0 <= interval.high)
    assert 0.92 < np.mean(covered) < 0.985


def test_a_rule_may_be_of_pairs_and_asked_of_some():
    matrix = np.array([[NAN, 0.2, 0.9], [0.4, NAN, 0.3], [0.8, 0.5, NAN]])
    values = np.array([1.0, 2.0, 3.0])
    more = values[None, :] - values[:, None]
    assert rule_accuracy(matrix, more) == rule_accuracy(matrix, values)
    some = np.array([[True, True, False], [False, True, True], [False, True, True]])
    assert rule_accuracy(matrix, more, asked=some).value == 1  # 0 -> 1 and 1 -> 2 fail as said, 2 -> 1 does not
    assert rule_accuracy(matrix, -more, asked=some).value == 0


def test_inclusion_is_the_share_of_ink_within_the_other():
    bar = np.zeros((2, 1, 6, 6), np.uint8)
    bar[..., 2] = 200
    cross = bar.copy()
    cross[..., 2, :] = 200
    found = inclusion([bar, cross])
    assert found[1, 0] == 1  # the bar lies within the cross
    assert found[0, 1] == pytest.approx(6 / 11)
    assert inclusion([bar // 2, cross])[0, 1] == pytest.approx(3 / 11)  # ink that is half as dark includes half


def test_failing_pairs_and_those_that_fail_one_way():
    rows = [
        ("a", "b", 0.1, 0.4),
        ("b", "a", 0.6, 0.9),
        ("a", "c", 0.2, 0.3),
        ("c", "a", 0.1, 0.2),
        ("b", "c", 0.4, 0.6),
    ]
    table = pd.DataFrame(rows, columns=["normal", "anomaly", "low", "high"])
    fails, one_way = failing_pairs(table)
    assert fails == [("a", "b"), ("a", "c"), ("c", "a")]
    assert one_way == [("a", "b")]


def off_diagonal(values: np.ndarray) -> np.ndarray:
    values = np.array(values, dtype=float)
    np.fill_diagonal(values, NAN)
    return values


def test_one_order_explains_what_is_a_sum_and_little_of_noise():
    cheap = np.array([0.0, 0.1, 0.3, 0.6, 0.7])
    assert one_order(off_diagonal(0.5 + cheap[None] - cheap[:, None])) == pytest.approx((1, 1, 1))
    rng = np.random.default_rng(0)
    noise = [one_order(off_diagonal(rng.normal(size=(10, 10)))) for _ in range(60)]
    assert np.mean([found.value for found in noise]) == pytest.approx(18 / 89, abs=0.03)
    assert np.mean([found.low <= 18 / 89 <= found.high for found in noise]) > 0.85
    cycle = off_diagonal([[0, 1, 0], [0, 0, 1], [1, 0, 0]])  # each finds the next one, and no order does that
    four = np.pad(cycle, (0, 1), constant_values=0.5)
    assert one_order(off_diagonal(four)).value < 0.1


def test_pairs_that_fail_both_ways_are_counted_once():
    matrix = off_diagonal([[0, 0.4, 0.9], [0.3, 0, 0.2], [0.1, 0.5, 0]])
    assert fail_both_ways(matrix) == 1
    assert fail_both_ways(1 - matrix) == 0
