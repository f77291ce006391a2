"""Made-up changes: small, with masks that tell where, and no squares."""

import numpy as np
import pytest
from experiments.test_squares import garments
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowlib.experiments import made_up

properties = settings(derandomize=True, max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def test_made_up_changes_mark_what_changed_and_are_never_rectangles():
    images = garments(200)
    before = images.copy()
    changed, masks = made_up.made_up_changes(images, np.random.default_rng(1))
    assert np.array_equal(images, before)
    assert (changed[:, 0][masks] != images[:, 0][masks]).all()
    assert not any(made_up.fills_a_rectangle(mask) for mask in masks)
    assert 3 <= np.median(masks.sum((1, 2))) <= 20
    again, _ = made_up.made_up_changes(images, np.random.default_rng(1))
    assert np.array_equal(changed, again)


@given(arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(1), st.integers(7, 16), st.integers(7, 16))), seeds)
@properties
def test_made_up_changes_of_any_images_stay_with_their_masks(images, seed):
    images[:, 0, 3, 4] |= 1  # some object
    before = images.copy()
    changed, masks = made_up.made_up_changes(images, np.random.default_rng(seed))
    assert np.array_equal(images, before)
    assert (changed.dtype, changed.shape) == (np.uint8, images.shape)
    assert (masks.dtype, masks.shape) == (np.bool_, (len(images), *images.shape[2:]))
    for image, new, mask in zip(images[:, 0], changed[:, 0], masks, strict=True):
        assert mask.any()
        assert not made_up.fills_a_rectangle(mask)
        assert (new[mask] != image[mask]).all()
        for axis in (0, 1):  # small, as far as what changes goes: a scratch or a bump, no texture over the image
            assert np.ptp(np.flatnonzero(mask.any(axis))) < 16
        again, _ = made_up.made_up_changes(images, np.random.default_rng(seed))
        assert np.array_equal(again, changed)


@given(st.integers(2, 9), st.integers(2, 9), st.data())
@properties
def test_a_filled_box_is_a_rectangle_and_no_longer_without_one_pixel_or_with_one_more(H, W, data):
    rows, columns = (
        sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in (H, W)
    )
    mask = np.zeros((H + 1, W + 1), bool)
    mask[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = True
    assert made_up.fills_a_rectangle(mask)
    size = mask.sum()
    y, x = data.draw(st.tuples(st.integers(0, H), st.integers(0, W)))
    mask[y, x] ^= True
    assert not made_up.fills_a_rectangle(mask) or size == 2
    assert made_up.fills_a_rectangle(mask.T) == made_up.fills_a_rectangle(mask)


def test_grey_levels_end_at_black_and_white(monkeypatch: pytest.MonkeyPatch):
    strength = np.zeros((12, 12))
    strength[4, 3:6] = strength[3:6, 4] = 1  # a cross
    for target, level in ((400.0, 255), (-90.0, 0)):
        for kind in ("irregular_patch", "bump", "scratch"):
            monkeypatch.setattr(made_up, kind, lambda *_, target=target: (strength, np.full((12, 12), target)))
        changed, masks = made_up.made_up_changes(garments(3), np.random.default_rng(0))
        assert (changed[:, 0][masks] == level).all()
        assert masks.sum() == 3 * 5


@pytest.mark.parametrize("images", [np.zeros((2, 1, 8, 8), np.uint8), np.ones((2, 3, 8, 8), np.uint8)])
def test_made_up_changes_refuse_black_and_coloured_images(images):
    with pytest.raises(ValueError, match="one channel and some pixel above 0"):
        made_up.made_up_changes(images, np.random.default_rng(0))


def test_fills_a_rectangle():
    mask = np.zeros((6, 6), bool)
    assert made_up.fills_a_rectangle(mask)
    mask[1:3, 2:5] = True
    assert made_up.fills_a_rectangle(mask)
    mask[2, 3] = False
    assert not made_up.fills_a_rectangle(mask)
