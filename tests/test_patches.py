"""Patches against loops, and the dense map against the patches that it stands for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from flowlib import Glow, patches
from flowlib.patches import (
    corners,
    cut,
    dense_map,
    labelled_patches,
    padded,
    patch_map,
    position_nll,
    random_patches,
    stitch,
    window_sums,
)


@st.composite
def sides(draw) -> tuple[int, int, int]:
    """A length, a patch that fits in it and a stride."""
    length = draw(st.integers(1, 60))
    patch = draw(st.integers(1, length))
    return length, patch, draw(st.integers(1, patch))


def random_image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# --- cutting and stitching -----------------------------------------------------------------------------------------


@given(sides())
def test_corners_start_at_zero_keep_the_stride_and_end_with_the_side(side):
    length, patch, stride = side
    at = corners(length, patch, stride)
    assert at[0] == 0
    assert at[-1] == length - patch
    steps = np.diff(at)
    assert (steps[:-1] == stride).all()
    assert ((steps > 0) & (steps <= stride)).all()  # no corner twice, none left out
    assert {i for start in at for i in range(start, start + patch)} == set(range(length))


@pytest.mark.parametrize(("patch", "stride"), [(0, 1), (-1, 1), (11, 1), (3, 0), (3, -2), (3, 4)])
def test_a_patch_or_stride_that_does_not_fit_is_named(patch, stride):
    message = rf"patch is {patch} and stride {stride}: patch must lie in \[1, 10\] and stride in \[1, patch\]"
    with pytest.raises(ValueError, match=message):
        corners(10, patch, stride)
    with pytest.raises(ValueError, match=message):
        cut(random_image(1, 10, 10), patch, stride)


@pytest.mark.parametrize(("patch", "stride"), [(4, 3), (5, 5), (9, 1), (1, 1)])
def test_cut_takes_the_patches_row_by_row(patch, stride):
    image = random_image(3, 9, 14)
    rows, columns = corners(9, patch, stride), corners(14, patch, stride)
    expected = [image[:, y : y + patch, x : x + patch] for y in rows for x in columns]
    found = cut(image, patch, stride)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.array_equal(found, np.stack(expected))


def stitched_by_loop(scores, shape, patch, stride):
    total, count = np.zeros(shape), np.zeros(shape)
    rows, columns = corners(shape[0], patch, stride), corners(shape[1], patch, stride)
    for score, (y, x) in zip(scores, [(y, x) for y in rows for x in columns], strict=True):
        total[y : y + patch, x : x + patch] += score
        count[y : y + patch, x : x + patch] += 1
    return total / count


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 25), st.integers(1, 25), st.data())
def test_stitch_is_the_mean_of_the_patches_over_a_pixel(H, W, data):
    patch = data.draw(st.integers(1, min(H, W)))
    stride = data.draw(st.integers(1, patch))
    n = len(cut(np.zeros((1, H, W), np.uint8), patch, stride))
    scores = np.random.default_rng(n).normal(size=n).astype(np.float32)
    found = stitch(scores, (H, W), patch, stride)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, stitched_by_loop(scores, (H, W), patch, stride), rtol=0, atol=1e-12)
    np.testing.assert_allclose(stitch(np.full(n, 7.0), (H, W), patch, stride), 7, rtol=1e-12)


def test_patch_map_scores_each_patch_and_averages_the_overlaps(monkeypatch):
    monkeypatch.setattr(patches, "BATCH", 5)  # 3 x 5 patches: whole batches, and a rest
    image = random_image(2, 11, 17)
    sizes = []

    def score(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return batch.max((1, 2, 3)) + 0.25 * batch[:, 0, 0, 0]

    found = patch_map(score, image, 5, 3)
    assert sizes == [5, 5, 5]
    assert patch_map(score, image, 4, 3).shape == (11, 17)
    assert sizes[3:] == [5, 5, 5, 5, 4]  # 4 x 6
    assert np.allclose(found, stitched_by_loop(score(cut(image, 5, 3)), (11, 17), 5, 3), rtol=0, atol=1e-10)


@pytest.mark.parametrize("window", [1, 3, 8])
def test_window_sums_against_a_loop(window):
    values = np.random.default_rng(0).normal(size=(8, 13))
    found = window_sums(values, window)
    assert found.shape == (9 - window, 14 - window)
    for y, x in np.ndindex(found.shape):
        assert found[y, x] == pytest.approx(values[y : y + window, x : x + window].sum(), abs=1e-10)


# --- the dense map -------------------------------------------------------------------------------------------------


def some_flow(channels: int = 1, seed: int = 0, **options) -> Glow:
    torch.manual_seed(seed)
    flow = Glow((channels, 16, 16), **{"levels": 2, "steps": 2, "hidden_channels": 4} | options)
    flow.initialise(torch.from_numpy(random_image(32, channels, 16, 16)))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return flow.double()


def without_neighbours(flow: Glow) -> Glow:
    """Only the middle tap of each 3x3 convolution is left: a position sees its own block of pixels alone."""
    with torch.no_grad():
        for level in flow.levels:
            others = [tap for tap in range(9) if tap != 4]
            level.w_in[..., :-1].unflatten(-1, (9, -1))[..., others, :] = 0
            level.w_out.unflatten(1, (9, -1))[:, others] = 0
            if not level.last:
                level.prior_weight.unflatten(-1, (9, -1))[:, others] = 0
    return flow


def nll(flow: Glow, batch: np.ndarray, labels: torch.Tensor | None = None) -> np.ndarray:
    with torch.inference_mode():
        return -flow.log_prob(torch.from_numpy(batch), labels=labels).numpy()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("patch", "stride"), [(16, 8), (12, 12), (8, 4)])
def test_without_neighbours_the_dense_map_is_the_patch_map(channels, patch, stride):
    flow = without_neighbours(some_flow(channels))
    image = random_image(channels, 40, 52)
    expected = patch_map(lambda batch: nll(flow, batch), image, patch, stride)
    found = dense_map(flow, image, patch, stride)
    assert found.dtype == np.float64
    assert expected.std() > 1e-3 * abs(expected.mean())
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_with_neighbours_only_the_border_of_the_patches_differs():
    flow = some_flow()
    coarse = np.random.default_rng(3).integers(40, 216, (8, 10)).repeat(8, 0).repeat(8, 1)
    image = (coarse + np.random.default_rng(4).normal(0, 12, coarse.shape)).clip(0, 255).astype(np.uint8)[None]
    expected = patch_map(lambda batch: nll(flow, batch), image, 16, 4)
    found = dense_map(flow, image, 16, 4)
    assert spearmanr(expected[8:-8, 8:-8].ravel(), found[8:-8, 8:-8].ravel()).statistic > 0.9
    assert not np.allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("channels", "shape"), [(1, (32, 20)), (3, (16, 16))])
def test_position_nll_sums_to_the_likelihood(channels, shape):
    flow = some_flow(channels)
    image = random_image(channels, *shape)
    found = position_nll(flow, image)
    assert found.shape == shape
    assert found.dtype == np.float64
    assert found.sum() == pytest.approx(nll(flow, image[None])[0], rel=1e-9)


@pytest.mark.parametrize("shape", [(33, 22), (5, 40), (3, 3), (16, 19)])
def test_position_nll_of_any_size_is_that_of_the_image_with_its_last_row_and_column_repeated(shape):
    flow = some_flow()
    image = random_image(1, *shape)
    H, W = shape
    whole = np.pad(image, ((0, 0), (0, -H % 4), (0, -W % 4)), mode="edge")
    found = position_nll(flow, image)
    np.testing.assert_allclose(found, position_nll(flow, whole)[:H, :W], rtol=1e-9)
    assert found.shape == shape
    batch = padded(image, 8)
    assert batch.dtype == torch.uint8
    assert batch.shape == (1, 1, H + -H % 8, W + -W % 8)
    assert torch.equal(batch[0, :, :H, :W], torch.from_numpy(image))


def test_a_view_can_be_read_too():
    flow = some_flow()
    image = random_image(1, 24, 16)
    turned = image[:, ::-1, :].transpose(0, 2, 1)
    np.testing.assert_array_equal(position_nll(flow, turned), position_nll(flow, turned.copy()))


def test_a_conditional_flow_takes_the_label():
    flow = some_flow(classes=3)
    image = random_image(1, 16, 20)
    maps = [position_nll(flow, image, label) for label in range(3)]
    for label, found in enumerate(maps):
        assert found.sum() == pytest.approx(nll(flow, image[None], torch.tensor([label]))[0], rel=1e-9)
        np.testing.assert_allclose(dense_map(flow, image, 16, 4, label)[:, 0], found[:, :16].sum(), rtol=1e-9)
    assert not np.allclose(maps[0], maps[2])


# --- random patches ------------------------------------------------------------------------------------------------


def test_random_patches_are_cut_from_the_images_and_repeat_with_the_seed():
    images = [random_image(3, 9, 12, seed=1), random_image(3, 20, 10, seed=2)]
    found = random_patches(images, 50, 8, seed=5)
    assert found.dtype == np.uint8
    assert found.shape == (50, 3, 8, 8)
    there = {patch.tobytes() for image in images for patch in cut(image, 8, 1)}
    assert {patch.tobytes() for patch in found} <= there
    assert np.array_equal(random_patches(images, 50, 8, seed=5), found)
    assert not np.array_equal(random_patches(images, 50, 8, seed=6), found)


def test_every_place_has_its_turn():
    image = random_image(1, 10, 11)
    found = {patch.tobytes() for patch in random_patches([image], 200, 9, seed=0)}
    assert found == {patch.tobytes() for patch in cut(image, 9, 1)}  # 2 x 3 places


def test_images_are_drawn_by_their_area_and_bring_their_labels():
    images = [
        np.full((1, 32, 32), 10, np.uint8),
        np.full((1, 64, 96), 200, np.uint8),
        np.full((1, 40, 32), 30, np.uint8),
    ]
    labels = np.array([4, 0, 2])
    found, of_patch = labelled_patches(images, labels, 4000, 32, seed=0)
    grey = found[:, 0, 0, 0]
    area = np.array([32 * 32, 64 * 96, 40 * 32])
    shares = [(grey == tone).mean() for tone in (10, 200, 30)]
    np.testing.assert_allclose(shares, area / area.sum(), atol=0.03)
    assert [set(of_patch[grey == tone].tolist()) for tone in (10, 200, 30)] == [{4}, {0}, {2}]
    assert np.array_equal(found, random_patches(images, 4000, 32, seed=0))
