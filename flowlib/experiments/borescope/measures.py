"""What notebook 05 measures of maps and scores. Frames of a blade are alike: blades are the clusters."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import label

from flowlib.baselines import COVARIATES
from flowlib.detector.map_metrics import region_overlaps
from flowlib.detector.model import PATCH, image_score
from flowlib.experiments.borescope.frames import Parts, Shot, blades
from flowlib.experiments.borescope.maps import Grouped
from flowlib.metrics import Interval, auroc, mean_interval

SHARE = 0.1  # of a map's pixels, the highest, whose mean is the image score that the criteria of the claims are of


class Scored(NamedTuple):
    """What a method says of the test frames: image scores ``(S, N)`` of the normal and ``(S, M)`` of the defective
    ones, and by seed its maps of all, the normal first; a pixel statistic has none."""

    normal: np.ndarray
    defective: np.ndarray
    maps: list[list[np.ndarray]]


def scored(found: Sequence[Grouped]) -> Scored:
    """The maps of each seed, and the image scores that they have: the mean of a map's highest `SHARE`."""
    normal, defective = (
        np.array([[image_score(values, SHARE) for values in each[group]] for each in found])
        for group in ("normal", "defective")
    )
    return Scored(normal, defective, [[*each["normal"], *each["defective"]] for each in found])


def scored_once(scores: np.ndarray, maps: list[np.ndarray], parts: Parts) -> Scored:
    """As `scored`, of one seed, from the scores ``(N + M,)`` and maps of all test frames."""
    normal, defective = np.split(scores[None], [len(parts.normal)], axis=1)
    return Scored(normal, defective, [maps])


def statistics(parts: Parts) -> dict[str, Scored]:
    """Pixel statistics, which need no training: the distance of each from its mean over held-out normal frames."""
    found = {}
    for name, covariate in COVARIATES.items():
        held, normal, defective = (
            np.array([covariate(grey(one))[0] / one.mask.size for one in group])
            for group in (parts.held, parts.normal, parts.defective)
        )
        found[name] = Scored(abs(normal - held.mean())[None], abs(defective - held.mean())[None], [])
    return found


def grey(one: Shot) -> np.ndarray:
    """A shot's image as one grey picture, uint8 ``(1, 1, H, W)``."""
    return np.rint(one.image.mean(0, keepdims=True)).astype(np.uint8)[None]


def shares(values: np.ndarray, shots: Sequence[Shot], weights: np.ndarray | None = None) -> Interval:
    """Mean of what lies in [0, 1] of each shot, ``(S, n)``, with its interval over blades and seeds."""
    return mean_interval(values, clusters=blades(shots), weights=weights, bounds=(0, 1))


def differences(values: np.ndarray, shots: Sequence[Shot], weights: np.ndarray | None = None) -> Interval:
    """As `shares`, of differences of such, in [-1, 1]."""
    return mean_interval(values, clusters=blades(shots), weights=weights, bounds=(-1, 1))


def pixel_aurocs(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """AUROC of each image's defect pixels against the normal pixels of all, and the number of the former, ``(n,)``.

    Their mean by that number is the pixel AUROC. 0 without a defect.
    """
    background = np.sort(np.concatenate([values[~mask][::7] for values, mask in zip(maps, masks, strict=True)]))
    found = []
    for values, mask in zip(maps, masks, strict=True):
        below = np.searchsorted(background, values[mask], "left") + np.searchsorted(background, values[mask], "right")
        found.append(below.sum() / (2 * len(background) * max(1, mask.sum())))
    return np.array(found), np.array([mask.sum() for mask in masks])


def frame_overlaps(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], limit: float = 0.3) -> np.ndarray:
    """Area under each frame's overlap curve up to the false-positive rate `limit`, ``(n,)``; 0 without a defect.

    A defect is one region here, in however many pieces its mask falls; else as `metrics.region_overlaps`.
    """
    overlaps = []
    for values, mask in zip(region_overlaps(maps, masks, limit), masks, strict=True):
        pieces = np.bincount(label(mask, np.ones((3, 3)))[0][mask], minlength=1)[1:]
        overlaps.append((values * pieces).sum() / max(int(pieces.sum()), 1))
    return np.array(overlaps)


def within_image(maps: Sequence[np.ndarray], inside: Sequence[np.ndarray], outside: Sequence[np.ndarray]) -> np.ndarray:
    """AUROC of an image's pixels `inside` against those `outside`, ``(n,)``; every mask holds a pixel."""
    return np.array([auroc(v[o], v[i]) for v, i, o in zip(maps, inside, outside, strict=True)])


def across_border(mask: np.ndarray, patch: int = PATCH) -> bool | None:
    """Whether a defect lies across a border of the thesis's patches; None where it is too large for one patch."""
    rows, columns = np.nonzero(mask)
    if np.ptp(rows) >= patch or np.ptp(columns) >= patch:
        return None
    return bool(rows.min() // patch != rows.max() // patch or columns.min() // patch != columns.max() // patch)


def sizes(shots: Sequence[Shot]) -> pd.Series:
    """Size class of each defect by its pixels: under 100, 100 to 1000, 1000 and more."""
    pixels = [int(one.mask.sum()) for one in shots]
    return pd.Series(pd.cut(pixels, [0, 100, 1000, np.inf], right=False, labels=["under 100", "100 to 999", "1000 up"]))


def best_of_kinds(values: np.ndarray, shots: Sequence[Shot], n: int = 3) -> list[int]:
    """Places of the shots of the highest value ``(M,)`` of their kind of defect: of the `n` best kinds, best first."""
    kinds = np.array([one.label for one in shots])
    best = [int(max(np.flatnonzero(kinds == kind), key=lambda i: values[i])) for kind in np.unique(kinds)]
    return sorted(best, key=lambda i: -values[i])[:n]
