"""What notebook 05 measures: against brute force, and with blades, not frames, as the unit."""

import numpy as np
import pytest
from scipy.ndimage import label

from flowlib.blade_metrics import (
    across_border,
    best_way,
    blade_auroc,
    blade_mean,
    frame_overlaps,
    pixel_ranks,
    within_image,
)
from flowlib.detector import LARGEST_SHARES
from flowlib.metrics import auroc, pixel_auroc, region_overlaps


def some_maps(n: int = 6, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    masks = [np.zeros((40, 56), dtype=bool) for _ in range(n)]
    for mask in masks[n // 2 :]:
        row, column = rng.integers(30, size=2)
        mask[row : row + 7, column : column + 5] = True
    return [rng.normal(size=mask.shape) + 1.5 * mask for mask in masks], masks


def test_ranks_are_the_pixel_auroc():
    maps, masks = some_maps()
    sums, numbers = pixel_ranks(maps, masks)
    assert sums[:3].sum() == numbers[:3].sum() == 0
    assert sums.sum() / numbers.sum() == pytest.approx(pixel_auroc(maps, masks), abs=0.01)  # thinned background


def test_overlap_of_a_frame_takes_its_pieces_together():
    maps, masks = some_maps()
    whole = frame_overlaps(maps, masks)
    expected = [each.mean() if len(each) else 0 for each in region_overlaps(maps, masks)]
    np.testing.assert_allclose(whole, expected)  # one piece each
    masks[4][:, 30:34] = True
    pieces = region_overlaps(maps, masks)[4]
    sizes = np.bincount(label(masks[4], np.ones((3, 3)))[0][masks[4]])[1:]
    assert len(pieces) == 2
    assert frame_overlaps(maps, masks)[4] == pytest.approx((pieces * sizes).sum() / sizes.sum())


def test_within_image_compares_the_pixels_of_one_frame():
    maps, masks = some_maps()
    shifted = [values + 100 * i for i, values in enumerate(maps)]
    found = within_image(shifted[3:], masks[3:], [~mask for mask in masks[3:]])
    np.testing.assert_allclose(found, [auroc(v[~m], v[m]) for v, m in zip(maps[3:], masks[3:], strict=True)])


def test_intervals_are_over_blades():
    """Ten frames of each blade that say the same: as wide as with one frame a blade, not narrower."""
    rng = np.random.default_rng(0)
    normal, anomalous = rng.normal(size=(1, 12)), rng.normal(1, 1, (1, 9))
    one = blade_auroc(normal, anomalous, np.arange(12), np.arange(9))
    ten = blade_auroc(normal.repeat(10, 1), anomalous.repeat(10, 1), np.arange(12).repeat(10), np.arange(9).repeat(10))
    assert one.value == pytest.approx(auroc(normal[0], anomalous[0])) == ten.value
    assert ten.low == pytest.approx(one.low, abs=0.05)
    frames = blade_auroc(normal.repeat(10, 1), anomalous.repeat(10, 1), np.arange(120), np.arange(90))
    assert frames.high - frames.low < 0.5 * (ten.high - ten.low)


def test_mean_weighs_what_images_add():
    sums, weights = np.array([[2.0, 0.0, 6.0], [4.0, 0.0, 8.0]]), np.array([4.0, 0.0, 16.0])
    interval = blade_mean(sums, weights, np.array([0, 1, 2]))
    assert interval.value == pytest.approx((6 / 2 + 14 / 2) / 20)
    assert interval.low <= interval.value <= interval.high
    assert blade_mean(np.ones((2, 3)), np.ones(3), np.array([0, 0, 1])) == (1, 1, 1)


@pytest.mark.parametrize(
    ("rows", "columns", "across"),
    [
        ((3, 9), (40, 60), False),
        ((30, 34), (2, 9), True),
        ((2, 9), (60, 70), True),
        ((0, 32), (0, 32), False),
        ((0, 33), (0, 5), None),
    ],
)
def test_across_the_border_of_patches(rows, columns, across):
    mask = np.zeros((80, 96), dtype=bool)
    mask[slice(*rows), slice(*columns)] = True
    assert across_border(mask) is across


def test_best_way_is_chosen_by_what_tells_the_changed_apart():
    """A small change of a few pixels is seen by the maximum, one of the whole map by its mean."""
    rng = np.random.default_rng(0)
    normal = [rng.normal(size=(50, 50)) for _ in range(20)]
    spots, everywhere = [values.copy() for values in normal], [values + 0.2 for values in normal]
    for values in spots:
        values[7, 7] = 9
    assert best_way([normal], [spots]) == "maximum"
    assert best_way([normal], [everywhere]) == "mean"
    assert set(LARGEST_SHARES) >= {"maximum", "mean"}
