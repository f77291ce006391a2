"""Properties of the pixel operations, what a pixel statistic alone says of pairs, and regressions that are judged on
classes they did not see."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from flowlib.experiments.black_pixels import (
    TREATMENTS,
    black_pixels,
    case_counts,
    covariate_detectors,
    crop_to_object,
    gain_where_it_fails,
    invert,
    left_out_accuracy,
    resample,
    surround,
    treatment_table,
    with_surround,
    with_surrounds_of,
)

NAN = np.nan
IMAGES = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)))


def test_black_pixels_counts_only_zeros() -> None:
    image = np.array([[[[0, 1, 255], [0, 0, 7]]]], dtype=np.uint8)
    assert black_pixels(np.concatenate([image, 0 * image, invert(image)])).tolist() == [3, 6, 1]


def test_crop_enlarges_the_bounding_box() -> None:
    image = np.zeros((1, 1, 8, 8), dtype=np.uint8)
    image[0, 0, 3, 2:6] = 200
    image[0, 0, 4, 5] = 100
    cropped = crop_to_object(image)[0, 0]
    assert cropped[0].tolist() == [200] * 8, "the upper row of the 2x4 box"
    assert cropped[-1, 0] == 0
    assert cropped[-1, -1] == 100, "its lower right pixel"
    assert (np.diff(cropped[1:7, -1].astype(int)) < 0).all(), "bilinear from 200 down to 100"
    assert crop_to_object(image, threshold=150)[0, 0].tolist() == [[200] * 8] * 8


@given(IMAGES)
def test_crop_fills_the_frame_and_keeps_the_range(images: np.ndarray) -> None:
    before = images.copy()
    cropped = crop_to_object(images)
    assert (images == before).all(), "the input is not changed"
    assert (cropped.dtype, cropped.shape) == (np.uint8, images.shape)
    assert (crop_to_object(cropped) == cropped).all(), "nothing is left to crop"
    for image, result in zip(images, cropped, strict=True):
        assert result.max() <= image.max()
        on = (result > 0).any(axis=0)
        sides = [on[0], on[-1], on[:, 0], on[:, -1]]
        assert all(side.any() for side in sides) == image.any(), "an all-black image stays as it is"


@given(IMAGES, st.integers(1, 5), st.integers(1, 5))
def test_crop_does_not_depend_on_where_the_object_lies(images: np.ndarray, down: int, right: int) -> None:
    frame = ((0, 0), (0, 0), (0, 6), (0, 6))
    padded = np.pad(images, frame)
    moved = np.roll(padded, (down, right), axis=(2, 3))
    assert (crop_to_object(padded) == crop_to_object(moved)).all()


@given(IMAGES)
def test_invert_is_its_own_inverse(images: np.ndarray) -> None:
    assert (invert(invert(images)) == images).all()
    assert (invert(images).astype(int) + images == 255).all()


def test_bad_input_is_refused() -> None:
    floats = np.zeros((1, 1, 4, 4), dtype=np.float32)
    for operation in (black_pixels, crop_to_object, resample, surround, invert):
        with pytest.raises(ValueError, match=r"float32 \(1, 1, 4, 4\), they must be uint8 \(N, C, H, W\)"):
            operation(floats)
        with pytest.raises(ValueError, match=r"uint8 \(4, 4\)"):
            operation(floats[0, 0].astype(np.uint8))


def test_covariate_detectors():
    """Each class's images have one grey level: the darker class always outscores under 'darkness'."""
    images = [np.full((3, 1, 4, 4), level, np.uint8) for level in (10, 20, 20)]
    found = covariate_detectors(images, {"grey": lambda x: x.mean((1, 2, 3)), "dark": lambda x: -x.mean((1, 2, 3))})
    np.testing.assert_array_equal(found["grey"], [[NAN, 1, 1], [0, NAN, 0.5], [0, 0.5, NAN]])
    np.testing.assert_array_equal(found["dark"], 1 - found["grey"])


def test_left_out_accuracy_finds_a_rule_that_holds_for_all_classes():
    values = np.arange(8.0)
    features = (values[None, :] - values[:, None])[..., None]
    fails = values[None, :] > values[:, None]
    right = left_out_accuracy(features, fails)
    assert np.isnan(np.diag(right)).all()
    assert right[~np.eye(8, dtype=bool)].min() == 1


def test_left_out_accuracy_truly_leaves_the_classes_out():
    """Planted leak: feature i is 1 for pairs of class i, and class i alone decides. No other pair knows which way."""
    rng = np.random.default_rng(0)
    fails = np.broadcast_to(rng.permutation([False, True] * 5)[:, None], (10, 10))
    features = np.broadcast_to(np.eye(10)[:, None, :], (10, 10, 10))  # which class is the normal one
    right = left_out_accuracy(features, fails)
    # half of the classes fail; a fit that saw a class would be right in all 90 pairs, one that did not, no better
    # than the commoner outcome among the others, which is the wrong one as often as not
    assert np.nanmean(right) < 0.6
    changed = fails.copy()
    changed[3] = ~changed[3]
    rows = [a for a in range(10) if a != 3]
    again = left_out_accuracy(features, changed)
    assert np.array_equal(again[3, rows], 1 - right[3, rows])  # its own outcome had no say in its prediction


def test_left_out_accuracy_where_the_rest_has_one_outcome():
    fails = np.zeros((4, 4), bool)
    fails[0, 1] = True
    right = left_out_accuracy(np.ones((4, 4, 1)), fails)
    assert right[0, 1] == 0  # pairs of 2 and 3 never fail, so neither is this one said to
    assert right[1, 0] == 1


def test_gain_is_that_of_the_failing_pairs_alone():
    plain = np.array([[NAN, 0.2, 0.9], [0.4, NAN, 0.7], [0.8, 0.6, NAN]])
    treated = np.array([[NAN, 0.5, 0.1], [0.5, NAN, 0.1], [0.1, 0.1, NAN]])
    interval = gain_where_it_fails(plain < 0.5, plain, treated)
    np.testing.assert_allclose(interval.value, 0.2)
    assert 0.1 <= interval.low <= interval.high <= 0.3 + 1e-9
    assert gain_where_it_fails(plain < 0.3, plain, treated).value == pytest.approx(0.3)  # which fail is said apart


def test_treatment_table_has_every_ordered_pair():
    table = treatment_table({"plain": np.arange(4.0).reshape(2, 2), "inverted": np.eye(2)}, ["a", "b"])
    assert table.to_numpy().tolist() == [
        ["plain", "a → b", 1.0], ["plain", "b → a", 2.0], ["inverted", "a → b", 0.0], ["inverted", "b → a", 0.0]
    ]  # fmt: skip


def ring(size: int = 12) -> np.ndarray:
    """A grey ring around a black hole on black, uint8 (1, 1, size, size)."""
    image = np.zeros((1, 1, size, size), np.uint8)
    image[..., 3:9, 3:9] = 100
    image[..., 5:7, 5:7] = 0
    return image


def test_the_surround_is_the_black_around_and_not_that_within():
    image = ring()
    assert surround(image).sum() == 144 - 36
    assert not surround(image)[0, 5, 5]
    for level in (0, 128, 255):
        filled = with_surround(image, level)
        assert filled.dtype == np.uint8
        assert (filled[0, 0][surround(image)[0]] == level).all()
        assert np.array_equal(filled[..., 3:9, 3:9], image[..., 3:9, 3:9])  # the hole stays black
    assert black_pixels(with_surround(image, 128)) == 4


def test_noise_fills_the_surround_and_is_another_for_other_images():
    image = ring(28)
    noisy = with_surround(image, "noise")
    around = noisy[0, 0][surround(image)[0]]
    assert np.array_equal(noisy[..., 3:9, 3:9], image[..., 3:9, 3:9])
    assert around.min() < 20
    assert around.max() > 235
    assert abs(around.mean() - 127.5) < 15
    assert np.array_equal(noisy, with_surround(image, "noise"))
    other = image.copy()
    other[..., 3, 3] = 101
    assert (with_surround(other, "noise") != noisy).mean() > 0.8


def test_another_classs_surround_makes_an_object_no_larger_than_both():
    small, large = np.zeros((2, 5, 1, 8, 8), np.uint8)
    small[..., 3:5, 3:5], large[..., 1:7, 1:7] = 50, 80
    first, second = with_surrounds_of([small, large])
    assert np.array_equal(first, small)  # lies within the silhouette of the other
    assert np.array_equal(second > 0, small > 0)
    assert second.max() == 80
    three = with_surrounds_of([small, large.repeat(8, 0), large])
    assert len({int(black) for black in black_pixels(three[1])}) == 2  # of either of the other classes


def test_resampling_smooths_as_the_crop_does_and_keeps_the_surround():
    image = np.zeros((1, 1, 28, 28), np.uint8)
    image[..., 7:21, 7:21] = np.indices((14, 14)).sum(0) % 2 * 200 + 20
    smoothed = resample(image)
    enlarged = Image.fromarray(image[0, 0]).resize((56, 56), Image.Resampling.BILINEAR)
    assert np.array_equal(smoothed[0, 0], enlarged.resize((28, 28), Image.Resampling.BILINEAR))
    assert (smoothed[0, 0, :5] == 0).all()
    assert smoothed.std() < image.std()
    cropped = crop_to_object(image)
    box = Image.fromarray(image[0, 0, 7:21, 7:21])
    assert np.array_equal(cropped[0, 0], box.resize((28, 28), Image.Resampling.BILINEAR))
    full = np.full((1, 1, 28, 28), 9, np.uint8)
    assert np.array_equal(resample(full), full)  # an object that fills the frame is not enlarged
    empty = np.zeros((1, 1, 28, 28), np.uint8)
    assert np.array_equal(resample(empty), empty)


def test_every_treatment_keeps_classes_shapes_and_type():
    classes = [ring(28).repeat(3, 0), ring(28)[..., ::-1].repeat(2, 0)]
    for treat in TREATMENTS.values():
        treated = treat(classes)
        assert [images.shape for images in treated] == [(3, 1, 28, 28), (2, 1, 28, 28)]
        assert {images.dtype for images in treated} == {np.dtype(np.uint8)}
    assert all(np.array_equal(a, b) for a, b in zip(TREATMENTS["as they are"](classes), classes, strict=True))


def test_cases_are_counted_by_value_surely_and_possibly():
    cases = pd.DataFrame({"auroc": [0.2, 0.49, 0.51, 0.9], "low": [0.1, 0.4, 0.45, 0.8], "high": [0.3, 0.55, 0.6, 1.0]})
    assert case_counts(cases) == (2, 1, 3)
