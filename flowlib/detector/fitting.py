"""How a detector is fitted: normal images divided by source, a flow trained on some, its scores calibrated on the rest.

Images are looked at one after another, and of their features only so many positions are kept as the flow trains on.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import numpy as np

from flowlib.detector import context, feature_flow, features
from flowlib.detector.model import Detector, DetectorError, Facts, Settings, working
from flowlib.runtime import parallel

CALIBRATING = 0.25  # of the normal images' sources
POSITIONS = 60_000  # that the flow is trained on
CHUNK = 16  # images a job


def fit(
    images: Sequence[np.ndarray],
    sources: Sequence[Any] | None = None,
    settings: Settings | None = None,
    executor: Executor | None = None,
) -> Detector:
    """Fit on normal images, uint8 ``(C, H, W)`` each, of any sizes from 32x32 pixels on, grey and colour mixed.

    `sources` says what each image came from, such as its video: a source is never divided. `executor` runs the jobs; by
    default `flowlib.runtime.parallel.workers`. A flow that was trained on the same is found again.

    Raises DetectorError without an image, where one is smaller than 32x32, or without a source for each; FeatureError
    where `settings.features` cannot be had (the default falls back to pixels, and says so).
    """
    settings = settings or Settings()
    if len(images) == 0:
        raise DetectorError("there is no normal image to fit on: add images or videos of good parts")
    if sources is not None and len(sources) != len(images):
        raise DetectorError(f"there are {len(sources)} sources for {len(images)} images: give one for each")
    settings = replace(settings, features=features.available(settings.features))
    channels = max(len(image) for image in images)
    worked = [working(image, settings.size, channels) for image in images]
    names = list(range(len(images))) if sources is None else list(sources)
    if executor is None:
        with parallel.workers() as pool:
            return fit_worked(worked, names, channels, settings, pool)
    return fit_worked(worked, names, channels, settings, executor)


def fit_worked(
    images: list[np.ndarray], sources: list[Any], channels: int, settings: Settings, executor: Executor
) -> Detector:
    """`fit` of images that `working` gave."""
    training, calibrating = divided(sources, settings.seed)
    each = -(-POSITIONS // len(training))
    jobs = [([(i, images[i]) for i in some], each, settings) for some in chunks(training)]
    found = parallel.run(some_positions, jobs, executor, "features")
    vectors, surrounds = (np.concatenate(parts) for parts in zip(*found, strict=True))
    job = (vectors, settings.steps, settings.seed)
    (arrays,) = parallel.run(feature_flow.trained, [job], executor, "training")
    flow = feature_flow.restored(arrays)
    nll = feature_flow.nll(flow, vectors.astype(np.float32))
    expected = context.expectation(surrounds, nll)
    lower, middle, upper = (float(v) for v in np.quantile(nll - expected.of(surrounds), [0.1, 0.5, 0.9]))
    facts = Facts(
        images=(len(training), len(calibrating)),
        sources=(len({sources[i] for i in training}), len({sources[i] for i in calibrating})),
        shared=np.array_equal(training, calibrating),
    )
    begun = Detector(settings, channels, flow, expected, middle, max(upper - lower, 1e-6), np.empty(0), 0.0, facts)
    readings = [(begun, [images[i] for i in some]) for some in chunks(calibrating)]
    read = [one for part in parallel.run(scores_and_pixels, readings, executor, "calibrating") for one in part]
    level = max(float(np.quantile(np.concatenate([pixels for _, pixels in read]), 0.995)), 1e-6)
    return replace(begun, calibration=np.array([score for score, _ in read]), level=level)


def divided(sources: Sequence[Any], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images to train and to calibrate on; all, twice, where there are under four sources."""
    names = list(dict.fromkeys(sources))
    if len(names) < 4:
        return np.arange(len(sources)), np.arange(len(sources))
    order = np.random.default_rng(seed).permutation(len(names))
    held = {names[i] for i in order[: round(CALIBRATING * len(names))]}
    calibrating = np.array([source in held for source in sources])
    return np.flatnonzero(~calibrating), np.flatnonzero(calibrating)


def chunks(indices: np.ndarray) -> list[np.ndarray]:
    return [indices[i : i + CHUNK] for i in range(0, len(indices), CHUNK)]


# --- jobs ------------------------------------------------------------------------------------------------------------


def some_positions(
    numbered: list[tuple[int, np.ndarray]], each: int, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Features and surrounds at up to `each` random positions of each image, float16 ``(n, D)`` and ``(n, 2 D)``.

    The positions follow from the image's number.
    """
    extract = features.features(settings.features)
    out = []
    for number, image in numbered:
        found = extract(features.fitted(image, settings.size)[0])
        rng = np.random.default_rng((settings.seed, int(number)))
        chosen = rng.permutation(found[0].size)[:each]
        out.append([columns(values, chosen).astype(np.float16) for values in (found, context.surround(found))])
    vectors, surrounds = (np.concatenate(parts) for parts in zip(*out, strict=True))
    return vectors, surrounds


def columns(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """What stands at the positions numbered `chosen`: ``(D, H, W)`` to ``(n, D)``."""
    return values.reshape(len(values), -1).T[chosen]


def scores_and_pixels(begun: Detector, images: list[np.ndarray]) -> list[tuple[float, np.ndarray]]:
    """Of each image the score, and every 64th pixel of its map."""
    found = [begun.working_map(image) for image in images]
    return [(begun.score(values), values[4::8, 4::8].ravel()) for values in found]
