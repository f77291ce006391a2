"""What notebook 05 measures: against brute force, and with blades, not frames, as the unit."""

import numpy as np
import pytest
from experiments.borescope.made import some_parts
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from flowlib.detector.model import LARGEST_SHARES
from flowlib.experiments.borescope.measures import (
    across_border,
    best_of_kinds,
    best_way,
    blade_auroc,
    blade_mean,
    frame_overlaps,
    pixel_ranks,
    scored,
    scored_once,
    statistics,
    within_image,
)
from flowlib.metrics import aupro, auroc, mean_interval, pixel_auroc, region_overlaps

properties = settings(derandomize=True, max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
PARTS = some_parts()
SIZES = {"held": 3, "normal": len(PARTS.normal), "defective": len(PARTS.defective)}


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
    assert best_way([{"held": normal, "made up": spots}]) == "maximum"
    assert best_way([{"held": normal, "made up": everywhere}]) == "mean"
    assert set(LARGEST_SHARES) >= {"maximum", "mean"}


def test_scores_of_a_method_are_by_group_and_seed():
    rng = np.random.default_rng(0)
    by_seed = [{g: [rng.normal(size=(8, 9)) for _ in range(n)] for g, n in SIZES.items()} for _ in range(2)]
    found = scored(by_seed, "mean")
    assert found.normal[1].tolist() == pytest.approx([values.mean() for values in by_seed[1]["normal"]])
    assert found.defective[0].tolist() == pytest.approx([values.mean() for values in by_seed[0]["defective"]])
    assert found.maps[1] == [*by_seed[1]["normal"], *by_seed[1]["defective"]]
    once = scored_once(np.concatenate([found.normal[1], found.defective[1]]), found.maps[1], PARTS)
    assert np.array_equal(once.normal, found.normal[1:])
    assert np.array_equal(once.defective, found.defective[1:])


def test_statistics_are_distances_from_held_out_normals():
    found = statistics(PARTS)
    level = [one.image.mean() / one.mask.size for one in PARTS.held]
    of_normal = [abs(one.image.mean() / one.mask.size - np.mean(level)) for one in PARTS.normal]
    assert found["mean grey level"].normal[0].tolist() == pytest.approx(of_normal, rel=1e-6)
    assert all(len(one.normal[0]) == len(PARTS.normal) and one.maps == [] for one in found.values())
    assert all(one.defective.shape == (1, len(PARTS.defective)) for one in found.values())


def test_best_of_kinds_takes_one_of_each():
    shots = [one._replace(label=label) for one, label in zip(PARTS.defective, "aabbcd", strict=False)]
    assert best_of_kinds(np.array([0.1, 0.9, 0.95, 0.94, 0.2, 0.3]), shots) == [2, 1, 5]
    assert best_of_kinds(np.array([0.1, 0.9, 0.95, 0.94, 0.2, 0.3]), shots, 9) == [2, 1, 5, 4]


@given(st.integers(1, 3), st.integers(2, 8), st.integers(2, 8), seeds)
@settings(properties, max_examples=10)
def test_intervals_hold_their_estimate_and_know_no_order(n, first, second, seed):
    rng = np.random.default_rng(seed)
    normal, anomalous = rng.normal(size=(n, first)).round(1), rng.normal(1, 1, (n, second)).round(1)
    of_normal, of_anomalous = rng.integers(3, size=first), rng.integers(3, size=second)
    found = blade_auroc(normal, anomalous, of_normal, of_anomalous, resamples=200)
    assert 0 <= found.low <= found.high <= 1
    assert found.value == pytest.approx(np.mean([auroc(a, b) for a, b in zip(normal, anomalous, strict=True)]))
    assert blade_auroc(np.exp(normal), np.exp(anomalous), of_normal, of_anomalous, resamples=200) == found
    apart = blade_auroc(normal, anomalous + 50, of_normal, of_anomalous, resamples=50)
    assert apart == (1, 1, 1)
    weights = rng.integers(1, 9, first).astype(float)
    values = rng.uniform(0, 1, (n, first))
    mean = blade_mean(values * weights, weights, of_normal)
    assert values.min() - 1e-9 <= mean.low <= mean.value <= mean.high <= values.max() + 1e-9
    assert mean.value == pytest.approx(np.average(values.mean(0), weights=weights))
    zeros, nobody = np.append(weights, [0, 0]), np.append(of_normal, [7, 8])
    with_empty = np.concatenate([values * weights, np.full((n, 2), 99.0)], axis=1)
    assert blade_mean(with_empty, zeros, nobody) == mean, "what has no weight counts for nothing"


def test_a_mean_of_blades_of_one_frame_and_one_weight_is_the_mean_of_images():
    values = np.random.default_rng(0).normal(size=(1, 60))
    found = blade_mean(values, np.ones(60), np.arange(60), resamples=3000)
    assert found == pytest.approx(mean_interval(values, resamples=4000), abs=0.02)


@given(seeds, st.sampled_from([0.05, 0.3]))
@properties
def test_overlaps_of_frames_are_the_overlaps_of_regions_in_one_piece(seed, limit):
    rng = np.random.default_rng(seed)
    masks = [np.zeros((12, 15), dtype=bool) for _ in range(4)]
    for mask in masks[1:]:
        y, x, h, w = rng.integers((9, 12, 1, 1), (10, 13, 4, 4)) - (rng.integers(9), rng.integers(12), 0, 0)
        mask[y : y + h, x : x + w] = True
    maps = [rng.integers(0, 4, mask.shape) + 1.0 * mask for mask in masks]
    found = frame_overlaps(maps, masks, limit)
    assert found[0] == 0
    assert ((found >= 0) & (found <= 1 + 1e-12)).all()
    assert found[1:].mean() == pytest.approx(aupro(maps, masks, limit))
    np.testing.assert_allclose(frame_overlaps([np.exp(values) for values in maps], masks, limit), found)
    np.testing.assert_allclose(frame_overlaps(maps[::-1], masks[::-1], limit), found[::-1])
    np.testing.assert_allclose(frame_overlaps([1.0 * mask for mask in masks], masks, limit), [0, 1, 1, 1])


@given(st.integers(0, 70), st.integers(0, 70), st.integers(1, 40), st.integers(1, 40), st.sampled_from([8, 32]))
@properties
def test_across_a_border_is_where_no_patch_holds_all(row, column, height, width, patch):
    mask = np.zeros((128, 128), dtype=bool)
    mask[row : row + height, column : column + width] = True
    parts = [mask[y : y + patch, x : x + patch] for y in range(0, 128, patch) for x in range(0, 128, patch)]
    whole = any(part.sum() == mask.sum() for part in parts)
    expected = None if max(height, width) > patch else not whole
    assert across_border(mask, patch) is expected
    assert across_border(mask.T, patch) is expected
