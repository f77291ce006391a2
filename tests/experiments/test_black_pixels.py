"""What a pixel statistic alone says of pairs, and regressions that are judged on classes they did not see."""

import numpy as np

from flowlib.experiments.black_pixels import (
    covariate_detectors,
    gain_where_it_fails,
    left_out_accuracy,
    treatment_table,
)

NAN = np.nan


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


def test_gain_is_that_of_the_failing_pairs_alone():
    plain = np.array([[NAN, 0.2, 0.9], [0.4, NAN, 0.7], [0.8, 0.6, NAN]])
    treated = np.array([[NAN, 0.5, 0.1], [0.5, NAN, 0.1], [0.1, 0.1, NAN]])
    interval = gain_where_it_fails(plain, treated)
    np.testing.assert_allclose(interval.value, 0.2)
    assert 0.1 <= interval.low <= interval.high <= 0.3 + 1e-9


def test_treatment_table_has_every_ordered_pair():
    table = treatment_table({"plain": np.arange(4.0).reshape(2, 2), "inverted": np.eye(2)}, ["a", "b"])
    assert table.to_numpy().tolist() == [
        ["plain", "a → b", 1.0], ["plain", "b → a", 2.0], ["inverted", "a → b", 0.0], ["inverted", "b → a", 0.0]
    ]  # fmt: skip
