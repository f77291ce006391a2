"""Table 1's arithmetic, contaminated draws, and what is concluded from every class against every other, by hand."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from flowlib import datasets
from flowlib.experiments.black_pixels import covariate_detectors, left_out_accuracy
from flowlib.experiments.contamination import contaminated, contamination_cases
from flowlib.experiments.pairs import class_bootstrap, class_grid, pair_matrix, pair_table, rule_accuracy
from flowlib.training import Recipe, score, train

NAN = np.nan


def test_table_1():
    """The thesis's column divides by the ones and prints 0.1, 1, 10, 20, 40 and 86.78 %."""
    cases = contamination_cases()
    assert cases["case"].tolist() == [1, 2, 3, 4, 5, 6]
    assert set(cases["ones"]) == {6742}
    assert cases["eights"].tolist() == [7, 67, 674, 1348, 2696, 5851]
    of_ones = [0.10, 0.99, 10.00, 19.99, 39.99, 86.78]
    assert cases["percent_of_ones"].round(2).tolist() == of_ones
    assert cases["percent_of_training_set"].round(1).tolist() == [0.1, 1.0, 9.1, 16.7, 28.6, 46.5]


def numbered(n: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + n, dtype=np.uint8)[:, None, None, None]


def test_contaminated_draws():
    normal, anomalous = numbered(5), numbered(50, start=100)
    drawn = contaminated(normal, anomalous, 20, seed=1)
    assert drawn.shape == (25, 1, 1, 1)
    assert np.array_equal(drawn[:5], normal)
    chosen = drawn[5:].ravel()
    assert len(set(chosen)) == 20  # without replacement
    assert chosen.min() >= 100
    assert np.array_equal(contaminated(normal, anomalous, 20, seed=1), drawn)
    assert not np.array_equal(contaminated(normal, anomalous, 20, seed=2), drawn)
    assert sorted(contaminated(normal, anomalous, 50, seed=1)[5:].ravel()) == list(range(100, 150))
    assert np.array_equal(contaminated(normal, anomalous, 0, seed=1), normal)
    with pytest.raises(ValueError, match="51 anomalous images asked for, there are 50"):
        contaminated(normal, anomalous, 51, seed=1)


def test_by_class(monkeypatch: pytest.MonkeyPatch):
    images, labels = numbered(6), np.array([2, 0, 1, 0, 2, 0])
    monkeypatch.setattr(datasets, "load", lambda name, split: (images, labels))
    assert [group.ravel().tolist() for group in datasets.by_class("mnist", "test")] == [[1, 3, 5], [2], [0, 4]]
    assert [group.ravel().tolist() for group in datasets.by_class("mnist", "test", 2)] == [[1, 3], [2], [0, 4]]


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
    np.testing.assert_allclose(interval[1:], np.quantile(means, [0.025, 0.975]))
    assert class_bootstrap(values, 50, 7) == interval
    narrow = class_bootstrap(np.tile(values, (5, 5)), resamples=50)
    assert narrow.high - narrow.low < interval.high - interval.low  # 20 classes say more than 4
    pairs = np.full((3, 3), NAN)
    pairs[0, 1] = 1.0
    assert class_bootstrap(pairs, resamples=20) == (1, 1, 1)  # draws without the pair say nothing, and do not warn


def test_covariate_detectors():
    """Each class's images have one grey level: the darker class always outscores under 'darkness'."""
    images = [np.full((3, 1, 4, 4), level, np.uint8) for level in (10, 20, 20)]
    found = covariate_detectors(images, {"grey": lambda x: x.mean((1, 2, 3)), "dark": lambda x: -x.mean((1, 2, 3))})
    np.testing.assert_array_equal(found["grey"], [[NAN, 1, 1], [0, NAN, 0.5], [0, 0.5, NAN]])
    np.testing.assert_array_equal(found["dark"], 1 - found["grey"])


def test_left_out_accuracy_finds_a_rule_that_holds_for_all_classes():
    values = np.arange(8.0)
    features = (values[None, :] - values[:, None])[..., None]
    fails = values[None, :] > values[:, None]
    right = left_out_accuracy(features, fails)
    assert np.isnan(np.diag(right)).all()
    assert right[~np.eye(8, dtype=bool)].min() == 1


def test_left_out_accuracy_truly_leaves_the_classes_out():
    """Planted leak: feature i is 1 for pairs of class i, and class i alone decides. No other pair knows which way."""
    rng = np.random.default_rng(0)
    fails = np.broadcast_to(rng.permutation([False, True] * 5)[:, None], (10, 10))
    features = np.broadcast_to(np.eye(10)[:, None, :], (10, 10, 10))  # which class is the normal one
    right = left_out_accuracy(features, fails)
    # half of the classes fail; a fit that saw a class would be right in all 90 pairs, one that did not, no better
    # than the commoner outcome among the others, which is the wrong one as often as not
    assert np.nanmean(right) < 0.6
    changed = fails.copy()
    changed[3] = ~changed[3]
    rows = [a for a in range(10) if a != 3]
    again = left_out_accuracy(features, changed)
    assert np.array_equal(again[3, rows], 1 - right[3, rows])  # its own outcome had no say in its prediction


def test_left_out_accuracy_where_the_rest_has_one_outcome():
    fails = np.zeros((4, 4), bool)
    fails[0, 1] = True
    right = left_out_accuracy(np.ones((4, 4, 1)), fails)
    assert right[0, 1] == 0  # pairs of 2 and 3 never fail, so neither is this one said to
    assert right[1, 0] == 1
