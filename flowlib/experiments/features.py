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

from flowlib.detector import context, feature_flow, features, fitting
from flowlib.detector.features import PIXELS
from flowlib.detector.map_metrics import aupro, pixel_auroc
from flowlib.detector.model import OWN_WAY, PATCH, WAYS, Settings, image_score, working
from flowlib.detector.patches import dense_map, random_patches
from flowlib.experiments.borescope import frames
from flowlib.inspection.layouts import layout
from flowlib.inspection.pictures import read_image, read_mask
from flowlib.metrics import auroc, auroc_interval, conformal_threshold
from flowlib.runtime import solar_cells
from flowlib.training import Recipe, best_device, to_device_of, to_numpy, trained

BANK = 15_000  # positions that neighbours are looked for among
RIDGE = 0.01  # of each variance, added to a Gaussian's covariance
RATE = 0.05  # false alarms
CLAIMED = "top 10 %"  # the way to a score that claim 5.7 names, and that the detector had then
GLOW = "Glow on patches"  # the thesis's own
STRIDE = 4  # of its windows

Map = Callable[[np.ndarray], np.ndarray]  # an image or its features ``(D, H, W)``, to ``(h, w)``


class Case(NamedTuple):
    """A data set: normal images to train and calibrate with and what each came from, images to test with, which of
    those are anomalous, bool ``(N,)``, what each came from, ``(N,)``, and their masks ``(H, W)``, or none."""

    name: str
    normal: list[np.ndarray]
    sources: list[Any]
    test: list[np.ndarray]
    anomalous: np.ndarray
    origins: np.ndarray
    masks: list[np.ndarray]


class Outcome(NamedTuple):
    """A row of the comparison; the test images' scores by each way, ``(N,)``; maps of the images asked for, float32
    ``(h, w)``; and what 2 and 99.9 % of the pixels of normal images that trained nothing lie below."""

    row: dict[str, Any]
    scores: dict[str, np.ndarray]
    maps: list[np.ndarray]
    limits: tuple[float, float]


class Example(NamedTuple):
    """An image as it is worked on, uint8 ``(C, h, w)``, its name and set, and its mask ``(h, w)``, empty for none."""

    label: str
    viewpoint: str
    image: np.ndarray
    mask: np.ndarray


# --- data sets -------------------------------------------------------------------------------------------------------


def cells(train: int = 400, test: int = 300, seed: int = 0) -> Case:
    """Solar cells: functional ones (probability 0) to train with, and as many others as defective ones (1) to test."""
    images, probability = solar_cells.load()
    rng = np.random.default_rng(seed)
    good, bad = (rng.permutation(np.flatnonzero(probability == value)) for value in (0, 1))
    tested = np.concatenate([good[train : train + test], bad[:test]])
    normal = [images[i] for i in good[:train]]
    return Case(
        "solar cells", normal, list(range(train)), [images[i] for i in tested], probability[tested] == 1, tested, []
    )


def folder(path: Path) -> Case:
    """A folder in the layout of MVTec AD."""
    found = layout(Path(path))
    test = [(label, read_image(file), found.masks.get(file)) for label, file in found.test]
    masks = [np.zeros(i.shape[1:], bool) if m is None else read_mask(m, i.shape[1:]) for _, i, m in test]
    anomalous = np.array([label != "good" for label, _, _ in test])
    normal = [read_image(file) for file in found.normal]
    origins = np.arange(len(test))
    return Case(Path(path).name, normal, list(range(len(normal))), [i for _, i, _ in test], anomalous, origins, masks)


def blades(
    place: Path, numbers: tuple[int, int, int], frames_each: int, every: int, executor: Executor, seed: int = 0
) -> Case:
    """Frames of simulated blades, as notebook 05 has them; a source is a blade."""
    train, shots = frames.prepare(place, numbers, frames_each, every, seed, executor)
    test = [one for one in shots if one.label == "good" or one.mask.any()]
    return Case(
        "simulated blades",
        [one.image for one in train],
        [one.blade for one in train],
        [one.image for one in test],
        np.array([one.label != "good" for one in test]),
        np.array([one.blade for one in test]),
        [one.mask for one in test],
    )


def examples(case: Case, n: int) -> list[int]:
    """Places of `n` anomalous test images, evenly through their order, which is that of their kinds."""
    places = np.flatnonzero(case.anomalous)
    return [int(places[i]) for i in np.linspace(0, len(places) - 1, min(n, len(places))).round().astype(int)]


# --- methods: fitted on positions ------------------------------------------------------------------------------------


class Positions(NamedTuple):
    """Random positions of normal images: their features ``(n, D)``, and their surrounds ``(n, 2 D)``, or ``(n, 0)``
    where no one asked for them, float32."""

    vectors: np.ndarray
    surrounds: np.ndarray


def flow(positions: Positions, steps: int, seed: int) -> Map:
    """NLL in nats under a `FeatureFlow`."""
    fitted = feature_flow.restored(feature_flow.trained(positions.vectors, steps, seed))
    return lambda found: feature_flow.nll_map(fitted, found)


def flow_in_context(positions: Positions, steps: int, seed: int) -> Map:
    """The detector's map: the NLL less what is usual in such a context (`flowlib.detector.context`), in nats."""
    fitted = feature_flow.restored(feature_flow.trained(positions.vectors, steps, seed))
    expected = context.expectation(positions.surrounds, feature_flow.nll(fitted, positions.vectors))
    return lambda found: feature_flow.nll_map(fitted, found) - expected.of_map(found)


def neighbours(positions: Positions, steps: int, seed: int) -> Map:
    """Distance to the nearest of `BANK` standardised training vectors."""
    vectors = positions.vectors
    mean, deviation = vectors.mean(0), vectors.std(0) + 1e-6
    chosen = np.random.default_rng(seed).permutation(len(vectors))[:BANK]
    bank = to_device_of(torch.empty(0, device=best_device()), (vectors[chosen] - mean) / deviation)

    def each(found: np.ndarray) -> np.ndarray:
        away = (vectors_of(found) - mean) / deviation
        distances = torch.cdist(to_device_of(bank, away), bank)
        return to_numpy(distances.min(1).values).reshape(found.shape[1:])

    return each


def gaussian(positions: Positions, steps: int, seed: int) -> Map:
    """Squared Mahalanobis distance from all training vectors, wherever they lie."""
    vectors = positions.vectors
    mean, covariance = vectors.mean(0), np.cov(vectors.T)
    precision = np.linalg.inv(covariance + np.diag(RIDGE * np.diag(covariance) + 1e-9))

    def each(found: np.ndarray) -> np.ndarray:
        away = vectors_of(found) - mean
        return ((away @ precision) * away).sum(1).reshape(found.shape[1:])

    return each


METHODS: dict[str, Callable[[Positions, int, int], Map]] = {
    "flow": flow,
    "neighbours": neighbours,
    "Gaussian": gaussian,
    "flow in context": flow_in_context,
}


# --- the comparison --------------------------------------------------------------------------------------------------


def compared(
    case: Case, network: str, method: str, steps: int = Settings.steps, seed: int = 0, shown: Sequence[int] = ()
) -> Outcome:
    """One job: how well a method finds the anomalies of a case, what that costs, and its maps of the images `shown`.

    Columns of the row: set, features, method; of each way from a map to a score the image AUROC; low and high, the
    95 % interval of that by the detector's way, over what the images came from; found, the share of anomalous images
    above the threshold of `RATE` by the same way, and alarms, that of normal ones; pixel AUROC and AUPRO where there
    are masks; processor seconds of the fit and milliseconds an image.
    """
    settings = Settings(network, steps=steps, seed=seed)
    extract, rng = features.features(network), np.random.default_rng(seed)
    began = time.process_time()  # with the network at hand

    def seen(image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        enlarged, shape = features.fitted(at_work(case, image), settings.size)
        return extract(enlarged), shape

    fit = METHODS[method]
    training = divided(case, seed)[0]
    positions = some_positions(training, lambda image: seen(image)[0], rng, surrounds=fit is flow_in_context)
    made = fit(positions, steps, seed)

    def mapped(image: np.ndarray) -> np.ndarray:
        found, shape = seen(image)
        return features.at_pixels(made(found), shape)

    named = {"set": case.name, "features": network, "method": method}
    return outcome(case, named, mapped, seed, time.process_time() - began, shown)


def likelihood(case: Case, recipe: Recipe, patches: int, shown: Sequence[int] = ()) -> Outcome:
    """`compared`, of the thesis's Glow: NLL in nats of 32x32 patches, dense, by a flow that learnt from `patches`."""
    began = time.process_time()
    training, _ = divided(case, recipe.seed)
    worked = [at_work(case, image) for image in training]
    flow = trained(random_patches(worked, patches, PATCH, recipe.seed), recipe)

    def mapped(image: np.ndarray) -> np.ndarray:
        return dense_map(flow, at_work(case, image), PATCH, STRIDE).astype(np.float32)  # type: ignore[arg-type]

    named = {"set": case.name, "features": PIXELS, "method": GLOW}
    return outcome(case, named, mapped, recipe.seed, time.process_time() - began, shown)


def outcome(
    case: Case, named: dict[str, Any], mapped: Map, seed: int, fit_seconds: float, shown: Sequence[int]
) -> Outcome:
    """What `compared` gives, by the function from an image to its map."""
    held = [mapped(image) for image in divided(case, seed)[1]]
    threshold = conformal_threshold(np.array([image_score(values, WAYS[OWN_WAY]) for values in held]), RATE)
    begun = time.process_time()
    maps = [mapped(image) for image in case.test]
    milliseconds = 1000 * (time.process_time() - begun) / len(maps)
    scores = {way: np.array([image_score(values, share) for values in maps]) for way, share in WAYS.items()}
    row = named | {way: auroc(*by_kind(case, each)) for way, each in scores.items()} | interval(case, scores[OWN_WAY])
    good, bad = by_kind(case, scores[OWN_WAY] > threshold)
    row |= {"found": bad.mean(), "alarms": good.mean()}
    if case.masks:
        masks = [at_shape(mask, values.shape) for mask, values in zip(case.masks, maps, strict=True)]
        row |= {"pixel AUROC": pixel_auroc(maps, masks), "AUPRO": aupro(maps, masks)}
    low, high = np.quantile(np.concatenate([values[::4, ::4].ravel() for values in held]), [0.02, 0.999])
    row |= {"fit, s": fit_seconds, "image, ms": milliseconds}
    return Outcome(row, scores, [maps[i] for i in shown], (float(low), float(high)))


def over_seeds(case: Case, outcomes: Sequence[Outcome], way: str = OWN_WAY) -> dict[str, Any]:
    """The row of a method that was fitted with several seeds: means, and the interval by a way, over seeds, too."""
    rows = pd.DataFrame([one.row for one in outcomes])
    row = dict(outcomes[0].row) | rows.mean(numeric_only=True).to_dict()
    return row | interval(case, np.stack([one.scores[way] for one in outcomes]))


def interval(case: Case, scores: np.ndarray) -> dict[str, float]:
    """The ends, low and high, of the image AUROC's 95 % interval over origins, and over seeds: ``(N,)``, ``(S, N)``."""
    found = auroc_interval(*by_kind(case, scores), clusters=by_kind(case, case.origins))
    return {"low": found.low, "high": found.high}


def by_kind(case: Case, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values ``(..., N)`` of the normal and of the anomalous test images."""
    return values[..., ~case.anomalous], values[..., case.anomalous]


def divided(case: Case, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A case's normal images to train and to calibrate with, divided as `fitting.fit` does."""
    training, calibrating = ([case.normal[i] for i in part] for part in fitting.divided(case.sources, seed))
    return training, calibrating


def at_work(case: Case, image: np.ndarray) -> np.ndarray:
    return working(image, Settings.size, max(len(one) for one in case.normal))


def some_positions(
    images: Sequence[np.ndarray], seen: Map, rng: np.random.Generator, surrounds: bool = False
) -> Positions:
    """Up to `fitting.POSITIONS` random positions of the images, as `seen` gives their features; `surrounds`: those,
    too."""
    each = -(-fitting.POSITIONS // len(images))
    found = []
    for image in images:
        features_of = seen(image)
        chosen = rng.permutation(features_of[0].size)[:each]
        vectors = fitting.columns(features_of, chosen)
        around = fitting.columns(context.surround(features_of), chosen) if surrounds else vectors[:, :0]
        found.append((vectors, around))
    return Positions(*map(np.concatenate, zip(*found, strict=True)))


def vectors_of(found: np.ndarray) -> np.ndarray:
    """``(D, H, W)`` to ``(H * W, D)``."""
    return found.reshape(len(found), -1).T


def at_shape(mask: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A mask at the size of a map: the pixel nearest to the middle of each of the map's."""
    rows, columns = (((np.arange(n) + 0.5) * given / n).astype(int) for n, given in zip(shape, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]


def example(case: Case, place: int) -> Example:
    """A test image as it is worked on."""
    image = at_work(case, case.test[place])
    mask = at_shape(case.masks[place], image.shape[1:]) if case.masks else np.zeros(image.shape[1:], bool)
    return Example(f"test image {place}", case.name, image, mask)


def regret(table: pd.DataFrame) -> pd.DataFrame:
    """Of each row of `compared`, the image AUROC of its best way less that of the detector's."""
    ways = table[list(WAYS)]
    return table[["set", "features", "method"]].assign(
        best=ways.idxmax(axis=1), regret=ways.max(axis=1) - ways[OWN_WAY]
    )
