"""Cropping: whatever the frames, the box lies in the picture, keeps what moves, and has nothing left to cut off."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlib.inspection.cropping import ENOUGH_FRAMES, PAD, STRIP, crop_box, unmarked_rows

properties = settings(derandomize=True, max_examples=30, deadline=None)
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(20, 160)


def moving(count: int, height: int, width: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    """A coarse texture that moves by two pixels a frame, uint8 (count, C, H, W), none of it brighter than 180."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 180, (-(-(height + 2 * count) // 4), -(-(width + 2 * count) // 4)), dtype=np.uint8)
    texture = np.kron(coarse, np.ones((4, 4), np.uint8))
    frames = [texture[2 * i : 2 * i + height, 2 * i : 2 * i + width] for i in range(count)]
    return np.repeat(np.stack(frames)[:, None], channels, axis=1)


def with_marking(frames: np.ndarray, first: int, last: int) -> np.ndarray:
    """White strokes in the rows `first` to `last`, as still as the recorder's clock."""
    marked = frames.copy()
    marked[:, :, first : last + 1, 3:-3:3] = 250
    return marked


@given(sides, sides, st.integers(1, 20), st.integers(1, 30), seeds)
@properties
def test_the_box_lies_in_the_picture_and_holds_something(
    height: int, width: int, count: int, levels: int, seed: int
) -> None:
    """Noise of few levels, still parts here and there: frames of no kind in particular."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (count, 1, height, width), dtype=np.uint8) // levels * levels
    still = rng.random((height, 1)) < rng.random()
    frames = np.where(still, frames[:1], frames)
    for crop in ("auto", "none"):
        box, _ = crop_box(crop, width, height, iter(frames))
        assert box is not None
        x0, y0, x1, y1 = box
        assert (x0, x1) == (0, width), "rows are what is cut off"
        assert 0 <= y0 < y1 <= height
        assert y1 - y0 >= (1 - 2 * STRIP) * height
    assert box == (0, 0, width, height)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 60), st.integers(1, 60), sides, sides)
@properties
def test_a_box_that_is_named_is_taken_where_it_fits_and_refused_where_it_does_not(
    x0: int, y0: int, across: int, down: int, width: int, height: int
) -> None:
    asked = [x0, y0, x0 + across, y0 + down]
    box, note = crop_box(asked, width, height, None)
    if x0 + across <= width and y0 + down <= height:
        assert (box, note) == (tuple(asked), "")
    else:
        assert box is None
        assert f"has {width} x {height} pixels, too few for the crop {x0},{y0},{x0 + across},{y0 + down}" in note


@given(st.integers(80, 200), st.integers(60, 160), st.data())
@properties
def test_markings_are_cut_off_with_their_margin_and_the_scene_stays(height: int, width: int, data) -> None:
    """The first and the last row kept are known to the row: behind the marking, and 2 % of the height for digits."""
    near, pad = int(0.08 * height), round(PAD * height)
    top, bottom = (data.draw(st.one_of(st.none(), st.tuples(st.integers(1, near - 2), st.just(near)))) for _ in "ab")
    frames = moving(16, height, width, data.draw(seeds))
    if top:
        frames = with_marking(frames, *top)
    if bottom:
        frames = with_marking(frames, height - 1 - bottom[1], height - 1 - bottom[0])
    expected = near + 1 + pad if top else 0, height - (near + 1 + pad) if bottom else height
    assert unmarked_rows(frames) == expected
    assert crop_box("auto", width, height, iter(frames)) == ((0, expected[0], width, expected[1]), "")


@given(st.integers(80, 200), st.integers(60, 160), seeds, st.integers(1, 3))
@properties
def test_what_was_cropped_has_nothing_left_to_cut_off(height: int, width: int, seed: int, channels: int) -> None:
    frames = with_marking(moving(16, height, width, seed, channels), 2, int(0.08 * height))
    first, last = unmarked_rows(frames)
    assert 0 < first < last == height
    kept = frames[:, :, first:last]
    assert unmarked_rows(kept) == (0, last - first)
    assert (kept == moving(16, height, width, seed, channels)[:, :, first:last]).all(), "nothing of the marking is left"


@given(seeds, st.permutations(range(12)))
@properties
def test_neither_the_order_of_the_frames_nor_left_and_right_matter(seed: int, order: list[int]) -> None:
    frames = with_marking(moving(12, 100, 70, seed), 3, 8)
    rows = unmarked_rows(frames)
    assert unmarked_rows(frames[order]) == rows
    assert unmarked_rows(frames[..., ::-1]) == rows
    assert unmarked_rows(frames[:, :, ::-1]) == (100 - rows[1], 100 - rows[0]), "upside down"


@pytest.mark.parametrize("count", [0, 1, ENOUGH_FRAMES - 1])
def test_of_too_few_frames_a_tenth_is_cut_off_at_both_ends(count: int) -> None:
    box, note = crop_box("auto", 60, 90, iter(moving(max(count, 1), 90, 60)[:count]))
    assert box == (0, 9, 60, 81)
    assert "too few frames or too little movement" in note


def test_what_flickers_a_little_is_still_and_what_flickers_much_is_not() -> None:
    """A video's compression moves a marking by some levels: a deviation below ten counts as none."""
    rng = np.random.default_rng(0)
    frames = with_marking(moving(40, 100, 70), 3, 8).astype(int)
    strokes = np.zeros((100, 70), dtype=bool)
    strokes[3:9, 3:-3:3] = True
    for deviation, first in ((6, 11), (25, 0)):
        noisy = frames - np.abs(rng.normal(0, deviation * 1.66, frames.shape)) * strokes  # half normal: 0.6 of it
        assert unmarked_rows(noisy.clip(0, 255).astype(np.uint8)) == (first, 100)
