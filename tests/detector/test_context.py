"""What likelihood is usual in a context: surrounds by hand, and expectations of what is known."""

import numpy as np
import pytest

from flowlib.detector import context
from flowlib.detector.context import SIDES, expectation, surround


def test_a_surround_is_the_means_over_squares_with_borders_continued():
    values = np.random.default_rng(0).normal(size=(2, 7, 12)).astype(np.float32)
    found = surround(values)
    assert (found.shape, found.dtype) == ((4, 7, 12), np.float32)
    for number, side in enumerate(SIDES):
        wide = np.pad(values, ((0, 0), (side // 2,) * 2, (side // 2,) * 2), mode="edge")
        for r, c in ((0, 0), (3, 5), (6, 11)):
            expected = wide[:, r : r + side, c : c + side].mean((1, 2))
            assert found[2 * number : 2 * number + 2, r, c] == pytest.approx(expected, abs=1e-5)


def known(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Surrounds of which the first number alone tells the NLL, on very unlike scales; the last is constant."""
    rng = np.random.default_rng(seed)
    surrounds = rng.normal(size=(n, 4)) * (1, 100, 0.01, 0) + (0, 50, 0, 3)
    nll = 20 + 5 * surrounds[:, 0] + rng.normal(size=n)
    return surrounds.astype(np.float32), nll.astype(np.float32)


def test_the_expectation_is_what_the_surround_tells():
    found, (surrounds, nll) = expectation(*known()), known(seed=1)
    left = nll - found.of(surrounds)
    assert found.weights.dtype == np.float32
    assert left.std() < 1.1  # of 5.1
    assert abs(left.mean()) < 0.1


def test_a_surround_unlike_all_expects_no_more_than_normal_ones_did():
    surrounds, nll = known()
    found = expectation(surrounds, nll)
    strange = np.array([[1000, 50, 0, 3], [-1000, 50, 0, 3]], dtype=np.float32)
    assert found.of(strange) == pytest.approx([found.high, found.low])
    assert nll.min() < found.low < found.high < nll.max()


def test_half_precision_serves():
    """Jobs hand surrounds over in 16 bits."""
    surrounds, nll = known()
    whole, half = expectation(surrounds, nll), expectation(surrounds.astype(np.float16), nll)
    assert half.of(surrounds) == pytest.approx(whole.of(surrounds), abs=0.05)


def test_a_map_is_expected_position_by_position():
    values = np.random.default_rng(2).normal(size=(3, 5, 6)).astype(np.float32)
    surrounds = surround(values).reshape(6, -1).T
    found = expectation(surrounds, surrounds[:, 0])
    assert found.of_map(values).shape == (5, 6)
    assert found.of_map(values).ravel() == pytest.approx(found.of(surrounds))


def test_what_is_rare_everywhere_is_told_from_what_is_rare_here():
    """A stripe of loud texture, normal wherever it is, and a small loud spot in the quiet part."""
    loud = np.zeros((40, 40), bool)
    loud[:, 20:] = True

    def features_of(seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(size=(1, 40, 40))
        return np.concatenate([noise, np.abs(noise)]).astype(np.float32) * (1 + 4 * loud).astype(np.float32)

    nll = [abs(features_of(seed)[0]) for seed in range(6)]
    positions = [surround(features_of(seed)).reshape(4, -1).T for seed in range(6)]
    found = context.expectation(np.concatenate(positions), np.concatenate([one.ravel() for one in nll]))
    spot = features_of(9)
    spot[:, 10:12, 8:10] = 4
    above = abs(spot[0]) - found.of_map(spot)
    quiet = np.zeros_like(loud)
    quiet[10:12, 8:10] = True
    by_likelihood = (abs(spot[0])[loud] > abs(spot[0])[quiet].mean()).mean()
    assert by_likelihood > 0.3  # alone it tells nothing
    assert (above[loud] > above[quiet].mean()).mean() < 0.5 * by_likelihood
