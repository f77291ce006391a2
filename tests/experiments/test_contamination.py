"""Table 1's arithmetic, contaminated draws, and what moves with the number of eights, by hand."""

import numpy as np
import pytest

from flowlib.experiments.contamination import contaminated, contamination_cases, drift, slope_of_eights


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


def test_drift_is_in_units_of_the_first_distance():
    rng = np.random.default_rng(0)
    ones = 100 + rng.normal(size=(1, 2, 30)) + np.array([0.0, 5.0, -10.0])[:, None, None]
    eights = np.broadcast_to(ones[:1] + 20, (3, 2, 30))
    found = drift(ones, eights)
    assert list(found) == ["case 2", "case 3"]
    np.testing.assert_allclose(found["case 2"], 0.25)
    np.testing.assert_allclose(found["case 3"], -0.5)


def test_slope_of_eights_is_per_decade_and_resamples_images():
    of_image = np.random.default_rng(0).normal(0, 50, (1, 2, 20))  # moves all cases of an image alike
    nll = of_image - 7.0 * np.array([0.0, 1.0, 2.0])[:, None, None]
    np.testing.assert_allclose(slope_of_eights(nll, np.array([10, 100, 1000])), -7.0)
