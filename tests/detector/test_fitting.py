"""A detector for one's own pictures: divided by source, chosen without a defect, calibrated, saved, loaded."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from flowlib.detector import choice as detector_choice
from flowlib.detector import fitting, made_up, maps, model, storage
from flowlib.detector.choice import (
    DAMAGED,
    DEFECTS,
    Reading,
    choice_table,
    chosen,
    damaged_image,
    found_in_each,
    readings,
)
from flowlib.detector.fitting import divided, fit
from flowlib.detector.model import (
    LARGEST_SHARES,
    Detector,
    DetectorError,
    Region,
    Settings,
    image_score,
    resized,
    working,
    worst_region,
)
from flowlib.detector.storage import load, save
from flowlib.runtime import artifacts
from flowlib.runtime.artifacts import Artifact
from flowlib.runtime.code import closure

SMALL = Settings(size=64, flow_steps=3, ratio_steps=3)


def normal_image(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    _, H, W = shape
    coarse = rng.normal(0, 30, (-(-H // 4), -(-W // 4))).repeat(4, 0).repeat(4, 1)[:H, :W]
    return (120 + coarse + rng.normal(0, 8, shape)).clip(0, 255).astype(np.uint8)


IMAGES = [normal_image(1, 40, 48, seed=seed) for seed in range(10)]


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """Few patches and made-up defects, small models, and a data folder of one's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWLIB_DATA", str(tmp_path_factory.mktemp("data")))
        for module in (fitting, detector_choice, storage):
            patch.setattr(module, "FLOW", {"levels": 2, "steps": 2, "hidden_channels": 4})
        for name, value in {"PATCHES": 64, "CROPS": 16, "DAMAGED": 8}.items():
            patch.setattr(fitting, name, value)
        yield patch


def fitted(images, sources=None, settings: Settings = SMALL) -> Detector:
    with ThreadPoolExecutor(1) as executor:  # in this process
        return fit(images, sources, settings, executor)


@pytest.fixture(scope="module")
def one(small) -> Detector:
    return fitted(IMAGES)


@pytest.fixture(scope="module")
def reduced(small) -> Detector:
    """Of images larger than they are worked on."""
    return fitted([normal_image(1, 80 + 8 * (seed % 2), 120, seed=seed) for seed in range(10)])


# --- the division --------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(0, 5))
def test_a_source_is_never_divided_and_every_part_has_some(sources, seed):
    parts = divided(sources, seed)
    assert len(parts) == 3
    if len(set(sources)) < 4:
        assert all(part.tolist() == list(range(len(sources))) for part in parts)
    else:
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(sources)))
        groups = [{sources[i] for i in part} for part in parts]
        assert all(groups)
        assert sum(map(len, groups)) == len(set(sources))
    assert all(np.array_equal(a, b) for a, b in zip(parts, divided(sources, seed), strict=True))


@pytest.mark.parametrize(("n", "sizes"), [(4, (2, 1, 1)), (10, (6, 2, 2)), (20, (12, 3, 5)), (100, (60, 15, 25))])
def test_parts_have_their_shares(n, sizes):
    assert tuple(map(len, divided([f"video {i}" for i in range(n)], 0))) == sizes
    assert [part.tolist() for part in divided(range(n), 0)] != [part.tolist() for part in divided(range(n), 1)]


def calls(patch: pytest.MonkeyPatch, module, name: str) -> list[tuple]:
    """The arguments of each call of a function that goes on as it did."""
    seen: list[tuple] = []
    function = getattr(module, name)

    def recorded(*arguments):
        seen.append(arguments)
        return function(*arguments)

    patch.setattr(module, name, recorded)
    return seen


def held(images: list[np.ndarray], some) -> list[int]:
    """Which of the images these are."""
    return [next(i for i, image in enumerate(images) if np.array_equal(image, each)) for each in some]


def test_each_part_is_used_for_its_own(monkeypatch):
    """Two images a source: what trains, what the maps are fitted on, what is damaged to choose, what calibrates."""
    sources = [i // 2 for i in range(len(IMAGES))]
    training, choosing, calibrating = (part.tolist() for part in divided(sources, SMALL.seed))
    trained, fits, damaged = (
        calls(monkeypatch, *where) for where in ((model, "trained"), (maps, "fit"), (model, "damaged_image"))
    )
    found = fitted(IMAGES, sources)
    assert [held(IMAGES, arguments[0]) for arguments in trained] == [training, training]
    assert [held(IMAGES, arguments[2]) for arguments in fits] == [training]
    assert set(held(IMAGES, (arguments[0] for arguments in damaged))) == set(choosing)
    assert {i for arguments in damaged for i in held(IMAGES, arguments[1])} == set(choosing)
    assert len(damaged) == DAMAGED
    scores = found.score_samples([IMAGES[i] for i in calibrating])
    np.testing.assert_allclose(found.calibration[found.row], scores, rtol=1e-6)
    parts = [training, choosing, calibrating]
    assert found.facts["images"] == [len(part) for part in parts]
    assert found.facts["sources"] == [len({i // 2 for i in part}) for part in parts]
    assert not found.facts["shared"]


def test_the_choosing_images_change_neither_models_nor_calibration():
    """All of the maps' calibration scores stay, whatever the choice is made by."""
    _, choosing, calibrating = divided(range(10), SMALL.seed)
    otherwise = list(IMAGES)
    for i in choosing:
        otherwise[i] = 255 - IMAGES[i] // 2
    first, second = fitted(IMAGES), fitted(otherwise)
    assert np.array_equal(first.calibration, second.calibration)
    assert first.levels == second.levels
    assert all(np.array_equal(first.known[name], second.known[name]) for name in first.known)
    assert not first.choice.equals(second.choice)
    for i in calibrating:
        otherwise[i] = 255 - IMAGES[i] // 2
    third = fitted(otherwise)
    assert third.choice["pixels"].equals(second.choice["pixels"])
    assert (third.map_name, third.way) == (second.map_name, second.way)
    assert not np.array_equal(third.calibration, second.calibration)


def test_maps_are_fitted_on_images_of_all_sources(monkeypatch):
    """Ten images a source, more than the maps are fitted on: none of the training's sources is left out."""
    monkeypatch.setattr(fitting, "KNOWN", 7)
    images = [normal_image(1, 32, 32, seed=seed) for seed in range(60)]
    sources = [i // 10 for i in range(60)]
    fits = calls(monkeypatch, maps, "fit")
    fitted(images, sources)
    ((_, _, used, _),) = fits
    training = {sources[i] for i in divided(sources, SMALL.seed)[0]}
    assert len(used) == len({each.tobytes() for each in used}) == 7
    assert {sources[i] for i in held(images, used)} == training
    assert len(training) == 3 or len(training) == 4


# --- the fit -------------------------------------------------------------------------------------------------------


def test_two_fits_are_equal(one, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))  # trained anew
    torch.manual_seed(55)
    trainings = calls(monkeypatch, model, "train")
    again = fitted(IMAGES)
    assert len(trainings) == 2
    assert {path.suffix for path in (tmp_path / "artifacts/detector").iterdir()} == {".safetensors", ".lock"}
    assert np.array_equal(one.calibration, again.calibration)
    pd.testing.assert_frame_equal(one.choice, again.choice)
    assert one.levels == again.levels
    assert np.array_equal(one.score_samples(IMAGES), again.score_samples(IMAGES))
    fitted(IMAGES)
    assert len(trainings) == 2  # kept
    other = fitted(IMAGES, settings=replace(SMALL, seed=1))
    assert len(trainings) == 4
    assert not np.array_equal(one.calibration, other.calibration)
    fitted(IMAGES, settings=replace(SMALL, ratio_steps=4))
    assert len(trainings) == 5


def test_the_kept_models_know_their_code():
    """What a trained model depends on, `made_up` among it."""
    assert {"flowlib.detector.made_up", "flowlib.detector.local_ratio", "flowlib.glow"} <= closure(
        "flowlib.detector.fitting"
    )


def test_what_is_chosen_found_the_made_up_defects_best(one):
    assert len(one.choice) == len(maps.NAMES) * len(LARGEST_SHARES)
    best = one.choice.iloc[one.row]
    assert best["found"] == one.choice["found"].max()
    assert (best["map"], best["way"]) == (one.map_name, one.way)
    np.testing.assert_allclose(one.choice["found"], (one.choice["pixels"] + one.choice["images"]) / 2)
    assert one.choice[["pixels", "images"]].to_numpy().min() >= 0
    assert one.choice[["pixels", "images"]].to_numpy().max() <= 1
    assert one.calibration.shape == (len(one.choice), 2)


def test_choice_table_ranks_pixels_and_images():
    """Made-up readings of two maps: one that tells all, the other upside down; by hand."""
    n, ways = len(maps.NAMES), len(LARGEST_SHARES)

    def reading(score: float, background, changed) -> Reading:
        scores, spread = np.full((n, ways), score), np.ones((n, 1))
        scores[1] *= -1
        spread[1] = -1
        return Reading(scores, spread * np.array(background), spread * np.array(changed, dtype=float))

    normal = [reading(1, [0, 1], []), reading(3, [2, 5], [])]
    damaged = [reading(2, [0], [4, 9]), reading(4, [1], [3])]
    table = choice_table(normal, damaged).set_index(["map", "way"])
    inside, outside = np.array([4, 9, 3]), np.array([0, 1, 2, 5, 0, 1])
    pixels = np.mean(inside[:, None] > outside)
    first, second = table.loc[(maps.NAMES[0], "mean")], table.loc[(maps.NAMES[1], "maximum")]
    assert first["pixels"] == pytest.approx(pixels)
    assert first["images"] == pytest.approx(3 / 4)
    assert first["found"] == pytest.approx((pixels + 3 / 4) / 2)
    assert second["pixels"] == pytest.approx(1 - pixels)
    assert second["images"] == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("gains", "sources", "earned"),
    [
        ([0.25, 0.05, 0.0], "abc", True),  # mean 0.1, standard error 0.076, deviation between sources 0.13
        ([0.3, -0.1, 0.0], "abc", False),  # mean 0.07, standard error 0.12
        ([0.25, 0.05, 0.0, 0.25, 0.05, 0.0], "abcabc", True),
        ([0.3, -0.1, 0.0] * 20, "abc" * 20, False),  # more damaged images of the same videos are no more evidence
        ([0.3, 0.3], "aa", False),  # one source tells nothing of others
        ([0.01, 0.01], "ab", True),
    ],
)
def test_a_map_that_knows_the_place_must_earn_it_by_more_than_a_standard_error(monkeypatch, gains, sources, earned):
    names = ["likelihood", "ratio", "ratio by place", "likelihood by place"]
    choice = pd.DataFrame({"map": names, "way": "mean", "found": [0.6, 0.7, 0.9, 0.8]})
    found = {1: np.full(len(gains), 0.5), 2: 0.5 + np.array(gains)}
    monkeypatch.setattr(detector_choice, "found_in_each", lambda row, normal, damaged: found[row])
    assert chosen(choice, [], [], list(sources)) == (2 if earned else 1)
    choice["found"] = [0.6, 0.95, 0.9, 0.8]
    assert chosen(choice, [], [], list(sources)) == 1, "it is the best anyway"


def test_found_in_each_is_the_mean_of_two_ranks_by_hand():
    n, ways = len(maps.NAMES), len(LARGEST_SHARES)

    def reading(score: float, background, changed) -> Reading:
        scores = np.zeros((n, ways))
        scores[1, 2] = score
        return Reading(scores, np.tile(background, (n, 1)), np.tile(np.array(changed, dtype=float), (n, 1)))

    normal = [reading(score, [0.0], []) for score in (1, 2, 3, 4)]
    damaged = [reading(2.5, [0, 1, 2, 3], [1.5, 9]), reading(4, [0, 1], [])]  # the second has no fifth pixel inside
    found = found_in_each(ways + 2, normal, damaged)
    np.testing.assert_allclose(found, [(6 / 8 + 2 / 4) / 2, (0.5 + 3.5 / 4) / 2])


def test_readings_divide_every_fifth_pixel_by_the_mask(one):
    image = IMAGES[0]
    mask = np.zeros((40, 48), bool)
    mask[10:17, 20:31] = True
    states = one.flow.state_dict(), one.ratio.state_dict()
    (found,) = readings(one.known, *states, 1, 40, [(image, mask)])
    every = np.stack(list(maps.maps(one.known, one.flow, one.ratio, image).values())).reshape(len(maps.NAMES), -1)
    np.testing.assert_allclose(found.changed, every[:, ::5][:, mask.ravel()[::5]], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.background, every[:, ::5][:, ~mask.ravel()[::5]], rtol=1e-5, atol=1e-5)
    top = [[image_score(values, share) for share in LARGEST_SHARES.values()] for values in every]
    np.testing.assert_allclose(found.scores, top, rtol=1e-5, atol=1e-5)


def test_a_damaged_image_has_made_up_defects_of_the_kinds_for_choosing(monkeypatch):
    damages = calls(monkeypatch, made_up, "damage")
    others = [normal_image(1, 40, 48, seed=3), normal_image(1, 33, 50, seed=4), normal_image(1, 40, 48, seed=5)]
    changed, mask = damaged_image(IMAGES[0], others, np.random.default_rng(0))
    assert len(damages) == DEFECTS
    assert all(arguments[2] is made_up.CHOICE for arguments in damages)
    assert all(arguments[1].shape == (1, 40, 48) for arguments in damages)
    assert np.array_equal(damages[0][0], IMAGES[0])
    assert not np.array_equal(damages[1][0], IMAGES[0])  # the second goes on from the first
    difference = abs(changed.astype(int) - IMAGES[0])[0]
    assert mask[difference >= 2 * DEFECTS + 16].all()
    assert (difference[mask] >= made_up.NOTICEABLE).mean() > 0.8


def test_levels_are_exceeded_by_one_calibration_pixel_of_two_hundred(one):
    _, _, calibrating = divided(range(10), SMALL.seed)
    found = [maps.maps(one.known, one.flow, one.ratio, IMAGES[i]) for i in calibrating]
    assert set(one.levels) == set(maps.NAMES)
    for name, level in one.levels.items():
        pixels = np.concatenate([each[name].ravel()[::5] for each in found])
        assert (pixels > level).mean() == pytest.approx(0.005, abs=0.003)
    assert one.level == one.levels[one.map_name]


# --- threshold and verdict -----------------------------------------------------------------------------------------


def with_calibration(one: Detector, scores: np.ndarray) -> Detector:
    calibration = np.tile(np.nan, (len(one.choice), len(scores)))
    calibration[one.row] = scores
    return replace(one, calibration=calibration)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(0.001, 0.6))
def test_no_more_than_the_rate_of_the_calibration_scores_is_above_the_threshold(one, n, rate):
    scores = np.random.default_rng(n).normal(size=n)
    found = with_calibration(one, scores)
    threshold = found.threshold(rate)
    assert (scores > threshold).mean() <= rate
    assert np.isfinite(threshold)
    assert found.lowest_rate() == pytest.approx(1 / (n + 1))
    if rate <= found.lowest_rate():
        assert threshold == scores.max()
    assert ((scores >= threshold).sum() + 1) / (n + 1) > rate - 1 / (n + 1)  # and not needlessly high


@pytest.mark.parametrize("n", [1, 2, 5, 6, 9, 13, 19, 100])
def test_the_lowest_rate_has_the_highest_calibration_score(one, n):
    """Where 1 / (n + 1) is a little less in floating point, too."""
    found = with_calibration(one, np.arange(n, dtype=float))
    assert found.threshold(found.lowest_rate()) == n - 1
    assert found.threshold(1e-4) == n - 1
    assert found.threshold() == (n - 1 if n < 39 else n - 5)


def test_verdicts_are_scores_above_the_threshold(one):
    images = [*IMAGES, 255 - IMAGES[0], np.zeros((1, 40, 48), np.uint8)]
    scores = one.score_samples(images)
    for rate in (0.05, 0.34, 0.67):
        verdicts = one.predict(images, rate)
        assert verdicts.dtype == np.bool_
        assert np.array_equal(verdicts, scores > one.threshold(rate))
    assert one.predict(images, 0.67).sum() >= one.predict(images).sum()
    assert one.threshold(0.67) < one.threshold(0.34)


def test_scores_are_of_the_way_and_the_map_that_are_named(one):
    image = IMAGES[4]
    for name, way in (("ratio", "top 1 %"), ("density by place", "maximum"), ("likelihood", "mean")):
        other = replace(one, map_name=name, way=way)
        values = other.all_maps(image)[name]
        assert np.array_equal(other.map(image), values)
        n = max(1, round(LARGEST_SHARES[way] * values.size))
        assert other.score_samples([image])[0] == pytest.approx(np.sort(values, axis=None)[-n:].mean(), rel=1e-5)
        row = one.choice.iloc[other.row]
        assert (row["map"], row["way"]) == (name, way)
        assert other.threshold() == one.calibration[other.row].max()
        assert other.level == one.levels[name]


@pytest.mark.parametrize("change", [{"map_name": "likelyhood"}, {"way": "median"}])
def test_a_map_or_way_that_there_is_not_is_named(one, change):
    with pytest.raises(DetectorError, match=rf"{next(iter(change.values()))}.*choose one of likelihood, typicality"):
        replace(one, **change).threshold()


def test_a_score_depends_on_its_own_image_alone(one):
    scores = one.score_samples(IMAGES)
    assert scores.shape == (10,)
    assert scores.dtype == np.float64
    assert np.array_equal(one.score_samples(IMAGES[::-1])[::-1], scores)
    assert np.array_equal([one.score_samples([image])[0] for image in IMAGES], scores)
    assert one.score_samples([]).shape == (0,)


def test_images_that_are_reduced_are_scored_as_those_that_calibrated(reduced):
    """The very images, for every map and way: else the threshold would be of other scores than it is held against."""
    images = [normal_image(1, 80 + 8 * (seed % 2), 120, seed=seed) for seed in range(10)]
    _, _, calibrating = divided(range(10), SMALL.seed)
    for name in ("likelihood", "ratio", maps.SUM):
        for way in LARGEST_SHARES:
            other = replace(reduced, map_name=name, way=way)
            scores = other.score_samples([images[i] for i in calibrating])
            np.testing.assert_allclose(scores, other.calibration[other.row], rtol=1e-6)
    assert reduced.map(images[1]).shape == (88, 120)
    worked = reduced.working_map(images[1])
    assert worked.shape == (47, 64)
    assert np.array_equal(reduced.map(images[1]), resized(worked, (88, 120)))


# --- images of all sorts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 40, 500), (1, 500, 40), (3, 77, 130)])
def test_maps_of_images_of_any_size(one, shape):
    image = normal_image(*shape, seed=3)
    found = one.all_maps(image)
    assert tuple(found) == maps.NAMES
    for values in found.values():
        assert values.dtype == np.float32
        assert values.shape == shape[1:]
        assert np.isfinite(values).all()
    assert np.isfinite(one.score_samples([image])).all()


def test_a_fit_on_grey_and_colour_images_of_several_sizes():
    shapes = [(1, 32, 32), (3, 500, 40), (3, 40, 64), (1, 64, 40), (3, 33, 47), (1, 100, 90), (3, 32, 32)]
    images = [normal_image(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    found = fitted(images)
    assert found.channels == 3
    assert np.isfinite(found.calibration).all()
    assert np.isfinite(found.score_samples(images)).all()
    grey = images[0]
    assert np.array_equal(found.score_samples([grey]), found.score_samples([grey.repeat(3, 0)]))


@pytest.mark.parametrize("image", [IMAGES[0], np.zeros((1, 32, 32), np.uint8), np.full((3, 40, 33), 255, np.uint8)])
def test_one_image_is_enough(image):
    found = fitted([image])
    assert found.facts["images"] == [1, 1, 1]
    assert found.facts["shared"]
    assert found.lowest_rate() == 0.5
    assert not found.predict([image])[0]
    assert np.isfinite(found.score_samples([image, normal_image(1, 40, 40)])).all()


def test_three_sources_are_not_divided():
    found = fitted(IMAGES[:6], ["a", "a", "b", "b", "c", "c"])
    assert found.facts["images"] == [6, 6, 6]
    assert found.facts["sources"] == [3, 3, 3]
    assert found.facts["shared"]
    assert found.calibration.shape[1] == 6


def test_a_crop_of_the_images_trains_the_ratio(monkeypatch):
    """As large as the smallest image allows, a multiple of eight, and no larger than `CROP`."""
    trained = calls(monkeypatch, model, "trained")
    for shapes, side in ((((1, 47, 64), (1, 64, 64)), 40), (((1, 64, 64), (1, 64, 60)), 48)):
        monkeypatch.setattr(fitting, "CROP", 48)
        fitted([normal_image(*shape) for shape in shapes])
        (_, _, found, ratio), (_, _, patch, flow) = trained[-2:]
        assert (ratio.model, found, flow.model, patch) == ("LocalRatio", side, "Glow", 32)
        assert (ratio.steps, flow.steps) == (SMALL.ratio_steps, SMALL.flow_steps)


def test_no_image_or_a_tiny_one_or_a_source_too_few_is_an_error():
    with pytest.raises(DetectorError, match="there is no normal image to fit on: add"):
        fitted([])
    with pytest.raises(DetectorError, match="the image has 48x31 pixels, it must have at least 32x32"):
        fitted([IMAGES[0], normal_image(1, 31, 48)])
    with pytest.raises(DetectorError, match="there are 2 sources for 3 images: give one for each"):
        fitted(IMAGES[:3], ["a", "b"])


def test_a_tiny_image_is_not_scored(one):
    with pytest.raises(DetectorError, match="the image has 30x40 pixels"):
        one.score_samples([normal_image(1, 40, 30)])


@pytest.mark.parametrize(("name", "value"), [("size", 31), ("flow_steps", 0), ("ratio_steps", 0)])
def test_bad_settings_are_named(name, value):
    with pytest.raises(DetectorError, match=rf"size must be at least 32.*{name}={value}"):
        Settings(**{name: value})
    assert Settings(size=32, flow_steps=1, ratio_steps=1).seed == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(32, 300), st.integers(32, 300), st.integers(32, 200), st.sampled_from([1, 3]))
def test_working_images_fit_the_size_and_are_never_enlarged(H, W, size, channels):
    image = np.random.default_rng(H).integers(0, 256, (channels, H, W), dtype=np.uint8)
    found = working(image, size, channels)
    assert found.dtype == np.uint8
    _, h, w = found.shape
    assert h <= H
    assert w <= W
    assert min(h, w) >= 32
    if max(H, W) <= size:
        assert np.array_equal(found, image)
    elif min(h, w) > 32:
        assert max(h, w) == size
    assert abs(h / H - w / W) <= 0.51 / H + 0.51 / W  # one factor for both, to whole pixels
    assert abs(found.mean((1, 2)) - image.mean((1, 2))).max() < 8
    assert np.array_equal(working(found, size, channels), found)


def test_a_long_image_is_reduced_until_its_shorter_side_has_32_pixels():
    assert working(normal_image(1, 40, 500), 64, 1).shape == (1, 32, 400)
    assert working(normal_image(3, 500, 32), 64, 3).shape == (3, 500, 32)


def test_working_reduces_by_area():
    image = np.zeros((1, 64, 128), np.uint8)
    image[0, ::2, ::2], image[0, 1::2, 1::2], image[0, 0, 1] = 100, 60, 40
    found = working(image, 64, 1)
    assert found.shape == (1, 32, 64)
    assert found[0, 0, 0] == 50
    assert (found[0, 1:] == 40).all()


def test_working_makes_grey_of_colour_and_colour_of_grey():
    grey = normal_image(1, 40, 50)
    assert np.array_equal(working(grey, 64, 3), np.repeat(grey, 3, 0))
    colour = np.zeros((3, 40, 50), np.uint8)
    colour[0], colour[1], colour[2] = 200, 100, 50
    found = working(colour, 64, 1)
    assert found.shape == (1, 40, 50)
    assert abs(found.astype(float) - (0.299 * 200 + 0.587 * 100 + 0.114 * 50)).max() <= 1
    assert np.array_equal(working(colour, 64, 3), colour)
    assert np.array_equal(working(grey, 64, 1), grey)


def test_resized_is_linear_in_between():
    values = np.add.outer(np.arange(8.0), 10 * np.arange(10.0)).astype(np.float32)
    assert np.array_equal(resized(values, (8, 10)), values)
    found = resized(values, (16, 40))
    assert found.shape == (16, 40)
    assert found.dtype == np.float32
    y, x = np.indices((16, 40))
    expected = (y + 0.5) / 2 - 0.5 + 10 * ((x + 0.5) / 4 - 0.5)
    np.testing.assert_allclose(found[2:-2, 4:-4], expected[2:-2, 4:-4], atol=1e-3)
    assert found.min() >= values.min()
    assert found.max() <= values.max()


# --- scores and regions --------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_image_score_is_the_mean_of_the_highest_share(H, W, share):
    values = np.random.default_rng(H * 41 + W).normal(size=(H, W)).astype(np.float32)
    n = max(1, round(share * (H * W)))
    assert image_score(values, share) == pytest.approx(np.sort(values, axis=None)[::-1][:n].mean(dtype=float), rel=1e-6)


def test_image_scores_of_the_ways():
    values = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    found = [image_score(values, share) for share in LARGEST_SHARES.values()]
    assert found == [9999, 9994.5, 9949.5, 4999.5]
    assert image_score(np.full((2000, 2000), 1.1, np.float32), 1.0) == pytest.approx(1.1, rel=1e-7)  # summed in float64


def blob_map(*boxes: tuple[int, int, int, int, float]) -> np.ndarray:
    values = np.random.default_rng(0).uniform(0, 1, (60, 80)).astype(np.float32)
    for x0, y0, x1, y1, value in boxes:
        values[y0:y1, x0:x1] = value
    return values


def test_worst_region_is_the_box_around_the_highest_blob():
    values = blob_map((10, 20, 31, 25, 5.0), (50, 5, 60, 9, 4.0))
    assert worst_region(values, 2.0) == Region(10, 20, 31, 25)
    values[6, 55] = 7
    assert worst_region(values, 2.0) == Region(50, 5, 60, 9)
    values[9, 60] = 3  # touches at the corner only
    assert worst_region(values, 2.0) == Region(50, 5, 61, 10)
    region = worst_region(values, 2.0)
    assert all(type(end) is int for end in region)


@pytest.mark.parametrize("box", [(0, 0, 3, 4), (77, 56, 80, 60), (0, 58, 80, 60)])
def test_worst_region_at_the_border(box):
    assert worst_region(blob_map((*box, 5.0)), 2.0) == Region(*box)


def test_worst_region_without_a_pixel_above_the_level_is_of_the_top_tenth():
    values = np.zeros((60, 80), np.float32)
    values[30:34, 40:46], values[31, 42:44] = 0.95, 1.0
    values[10:50, 10:35] = 0.5
    values[30:34, 46] = 0.85
    assert worst_region(values, 100.0) == Region(40, 30, 46, 34)
    assert worst_region(np.full((20, 30), 3.0, np.float32), 5.0) == Region(0, 0, 30, 20)


# --- on disk -------------------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_is_the_same_to_the_bit(one, tmp_path: Path):
    path = save(one, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "detector.safetensors"
    found = load(path.parent)
    images = [*IMAGES, normal_image(3, 50, 70)]
    assert np.array_equal(found.score_samples(images), one.score_samples(images))
    before, after = one.all_maps(images[-1]), found.all_maps(images[-1])
    assert all(np.array_equal(before[name], after[name]) for name in maps.NAMES)
    assert np.array_equal(found.calibration, one.calibration)
    pd.testing.assert_frame_equal(found.choice, one.choice)
    for name in ("settings", "channels", "levels", "map_name", "way", "facts"):
        assert getattr(found, name) == getattr(one, name)
    assert found.threshold() == one.threshold()
    assert np.array_equal(found.predict(images, 0.34), one.predict(images, 0.34))
    assert not found.ratio.training
    first, second = (artifacts.read(each) for each in (path, save(found, tmp_path / "again")))
    assert first.notes == second.notes
    assert first.arrays.keys() == second.arrays.keys()
    assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in first.arrays)


def test_a_detector_of_colour_images_round_trips(tmp_path: Path):
    images = [normal_image(3, 32, 32, seed=seed) for seed in range(2)]
    found = fitted(images)
    save(found, tmp_path)
    assert np.array_equal(load(tmp_path).score_samples(images), found.score_samples(images))


def test_the_choice_can_be_read_best_first(one, tmp_path: Path):
    save(one, tmp_path)
    table = pd.read_csv(tmp_path / "choice.csv")
    assert list(table.columns) == ["map", "way", "pixels", "images", "found"]
    assert len(table) == len(one.choice)
    assert table["found"].is_monotonic_decreasing
    assert table["found"][0] == pytest.approx(one.choice["found"].max(), abs=1e-4)


def test_a_missing_detector_is_named(tmp_path: Path):
    with pytest.raises(DetectorError, match=f"^{re.escape(str(tmp_path))}.*is not there: fit a detector first"):
        load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "altered", "empty", "foreign", "of another kind", "without parameters"])
def test_a_damaged_or_foreign_file_is_refused_by_name(one, tmp_path: Path, damage: str):
    path = save(one, tmp_path)
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-9])
    elif damage == "altered":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        save_file({"a": np.zeros(3)}, path)
    elif damage == "of another kind":
        artifacts.write(path, Artifact({"losses": np.zeros(3)}, {"seconds": 1}))
    else:
        arrays, notes = artifacts.read(path)
        artifacts.write(path, Artifact({name: a for name, a in arrays.items() if "b_out" not in name}, notes))
    with pytest.raises(DetectorError, match=f"^{re.escape(str(path))} is no detector of this version") as error:
        load(tmp_path)
    assert "fit it anew" in str(error.value)


def test_a_folder_that_cannot_be_written_is_named(one, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(artifacts.ArtifactError, match=r"file.*cannot be written"):
        save(one, tmp_path / "file")
