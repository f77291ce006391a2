"""A detector for a user's own pictures: fitted on normal ones alone, its choices too, with a calibrated threshold.

The normal images are divided, by video and never by frame, into three parts. The first trains the flow and the local
ratio and tells what their maps look like on normal images (`flowlib.detector.maps`). The second chooses the map and how
a map becomes an image's score: by how well made-up defects of kinds that nothing was trained on are found
(`made_up.CHOICE`). A map that knows the place must beat the best one that does not by more than a standard error, as it
presumes more. The third, which no choice has seen, sets the threshold (`metrics.conformal_threshold`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import label

from flowlib.detector import maps
from flowlib.detector.local_ratio import LocalRatio
from flowlib.glow import Glow
from flowlib.metrics import conformal_threshold
from flowlib.runtime.artifacts import Arrays

SMALLEST = 32  # pixels of an image's shorter side: one patch of the flow
PATCH = 32  # pixels on a side of what the flow is trained on
FLOW: dict[str, Any] = {"levels": 2, "steps": 8, "hidden_channels": 32}
LARGEST_SHARES = {"maximum": 0.0, "top 0.1 %": 0.001, "top 1 %": 0.01, "mean": 1.0}  # of a map's pixels: image scores


class DetectorError(ValueError):
    """The images or settings do not make a detector; the message says which and what to do."""


@dataclass(frozen=True)
class Settings:
    """How a detector is fitted; the defaults are meant for all.

    size: longest side in pixels that images are worked on at; larger ones are reduced to it, smaller ones left.
    flow_steps, ratio_steps: gradient steps of the two models.
    seed: of the division, the training and the made-up defects.
    """

    size: int = 512
    flow_steps: int = 400
    ratio_steps: int = 800
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < SMALLEST or min(self.flow_steps, self.ratio_steps) < 1:
            raise DetectorError(f"size must be at least {SMALLEST}, flow_steps and ratio_steps at least 1: {self}")


class Region(NamedTuple):
    """A box of pixels, ends excluded."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Detector:
    """What `fit` makes and `load` reads.

    channels: 1 or 3. known: of `maps.fit`. choice: a row a map and way to an image's score, with how well made-up
    defects were found. calibration: for each of these rows, the scores of the calibration images, ``(rows, n)``;
    levels: for each map, the value that one of 200 of their pixels exceeds. map_name, way: what is used.
    """

    settings: Settings
    channels: int
    flow: Glow
    ratio: LocalRatio
    known: Arrays
    choice: pd.DataFrame
    calibration: np.ndarray
    levels: dict[str, float]
    map_name: str
    way: str
    facts: dict[str, Any]

    @cached_property
    def row(self) -> int:
        chosen = (self.choice["map"] == self.map_name) & (self.choice["way"] == self.way)
        if not chosen.any():
            raise DetectorError(
                f"map is {self.map_name!r} and way {self.way!r}: choose one of {', '.join(maps.NAMES)}, and one of "
                f"{', '.join(LARGEST_SHARES)}"
            )
        return int(np.flatnonzero(chosen)[0])

    @property
    def level(self) -> float:
        """Pixels of the chosen map above this are marked."""
        return self.levels[self.map_name]

    def lowest_rate(self) -> float:
        """The lowest false-alarm rate that the number of calibration images can guarantee."""
        return 1 / (self.calibration.shape[1] + 1)

    def threshold(self, false_alarm_rate: float = 0.05) -> float:
        """Normal images score above it with at most `false_alarm_rate`, or `lowest_rate()` where that is higher."""
        scores = self.calibration[self.row]
        return min(conformal_threshold(scores, false_alarm_rate), float(scores.max()))

    def map(self, image: np.ndarray) -> np.ndarray:
        """The chosen map of a uint8 image ``(C, H, W)`` of any size, float32 ``(H, W)`` of the image's own."""
        return resized(self.working_map(image), image.shape[1:])

    def working_map(self, image: np.ndarray) -> np.ndarray:
        """The chosen map at the size the image is worked on, float32 ``(h, w)``: `score` and thresholds are of it."""
        worked = working(image, self.settings.size, self.channels)
        return maps.maps(self.known, self.flow, self.ratio, worked)[self.map_name]

    def all_maps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Every map of `maps.NAMES`, float32 ``(H, W)`` of the image's own size."""
        found = maps.maps(self.known, self.flow, self.ratio, working(image, self.settings.size, self.channels))
        return {name: resized(values, image.shape[1:]) for name, values in found.items()}

    def score(self, values: np.ndarray) -> float:
        """An image's score from its `working_map`: the mean of the map's highest pixels, higher is more anomalous."""
        return image_score(values, LARGEST_SHARES[self.way])

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
    """The box of the connected pixels above `level` around a map's highest one; where none is, of its top tenth."""
    top = np.unravel_index(values.argmax(), values.shape)
    low = np.median(values)
    above = values >= min(level, low + 0.9 * (values[top] - low))
    parts, _ = label(above, np.ones((3, 3)))
    rows, columns = np.nonzero(parts == parts[top])
    return Region(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
