"""Notebook 03: made-up changes are no squares, maps sum to scores, the local ratio learns, intervals are paired."""

import numpy as np
import pytest
import torch

from flowlib import Glow, squares
from flowlib.metrics import auroc
from flowlib.training import Recipe, train_and_score

GLOW = Recipe("Glow", {"levels": 2, "steps": 2, "hidden_channels": 4}, steps=2, batch_size=4)
AUTOENCODER = Recipe("ConvAutoencoder", {"channels": (4, 4, 4)}, steps=2, batch_size=4)


def garments(n: int, seed: int = 0) -> np.ndarray:
    """Smooth grey squares of 8x8 on black 12x12 images, uint8 ``(n, 1, 12, 12)``."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, 1, 12, 12), np.uint8)
    images[:, :, 2:10, 2:10] = rng.integers(90, 160, (n, 1, 1, 1)) + rng.integers(-5, 6, (n, 1, 8, 8))
    return images


@pytest.fixture(autouse=True)
def own_artifacts(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))


def test_made_up_changes_mark_what_changed_and_are_never_rectangles():
    images = garments(200)
    before = images.copy()
    changed, masks = squares.made_up_changes(images, np.random.default_rng(1))
    assert np.array_equal(images, before)
    assert (changed[:, 0][masks] != images[:, 0][masks]).all()
    assert not any(squares.fills_a_rectangle(mask) for mask in masks)
    assert 3 <= np.median(masks.sum((1, 2))) <= 20
    again, _ = squares.made_up_changes(images, np.random.default_rng(1))
    assert np.array_equal(changed, again)


@pytest.mark.parametrize("images", [np.zeros((2, 1, 8, 8), np.uint8), np.ones((2, 3, 8, 8), np.uint8)])
def test_made_up_changes_refuse_black_and_coloured_images(images):
    with pytest.raises(ValueError, match="one channel and some pixel above 0"):
        squares.made_up_changes(images, np.random.default_rng(0))


def test_fills_a_rectangle():
    mask = np.zeros((6, 6), bool)
    assert squares.fills_a_rectangle(mask)
    mask[1:3, 2:5] = True
    assert squares.fills_a_rectangle(mask)
    mask[2, 3] = False
    assert not squares.fills_a_rectangle(mask)


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
        statistics = squares.flow_statistics(flow, images)
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
    maps = squares.local_ratio(images, GLOW, inputs, 60, 16, 0, tests)
    inside = maps["marked"][:, 5:8, 4:7].ravel()
    assert auroc(maps["clean"][:, 5:8, 4:7].ravel(), inside) > 0.9
    assert auroc(squares.window_score(maps["clean"], 2), squares.window_score(maps["marked"], 2)) > 0.9
    again = squares.local_ratio(images, GLOW, inputs, 60, 16, 0, tests)
    assert np.array_equal(maps["marked"], again["marked"])


def test_local_ratio_refuses_unknown_inputs():
    with pytest.raises(ValueError, match="inputs is 'colours'"):
        squares.local_ratio(garments(4), GLOW, "colours", 1, 2, 0, {})
