"""Notebook 03: made-up changes are no squares, maps sum to scores, the local ratio learns, intervals are paired."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation

from flowlib import Glow
from flowlib.experiments import detection, local_ratio, squares
from flowlib.metrics import auroc, auroc_difference, auroc_interval
from flowlib.training import Recipe, train_and_score

GLOW = Recipe("Glow", {"levels": 2, "steps": 2, "hidden_channels": 4}, steps=2, batch_size=4)
AUTOENCODER = Recipe("ConvAutoencoder", {"channels": (4, 4, 4)}, steps=2, batch_size=4)
properties = settings(derandomize=True, max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def garments(n: int, seed: int = 0) -> np.ndarray:
    """Smooth grey squares of 8x8 on black 12x12 images, uint8 ``(n, 1, 12, 12)``."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, 1, 12, 12), np.uint8)
    images[:, :, 2:10, 2:10] = rng.integers(90, 160, (n, 1, 1, 1)) + rng.integers(-5, 6, (n, 1, 8, 8))
    return images


@pytest.fixture(autouse=True)
def own_artifacts(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))


@given(arrays(np.int8, st.tuples(st.integers(1, 3), st.integers(1, 11), st.integers(1, 11))), st.data())
@properties
def test_window_score_is_the_highest_mean_of_all_windows_and_follows_shift_and_scale(values, data):
    maps = values.astype(np.float32)
    window = data.draw(st.integers(1, min(maps.shape[1:])))
    means = np.lib.stride_tricks.sliding_window_view(maps, (window, window), (1, 2)).mean((3, 4), dtype=float)
    found = squares.window_score(maps, window)
    np.testing.assert_allclose(found, means.max((1, 2)), atol=1e-9)
    np.testing.assert_allclose(squares.window_score(3 * maps + 7, window), 3 * found + 7, atol=1e-9)
    np.testing.assert_allclose(squares.window_score(maps[:, ::-1].transpose(0, 2, 1), window), found, atol=1e-9)


@given(st.integers(2, 6), st.integers(1, 8), st.floats(0.1, 10), st.floats(-5, 5), seeds)
@properties
def test_standardised_maps_know_no_unit(n, side, scale, shift, seed):
    maps, normal = np.random.default_rng(seed).normal(size=(2, n, side, side))
    expected = squares.standardised(maps, normal)
    np.testing.assert_allclose(
        squares.standardised(scale * maps + shift, scale * normal + shift), expected, rtol=1e-6, atol=1e-6
    )
    assert np.array_equal(squares.standardised(maps, normal[::-1]).round(9), expected.round(9))


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.integers(0, 100), st.integers(101, 255))
@properties
def test_painted_over_is_told_by_the_middle_between_ring_and_square(size, y, x, ground, level):
    image, mask = np.full((1, 12, 12), ground, np.uint8), np.zeros((1, 12, 12), bool)
    mask[0, y : y + size, x : x + size] = True
    image[mask] = level
    ring = binary_dilation(mask[0], np.ones((3, 3))) & ~mask[0]
    assert ring.sum() == 4 * size + 4
    middle = (ground + level) / 2 / 255
    for nudge, painted in ((-0.01, True), (0.01, False)):
        assert squares.painted_over(np.full((1, 12, 12), middle + nudge), image, mask).tolist() == [painted]
    far = image.copy()
    far[0][~(mask[0] | ring)] = 255 - far[0][~(mask[0] | ring)]  # beyond the ring nothing counts
    assert squares.painted_over(np.full((1, 12, 12), middle - 0.01), far, mask).tolist() == [True]


def test_window_score_is_the_highest_window_mean():
    maps = np.zeros((2, 6, 6), np.float32)
    maps[0, 2, 3] = 8
    maps[1, 2:4, 2:4] = 4
    assert squares.window_score(maps, 1).tolist() == [8, 4]
    assert squares.window_score(maps, 2).tolist() == [2, 4]
    with pytest.raises(ValueError, match="window is 7"):
        squares.window_score(maps, 7)


def test_best_window_is_the_one_that_tells_the_changes():
    rng = np.random.default_rng(0)
    normal, changed = rng.normal(size=(2, 60, 10, 10))
    changed[:, 4:6, 4:6] += 2.0
    assert squares.best_window(normal, changed, (1, 2, 4)) == 2
    changed = rng.normal(size=(60, 10, 10))
    changed[:, 5, 5] += 4.0
    assert squares.best_window(normal, changed, (1, 2, 4)) == 1


def test_standardised_on_normal_maps():
    normal = np.random.default_rng(0).normal(3, 2, (50, 4, 4))
    normal[:, 0, 0] = 7
    result = squares.standardised(normal, normal)
    np.testing.assert_allclose(result.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(result.std(0)[1:], 1, atol=0.01)
    assert (result[:, 0, 0] == 0).all()


def test_painted_over_compares_with_ring_and_square():
    image = np.full((1, 8, 8), 255, np.uint8)  # far from the ring: must not count
    image[0, 2:6, 2:6] = 51
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 3:5, 3:5] = True
    image[mask] = 255
    ring, square = np.full((1, 8, 8), 0.3), np.full((1, 8, 8), 0.9)
    assert squares.painted_over(ring, image, mask).tolist() == [True]
    assert squares.painted_over(square, image, mask).tolist() == [False]


def test_maps_sum_to_the_scores():
    images, tests = garments(16), {"a": garments(5, 1)}
    flow_map = squares.train_and_map(images, GLOW, tests)["a"]
    np.testing.assert_allclose(flow_map.sum((1, 2)), train_and_score(images, GLOW, tests)["a"], rtol=1e-5)
    mapped = squares.train_and_map(images, AUTOENCODER, tests)
    np.testing.assert_allclose(mapped["a"].mean((1, 2)), train_and_score(images, AUTOENCODER, tests)["a"], rtol=1e-5)
    rebuilt = np.square(mapped["a reconstruction"] - tests["a"][:, 0] / 255)
    np.testing.assert_allclose(rebuilt, mapped["a"], atol=1e-6)


def test_noise_is_averaged_and_seeded():
    images, tests = garments(16), {"a": garments(5, 1)}
    one, many = (squares.noise_averaged(images, GLOW, tests, draws)["a"] for draws in (1, 4))
    assert one.shape == (5,)
    assert (one != many).all()
    assert (one != train_and_score(images, GLOW, tests)["a"]).all()
    with pytest.raises(ValueError, match="must be Glow"):
        squares.noise_averaged(images, AUTOENCODER, tests, 1)


def test_flow_statistics_hold_the_likelihood_and_the_latents():
    flow = Glow((1, 12, 12), levels=2, steps=2, hidden_channels=4)
    images = torch.from_numpy(garments(3))
    flow.initialise(images)
    with torch.no_grad():
        statistics = local_ratio.flow_statistics(flow, images)
        terms = 10 * statistics[:, :5].sum((2, 3)) / torch.tensor([1.0, 4, 4, 16, 16])
        torch.testing.assert_close(terms.sum(1), flow.log_prob(images), rtol=1e-5, atol=1e-2)
        first, second = (z.clamp(-6, 6) for z in flow.encode(images))
    torch.testing.assert_close(statistics[:, 5:7, ::2, 1::2], first)
    torch.testing.assert_close(statistics[:, 7:15, 3::4, ::4], second)
    places = {tuple(statistics[0, 15:, y, x].tolist()) for y in range(4) for x in range(4)}
    assert len(places) == 16
    torch.testing.assert_close(statistics[:, 15:, :4, :4], statistics[:, 15:, 8:, 4:8])


@pytest.mark.parametrize("inputs", squares.INPUTS)
def test_local_ratio_finds_a_square_it_never_saw(inputs):
    images, clean = garments(64), garments(30, 1)
    marked = clean.copy()
    marked[:, :, 5:8, 4:7] = 255
    tests = {"clean": clean, "marked": marked}
    maps = squares.local_ratio(images, GLOW, inputs, 400, 16, 0, tests)
    inside = maps["marked"][:, 5:8, 4:7].ravel()
    assert auroc(maps["clean"][:, 5:8, 4:7].ravel(), inside) > 0.9
    assert auroc(squares.window_score(maps["clean"], 2), squares.window_score(maps["marked"], 2)) > 0.9
    again = squares.local_ratio(images, GLOW, inputs, 400, 16, 0, tests)
    assert np.array_equal(maps["marked"], again["marked"])


def test_local_ratio_refuses_unknown_inputs():
    with pytest.raises(ValueError, match="inputs is 'colours'"):
        squares.local_ratio(garments(4), GLOW, "colours", 1, 2, 0, {})


SQUARES = pd.DataFrame(
    {"size": [2, 2, 3, 3, 4, 4] * 2, "colour": ["black", "white"] * 6, "ring_contrast": [10, 40] * 5 + [255, 200]}
)
NORMAL, FOUND = np.random.default_rng(3).normal(size=(2, 2, 12))


def test_marked_class_keeps_what_each_image_was(monkeypatch):
    images = [np.tile(garments(30, seed), (1, 1, 3, 3))[:, :, :28, :28] for seed in range(2)]
    monkeypatch.setattr(squares, "by_class", lambda name, split, n=None: [each[:n] for each in images])
    found = squares.marked_class(1, held_out=8, n=20)
    assert np.array_equal(np.concatenate([found.held, found.train]), images[1])
    assert (len(found.normal), len(found.marked), len(found.table)) == (12, 8, 8)
    assert np.array_equal((found.marked != found.unmarked)[:, 0] & ~found.masks, np.zeros_like(found.masks))
    for image, mask, row in zip(found.marked[:, 0], found.masks, found.table.itertuples(), strict=True):
        assert mask.sum() == row.size**2
        assert set(image[mask]) == {{"black": 0, "white": 255}[row.colour]}
    assert found.changed.shape == found.held.shape
    assert (found.changed != found.held).any((1, 2, 3)).all()
    assert list(found.sets("held", "marked")) == ["held", "marked"]


def test_controlled_runs_change_one_choice_each():
    images = garments(120)
    runs = squares.controlled_runs(images, Recipe("Glow", {"levels": 2, "steps": 8, "hidden_channels": 32}, steps=400))
    assert len(runs) == 9
    base_images, base = runs.pop("as above, one seed")
    assert base_images is images
    changes = [
        (len(some) != 120, recipe.steps != base.steps, recipe.options != base.options) for some, recipe in runs.values()
    ]
    assert sorted(changes) == [(False, False, True)] * 5 + [(False, True, False)] * 2 + [(True, True, False)]
    assert runs["K = 4 steps of flow"][1].options == base.options | {"steps": 4}
    assert runs["width 64"][1].options == base.options | {"hidden_channels": 64}
    assert [runs[name][1].steps for name in ("a quarter of the steps", "4 times the steps")] == [100, 1600]


def test_tables_of_squares_take_the_squares_they_name():
    table = detection.by_size_and_colour({"one": (NORMAL, FOUND), "seedless": (NORMAL[0], FOUND[0])}, SQUARES)
    assert len(table) == 2 * 4 * 3
    row = table[(table["score"] == "one") & (table["size"] == "3x3") & (table["colour"] == "white")].iloc[0]
    expected = auroc_interval(NORMAL, FOUND[:, [3, 9]], resamples=400)
    assert tuple(row[["auroc", "low", "high"]]) == expected
    difference = detection.differences_by_size((NORMAL, FOUND), (NORMAL, -FOUND), SQUARES)
    fours = FOUND[:, [4, 5, 10, 11]]
    assert difference["4x4"] == auroc_difference((NORMAL, fours), (NORMAL, -fours))
    contrast = detection.by_contrast({"one": (NORMAL, FOUND)}, SQUARES)  # NORMAL: the same images unmarked
    assert contrast[["contrast", "squares"]].to_numpy().tolist() == [[16, 5], [48, 5], [224, 2]]
    assert contrast["auroc"].iloc[2] == auroc_interval(NORMAL[:, 10:], FOUND[:, 10:]).value


def test_window_scores_choose_on_held_out_images_alone():
    maps = {name: np.random.default_rng(4).normal(size=(2, 30, 10, 10)) for name in ("held", "changed", "normal")}
    maps["changed"] = maps["changed"] + 0.0
    maps["changed"][:, :, 4:6, 4:6] += 3.0
    window, scores = squares.window_scores(maps)
    assert window == squares.best_window(*(maps[name].reshape(-1, 10, 10) for name in ("held", "changed")))
    np.testing.assert_array_equal(scores["normal"][1], squares.window_score(maps["normal"][1], window))


def test_control_table_and_map_table():
    runs = {"as above": [{"normal": NORMAL[0], "marked": FOUND[0]}, {"normal": NORMAL[1], "marked": FOUND[1]}]}
    row = detection.control_table(runs).iloc[0]
    assert row["nll of normal shirts"] == NORMAL.mean()
    assert tuple(row[["auroc", "low", "high"]]) == auroc_interval(NORMAL, FOUND)
    masks = np.zeros((3, 8, 8), bool)
    masks[:, 2:4, 2:4] = True
    perfect = np.broadcast_to(masks.astype(float), (2, 3, 8, 8))
    table = detection.map_table({"sees": (np.zeros((2, 5, 8, 8)), perfect)}, masks)
    assert table[["pixel_auroc", "lowest seed", "aupro", "high"]].to_numpy().tolist() == [[1, 1, 1, 1]]
    changed = detection.where_it_changes(5 * perfect, masks)
    assert changed["value"].tolist() == [20, 0]


def test_untrained_scores_measure_the_distance_from_held_out_images():
    images = garments(80)
    of = squares.Marked(images, images[:10], images[:10], images[10:20], images[20:30], 255 - images[20:30],
                        np.zeros((10, 12, 12), bool), pd.DataFrame())  # fmt: skip
    found = squares.untrained_scores(of)
    level, distance = found["mean grey level"], found["mean grey level, distance from mean"]
    np.testing.assert_allclose(distance[1], abs(level[1] - images[:10].mean((1, 2, 3)).mean()), rtol=1e-6)
    assert (found["PCA reconstruction"][1] > found["PCA reconstruction"][0].max()).all()


def test_files_of_png_keep_images_and_those_of_jpeg_do_not():
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), dtype=np.uint8)
    assert np.array_equal(squares.saved_again(images, "PNG"), images)
    lossy = squares.saved_again(images, "JPEG")
    assert (lossy.dtype, lossy.shape) == (np.uint8, images.shape)
    assert 1 < np.abs(lossy.astype(int) - images).mean() < 60
    fine = squares.saved_again(images, "JPEG", quality=95)
    assert np.abs(fine.astype(int) - images).mean() < np.abs(lossy.astype(int) - images).mean()
    assert np.array_equal(squares.saved_again(images, "JPEG"), lossy)
    with pytest.raises(ValueError, match="uint8"):
        squares.saved_again(images.astype(float), "PNG")


def marked_garments() -> squares.Marked:
    images = np.tile(garments(30), (1, 1, 3, 3))[:, :, :28, :28]
    marked = images.copy()
    marked[:, :, 5:8, 5:8] = 255
    masks = (marked != images)[:, 0]
    return squares.Marked(images, images, images, images, images, marked, masks, pd.DataFrame())


def test_sets_of_saved_images_are_those_they_are_called():
    of = marked_garments()
    sets = squares.saved_sets(of)
    assert np.array_equal(sets["marked"], sets["marked, saved as PNG"])
    assert np.array_equal(sets["marked, saved as JPEG"], squares.saved_again(of.marked, "JPEG"))
    assert np.array_equal(sets["unmarked, saved as JPEG"], squares.saved_again(of.unmarked, "JPEG"))
    scores = {"model": {name: np.tile(images.mean((1, 2, 3)), (2, 1)) for name, images in sets.items()}}
    normal = {"model": np.tile(of.normal.mean((1, 2, 3)), (2, 1))}
    table = detection.saved_table(scores, normal).set_index("images")
    assert list(table.index) == list(sets)
    expected = auroc_interval(normal["model"], scores["model"]["marked"])
    assert tuple(table.loc["marked", ["auroc", "low", "high"]]) == expected


def test_larger_squares_mark_every_unmarked_image():
    of = marked_garments()
    found = squares.larger_squares(of)
    assert list(found) == ["2x2", "3x3", "4x4", "6x6", "8x8", "10x10", "12x12"]
    for size, images in found.items():
        changed = (images != of.unmarked)[:, 0].sum((1, 2))
        assert changed.min() > 0
        assert changed.max() <= int(size.split("x")[0]) ** 2


def test_the_formula_of_the_limit_is_the_auroc_of_shifted_normals():
    rng = np.random.default_rng(0)
    normal, unmarked = 400 * rng.normal(size=(2, 4000)), 400 * rng.normal(size=(2, 3000))
    larger = {f"{side}x{side}": unmarked + 20 * side for side in (2, 10, 40)}
    limits = detection.detection_limits(normal, unmarked, larger)
    assert limits["change"].tolist() == pytest.approx([40, 200, 800])
    assert limits["spread"].iloc[0] == pytest.approx(400, rel=0.03)
    assert limits["expected"].to_numpy() == pytest.approx(limits["auroc"].to_numpy(), abs=0.02)
    needed = detection.smallest_change(400)
    assert needed == pytest.approx(1.8124 * 400, abs=0.1)
    exact = detection.detection_limits(normal, unmarked, {"9x9": unmarked + needed})
    assert exact["expected"].iloc[0] == pytest.approx(0.9, abs=0.01)
    assert detection.smallest_found(limits, "auroc") == "40x40"
    assert detection.smallest_found(limits.iloc[:2], "auroc") == "none up to 10x10"
    wavering = limits.assign(auroc=[0.95, 0.5, 0.95])
    assert detection.smallest_found(wavering, "auroc") == "40x40"  # from which on all are found
