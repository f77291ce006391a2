"""Baselines that cost nothing and keep us honest: covariates of an image, PCA and nearest neighbours on pixels.

The covariates describe an image; they are not turned towards anomalies, and whether high or low is suspicious depends
on the normal class. A model whose scores merely follow one of them has learned little else (thesis section 4.1.1 on
black pixels; Serra et al. 2020 on compressed size). The two fitted baselines are anomaly scores, higher is more
anomalous.

Images are uint8 (N, C, H, W), C = 1 or 3. No score depends on the other images of its call, to the last bit.
"""

import io
from collections.abc import Callable, Iterator
from math import prod
from typing import Self

import imagecodecs
import numpy as np
from PIL import Image
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

BLOCK = 256


def mean_grey_level(images: np.ndarray) -> np.ndarray:
    """Mean of all channels and pixels, shape (N,), in grey levels, 0 to 255."""
    return _checked(images).mean(axis=(1, 2, 3))


def black_pixel_fraction(images: np.ndarray) -> np.ndarray:
    """Share of pixels that are zero in every channel, shape (N,), 0 to 1 (thesis Table 2 gives it times H * W)."""
    return (_checked(images) == 0).all(axis=1).mean(axis=(1, 2))


def png_size(images: np.ndarray) -> np.ndarray:
    """Bytes of each image as a PNG file of Pillow's default effort, header included, shape (N,).

    The last few bytes depend on the version of zlib that Pillow was built with.
    """

    def encoded(pixels: np.ndarray) -> bytes:
        with io.BytesIO() as file:
            Image.fromarray(pixels).save(file, format="PNG", optimize=False)
            return file.getvalue()

    return np.array([len(encoded(pixels)) for pixels in _channels_last(images)], dtype=np.float64)


def jpegls_size(images: np.ndarray) -> np.ndarray:
    """Bytes of each image as a lossless JPEG-LS file (ITU-T T.87), header included, shape (N,).

    It predicts from neighbours in two dimensions and codes without a dictionary, so that it is nearer to the entropy
    of small images than PNG is.
    """
    return np.array([len(imagecodecs.jpegls_encode(pixels)) for pixels in _channels_last(images)], dtype=np.float64)


def total_variation(images: np.ndarray) -> np.ndarray:
    """Anisotropic total variation divided by the number of values C * H * W, shape (N,), in grey levels.

    It is the sum of absolute differences between horizontal and between vertical neighbours (Rudin et al. 1992).
    """
    levels = _checked(images).astype(np.int16)
    sums = [np.abs(np.diff(levels, axis=axis)).sum(axis=(1, 2, 3), dtype=np.int64) for axis in (2, 3)]
    return (sums[0] + sums[1]) / prod(levels.shape[1:])


def contrast(images: np.ndarray) -> np.ndarray:
    """Standard deviation of all channels and pixels (root-mean-square contrast), shape (N,), in grey levels."""
    return np.array([image.std() for image in _checked(images)])


def spectral_slope(images: np.ndarray) -> np.ndarray:
    """Slope of log power against log spatial frequency, shape (N,), no unit; about -2 for photographs.

    The power spectrum of the mean over channels is averaged over rings one cycle per shorter side wide, from 1 to half
    the shorter side, and a line is fitted to the rings with equal weight. No window is applied, so a jump between
    opposite borders counts as an edge. The power of 8-bit rounding noise (1/12 a pixel) is added, which gives a
    constant image the slope 0 of that noise.

    Raises
    ------
    ValueError: if a side is shorter than 4 pixels, which leaves no two rings.

    Source: Field 1987; Torralba & Oliva 2003.
    """
    images = _checked(images)
    height, width = images.shape[2:]
    rings = min(height, width) // 2
    if rings < 2:
        raise ValueError(f"images must be at least 4 pixels high and wide for a spectral slope, not {images.shape}")
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])  # cycles per pixel
    ring = np.rint(frequency * min(height, width)).astype(int).ravel()
    log_frequency = np.log(np.arange(1, rings + 1))
    weights = log_frequency - log_frequency.mean()
    weights /= weights @ weights

    def slope(image: np.ndarray) -> float:
        power = np.abs(np.fft.fft2(image.mean(axis=0))) ** 2 / (height * width) + 1 / 12
        return float(weights @ np.log((np.bincount(ring, power.ravel()) / np.bincount(ring))[1 : rings + 1]))

    return np.array([slope(image) for image in images])


COVARIATES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean grey level": mean_grey_level,
    "black pixel fraction": black_pixel_fraction,
    "PNG size": png_size,
    "JPEG-LS size": jpegls_size,
    "total variation": total_variation,
    "contrast": contrast,
    "spectral slope": spectral_slope,
}


class PCAReconstruction(BaseEstimator):
    """Mean squared error of an image rebuilt from the principal components of the normal ones.

    Arguments
    ---------
    components: number of principal components. 64 hold 81 to 94 % of the variance of each single class of MNIST and
        Fashion-MNIST (median 88 %): enough to rebuild the normal class, too few to rebuild anything.
    random_state: seed of the randomised solver that scikit-learn takes for large images.
    """

    def __init__(self, components: int = 64, random_state: int = 0) -> None:
        self.components = components
        self.random_state = random_state

    def fit(self, images: np.ndarray) -> Self:
        """Find mean and components of normal images, uint8 (N, C, H, W) with N and C * H * W >= components."""
        images = _checked(images)
        most = min(len(images), prod(images.shape[1:]))
        if not 0 < self.components <= most:
            raise ValueError(f"components = {self.components}: take 1 to {most} for images {images.shape}")
        self.image_shape_ = images.shape[1:]
        self.pca_ = PCA(self.components, random_state=self.random_state).fit(images.reshape(len(images), -1) / 255)
        return self

    def score_samples(self, images: np.ndarray) -> np.ndarray:
        """Mean squared error over the pixels in units of the grey range [0, 1], shape (N,)."""
        check_is_fitted(self)
        components, mean = self.pca_.components_, self.pca_.mean_

        def error(pixels: np.ndarray) -> np.ndarray:
            centred = pixels / 255 - mean
            return np.square(centred - (centred @ components.T) @ components).mean(axis=1)

        return _in_blocks(error, images, self.image_shape_)


class KNearestNeighbours(BaseEstimator):
    """Distance of an image to its k-th nearest normal image, on raw pixels (Ramaswamy et al. 2000).

    Arguments
    ---------
    neighbours: k. With 5, up to four stray images in the training set cannot vouch for an anomaly like them, and
        the distance stays a local one.
    """

    def __init__(self, neighbours: int = 5) -> None:
        self.neighbours = neighbours

    def fit(self, images: np.ndarray) -> Self:
        """Keep normal images, uint8 (N, C, H, W) with N >= neighbours."""
        images = _checked(images)
        if not 0 < self.neighbours <= len(images):
            raise ValueError(f"neighbours = {self.neighbours}: take 1 to {len(images)} for images {images.shape}")
        self.image_shape_ = images.shape[1:]
        # float64 holds sums of squared grey levels exactly, so that equal images have distance zero.
        pixels = images.reshape(len(images), -1).astype(np.float64)
        self.neighbours_ = NearestNeighbors(n_neighbors=self.neighbours, algorithm="brute").fit(pixels)
        return self

    def score_samples(self, images: np.ndarray) -> np.ndarray:
        """Root-mean-square difference over the pixels to the k-th neighbour, grey range [0, 1], shape (N,).

        An image of the training set counts itself as its first neighbour.
        """
        check_is_fitted(self)

        def distance(pixels: np.ndarray) -> np.ndarray:
            return self.neighbours_.kneighbors(pixels)[0][:, -1] / (255 * np.sqrt(pixels.shape[1]))

        return _in_blocks(distance, images, self.image_shape_)


def _in_blocks(
    score: Callable[[np.ndarray], np.ndarray], images: np.ndarray, image_shape: tuple[int, ...]
) -> np.ndarray:
    """`score` of the grey levels, float64 (BLOCK, C * H * W), block by block, the last one filled up with zeros.

    Memory stays small, and a product of matrices of one fixed size gives an image the same last bit in any batch.
    """
    images = _checked(images)
    if images.shape[1:] != image_shape:
        raise ValueError(f"images must have the shape (N, C, H, W) of the fitted ones, {image_shape}: {images.shape}")
    scores = np.empty(len(images))
    for start in range(0, len(images), BLOCK):
        filled = images[start : start + BLOCK]
        block = np.zeros((BLOCK, prod(image_shape)))
        block[: len(filled)] = filled.reshape(len(filled), -1)
        scores[start : start + BLOCK] = score(block)[: len(filled)]
    return scores


def _channels_last(images: np.ndarray) -> Iterator[np.ndarray]:
    """Each image as image files hold it, (H, W) or (H, W, 3)."""
    for image in _checked(images):
        yield np.ascontiguousarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def _checked(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape[2:]:
        raise ValueError(f"images must be uint8 (N, C, H, W), C = 1 or 3, not {images.dtype} {images.shape}")
    return images
