"""Measures of maps against thresholding at every score, by hand, and on what they must not see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label
from sklearn.metrics import roc_auc_score

from flowlib.detector.map_metrics import aupro, pixel_auroc, region_overlaps

properties = settings(derandomize=True, max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)

# Maps. The reference thresholds at every distinct score and integrates the curve it gets, region by region.


def reference_aupro(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    false_positive_rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        found, false_positives, normal = [], 0, 0
        for anomaly_map, mask in zip(maps, masks, strict=True):
            flagged = anomaly_map >= threshold
            regions, count = label(mask, np.ones((3, 3)))
            found += [flagged[regions == r].mean() for r in range(1, count + 1)]
            false_positives += np.sum(flagged & ~mask)
            normal += np.sum(~mask)
        false_positive_rates.append(false_positives / normal)
        overlaps.append(np.mean(found))
    # Reaching `limit` from the left: of a vertical piece at `limit`, the foot counts; it has no area either way.
    inside = np.array(false_positive_rates) < limit
    at_limit = np.interp(limit, false_positive_rates, overlaps)
    x = np.append(np.array(false_positive_rates)[inside], limit)
    return float(np.trapezoid(np.append(np.array(overlaps)[inside], at_limit), x) / limit)


def smooth_maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = gaussian_filter(rng.normal(size=(3, 14, 18)), (0, 2, 2)) > 0.2
    masks[0] = False
    return gaussian_filter(rng.normal(size=masks.shape), (0, 1, 1)) + 0.2 * masks, masks


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("decimals", [9, 1])  # 1: many ties within and across the groups
@pytest.mark.parametrize("seed", [0, 1])
def test_aupro_equals_thresholding_at_every_score(seed: int, decimals: int, limit: float) -> None:
    maps, masks = smooth_maps(seed)
    maps = maps.round(decimals)
    assert aupro(maps, masks, limit) == pytest.approx(reference_aupro(maps, masks, limit), abs=1e-12)


@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0.01, 1.0))
@settings(max_examples=40, deadline=None)
def test_aupro_of_any_small_map_equals_the_reference_and_stays_in_range(seed: int, grades: int, limit: float) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((2, 5, 6)) < 0.3
    masks[0, 0, :2] = True, False
    maps = rng.integers(0, grades, size=masks.shape)
    assert aupro(maps, masks, limit) == pytest.approx(reference_aupro(maps, masks, limit), abs=1e-12)
    assert 0 <= aupro(maps, masks, limit) <= 1


def blot(*boxes: tuple[int, int, int, int], of: int = 1) -> np.ndarray:
    """Masks (of, 10, 10) with boxes: image, row, column, side."""
    masks = np.zeros((of, 10, 10), dtype=bool)
    for image, row, column, side in boxes:
        masks[image, row : row + side, column : column + side] = True
    return masks


ONE = blot((0, 2, 3, 2))  # 4 defect pixels, 96 normal ones
SEVERAL = blot((0, 0, 0, 2), (0, 6, 6, 3), (2, 4, 4, 1), of=4)  # three regions on two of four images
STAIRS = np.arange(100.0).reshape(1, 10, 10)  # every pixel above the one before


@pytest.mark.parametrize("limit", [0.05, 0.3])
@pytest.mark.parametrize(
    ("maps", "masks", "expected"),
    [
        (ONE, ONE, lambda limit: 1),
        (SEVERAL, SEVERAL, lambda limit: 1),
        (~SEVERAL, SEVERAL, lambda limit: 0),
        (0 * STAIRS, ONE, lambda limit: limit / 2),  # all tie: the curve is the diagonal
        (np.where(ONE, 50, STAIRS >= 90), ONE, lambda limit: 1),  # saturated at once; what comes after changes nothing
        # the region ties with a share of 10 of the 96 normal pixels: a ramp up to there, then saturated
        (
            np.where(ONE, 1, STAIRS >= 90),
            ONE,
            lambda limit: 1 - 10 / 96 / 2 / limit if limit > 10 / 96 else limit * 4.8,
        ),
        # it comes after 10 normal pixels: nothing, then all of it
        (np.where(ONE, 1, 2 * (STAIRS >= 90)), ONE, lambda limit: max(0, 1 - 10 / 96 / limit)),
        # two of its four pixels come first, and two last
        (np.where(ONE, 9 - 18 * (STAIRS > 30), 0), ONE, lambda limit: 0.5),
        # of three regions the largest is found, the two others are not: each counts alike
        (np.where(SEVERAL & (np.indices(SEVERAL.shape)[1] > 5), 1, -1 * SEVERAL), SEVERAL, lambda limit: 1 / 3),
    ],
)
def test_aupro_by_hand_and_by_the_reference(maps, masks, expected, limit: float) -> None:
    """Perfect, inverted, tied, saturated before the limit; of one region, and of several over images."""
    maps = np.asarray(maps, dtype=float)
    found = aupro(maps, masks, limit)
    assert found == pytest.approx(expected(limit), abs=1e-12)
    assert found == pytest.approx(reference_aupro(maps, masks, limit), abs=1e-12)
    assert 0 <= found <= 1


@given(seeds, st.integers(1, 8), st.sampled_from([0.05, 0.3, 1.0]))
@properties
def test_aupro_sees_the_order_of_pixels_and_their_neighbourhood_alone(seed: int, grades: int, limit: float) -> None:
    rng = np.random.default_rng(seed)
    masks = gaussian_filter(rng.normal(size=(3, 9, 11)), (0, 1, 1)) > 0.25
    masks[0, 0, :2] = True, False
    maps = rng.integers(0, grades + 1, masks.shape).astype(float) + masks
    found = aupro(maps, masks, limit)
    for rising in (np.exp, np.cbrt, lambda x: 4 * x - 100):
        assert aupro(rising(maps), masks, limit) == pytest.approx(found)
    assert aupro(maps[::-1], masks[::-1], limit) == pytest.approx(found)
    assert aupro(maps[:, ::-1].transpose(0, 2, 1), masks[:, ::-1].transpose(0, 2, 1), limit) == pytest.approx(found)
    assert aupro(np.tile(maps, (2, 1, 1)), np.tile(masks, (2, 1, 1)), limit) == pytest.approx(found)
    assert aupro(maps.astype(np.float16), masks, limit) == pytest.approx(found)
    assert aupro(maps + 100 * masks, masks, limit) == pytest.approx(1, abs=1e-12)
    assert found <= 1 + 1e-12
    better = np.where(masks, maps + rng.random(masks.shape) * 3, maps)
    assert aupro(better, masks, limit) >= found - 1e-12, "a defect's pixel that scores higher never costs"


def test_aupro_known_answers() -> None:
    _, masks = smooth_maps(2)
    for limit in (0.05, 0.3, 1.0):
        assert aupro(masks.astype(np.float32), masks, limit) == pytest.approx(1)
        assert aupro(-masks.astype(np.float32), masks, limit) == pytest.approx(0, abs=1e-12)
        assert aupro(np.ones(masks.shape), masks, limit) == pytest.approx(limit / 2)
    masks = np.zeros((40, 64, 64), dtype=bool)
    masks[:, 10:30, 20:50] = True
    assert aupro(np.random.default_rng(0).random(masks.shape), masks) == pytest.approx(0.15, abs=0.01)


def test_every_region_counts_alike_and_diagonal_neighbours_are_one_region() -> None:
    mask = np.zeros((1, 12, 12), dtype=bool)
    mask[0, 0:4, 0:4] = True  # 16 pixels, found
    mask[0, 6, 6] = mask[0, 7, 7] = True  # 2 pixels touching at a corner, one of them found
    found = mask.astype(float)
    found[0, 7, 7] = -1
    assert [overlap.tolist() for overlap in region_overlaps(found, mask)] == [pytest.approx([1, 0.5])]
    assert aupro(found, mask) == pytest.approx(0.75)
    assert pixel_auroc(found, mask) == pytest.approx(17 / 18)


def test_region_overlaps_belong_to_their_images() -> None:
    maps, masks = smooth_maps(3)
    overlaps = region_overlaps(maps, masks)
    assert [len(overlap) for overlap in overlaps] == [label(mask, np.ones((3, 3)))[1] for mask in masks]
    assert len(overlaps[0]) == 0
    assert np.concatenate(overlaps).mean() == pytest.approx(aupro(maps, masks))


def test_pixel_auroc_pools_the_pixels_of_images_of_any_size() -> None:
    rng = np.random.default_rng(7)
    masks = [rng.random((8, 9)) < 0.2, rng.random((5, 30)) < 0.4]
    maps = [(rng.random(mask.shape) + 0.3 * mask).round(1).astype(np.float32) for mask in masks]
    truth, scores = (np.concatenate([image.ravel() for image in images]) for images in (masks, maps))
    assert pixel_auroc(maps, masks) == pytest.approx(roc_auc_score(truth, scores))
    fine: list[np.ndarray] = [
        maps[0],
        0.5 + 1e-12 * maps[1].astype(np.float64),
    ]  # float32 cannot tell the scores of the second apart
    scores = np.concatenate([image.ravel() for image in fine])
    assert pixel_auroc(fine, masks) == pytest.approx(roc_auc_score(truth, scores))


def test_unfit_maps_are_refused_by_name() -> None:
    maps, masks = smooth_maps(4)
    with pytest.raises(ValueError, match=r"masks\[0\] must be bool, not uint8: pass `masks > 0`"):
        aupro(maps, masks.astype(np.uint8) * 255)
    with pytest.raises(ValueError, match="not 3 and 2"):
        pixel_auroc(maps, masks[:2])
    with pytest.raises(ValueError, match=r"maps\[0\] and masks\[0\] must be"):
        pixel_auroc(maps[:, 1:], masks)
    with pytest.raises(ValueError, match="both defect and normal"):
        aupro(maps, np.zeros_like(masks))
    with pytest.raises(ValueError, match="both defect and normal"):
        pixel_auroc(maps, np.ones_like(masks))
    with pytest.raises(ValueError, match="limit"):
        aupro(maps, masks, limit=30)
    maps[2, 3, 4] = np.nan
    with pytest.raises(ValueError, match=r"maps\[2\] holds NaN"):
        aupro(maps, masks)
