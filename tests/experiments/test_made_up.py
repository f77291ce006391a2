"""Made-up defects: small, local, told by their masks, of kinds that do what they say, on any image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowlib.experiments import made_up
from flowlib.experiments.made_up import CHOICE, LEARNED, NOTICEABLE, blob, damage, smooth_noise, stroke

KINDS = LEARNED | CHOICE
properties = settings(derandomize=True, max_examples=30, deadline=None)
seeds = st.integers(0, 2**32 - 1)
images = st.tuples(st.sampled_from([1, 3]), st.integers(8, 40), st.integers(8, 40)).flatmap(
    lambda shape: arrays(np.uint8, (2, *shape))  # an image, and another to cut from
)
SHAPES = [(1, 32, 32), (3, 32, 32), (1, 33, 70), (3, 90, 41)]


def texture(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = smooth_noise(shape[1:], 6, rng) * 30 + rng.normal(0, 15, shape) + 120
    return coarse.clip(0, 255).astype(np.uint8)


def strength_of(shape: tuple[int, int]) -> np.ndarray:
    y, x = np.indices(shape)
    return np.clip(1.5 - np.hypot(y - shape[0] / 2, x - shape[1] / 2) / 6, 0, 1)


# --- one defect ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kinds", [LEARNED, CHOICE], ids=["learned", "choice"])
def test_the_mask_is_where_the_image_changed_noticeably(shape, kinds):
    image, other = texture(shape), texture(shape, seed=1)
    before, before_other = image.copy(), other.copy()
    rng = np.random.default_rng(2)
    for _ in range(25):
        changed, mask = damage(image, other, kinds, rng)
        assert changed.shape == shape
        assert changed.dtype == np.uint8
        assert mask.shape == shape[1:]
        assert mask.dtype == np.bool_
        assert mask.any()
        difference = abs(changed.astype(int) - image).max(0)
        assert np.array_equal(mask, difference >= NOTICEABLE)
        assert mask.mean() < 0.5
    assert np.array_equal(image, before)
    assert np.array_equal(other, before_other)


@given(images, st.sampled_from(sorted(KINDS)), seeds)
@properties
def test_of_any_image_the_mask_is_what_changed_and_the_rest_stays_nearly_as_it_was(pair, name, seed):
    image, other = pair
    before = pair.copy()
    given_strength = []

    def watched(given_image, given_other, strength, *rest):
        given_strength.append(strength)
        return KINDS[name](given_image, given_other, strength, *rest)

    # beside it a kind that always shows: some cannot change a black or an even image
    inverted = {
        name: watched,
        "inverted": lambda before, _, strength, *rest: given_strength.append(strength) or 255 - before,
    }
    changed, mask = damage(image, other, inverted, np.random.default_rng(seed))
    assert np.array_equal(pair, before)
    assert (changed.dtype, changed.shape) == (np.uint8, image.shape)
    assert (mask.dtype, mask.shape) == (np.bool_, image.shape[1:])
    difference = abs(changed.astype(int) - image).max(0)
    assert mask.any()
    assert np.array_equal(mask, difference >= NOTICEABLE)
    strength = given_strength[-1]
    assert 0 <= strength.min() <= strength.max() <= 1
    assert (difference[strength == 0] == 0).all()
    assert (strength[mask] > 0).all()


@given(images, st.sampled_from(sorted(KINDS)), seeds)
@properties
def test_any_kind_gives_finite_levels_of_the_images_shape_and_the_same_from_the_same_seed(pair, name, seed):
    image, other = pair.astype(np.float32)
    strength = strength_of(image.shape[1:])
    after, again = (KINDS[name](image, other, strength, 3.0, np.random.default_rng(seed)) for _ in range(2))
    assert after.shape == image.shape
    assert np.isfinite(after).all()
    assert np.array_equal(after, again)


@given(st.sampled_from([blob, stroke]), st.integers(8, 60), st.integers(8, 60), st.floats(1.5, 12), seeds)
@properties
def test_shapes_lie_in_the_image_and_are_strengths(shape, H, W, radius, seed):
    rng = np.random.default_rng(seed)
    strength = shape((H, W), rng.uniform(0, (H, W)), radius, rng)
    assert strength.shape == (H, W)
    assert 0 <= strength.min() <= strength.max() <= 1


def test_the_generator_alone_determines_it():
    image, other = texture((3, 40, 48)), texture((3, 40, 48), seed=1)
    for kinds in (LEARNED, CHOICE):
        first, again, another = (damage(image, other, kinds, np.random.default_rng(seed)) for seed in (4, 4, 5))
        assert np.array_equal(first[0], again[0])
        assert np.array_equal(first[1], again[1])
        assert not np.array_equal(first[0], another[0])


def test_it_is_the_kind_blended_in_by_a_strength_of_at_most_one():
    """A kind that knows what it was given: the result is its mixture with the image, and nothing outside changes."""
    image, other = texture((3, 48, 64)), texture((3, 48, 64), seed=1)
    given: list[tuple[np.ndarray, float]] = []

    def by_hundred(before, given_other, strength, radius, rng):
        assert np.array_equal(before, image)
        assert np.array_equal(given_other, other)
        given.append((strength, radius))
        return before - 100

    rng = np.random.default_rng(0)
    peaks = []
    for _ in range(40):
        changed, _ = damage(image, other, {"by hundred": by_hundred}, rng)
        strength, radius = given[-1]
        expected = np.rint(np.clip(image - 100 * strength, 0, 255))
        assert abs(changed - expected).max() <= 1  # float32 against float64, at halves
        assert np.array_equal(changed[:, strength == 0], image[:, strength == 0])
        assert strength.min() >= 0
        assert 1.5 <= radius <= made_up.LARGEST * 48 + 1e-9
        peaks.append(strength.max())
    assert max(peaks) <= 1
    assert max(peaks) > 0.9
    assert min(peaks) < 0.6


def test_an_invisible_change_is_drawn_again():
    """Of two kinds, one changes by a level too little: all that comes back is of the other."""
    image = np.full((1, 32, 32), 100, np.uint8)
    calls = []

    def shift(by):
        def kind(before, other, strength, radius, rng):
            calls.append(by)
            return before + by

        return kind

    kinds = {"too little": shift(NOTICEABLE - 1), "enough": shift(80)}
    rng = np.random.default_rng(0)
    for _ in range(20):
        changed, mask = damage(image, image, kinds, rng)
        assert changed.max() - 100 >= NOTICEABLE
        assert mask.any()
    assert calls.count(NOTICEABLE - 1) > 5


def test_sizes_reach_from_a_few_pixels_to_a_large_part():
    image, other = texture((1, 128, 128)), texture((1, 128, 128), seed=1)
    rng = np.random.default_rng(0)
    areas = np.array([damage(image, other, LEARNED, rng)[1].sum() for _ in range(150)])
    assert np.quantile(areas, 0.1) < 30
    assert np.quantile(areas, 0.95) > 500
    assert areas.max() < 0.3 * 128 * 128
    assert 30 < np.median(areas) < 500


def test_defects_lie_everywhere():
    image, other = texture((1, 40, 80)), texture((1, 40, 80), seed=1)
    rng = np.random.default_rng(0)
    covered = sum(damage(image, other, LEARNED, rng)[1].astype(int) for _ in range(250))
    quarters = np.array([[part.sum() for part in np.split(row, 4, 1)] for row in np.split(covered, 2)])
    assert quarters.min() > 0.4 * quarters.mean()
    assert covered[:, [0, -1]].sum() > 0  # and at the border
    assert covered[[0, -1]].sum() > 0


@pytest.mark.parametrize("level", [0, 130, 255])
@pytest.mark.parametrize("kinds", [LEARNED, CHOICE], ids=["learned", "choice"])
def test_a_constant_image_is_damaged_before_long(kinds, level):
    """Some kinds cannot change it, the others can: few draws a defect."""
    image = np.full((1, 32, 32), level, np.uint8)
    draws = []
    counted = {
        name: lambda *a, kind=kind: draws.append(1) or kind(*a)
        for name, kind in kinds.items()
    }  # fmt: skip
    for seed in range(20):
        assert damage(image, image, counted, np.random.default_rng(seed))[1].any()
    assert len(draws) < 20 * 12


# --- shapes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [blob, stroke])
def test_shapes_are_strengths_about_their_centre(shape):
    rng = np.random.default_rng(0)
    centres = []
    for _ in range(40):
        strength = shape((90, 120), np.array([30.0, 80.0]), 8.0, rng)
        assert strength.shape == (90, 120)
        assert strength.min() == 0
        assert strength.max() <= 1
        assert 4 < (strength > 0.5).sum() < 1000
        y, x = np.nonzero(strength > 0.5)
        centres.append((y.mean(), x.mean()))
    np.testing.assert_allclose(np.mean(centres, 0), (30, 80), atol=2)


def test_a_blob_grows_with_its_radius_and_has_a_ragged_edge():
    areas = [
        np.mean([(blob((120, 120), np.array([60.0, 60.0]), r, np.random.default_rng(s)) > 0).sum() for s in range(12)])
        for r in (4.0, 8.0, 16.0)
    ]
    assert np.all(np.diff(np.log(areas)) > np.log(2.5))  # nearly fourfold
    mirrored = []
    for seed in range(8):
        strength = blob((81, 81), np.array([40.0, 40.0]), 16.0, np.random.default_rng(seed))
        mirrored.append(abs((strength > 0).astype(int) - (strength[::-1, ::-1] > 0)).sum() / (strength > 0).sum())
    assert np.mean(mirrored) > 0.05  # an ellipse is its own mirror image


def test_a_stroke_is_long_and_thin():
    for seed in range(15):
        strength = stroke((150, 150), np.array([75.0, 75.0]), 8.0, np.random.default_rng(seed))
        y, x = np.nonzero(strength > 0.5)
        length = np.hypot(np.ptp(y), np.ptp(x))
        assert 8 < length < 75  # two to eight radii, when straight
        assert len(y) < 6 * length
        assert strength.max() > 0.9


def test_a_stroke_outside_the_image_is_nothing():
    assert stroke((32, 32), np.array([-200.0, 400.0]), 2.0, np.random.default_rng(0)).max() == 0


@pytest.mark.parametrize("shape", [(32, 32), (40, 90), (200, 33)])
def test_smooth_noise_has_deviation_one_and_its_grain(shape):
    def mean_step(grain: float) -> float:
        noise = smooth_noise(shape, grain, np.random.default_rng(1))
        assert noise.shape == shape
        assert noise.std() == pytest.approx(1)
        return float(abs(np.diff(noise, axis=0)).mean())

    steps = [mean_step(grain) for grain in (2.0, 4.0, 12.0)]
    assert steps[0] > 1.5 * steps[1] > 2 * steps[2]


# --- kinds ---------------------------------------------------------------------------------------------------------


def test_the_two_families_share_no_kind():
    assert not set(LEARNED) & set(CHOICE)
    assert not set(LEARNED.values()) & set(CHOICE.values())
    assert len(LEARNED) == 6
    assert len(CHOICE) == 4
    assert all(kind.__name__ == name for name, kind in KINDS.items())


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shape", [(1, 32, 48), (3, 40, 32)])
def test_each_kind_keeps_the_shape_leaves_its_arguments_alone_and_shows(name, shape):
    image, other = texture(shape).astype(np.float32), texture(shape, seed=1).astype(np.float32)
    strength = strength_of(shape[1:])
    copies = image.copy(), other.copy(), strength.copy()
    changes = []
    for seed in range(6):
        after = KINDS[name](image, other, strength, 6.0, np.random.default_rng(seed))
        assert after.shape == shape
        assert np.isfinite(after).all()
        changes.append(abs(after - image)[:, strength > 0.5].mean())
    assert np.median(changes) > NOTICEABLE
    assert len(set(changes)) > 1
    for argument, copy in zip((image, other, strength), copies, strict=True):
        assert np.array_equal(argument, copy)


def results(kind, image: np.ndarray, other: np.ndarray | None = None, n: int = 30) -> list[np.ndarray]:
    strength = strength_of(image.shape[1:])
    other = image if other is None else other
    return [kind(image, other, strength, 6.0, np.random.default_rng(seed)) for seed in range(n)]


FLAT = np.full((3, 32, 32), 100.0, np.float32)
ROUGH = texture((3, 64, 64)).astype(np.float32)


def test_cut_and_paste_is_the_other_image_moved():
    other = texture((3, 64, 64), seed=9).astype(np.float32)
    for after in results(made_up.cut_and_paste, ROUGH, other):
        assert np.array_equal(np.sort(after, axis=None), np.sort(other, axis=None))
        assert np.array_equal(np.sort(after[1], axis=None), np.sort(other[1], axis=None))
        assert not np.array_equal(after, other)


def test_grey_shift_is_one_step_a_channel_to_either_side():
    steps = np.array([(after - ROUGH).mean((1, 2)) for after in results(made_up.grey_shift, ROUGH)])  # (n, C)
    for after, step in zip(results(made_up.grey_shift, ROUGH), steps, strict=True):
        assert abs(after - ROUGH - step[:, None, None]).max() < 1e-3
    mean = steps.mean(1)
    assert (mean > 0).any()
    assert (mean < 0).any()
    assert 40 < abs(mean).mean() < 95
    assert (steps.std(1) < 0.7 * abs(mean)).mean() > 0.9  # about alike in all channels


def test_contrast_scales_what_differs_from_the_smoothed_image():
    gains = [after.std() / ROUGH.std() for after in results(made_up.contrast, ROUGH)]
    assert min(gains) < 0.6
    assert max(gains) > 3
    assert all(after.mean() == pytest.approx(ROUGH.mean(), abs=3) for after in results(made_up.contrast, ROUGH))
    assert all(abs(after - FLAT).max() < 1e-3 for after in results(made_up.contrast, FLAT))


def test_one_colour_is_flat_and_about_grey():
    colours = np.array([after[:, 0, 0] for after in results(made_up.one_colour, ROUGH)])
    assert all((after == after[:, :1, :1]).all() for after in results(made_up.one_colour, ROUGH))
    assert colours.std(0).min() > 40
    assert 5 < colours.std(1).mean() < 40


def test_rough_lays_a_texture_of_some_levels_over_the_image():
    deviations = [(after - FLAT)[0].std() for after in results(made_up.rough, FLAT)]
    assert 10 <= min(deviations) < 20
    assert 40 < max(deviations) <= 50


def test_relief_has_light_and_shade_where_the_strength_falls_only():
    strength = strength_of((32, 32))
    for after in results(made_up.relief, FLAT):
        change = after - FLAT
        assert 29.9 < abs(change).max() < 120.1
        assert change.max() > 20
        assert change.min() < -20
        assert np.allclose(change[:, strength == 0][:, :20], 0, atol=0.5)
        assert (change == change[:1]).all()


def test_warped_moves_pixels_without_new_tones():
    for after in results(made_up.warped, ROUGH):
        assert ROUGH.min() - 1e-3 <= after.min()
        assert after.max() <= ROUGH.max() + 1e-3
        # the same displacement in all channels: they go on alike
        assert np.corrcoef((after[0] - ROUGH[0]).ravel(), (after[1] - ROUGH[1]).ravel())[0, 1] > 0.1
    assert all(np.allclose(after, FLAT) for after in results(made_up.warped, FLAT))


def test_speckled_is_spots_of_one_tone_over_a_fifth():
    for after in results(made_up.speckled, FLAT):
        tones, counts = np.unique(after.round(3), return_counts=True)
        assert len(tones) == 2
        spot = tones[counts.argmin()]
        assert 40 <= abs(spot - 100) <= 120
        assert counts.min() / counts.sum() == pytest.approx(0.2, abs=0.01)
    assert {np.sign(after.mean() - 100) for after in results(made_up.speckled, FLAT)} == {-1, 1}


def test_smeared_is_blurred_along_a_line_and_shifted():
    shifts = np.array([(after - FLAT).mean() for after in results(made_up.smeared, FLAT)])
    assert all(np.ptp(after) < 1e-3 for after in results(made_up.smeared, FLAT))
    assert 12 < shifts.std() < 40
    stripes = np.broadcast_to(100 + 40 * np.sin(np.arange(64) * 1.3), (1, 64, 64)).astype(np.float32)
    left, across = (
        [after.std() / image.std() for after in results(made_up.smeared, image, n=80)]
        for image in (stripes, stripes.transpose(0, 2, 1))
    )
    assert max(left) > 0.6  # along the stripes they stay, across them they go
    assert max(across) > 0.6
    assert np.median(left) < 0.3
    assert max(min(pair) for pair in zip(left, across, strict=True)) < 0.35


def test_darkest_tone_is_of_the_image_at_either_end():
    ends = np.quantile(ROUGH, [0.005, 0.995], axis=(1, 2))  # (2, C)
    seen = set()
    for after in results(made_up.darkest_tone, ROUGH):
        assert (after == after[:, :1, :1]).all()
        seen |= {end for end in (0, 1) if np.allclose(after[:, 0, 0], ends[end])}
    assert seen == {0, 1}
