"""A detector for one's own pictures: divided by source, fitted, calibrated, saved, loaded."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from flowlib.detector import feature_flow, features, fitting
from flowlib.detector.fitting import divided, fit
from flowlib.detector.model import (
    SHARE,
    Detector,
    DetectorError,
    Facts,
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

SMALL = Settings("pixels", size=64, steps=3)


def normal_image(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    _, H, W = shape
    coarse = rng.normal(0, 30, (-(-H // 4), -(-W // 4))).repeat(4, 0).repeat(4, 1)[:H, :W]
    return (120 + coarse + rng.normal(0, 8, shape)).clip(0, 255).astype(np.uint8)


IMAGES = [normal_image(1, 40, 48, seed=seed) for seed in range(10)]


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """Few positions and images a job, and a data folder of one's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWLIB_DATA", str(tmp_path_factory.mktemp("data")))
        patch.setattr(fitting, "POSITIONS", 300)
        patch.setattr(fitting, "CHUNK", 3)
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
    assert len(parts) == 2
    if len(set(sources)) < 4:
        assert all(part.tolist() == list(range(len(sources))) for part in parts)
    else:
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(sources)))
        groups = [{sources[i] for i in part} for part in parts]
        assert all(groups)
        assert sum(map(len, groups)) == len(set(sources))
    assert all(np.array_equal(a, b) for a, b in zip(parts, divided(sources, seed), strict=True))


@pytest.mark.parametrize(("n", "sizes"), [(4, (3, 1)), (10, (8, 2)), (20, (15, 5)), (100, (75, 25))])
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
    """Two images a source: what trains, and what calibrates."""
    sources = [i // 2 for i in range(len(IMAGES))]
    training, calibrating = (part.tolist() for part in divided(sources, SMALL.seed))
    taken, read = (calls(monkeypatch, fitting, name) for name in ("some_positions", "scores_and_pixels"))
    found = fitted(IMAGES, sources)
    assert held(IMAGES, (image for numbered, _, _ in taken for _, image in numbered)) == training
    assert held(IMAGES, (image for _, images in read for image in images)) == calibrating
    scores = found.score_samples([IMAGES[i] for i in calibrating])
    assert np.array_equal(found.calibration, scores)
    parts = [training, calibrating]
    assert found.facts.images == tuple(len(part) for part in parts)
    assert found.facts.sources == tuple(len({i // 2 for i in part}) for part in parts)
    assert not found.facts.shared


def test_the_calibrating_images_do_not_change_the_flow():
    _, calibrating = divided(range(10), SMALL.seed)
    otherwise = list(IMAGES)
    for i in calibrating:
        otherwise[i] = 255 - IMAGES[i] // 2
    first, second = fitted(IMAGES), fitted(otherwise)
    for name, value in first.flow.state_dict().items():
        assert torch.equal(value, second.flow.state_dict()[name])
    assert first.middle == second.middle
    assert first.level != second.level


def test_every_training_image_gives_as_many_positions_and_no_more_than_it_has():
    images = list(enumerate(IMAGES[:3]))
    found, surrounds = fitting.some_positions(images, 5, SMALL)
    assert (found.shape, surrounds.shape) == ((15, 16), (15, 32))
    every, _ = fitting.some_positions(images, 10**6, SMALL)
    enlarged, _ = features.fitted(IMAGES[0], 64)
    assert len(every) == 3 * enlarged[0].size // 64
    assert {row.tobytes() for row in found} <= {row.tobytes() for row in every}
    again = fitting.some_positions(images[1:2], 5, SMALL)  # in whatever job
    assert np.array_equal(again[0], found[5:10])
    assert np.array_equal(again[1], surrounds[5:10])


# --- the fit -------------------------------------------------------------------------------------------------------


def test_two_fits_are_equal(one, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))  # trained anew
    torch.manual_seed(55)
    trainings = calls(monkeypatch, feature_flow, "train")
    again = fitted(IMAGES)
    assert len(trainings) == 1
    assert np.array_equal(one.calibration, again.calibration)
    assert (one.middle, one.width, one.level) == (again.middle, again.width, again.level)
    assert np.array_equal(one.score_samples(IMAGES), again.score_samples(IMAGES))
    fitted(IMAGES)
    assert len(trainings) == 1  # kept
    other = fitted(IMAGES, settings=replace(SMALL, seed=1))
    assert len(trainings) == 2
    assert not np.array_equal(one.calibration, other.calibration)
    fitted(IMAGES, settings=replace(SMALL, steps=4))
    assert len(trainings) == 3


def test_the_kept_flow_knows_its_code():
    assert {"flowlib.training", "flowlib.detector.feature_flow"} <= closure("flowlib.detector.feature_flow")


def test_normal_pixels_lie_about_zero_and_one_of_two_hundred_above_the_level(one):
    training, calibrating = divided(range(10), SMALL.seed)
    usual = np.concatenate([one.working_map(IMAGES[i])[4::8, 4::8].ravel() for i in training])
    assert np.median(usual) == pytest.approx(0, abs=0.15)
    assert np.subtract(*np.quantile(usual, [0.9, 0.1])) == pytest.approx(1, rel=0.2)
    pixels = np.concatenate([one.working_map(IMAGES[i])[4::8, 4::8].ravel() for i in calibrating])
    assert np.quantile(pixels, 0.995) == pytest.approx(one.level, rel=1e-6)


def test_a_change_stands_out_where_it_is():
    """On the network's features, after a real if short training: a patch of another texture in a large image."""
    images = [normal_image(1, 128, 128, seed=seed) for seed in range(12)]
    found = fitted(images, settings=Settings(size=128, steps=60))
    changed = images[-1].copy()
    changed[0, 32:64, 64:96] = np.indices((32, 32)).sum(0) % 8 * 30
    values = found.map(changed)
    inside = np.zeros((128, 128), bool)
    inside[32:64, 64:96] = True
    assert values[inside].mean() > found.level > np.median(values[~inside])
    normal, anomalous = found.score_samples([images[-1], changed])
    assert anomalous > normal
    assert found.predict([changed])[0]


def test_without_the_network_a_default_fit_is_of_pixels(monkeypatch, capsys):
    features.features.cache_clear()
    monkeypatch.setattr(features, "default_network", calls_error)
    found = fitted(IMAGES, settings=Settings(size=64, steps=2))
    features.features.cache_clear()
    assert found.settings.features == "pixels"
    assert "pixels in place of" in capsys.readouterr().out


def calls_error():
    raise features.FeatureError("not here")


# --- threshold and verdict -----------------------------------------------------------------------------------------


def with_calibration(one: Detector, scores: np.ndarray) -> Detector:
    return replace(one, calibration=scores)


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


def test_a_score_is_the_mean_of_the_highest_pixels_of_the_working_map(one):
    values = one.working_map(IMAGES[4])
    n = round(SHARE * values.size)
    assert one.score_samples(IMAGES[4:5])[0] == pytest.approx(np.sort(values, axis=None)[-n:].mean(), rel=1e-5)


def test_a_score_depends_on_its_own_image_alone(one):
    scores = one.score_samples(IMAGES)
    assert scores.shape == (10,)
    assert scores.dtype == np.float64
    assert np.array_equal(one.score_samples(IMAGES[::-1])[::-1], scores)
    assert np.array_equal([one.score_samples([image])[0] for image in IMAGES], scores)
    assert one.score_samples([]).shape == (0,)


def test_images_that_are_reduced_are_scored_as_those_that_calibrated(reduced):
    """The very images: else the threshold would be of other scores than it is held against."""
    images = [normal_image(1, 80 + 8 * (seed % 2), 120, seed=seed) for seed in range(10)]
    _, calibrating = divided(range(10), SMALL.seed)
    scores = reduced.score_samples([images[i] for i in calibrating])
    assert np.array_equal(scores, reduced.calibration)
    assert reduced.map(images[1]).shape == (88, 120)
    worked = reduced.working_map(images[1])
    assert worked.shape == (47, 64)
    assert np.array_equal(reduced.map(images[1]), resized(worked, (88, 120)))


# --- images of all sorts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 40, 500), (1, 500, 40), (3, 77, 130)])
def test_maps_of_images_of_any_size(one, shape):
    image = normal_image(*shape, seed=3)
    values = one.map(image)
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
    assert found.facts == Facts((1, 1), (1, 1), True)
    assert found.lowest_rate() == 0.5
    assert not found.predict([image])[0]
    assert np.isfinite(found.score_samples([image, normal_image(1, 40, 40)])).all()


def test_three_sources_are_not_divided():
    found = fitted(IMAGES[:6], ["a", "a", "b", "b", "c", "c"])
    assert found.facts == Facts((6, 6), (3, 3), True)
    assert found.calibration.shape == (6,)


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


@pytest.mark.parametrize(("name", "value"), [("size", 31), ("steps", 0), ("seed", -1)])
def test_bad_settings_are_named(name, value):
    with pytest.raises(DetectorError, match=rf"size must be at least 32.*{name}={value}"):
        Settings(**{name: value})
    assert Settings(size=32, steps=1).seed == 0


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


def test_image_scores_from_the_maximum_to_the_mean():
    values = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    found = [image_score(values, share) for share in (0.0, 0.001, 0.01, 1.0)]
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
    values[9, 60] = 4  # touches at the corner only
    assert worst_region(values, 2.0) == Region(50, 5, 61, 10)
    region = worst_region(values, 2.0)
    assert all(type(end) is int for end in region)


def test_of_an_image_that_is_odd_all_over_the_oddest_part_is_boxed():
    values = blob_map((10, 20, 31, 25, 5.0)) + 3
    assert worst_region(values, 2.0) == Region(10, 20, 31, 25)


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
    assert np.array_equal(one.map(images[-1]), found.map(images[-1]))
    assert np.array_equal(found.calibration, one.calibration)
    for name in ("settings", "channels", "middle", "width", "level", "facts"):
        assert getattr(found, name) == getattr(one, name)
    assert found.threshold() == one.threshold()
    assert np.array_equal(found.predict(images, 0.34), one.predict(images, 0.34))
    assert not found.flow.training
    first, second = (artifacts.read(each) for each in (path, save(found, tmp_path / "again")))
    assert first.notes == second.notes
    assert first.arrays.keys() == second.arrays.keys()
    assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in first.arrays)


def test_a_detector_of_colour_images_round_trips(tmp_path: Path):
    images = [normal_image(3, 32, 32, seed=seed) for seed in range(2)]
    found = fitted(images)
    save(found, tmp_path)
    assert np.array_equal(load(tmp_path).score_samples(images), found.score_samples(images))


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
        artifacts.write(path, Artifact({name: a for name, a in arrays.items() if "rotations" not in name}, notes))
    with pytest.raises(DetectorError, match=f"^{re.escape(str(path))} is no detector of this version") as error:
        load(tmp_path)
    assert "fit it anew" in str(error.value)


def test_a_folder_that_cannot_be_written_is_named(one, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(artifacts.ArtifactError, match=r"file.*cannot be written"):
        save(one, tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "value"),
    [("format", 1), ("channels", 2), ("width", 0.0), ("level", -1.0), ("middle", "a"), ("facts", {}),
     ("settings", {"size": 3}), ("settings", {"flow_steps": 400}), ("more", 1)],
)  # fmt: skip
def test_notes_that_no_detector_has_are_refused(one, tmp_path: Path, name, value):
    path = save(one, tmp_path)
    arrays, notes = artifacts.read(path)
    artifacts.write(path, Artifact(arrays, notes | {name: value}))
    with pytest.raises(DetectorError, match=r"no detector of this version.*: fit it anew"):
        load(tmp_path)


@pytest.mark.parametrize("change", ["type", "not finite", "no score", "another width"])
def test_arrays_that_no_detector_has_are_refused(one, tmp_path: Path, change):
    path = save(one, tmp_path)
    arrays, notes = artifacts.read(path)
    if change == "type":
        arrays["flow.mean"] = arrays["flow.mean"].astype(np.float64)
    elif change == "not finite":
        arrays["flow.mean"] = np.full_like(arrays["flow.mean"], np.nan)
    elif change == "no score":
        arrays["calibration"] = arrays["calibration"][:0]
    else:
        arrays["flow.mean"] = arrays["flow.mean"][:-1]
    artifacts.write(path, Artifact(arrays, notes))
    with pytest.raises(DetectorError, match=r"no detector of this version.*: fit it anew"):
        load(tmp_path)


def test_the_detector_of_an_older_version_is_refused_with_what_to_do(tmp_path: Path):
    """As it was kept: a choice among maps, a flow of pixels."""
    arrays = {"calibration": np.zeros((52, 3)), "flow.levels.0.lower": np.zeros((8, 4, 4), np.float32)}
    notes = {"settings": {"size": 512}, "channels": 1, "choice": {}, "levels": {}, "map": "ratio", "way": "mean"}
    artifacts.write(tmp_path / "detector.safetensors", Artifact(arrays, notes))
    with pytest.raises(DetectorError, match=r"it was saved by another version.*fit it anew"):
        load(tmp_path)
