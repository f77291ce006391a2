"""What notebook 05 measures: against brute force, and with blades, not frames, as the unit."""

import numpy as np
import pytest
from experiments.borescope.made import frame, some_parts
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from flowlib.detector.map_metrics import aupro, pixel_auroc, region_overlaps
from flowlib.experiments.borescope.measures import (
    across_border,
    best_of_kinds,
    differences,
    frame_overlaps,
    pixel_aurocs,
    scored,
    scored_once,
    shares,
    statistics,
    within_image,
)
from flowlib.metrics import auroc

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


def test_pixel_aurocs_are_of_each_image_and_their_mean_is_the_pixel_auroc():
    maps, masks = some_maps()
    found, numbers = pixel_aurocs(maps, masks)
    assert found[:3].sum() == numbers[:3].sum() == 0
    assert np.average(found, weights=numbers) == pytest.approx(pixel_auroc(maps, masks), abs=0.01)  # thinned background
    normal = np.concatenate([values[~mask] for values, mask in zip(maps, masks, strict=True)])
    assert found[4] == pytest.approx(auroc(normal, maps[4][masks[4]]), abs=0.01)


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


def test_shares_and_differences_are_over_blades_and_within_their_range():
    shots = [frame(blade=blade) for blade in (0, 0, 1, 1)]
    values = np.array([[0.0, 0.0, 1.0, 1.0]])
    assert shares(values, shots) == (0.5, 0, 1)
    assert differences(values, shots) == (0.5, -1, 1)  # two blades say little
    assert shares(values, shots[:1] * 4) == (0.5, 0, 1)  # and one nothing
    assert shares(values, shots, np.array([1, 0, 3, 0])).value == 0.75


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


def test_scores_of_a_method_are_by_group_and_seed():
    rng = np.random.default_rng(0)
    by_seed = [{g: [rng.normal(size=(8, 9)) for _ in range(n)] for g, n in SIZES.items()} for _ in range(2)]
    found = scored(by_seed)
    assert found.normal[1].tolist() == pytest.approx([np.sort(v, axis=None)[-7:].mean() for v in by_seed[1]["normal"]])
    assert found.defective[0, 2] == pytest.approx(np.sort(by_seed[0]["defective"][2], axis=None)[-7:].mean())  # of 72
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
