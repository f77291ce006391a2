"""Covariates against answers known by hand; the fitted baselines against their definitions."""

import io
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from flowlib.baselines import COVARIATES, KNearestNeighbours, PCAReconstruction, spectral_slope

Covariate = Callable[[np.ndarray], np.ndarray]


def random_images(n: int, channels: int = 1, height: int = 12, width: int = 10, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(n, channels, height, width), dtype=np.uint8)


def covariate(name: str, *images: np.ndarray) -> list[float]:
    return COVARIATES[name](np.stack(images)).tolist()


def test_moments_and_black_pixels_by_hand() -> None:
    image = np.array([[[0, 0], [100, 200]], [[0, 50], [0, 250]], [[0, 0], [0, 12]]], dtype=np.uint8)  # (3, 2, 2)
    assert covariate("mean grey level", image) == pytest.approx([51])
    squares = 100**2 + 200**2 + 50**2 + 250**2 + 12**2
    assert covariate("contrast", image) == pytest.approx([np.sqrt(squares / 12 - 51**2)])
    assert covariate("black pixel fraction", image) == [0.25]  # only the first pixel is zero in every channel
    # Along rows red differs by 0 and 100, green by 50 and 250, blue by 0 and 12; along columns 100, 200, 0, 200, 0, 12.
    assert covariate("total variation", image) == pytest.approx([(412 + 512) / 12])


def test_differences_do_not_wrap_around() -> None:
    rising = np.array([[[0, 255]]], dtype=np.uint8)
    assert covariate("total variation", rising, rising[..., ::-1]) == [127.5, 127.5]


@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_are_those_of_files_that_give_the_image_back(channels: int) -> None:
    image = random_images(1, channels)[0]
    pixels = image.transpose(1, 2, 0).squeeze()
    Image.fromarray(pixels).save(file := io.BytesIO(), format="PNG")
    encoded = imagecodecs.jpegls_encode(pixels)
    assert (np.array(Image.open(file)) == pixels).all()
    assert (imagecodecs.jpegls_decode(encoded) == pixels).all()
    assert covariate("PNG size", image) == [len(file.getvalue())]
    assert covariate("JPEG-LS size", image) == [len(encoded)]


@pytest.mark.parametrize("name", ["PNG size", "JPEG-LS size"])
def test_sizes_follow_complexity(name: str) -> None:
    grey = np.full((1, 28, 28), 90, dtype=np.uint8)
    ramp = np.broadcast_to(np.arange(28, dtype=np.uint8) * 9, (1, 28, 28))
    noise = random_images(1, height=28, width=28)[0]
    sizes = covariate(name, grey, ramp, noise)
    assert sizes == sorted(sizes)
    assert sizes[0] < 120
    assert sizes[2] > 784  # noise cannot be compressed


@pytest.mark.parametrize("shape", [(64, 64), (48, 80)])
@pytest.mark.parametrize("exponent", [0.0, -1.0, -2.0, -3.0])
def test_spectral_slope_finds_the_exponent_of_the_power(shape: tuple[int, int], exponent: float) -> None:
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :])
    frequency[0, 0] = np.inf if exponent < 0 else 1
    rng = np.random.default_rng(1)
    white = np.fft.fft2(rng.normal(size=(8, 3, *shape)))
    noise = np.fft.ifft2(white * frequency ** (exponent / 2)).real
    images = np.clip(128 + 35 * noise / noise.std(), 0, 255).astype(np.uint8)
    assert spectral_slope(images).mean() == pytest.approx(exponent, abs=0.15)


def test_spectral_slope_by_hand() -> None:
    """Alternating columns: all power at half a cycle a pixel, one of the 16 frequencies of the second ring of two."""
    image = np.zeros((1, 1, 4, 8), dtype=np.uint8)
    image[..., ::2] = 255
    power = [1 / 12, 127.5**2 * 32 / 16 + 1 / 12]
    for turned in (image, image.swapaxes(2, 3)):
        assert spectral_slope(turned) == pytest.approx([np.log(power[1] / power[0]) / np.log(2)])


def test_constant_images_have_finite_covariates() -> None:
    images = np.stack([np.full((3, 9, 7), level, dtype=np.uint8) for level in (0, 7, 255)])
    for name in COVARIATES:
        assert np.isfinite(COVARIATES[name](images)).all(), name
    assert spectral_slope(images) == pytest.approx(np.zeros(3), abs=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("covariate", COVARIATES.values(), ids=COVARIATES)
def test_covariates_are_independent_of_the_batch(covariate: Covariate, channels: int) -> None:
    images = random_images(9, channels)
    together = covariate(images)
    assert together.shape == (9,)
    assert together.tolist() == [covariate(image[None])[0] for image in images]
    assert covariate(images[:0]).shape == (0,)


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 1, 8, 8)), np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8, 1), np.uint8)],
    ids=["float", "no channels", "channels last"],
)
def test_other_images_are_refused(images: np.ndarray) -> None:
    for measure in [*COVARIATES.values(), PCAReconstruction(1).fit, KNearestNeighbours(1).fit]:
        with pytest.raises(ValueError, match=r"images must be uint8 \(N, C, H, W\)"):
            measure(images)


def test_images_too_small_for_a_spectrum_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 pixels"):
        spectral_slope(random_images(1, height=3))


# Fitted baselines.


def line_images(steps: list[int]) -> np.ndarray:
    """Images of 4 pixels along one direction of pixel space, which alternates in sign: grey 100 plus and minus step."""
    return np.array([[[[100 + s, 100 - s], [100 - s, 100 + s]]] for s in steps], dtype=np.uint8)


def test_pca_score_is_the_mean_squared_distance_to_the_principal_subspace() -> None:
    detector = PCAReconstruction(components=1).fit(line_images([-40, -20, 0, 10, 50]))
    off = line_images([90, 30])
    off[1] += 51  # all four pixels, orthogonal to the direction: 51 / 255 = 0.2
    assert detector.score_samples(off) == pytest.approx([0, 0.04], abs=1e-12)


def test_pca_keeps_the_components_of_largest_variance() -> None:
    images = random_images(300)
    pixels = images.reshape(300, -1) / 255
    centred = pixels - pixels.mean(axis=0)
    singular_values = np.linalg.svd(centred, compute_uv=False)
    scores = PCAReconstruction(components=7).fit(images).score_samples(images)
    assert scores.sum() == pytest.approx((singular_values[7:] ** 2).sum() / pixels.shape[1])


def test_neighbour_distance_by_hand() -> None:
    levels = np.array([0, 10, 30, 60, 100], dtype=np.uint8)
    normal = np.tile(levels[:, None, None, None], (1, 3, 5, 4))
    new = np.full((1, 3, 5, 4), 20, dtype=np.uint8)  # 10, 10, 20, 40, 80 grey levels away
    for k, distance in [(1, 10), (2, 10), (3, 20), (5, 80)]:
        assert KNearestNeighbours(k).fit(normal).score_samples(new) == pytest.approx([distance / 255])


def test_neighbours_find_the_image_itself_at_distance_zero() -> None:
    images = random_images(50, channels=3)
    assert (KNearestNeighbours(1).fit(images).score_samples(images) == 0).all()


@pytest.mark.parametrize("detector", [PCAReconstruction(5), KNearestNeighbours(3)], ids=["PCA", "kNN"])
def test_detectors_rank_anomalies_higher_whatever_the_batch(detector: PCAReconstruction | KNearestNeighbours) -> None:
    rng = np.random.default_rng(2)
    normal = (100 + rng.normal(size=(400, 1)) @ rng.normal(size=(1, 108)) * 20).reshape(400, 3, 6, 6)
    normal = np.clip(normal, 0, 255).astype(np.uint8)
    detector = clone(detector).fit(normal[:100])
    images = np.concatenate([normal[100:], random_images(20, 3, 6, 6)])
    scores = detector.score_samples(images)
    assert scores.shape == (320,)
    assert scores[300:].min() > scores[:300].max()
    assert detector.score_samples(images[::-1])[::-1].tolist() == scores.tolist()
    assert [detector.score_samples(image[None])[0] for image in images[250:]] == scores[250:].tolist()
    assert detector.score_samples(images[:0]).shape == (0,)
    assert clone(detector).fit(normal[:100]).score_samples(images).tolist() == scores.tolist()


def test_unfit_sizes_are_refused_with_the_range() -> None:
    images = random_images(6)
    with pytest.raises(ValueError, match="components = 64: take 1 to 6"):
        PCAReconstruction().fit(images)
    with pytest.raises(ValueError, match="take 1 to 0"):
        PCAReconstruction().fit(images[:0])
    with pytest.raises(ValueError, match="neighbours = 7: take 1 to 6"):
        KNearestNeighbours(7).fit(images)
    for unfitted in (PCAReconstruction(), KNearestNeighbours()):
        with pytest.raises(NotFittedError):
            unfitted.score_samples(images)
    for detector in (PCAReconstruction(2).fit(images), KNearestNeighbours(2).fit(images)):
        with pytest.raises(ValueError, match=r"\(1, 12, 10\)"):
            detector.score_samples(random_images(2, height=10, width=12))
