"""Patches against loops, and the dense map against the patches that it stands for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from flowlib import Glow
from flowlib.detector import patches
from flowlib.detector.patches import (
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


properties = settings(derandomize=True, max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def frames(draw) -> tuple[int, int, int, int]:
    """Height and width of an image, a patch that fits in it and a stride."""
    H, W = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    patch = draw(st.integers(1, min(H, W)))
    return H, W, patch, draw(st.integers(1, patch))


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


@given(frames(), st.integers(1, 3), seeds)
@properties
def test_a_map_of_patches_that_score_alike_is_that_score(frame, channels, seed):
    H, W, patch, stride = frame
    image = random_image(channels, H, W, seed=seed)
    found = patch_map(lambda batch: np.full(len(batch), -3.25), image, patch, stride)
    np.testing.assert_allclose(found, np.full((H, W), -3.25), rtol=1e-12)
    flat = np.full((channels, H, W), 77, np.uint8)
    np.testing.assert_allclose(patch_map(lambda batch: batch.mean((1, 2, 3)), flat, patch, stride), 77, rtol=1e-12)


@given(frames(), seeds)
@properties
def test_stitching_adds_up_keeps_to_the_range_and_turns_with_the_image(frame, seed):
    H, W, patch, stride = frame
    shape = len(corners(H, patch, stride)), len(corners(W, patch, stride))
    one, other = np.random.default_rng(seed).normal(size=(2, *shape))
    found, of_other = (stitch(scores.ravel(), (H, W), patch, stride) for scores in (one, other))
    assert found.shape == (H, W)
    assert one.min() - 1e-12 <= found.min() <= found.max() <= one.max() + 1e-12
    total = stitch((2 * one - other).ravel(), (H, W), patch, stride)
    np.testing.assert_allclose(total, 2 * found - of_other, rtol=0, atol=1e-12)
    turned = stitch(one.T.ravel(), (W, H), patch, stride)
    np.testing.assert_allclose(turned, found.T, rtol=0, atol=1e-12)


@given(frames(), seeds)
@properties
def test_patches_as_long_as_their_stride_divide_the_map_among_them(frame, seed):
    """Without overlap a pixel has the score of its patch, so that the map's sum is that of the patches' pixels."""
    H, W, patch, _ = frame
    H, W = H - H % patch, W - W % patch
    image = random_image(1, H, W, seed=seed)
    found = patch_map(lambda batch: batch.sum((1, 2, 3)), image, patch, patch)
    assert found.sum() == pytest.approx(image.sum(dtype=float) * patch**2)
    blocks = image[0].reshape(H // patch, patch, W // patch, patch).sum((1, 3), dtype=float)
    np.testing.assert_allclose(found, blocks.repeat(patch, 0).repeat(patch, 1))


@given(frames(), seeds)
@properties
def test_window_sums_add_up_and_see_all_of_their_window(frame, seed):
    H, W, window, _ = frame
    values = np.random.default_rng(seed).normal(size=(H, W))
    found = window_sums(values, window)
    expected = np.lib.stride_tricks.sliding_window_view(values, (window, window)).sum((2, 3))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 2, 4, 8]), seeds)
@properties
def test_padding_repeats_the_last_row_and_column(C, H, W, multiple, seed):
    image = random_image(C, H, W, seed=seed)
    found = padded(image, multiple)[0]
    assert found.dtype == np.uint8
    assert found.shape[1] % multiple == found.shape[2] % multiple == 0
    assert found.shape[1] - H < multiple
    assert found.shape[2] - W < multiple
    rows, columns = np.minimum(np.arange(found.shape[1]), H - 1), np.minimum(np.arange(found.shape[2]), W - 1)
    assert np.array_equal(found, image[:, rows[:, None], columns])


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
                level.prior_matrix[:, :-1].unflatten(-1, (9, -1))[:, others] = 0
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


FLOW = without_neighbours(some_flow())


@given(st.integers(3, 10), st.integers(3, 10), st.integers(1, 3), seeds, st.data())
@properties
def test_dense_map_is_the_patch_map_for_any_image_patch_and_stride_of_whole_blocks(rows, columns, blocks, seed, data):
    """Patches begin and end with the flow's blocks of 4x4 pixels: the last one, too, as the sides are multiples."""
    image = random_image(1, 4 * rows, 4 * columns, seed=seed)
    patch, stride = 4 * blocks, 4 * data.draw(st.integers(1, blocks))
    expected = patch_map(lambda batch: nll(FLOW, batch), image, patch, stride)
    np.testing.assert_allclose(dense_map(FLOW, image, patch, stride), expected, rtol=1e-9)


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
    assert batch.dtype == np.uint8
    assert batch.shape == (1, 1, H + -H % 8, W + -W % 8)
    assert np.array_equal(batch[0, :, :H, :W], image)


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


@given(st.integers(1, 4), st.integers(1, 30), st.integers(1, 6), seeds)
@properties
def test_each_patch_is_of_an_image_with_its_label_at_any_place(count, n, patch, seed):
    """Pixels that number their image, row and column tell where a patch was cut."""
    rng = np.random.default_rng(seed)
    shapes = rng.integers(patch, 13, (count, 2))
    images = [np.stack([np.full(s, i), *np.indices(s)]).astype(np.uint8) for i, s in enumerate(shapes)]
    labels = rng.permutation(10)[:count]
    found, of_patch = labelled_patches(images, labels, n, patch, seed)
    assert found.shape == (n, 3, patch, patch)
    assert of_patch.shape == (n,)
    index, row, column = found[:, :, 0, 0].T.astype(int)
    assert np.array_equal(of_patch, labels[index])
    for cut_out, i, y, x in zip(found, index, row, column, strict=True):
        assert np.array_equal(cut_out, images[i][:, y : y + patch, x : x + patch])
    assert found.sum(dtype=int) == sum(
        images[i][:, y : y + patch, x : x + patch].sum(dtype=int) for i, y, x in zip(index, row, column, strict=True)
    )
    for i, (H, W) in enumerate(shapes):  # of many patches some lie at each end
        many, _ = labelled_patches([images[i]], labels[:1], 400, patch, seed)
        assert (many[:, 1, 0, 0].min(), many[:, 1, 0, 0].max()) == (0, H - patch)
        assert (many[:, 2, 0, 0].min(), many[:, 2, 0, 0].max()) == (0, W - patch)
