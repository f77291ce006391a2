"""Maps of whole images: each against its definition, by place and everywhere, on whatever images come."""

import numpy as np
import pytest
import torch

from flowlib import Glow
from flowlib.detector import maps
from flowlib.detector.local_ratio import LocalRatio
from flowlib.detector.maps import BY_PLACE, NAMES, PLAIN, SUM
from flowlib.detector.patches import padded, position_nll, window_sums
from flowlib.metrics import auroc
from flowlib.training import to_device_of


def normal_image(*shape: int, seed: int = 0) -> np.ndarray:
    """Texture that is bright and coarse at the top, darker and finer at the bottom: places differ."""
    rng = np.random.default_rng(seed)
    C, H, W = shape
    slope = np.linspace(0, 1, H)[:, None]
    fine = rng.normal(0, 1, shape)
    coarse = rng.normal(0, 1, (C, -(-H // 4), -(-W // 4))).repeat(4, 1).repeat(4, 2)[:, :H, :W]
    return (150 - 60 * slope + 20 * slope * fine + 20 * (1 - slope) * coarse).clip(0, 255).astype(np.uint8)


def models(channels: int = 1) -> tuple[Glow, LocalRatio]:
    torch.manual_seed(0)
    flow = Glow((channels, 32, 32), levels=2, steps=2, hidden_channels=4)
    ratio = LocalRatio((channels, 32, 32), 4)
    images = torch.from_numpy(np.stack([normal_image(channels, 32, 32, seed=seed) for seed in range(8)]))
    flow.initialise(images)
    ratio.initialise(images)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        ratio(images)  # in training mode: statistics for the batch normalisation
    return flow.double(), ratio.eval()


FLOW, RATIO = models()
IMAGES = [normal_image(1, 48, 64, seed=seed) for seed in range(6)]


@pytest.fixture(scope="module")
def known() -> dict[str, np.ndarray]:
    return maps.fit(FLOW, RATIO, IMAGES)


def all_maps(known, image: np.ndarray) -> dict[str, np.ndarray]:
    return maps.maps(known, FLOW, RATIO, image)


# --- what comes out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(48, 64), (32, 32), (37, 75), (129, 33)])
def test_all_names_finite_and_of_the_image_s_size(known, shape):
    found = all_maps(known, normal_image(1, *shape, seed=9))
    assert tuple(found) == NAMES
    assert len(set(NAMES)) == 2 * len(PLAIN) + 1
    for values in found.values():
        assert values.dtype == np.float32
        assert values.shape == shape
        assert np.isfinite(values).all()
        assert values.std() > 0


def test_the_same_again_and_another_place_for_another_seed(known):
    again = maps.fit(FLOW, RATIO, IMAGES)
    assert known.keys() == again.keys()
    assert all(np.array_equal(known[name], again[name]) for name in known)
    other = maps.fit(FLOW, RATIO, IMAGES, seed=1)
    assert not np.array_equal(known["terms"], other["terms"])
    first, second = all_maps(known, IMAGES[2]), all_maps(again, IMAGES[2])
    assert all(np.array_equal(first[name], second[name]) for name in NAMES)


def test_fit_and_maps_leave_the_image_alone(known):
    image = IMAGES[0].copy()
    all_maps(known, image)
    assert np.array_equal(image, IMAGES[0])


def test_colour_images():
    flow, ratio = models(3)
    images = [normal_image(3, 40, 33, seed=seed) for seed in range(3)]
    known = maps.fit(flow, ratio, images)
    assert known["axes"].shape == (12, 48)
    found = maps.maps(known, flow, ratio, images[0])
    assert all(np.isfinite(values).all() and values.shape == (40, 33) for values in found.values())


# --- standardised --------------------------------------------------------------------------------------------------


def test_everywhere_maps_have_median_zero_and_a_spread_of_one_on_normal_images(known):
    found = [all_maps(known, image) for image in IMAGES]
    for name in PLAIN:
        values = np.stack([each[name] for each in found])
        assert np.median(values) == pytest.approx(0, abs=0.05)
        assert np.subtract(*np.quantile(values, [0.9, 0.1])) == pytest.approx(1, abs=0.1)


def test_everywhere_maps_are_the_plain_ones_moved_and_scaled(known):
    found, plain = all_maps(known, IMAGES[1]), maps.plain_maps(known, FLOW, RATIO, IMAGES[1])
    assert tuple(plain) == PLAIN
    for name in PLAIN:
        a, b = np.polyfit(plain[name].ravel(), found[name].ravel(), 1)
        assert a > 0
        np.testing.assert_allclose(a * plain[name] + b, found[name], atol=1e-3)


def test_by_place_maps_have_mean_zero_over_normal_images_at_each_place(known):
    found = [all_maps(known, image) for image in IMAGES]
    for name in PLAIN:
        cells = np.mean([maps.on_place_grid(each[name + BY_PLACE]) for each in found], axis=0)
        assert abs(cells.mean()) < 0.06
        assert abs(cells).mean() < 0.35  # of a deviation; the rest is the interpolation between cells
    # the texture's slope is gone, but where half a cell at the border goes on level
    everywhere, by_place = (
        np.mean([each[name].mean(1)[4:-4] for each in found], axis=0) for name in ("likelihood", "likelihood by place")
    )
    assert np.ptp(everywhere) > 0.6
    assert np.ptp(by_place) < 0.5 * np.ptp(everywhere)


def test_by_place_maps_are_about_one_deviation_wide(known):
    """A cell's values over normal images, at the middle of a cell, are about one deviation off."""
    found = [all_maps(known, image) for image in IMAGES]
    for name in PLAIN:
        cells = np.stack([maps.on_place_grid(each[name + BY_PLACE]) for each in found])
        assert 0.3 < cells.std(0).mean() < 1.5


def test_by_place_sees_what_is_out_of_its_place(known):
    """Upside down, all parts are known but none is at its place."""
    gains = []
    for seed in range(20, 24):
        image = normal_image(1, 48, 64, seed=seed)
        normal, upside_down = all_maps(known, image), all_maps(known, image[:, ::-1])
        gains.append(
            [
                abs(upside_down[name]).mean() - abs(normal[name]).mean()
                for name in ("likelihood", "likelihood" + BY_PLACE)
            ]
        )
    everywhere, by_place = np.mean(gains, axis=0)
    assert abs(everywhere) < 0.1
    assert by_place > 0.3


def test_places_are_stretched_to_the_image_s_size_by_the_middles_of_cells():
    rising = np.add.outer(8 * np.arange(6.0), 100 + 8 * np.arange(8.0)) + 7  # the mean of row + column + 100 of a cell
    pixels = np.add.outer(np.arange(48.0), 100 + np.arange(64.0))
    np.testing.assert_allclose(maps.on_place_grid(pixels), rising)
    np.testing.assert_allclose(maps.at_size(rising, (48, 64))[4:-4, 4:-4], pixels[4:-4, 4:-4])
    assert maps.at_size(rising, (48, 64))[0, 0] == rising[0, 0]  # nothing is known beyond the last middle
    for shape in ((96, 128), (37, 75), (32, 32), (500, 33)):
        found = maps.at_size(rising, shape)
        assert found.shape == shape
        assert found[0, 0] == pytest.approx(rising[0, 0])
        assert found[-1, -1] == pytest.approx(rising[-1, -1])


def test_by_place_takes_off_what_is_known_of_the_place(known):
    image = normal_image(1, 90, 70, seed=3)
    found, plain = all_maps(known, image), maps.plain_maps(known, FLOW, RATIO, image)
    for name in PLAIN:
        mean, deviation = (maps.at_size(table, (90, 70)) for table in known[f"place {name}"])
        assert deviation.min() > 0
        np.testing.assert_allclose(found[name + BY_PLACE], (plain[name] - mean) / deviation, rtol=1e-4, atol=1e-4)


def test_the_last_is_the_sum_of_two(known):
    found = all_maps(known, IMAGES[0])
    np.testing.assert_allclose(found[SUM], found["ratio by place"] + found["density by place"], rtol=1e-5, atol=1e-5)


# --- each map ------------------------------------------------------------------------------------------------------


def test_terms_are_window_means_of_the_likelihood_s_parts():
    image = IMAGES[0]
    read = maps.terms(FLOW, image)
    T = 1 + 2 * 2
    assert read.shape == (2 * T, 48, 64)
    nll = position_nll(FLOW, image)
    for window, part in ((8, read[:T]), (32, read[T:])):
        half = window // 2
        inside = part.sum(0)[half : half - window + 1 or None, half : half - window + 1 or None]
        np.testing.assert_allclose(inside * window**2, window_sums(nll, window), rtol=1e-9)
    (_, _, preprocessing), *_ = FLOW.position_terms(to_device_of(FLOW, padded(image, 4)))
    expected = -preprocessing[0, 4:12, 8:16].mean().item()
    assert read[0, 8, 12] == pytest.approx(expected, rel=1e-9)


def test_likelihoods_are_of_the_windows_and_their_ring():
    image = IMAGES[0]
    large, contrast = maps.likelihoods(maps.terms(FLOW, image))
    nll = position_nll(FLOW, image)
    np.testing.assert_allclose(large[16:-15, 16:-15], window_sums(nll, 32), rtol=1e-9)
    for y, x in ((16, 16), (20, 40), (32, 48)):
        outer, inner = nll[y - 16 : y + 16, x - 16 : x + 16].sum(), nll[y - 4 : y + 4, x - 4 : x + 4].sum()
        assert contrast[y, x] == pytest.approx(inner - 64 * (outer - inner) / (1024 - 64), rel=1e-6)


def test_likelihood_map_is_the_window_s_in_nats(known):
    plain = maps.plain_maps(known, FLOW, RATIO, IMAGES[3])
    np.testing.assert_allclose(plain["likelihood"][16:-15, 16:-15], window_sums(position_nll(FLOW, IMAGES[3]), 32))


def test_typicality_is_two_sided_and_likelihood_is_not(known):
    """Flat grey is likelier than any normal image and noise less likely; both are atypical."""
    flat = np.full((1, 48, 64), 120, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (1, 48, 64), dtype=np.uint8)
    of_flat, of_noise, normal = (all_maps(known, image) for image in (flat, noise, normal_image(1, 48, 64, seed=30)))
    assert np.median(of_flat["likelihood"]) < np.median(normal["likelihood"]) < np.median(of_noise["likelihood"])
    assert np.median(of_flat["typicality"]) > np.median(normal["typicality"]) + 0.3
    assert np.median(of_noise["typicality"]) > np.median(normal["typicality"]) + 0.3
    mean, deviation = known["nll"]
    plain = maps.plain_maps(known, FLOW, RATIO, flat)
    np.testing.assert_allclose(plain["typicality"], abs(plain["likelihood"] - mean) / deviation)
    large = np.concatenate([maps.likelihoods(maps.terms(FLOW, image))[0].ravel() for image in IMAGES])
    assert mean == pytest.approx(large.mean(), abs=0.1 * large.std())
    assert deviation == pytest.approx(large.std(), rel=0.1)


def with_square(level: int | str, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    image = normal_image(1, 48, 64, seed=40)
    mask = np.zeros((48, 64), bool)
    mask[20 : 20 + side, 28 : 28 + side] = True
    noise = np.random.default_rng(0).integers(0, 256, image.shape)
    image[:, mask] = noise[:, mask] if level == "noise" else level
    return image, mask


@pytest.mark.parametrize("level", [120, "noise"])
def test_contrast_finds_a_window_likelier_or_less_likely_than_its_ring(known, level):
    image, _ = with_square(level)
    before = maps.plain_maps(known, FLOW, RATIO, normal_image(1, 48, 64, seed=40))["contrast"]
    after = maps.plain_maps(known, FLOW, RATIO, image)["contrast"]
    assert after[24, 32] > before[24, 32] + 5
    assert after.min() >= 0
    read = maps.likelihoods(maps.terms(FLOW, image))[1]
    assert np.allclose(after, abs(read - known["contrast"]))


def test_density_is_the_mahalanobis_distance_of_the_terms(known):
    columns = np.concatenate([maps.terms(FLOW, image).reshape(10, -1) for image in IMAGES], axis=1)
    mean, covariance = columns.mean(1), np.cov(columns)
    image = normal_image(1, 48, 64, seed=50)
    found = maps.plain_maps(known, FLOW, RATIO, image)["density"]
    away = maps.terms(FLOW, image).reshape(10, -1).T - mean
    expected = np.sqrt(np.einsum("nf,nf->n", away @ np.linalg.inv(covariance), away)).reshape(48, 64)
    # fitted on a part of the pixels, and with a little on the diagonal
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95
    assert np.median(found) == pytest.approx(np.median(expected), rel=0.15)


def test_density_grows_when_an_image_is_inverted_or_damaged(known):
    image = normal_image(1, 48, 64, seed=60)
    normal, inverted = all_maps(known, image), all_maps(known, 255 - image)
    assert np.median(inverted["density"]) > np.median(normal["density"]) + 1
    damaged, mask = with_square(255)
    found = all_maps(known, damaged)["density"]
    assert auroc(found[~mask], found[mask]) > 0.9


def test_ratio_map_is_the_network_s(known):
    image = normal_image(1, 45, 61, seed=2)
    found = maps.plain_maps(known, FLOW, RATIO, image)["ratio"]
    with torch.inference_mode():
        expected = RATIO(to_device_of(RATIO, padded(image, 8)))[0, :45, :61]
    np.testing.assert_array_equal(found, expected.numpy())


def test_windows_are_the_blocks_around_a_pixel_and_stop_at_the_border():
    image = normal_image(2, 20, 24, seed=1)
    found = maps.windows(image)
    assert found.shape == (16 * 2, 20, 24)
    whole = np.pad(image / 255, ((0, 0), (8, 8), (8, 8)), mode="edge")
    for y, x in ((10, 12), (4, 20), (0, 0), (19, 23), (0, 11), (12, 0)):
        around = whole[:, y + 4 : y + 12, x + 4 : x + 12]  # the pixel is the fifth of eight
        blocks = around.reshape(2, 4, 2, 4, 2).mean((2, 4))  # (C, 4, 4)
        expected = blocks.transpose(1, 2, 0).ravel()
        if 4 <= y < 17 and 4 <= x < 21:
            np.testing.assert_allclose(found[:, y, x], expected, atol=1e-12)
        else:  # beyond the border the last pixels go on, to within half a block
            assert abs(found[:, y, x] - expected).max() < 0.2
    dark_left = np.full((1, 40, 64), 200, np.uint8)
    dark_left[:, :, :3] = 0
    changed = np.ptp(maps.windows(dark_left), axis=0) > 0.01
    assert changed[:, :6].all()
    assert not changed[:, 10:].any()


def test_pca_is_the_squared_error_of_what_the_components_leave(known):
    assert known["axes"].shape == (8, 16)
    np.testing.assert_allclose(known["axes"] @ known["axes"].T, np.eye(8), atol=1e-9)
    image = normal_image(1, 48, 64, seed=70)
    found = maps.plain_maps(known, FLOW, RATIO, image)["PCA"]
    pixels = np.concatenate([maps.windows(one).reshape(16, -1) for one in IMAGES], axis=1).T
    mean = pixels.mean(0)
    vectors = np.linalg.eigh(np.cov(pixels.T))[1][:, :8]  # the eight smallest: what is left
    expected = np.square((maps.windows(image).reshape(16, -1).T - mean) @ vectors).sum(1).reshape(48, 64) / 16
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95
    assert found.mean() == pytest.approx(expected.mean(), rel=0.1)


def test_place_grid_is_the_mean_over_cells():
    values = np.random.default_rng(0).normal(size=(19, 32))
    found = maps.on_place_grid(values)
    assert found.shape == (3, 4)
    assert found[1, 2] == pytest.approx(values[8:16, 16:24].mean())
    assert found[2, 0] == pytest.approx(np.pad(values[16:, :8], ((0, 5), (0, 0)), mode="edge").mean())


def test_thinned_takes_columns_once_each():
    values = np.arange(2 * 6 * 5).reshape(2, 6, 5)
    rng = np.random.default_rng(0)
    some = maps.thinned(values, rng, 7)
    assert some.shape == (7, 2)
    assert len(set(some[:, 0].tolist())) == 7
    assert (some[:, 1] - some[:, 0] == 30).all()
    assert sorted(maps.thinned(values, rng)[:, 0].tolist()) == list(range(30))


# --- images of all sorts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("trained", [True, False])
def test_constant_normal_images_give_numbers(level, trained):
    flow, ratio = models()
    if not trained:  # nor a neighbour seen: the likelihood is the same at every pixel
        flow = Glow((1, 32, 32), levels=2, steps=2, hidden_channels=4)
    flow = flow.float()  # as it is used
    images = [np.full((1, 40, 48), level, np.uint8)] * 3
    known = maps.fit(flow, ratio, images)
    assert all(np.isfinite(value).all() for value in known.values())
    for image in (images[0], IMAGES[0], np.full((1, 33, 47), 255 - level, np.uint8)):
        assert all(np.isfinite(values).all() for values in maps.maps(known, flow, ratio, image).values())


@pytest.mark.parametrize("shape", [(32, 32), (35, 50)])
def test_one_image_is_enough(shape):
    image = normal_image(1, *shape)
    known = maps.fit(FLOW, RATIO, [image])
    for other in (image, 255 - image, IMAGES[0]):
        assert all(np.isfinite(values).all() for values in all_maps(known, other).values())


def test_images_of_several_sizes_in_one_fit():
    """All tell what is normal, and places are learned from those of the first's size."""
    images = [IMAGES[0], normal_image(1, 33, 70, seed=7), IMAGES[1], normal_image(1, 90, 40, seed=8)]
    known = maps.fit(FLOW, RATIO, images)
    assert known["place shape"].tolist() == [48, 64]
    assert all(known[f"place {name}"].shape == (2, 6, 8) for name in PLAIN)
    for image in images:
        assert all(np.isfinite(values).all() for values in all_maps(known, image).values())
    plain = [maps.on_place_grid(maps.plain_maps(known, FLOW, RATIO, image)["density"]) for image in IMAGES[:2]]
    np.testing.assert_allclose(known["place density"][0], np.mean(plain, axis=0), rtol=1e-9)
