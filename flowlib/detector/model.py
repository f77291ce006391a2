"""A detector for a user's own pictures: fitted on normal ones alone, with a calibrated threshold and nothing to choose.

Its map is the negative log-likelihood of a frozen network's features (`flowlib.detector.features`) under a flow that
saw those of normal images (`flowlib.detector.feature_flow`), position by position, less what is usual in such a context
(`flowlib.detector.context`). An image's score is the mean of its map's highest `SHARE`: a defect fills a part of the
image, seldom one position or all of them. Some of the normal images, by video and never by frame, are kept from
training and set the threshold (`metrics.conformal_threshold`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import label

from flowlib.detector import features as networks
from flowlib.detector.context import Expectation
from flowlib.detector.feature_flow import FeatureFlow, nll_map
from flowlib.metrics import conformal_threshold

SMALLEST = 32  # pixels of the shorter side of an image
PATCH = 32  # pixels on a side of a patch of the thesis
SHARE = 0.03  # of a map's pixels, the highest, whose mean is an image's score
OWN_WAY = "top 3 %"  # the same by name, among the ways from a map to a score
WAYS = {"maximum": 0.0, OWN_WAY: SHARE, "top 10 %": 0.1, "mean": 1.0}  # shares


class DetectorError(ValueError):
    """The images or settings do not make a detector; the message says which and what to do."""


@dataclass(frozen=True)
class Settings:
    """How a detector is fitted; the defaults are meant for all.

    features: a network of timm, or "pixels" (`flowlib.detector.features`).
    size: longest side in pixels that images are worked on at: larger ones are reduced to it, and very small ones
        enlarged (`flowlib.detector.features.fitted`).
    steps: gradient steps of the flow.
    seed: of the division and the training.
    """

    features: str = networks.NETWORK
    size: int = 512
    steps: int = 1200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < SMALLEST or self.steps < 1 or self.seed < 0:
            raise DetectorError(f"size must be at least {SMALLEST}, steps at least 1 and seed at least 0: {self}")


@dataclass(frozen=True)
class Facts:
    """What a detector was fitted on.

    images, sources: their numbers, of those that trained and of those that calibrated. shared: whether the same images
    did both, for want of sources.
    """

    images: tuple[int, int]
    sources: tuple[int, int]
    shared: bool


class Region(NamedTuple):
    """A box of pixels, ends excluded."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Detector:
    """What `fit` makes and `load` reads.

    channels: 1 or 3. middle, width: median of what the NLL is above `expected`, in nats, at positions of the training
    images, and what lies between the quantiles 0.1 and 0.9; maps and scores count in such widths from the middle.
    calibration: the scores of the calibration images, float64 ``(n,)``. level: one of 200 of their pixels exceeds it.
    """

    settings: Settings
    channels: int
    flow: FeatureFlow
    expected: Expectation
    middle: float
    width: float
    calibration: np.ndarray
    level: float
    facts: Facts

    def lowest_rate(self) -> float:
        """The lowest false-alarm rate that the number of calibration images can guarantee."""
        return 1 / (len(self.calibration) + 1)

    def threshold(self, false_alarm_rate: float = 0.05) -> float:
        """Normal images score above it with at most `false_alarm_rate`, or `lowest_rate()` where that is higher."""
        return min(conformal_threshold(self.calibration, false_alarm_rate), float(self.calibration.max()))

    def map(self, image: np.ndarray) -> np.ndarray:
        """How far each pixel of a uint8 image ``(C, H, W)`` of any size is from normal, float32 ``(H, W)``."""
        return resized(self.working_map(image), image.shape[1:])

    def working_map(self, image: np.ndarray) -> np.ndarray:
        """The map at the size the image is worked on, float32 ``(h, w)``: `score` and thresholds are of it."""
        worked, shape = networks.fitted(working(image, self.settings.size, self.channels), self.settings.size)
        found = networks.features(self.settings.features)(worked)
        above = nll_map(self.flow, found) - self.expected.of_map(found)
        return networks.at_pixels((above - np.float32(self.middle)) / np.float32(self.width), shape)

    def score(self, values: np.ndarray) -> float:
        """An image's score from its `working_map`: the mean of the map's highest pixels, higher is more anomalous."""
        return image_score(values, SHARE)

    def score_samples(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Scores ``(N,)`` of uint8 images ``(C, H, W)``, higher is more anomalous."""
        return np.array([self.score(self.working_map(image)) for image in images])

    def predict(self, images: Sequence[np.ndarray], false_alarm_rate: float = 0.05) -> np.ndarray:
        """Whether each image is anomalous, bool ``(N,)``."""
        return self.score_samples(images) > self.threshold(false_alarm_rate)


# --- images and maps -------------------------------------------------------------------------------------------------


def working(image: np.ndarray, size: int, channels: int) -> np.ndarray:
    """The image as it is worked on: reduced by area to `size` pixels on its longest side, with 1 or 3 channels.

    The shorter side stays at 32 pixels or more. Raises DetectorError for an image smaller than that.
    """
    given, H, W = image.shape
    if min(H, W) < SMALLEST:
        raise DetectorError(f"the image has {W}x{H} pixels, it must have at least {SMALLEST}x{SMALLEST}")
    if given < channels:
        image = np.repeat(image, 3, 0)
    elif given > channels:
        image = np.asarray(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).convert("L"))[None]
    factor = min(1.0, max(size / max(H, W), SMALLEST / min(H, W)))
    if factor == 1:
        return image
    shape = (max(SMALLEST, round(factor * W)), max(SMALLEST, round(factor * H)))
    return np.stack([np.asarray(Image.fromarray(c).resize(shape, Image.Resampling.BOX)) for c in image])


def resized(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A map at an image's own size, linear in between: ``(h, w)`` to ``(H, W)``."""
    if values.shape == tuple(shape):
        return values
    return np.asarray(Image.fromarray(values).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def image_score(values: np.ndarray, share: float) -> float:
    """The mean of the highest `share` of a map's pixels, of one at least."""
    n = max(1, round(share * values.size))
    return float(np.partition(values, -n, axis=None)[-n:].mean(dtype=np.float64))


def worst_region(values: np.ndarray, level: float) -> Region:
    """The box of the connected pixels around a map's highest one that are above `level`, or in the top tenth where none
    is, and nearer to it than to the map's median: where a whole image is odd, the box is of its oddest part."""
    top = np.unravel_index(values.argmax(), values.shape)
    low = np.median(values)
    peak = values[top] - low
    above = values >= max(min(level, low + 0.9 * peak), low + 0.5 * peak)
    parts, _ = label(above, np.ones((3, 3)))
    rows, columns = np.nonzero(parts == parts[top])
    return Region(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
