"""Is it the flow that fails, or the pixels? The same flow, nearest neighbours and a Gaussian, on pixels and features.

Every method models vectors, position by position: those of `flowlib.detector.features`, of a frozen network or of
pixels. All of them see the same positions of the same images, and none sees a defect. Thresholds are conformal, from
normal images that trained nothing.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import uniform_filter

from flowlib.detector import feature_flow, features, fitting
from flowlib.detector.map_metrics import aupro, pixel_auroc
from flowlib.detector.model import SHARE, Settings, image_score, working
from flowlib.experiments.borescope import frames
from flowlib.inspection.layouts import layout
from flowlib.inspection.pictures import read_image, read_mask
from flowlib.metrics import auroc, conformal_threshold
from flowlib.runtime import solar_cells
from flowlib.training import best_device, to_device_of, to_numpy

BANK = 15_000  # positions that neighbours are looked for among
RIDGE = 0.01  # of each variance, added to a Gaussian's covariance
RATE = 0.05  # false alarms
WAYS = {"maximum": 0.0, "top 1 %": 0.01, "top 10 %": SHARE, "mean": 1.0}  # of a map's pixels, whose mean is a score

Map = Callable[[np.ndarray], np.ndarray]  # features ``(D, H, W)`` to anomaly scores ``(H, W)``


class Case(NamedTuple):
    """A data set: normal images to train and calibrate with and their sources, images to test with, which of those are
    anomalous, bool ``(N,)``, and their masks ``(H, W)``, or none."""

    name: str
    normal: list[np.ndarray]
    sources: list[Any]
    test: list[np.ndarray]
    anomalous: np.ndarray
    masks: list[np.ndarray]


# --- data sets -------------------------------------------------------------------------------------------------------


def cells(train: int = 400, test: int = 300, seed: int = 0) -> Case:
    """Solar cells: functional ones (probability 0) to train with, and as many others as defective ones (1) to test."""
    images, probability = solar_cells.load()
    rng = np.random.default_rng(seed)
    good, bad = (rng.permutation(np.flatnonzero(probability == value)) for value in (0, 1))
    tested = np.concatenate([good[train : train + test], bad[:test]])
    normal = [images[i] for i in good[:train]]
    return Case("solar cells", normal, list(range(train)), [images[i] for i in tested], probability[tested] == 1, [])


def folder(path: Path) -> Case:
    """A folder in the layout of MVTec AD."""
    found = layout(Path(path))
    test = [(label, read_image(file), found.masks.get(file)) for label, file in found.test]
    masks = [np.zeros(i.shape[1:], bool) if m is None else read_mask(m, i.shape[1:]) for _, i, m in test]
    anomalous = np.array([label != "good" for label, _, _ in test])
    normal = [read_image(file) for file in found.normal]
    return Case(Path(path).name, normal, list(range(len(normal))), [i for _, i, _ in test], anomalous, masks)


def blades(place: Path, numbers: tuple[int, int, int], frames_each: int, every: int, executor: Executor) -> Case:
    """Frames of simulated blades, as notebook 05 has them; a source is a blade."""
    train, shots = frames.prepare(place, numbers, frames_each, every, 0, executor)
    test = [one for one in shots if one.label == "good" or one.mask.any()]
    return Case(
        "simulated blades",
        [one.image for one in train],
        [one.blade for one in train],
        [one.image for one in test],
        np.array([one.label != "good" for one in test]),
        [one.mask for one in test],
    )


# --- methods: fitted on vectors ``(n, D)`` in float32 ----------------------------------------------------------------


def flow(vectors: np.ndarray, steps: int, seed: int) -> Map:
    """NLL in nats under a `FeatureFlow`."""
    trained = feature_flow.restored(feature_flow.trained(vectors, steps, seed))
    return lambda found: feature_flow.nll_map(trained, found)


def neighbours(vectors: np.ndarray, steps: int, seed: int) -> Map:
    """Distance to the nearest of `BANK` standardised training vectors."""
    mean, deviation = vectors.mean(0), vectors.std(0) + 1e-6
    chosen = np.random.default_rng(seed).permutation(len(vectors))[:BANK]
    bank = to_device_of(torch.empty(0, device=best_device()), (vectors[chosen] - mean) / deviation)

    def each(found: np.ndarray) -> np.ndarray:
        away = (vectors_of(found) - mean) / deviation
        distances = torch.cdist(to_device_of(bank, away), bank)
        return to_numpy(distances.min(1).values).reshape(found.shape[1:])

    return each


def gaussian(vectors: np.ndarray, steps: int, seed: int) -> Map:
    """Squared Mahalanobis distance from all training vectors, wherever they lie."""
    mean, covariance = vectors.mean(0), np.cov(vectors.T)
    precision = np.linalg.inv(covariance + np.diag(RIDGE * np.diag(covariance) + 1e-9))

    def each(found: np.ndarray) -> np.ndarray:
        away = vectors_of(found) - mean
        return ((away @ precision) * away).sum(1).reshape(found.shape[1:])

    return each


METHODS: dict[str, Callable[[np.ndarray, int, int], Map]] = {
    "flow": flow,
    "neighbours": neighbours,
    "Gaussian": gaussian,
}


AVERAGED = {"neighbours"}  # see means over 3x3 positions, as PatchCore's do (Roth et al. 2022)


# --- the comparison --------------------------------------------------------------------------------------------------


def compared(case: Case, network: str, method: str, steps: int = Settings.steps, seed: int = 0) -> dict[str, Any]:
    """One job, and a row: how well a method finds the anomalies of a case, and what that costs.

    Columns: set, features, method; of each way from a map to a score the image AUROC; found, the share of anomalous
    images above the threshold of `RATE` by the detector's way, and alarms, that of normal ones; pixel AUROC and AUPRO
    where there are masks; seconds of the fit and milliseconds an image.
    """
    settings = Settings(network, steps=steps, seed=seed)
    channels = max(len(image) for image in case.normal)
    parts = fitting.divided(case.sources, seed)
    training, calibrating = ([working(case.normal[i], settings.size, channels) for i in part] for part in parts)
    began = time.perf_counter()
    extract, rng = features.features(network), np.random.default_rng(seed)

    def seen(image: np.ndarray) -> np.ndarray:
        found = extract(features.fitted(image, settings.size)[0])
        return uniform_filter(found, (0, 3, 3), mode="nearest") if method in AVERAGED else found

    each = -(-fitting.POSITIONS // len(training))
    some = [rng.permutation(columns)[:each] for image in training for columns in [vectors_of(seen(image))]]
    made = METHODS[method](np.concatenate(some), steps, seed)
    fitted = time.perf_counter()

    def mapped(image: np.ndarray) -> np.ndarray:
        worked = working(image, settings.size, channels)
        return features.at_pixels(made(seen(worked)), features.fitted(worked, settings.size)[1])

    held = [image_score(mapped(image), SHARE) for image in calibrating]
    begun = time.perf_counter()
    maps = [mapped(image) for image in case.test]
    milliseconds = 1000 * (time.perf_counter() - begun) / len(maps)
    row: dict[str, Any] = {"set": case.name, "features": network, "method": method}
    for way, share in WAYS.items():
        scores = np.array([image_score(values, share) for values in maps])
        row[way] = auroc(scores[~case.anomalous], scores[case.anomalous])
        if share == SHARE:
            above = scores > conformal_threshold(np.array(held), RATE)
            row |= {"found": above[case.anomalous].mean(), "alarms": above[~case.anomalous].mean()}
    if case.masks:
        masks = [at_shape(mask, values.shape) for mask, values in zip(case.masks, maps, strict=True)]
        row |= {"pixel AUROC": pixel_auroc(maps, masks), "AUPRO": aupro(maps, masks)}
    return row | {"fit, s": fitted - began, "image, ms": milliseconds}


def vectors_of(found: np.ndarray) -> np.ndarray:
    """``(D, H, W)`` to ``(H * W, D)``."""
    return found.reshape(len(found), -1).T


def at_shape(mask: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A mask at the size of a map: the pixel nearest to the middle of each of the map's."""
    rows, columns = (((np.arange(n) + 0.5) * given / n).astype(int) for n, given in zip(shape, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]


def regret(table: pd.DataFrame) -> pd.DataFrame:
    """Of each row of `compared`, the image AUROC of its best way less that of the detector's."""
    ways = table[list(WAYS)]
    chosen = next(way for way, share in WAYS.items() if share == SHARE)
    return table[["set", "features", "method"]].assign(best=ways.idxmax(axis=1), regret=ways.max(axis=1) - ways[chosen])
