"""How a detector is fitted: normal images divided by source, two models trained, a map chosen, scores calibrated."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from flowlib.detector import maps
from flowlib.detector.choice import DAMAGED, choice_table, chosen, damaged_image, readings
from flowlib.detector.model import FLOW, PATCH, Detector, DetectorError, Settings, working
from flowlib.detector.patches import random_patches
from flowlib.runtime import artifacts, parallel
from flowlib.runtime.artifacts import Arrays, Artifact
from flowlib.runtime.code import code_hash
from flowlib.training import Model, Recipe, build, computed_with, load_parameters, to_numpy, train

SHARES = (0.6, 0.15, 0.25)  # of the normal images: to train, to choose, to calibrate
CROP = 96  # pixels on a side of what the local ratio is trained on
PATCHES, CROPS = 8192, 1024  # their numbers
KNOWN = 40  # training images, at most, that the maps are fitted on


def fit(
    images: Sequence[np.ndarray],
    sources: Sequence[Any] | None = None,
    settings: Settings | None = None,
    executor: Executor | None = None,
) -> Detector:
    """Fit on normal images, uint8 ``(C, H, W)`` each, of any sizes from 32x32 pixels on, grey and colour mixed.

    `sources` says what each image came from, such as its video: a source is never divided. `executor` runs the
    training; by default `flowlib.runtime.parallel.workers`. A fit that was interrupted goes on where it was.

    Raises DetectorError without an image, where one is smaller than 32x32, or without a source for each.
    """
    settings = settings or Settings()
    if len(images) == 0:
        raise DetectorError("there is no normal image to fit on: add images or videos of good parts")
    if sources is not None and len(sources) != len(images):
        raise DetectorError(f"there are {len(sources)} sources for {len(images)} images: give one for each")
    channels = max(len(image) for image in images)
    worked = [working(image, settings.size, channels) for image in images]
    names = list(range(len(images))) if sources is None else list(sources)
    if executor is None:
        with parallel.workers() as pool:
            return _fit(worked, names, channels, settings, pool)
    return _fit(worked, names, channels, settings, executor)


def _fit(
    images: list[np.ndarray], sources: list[Any], channels: int, settings: Settings, executor: Executor
) -> Detector:
    parts = divided(sources, settings.seed)
    training, choosing, calibrating = ([images[i] for i in part] for part in parts)
    side = min(CROP, *(8 * (min(image.shape[1:]) // 8) for image in images))
    seed = settings.seed
    ratio_recipe = Recipe("LocalRatio", {}, settings.ratio_steps, 8, learning_rate=3e-3, seed=seed)
    flow_recipe = Recipe("Glow", FLOW, settings.flow_steps, 16, seed=seed)
    jobs = [(training, CROPS, side, ratio_recipe), (training, PATCHES, PATCH, flow_recipe)]
    ratio, flow = (
        restored(found, recipe, (channels, size, size))
        for found, (_, _, size, recipe) in zip(parallel.run(trained, jobs, executor, "training"), jobs, strict=True)
    )
    few = min(KNOWN, len(training))
    known = maps.fit(flow, ratio, [training[i * len(training) // few] for i in range(few)], seed)  # of all sources
    models = (known, flow.state_dict(), ratio.state_dict(), channels, side)
    rng = np.random.default_rng(seed)
    copied = [i * max(1, len(choosing) // DAMAGED) % len(choosing) for i in range(DAMAGED)]  # of all sources
    damaged = [damaged_image(choosing[i], choosing, rng) for i in copied]
    nothing = [np.zeros(image.shape[1:], dtype=bool) for image in (*choosing, *calibrating)]
    work = [*zip((*choosing, *calibrating), nothing, strict=True), *damaged]
    chunks = [(*models, work[i : i + 8]) for i in range(0, len(work), 8)]
    read = [row for chunk in parallel.run(readings, chunks, executor, "choosing and calibrating") for row in chunk]
    normal, held, changed = np.split(np.arange(len(work)), [len(choosing), len(choosing) + len(calibrating)])
    choice = choice_table([read[i] for i in normal], [read[i] for i in changed])
    of_damaged = [sources[parts[1][i]] for i in copied]
    best = choice.loc[chosen(choice, [read[i] for i in normal], [read[i] for i in changed], of_damaged)]
    calibration = np.stack([read[i].scores.ravel() for i in held], axis=1)  # (maps * ways, n)
    levels = {
        name: float(np.quantile(np.concatenate([read[i].background[m] for i in held]), 0.995))
        for m, name in enumerate(maps.NAMES)
    }
    facts = {
        "images": [len(training), len(choosing), len(calibrating)],
        "sources": [len({sources[i] for i in part}) for part in parts],
        "shared": len(set(map(tuple, parts))) == 1,
    }
    return Detector(
        settings, channels, flow, ratio, known, choice, calibration, levels, best["map"], best["way"], facts
    )


def divided(sources: Sequence[Any], seed: int) -> list[np.ndarray]:
    """Indices of the images to train, choose and calibrate on; all, thrice, where there are under four sources."""
    names = list(dict.fromkeys(sources))
    if len(names) < 4:
        return [np.arange(len(sources))] * 3
    order = np.random.default_rng(seed).permutation(len(names))
    sizes = [max(1, round(share * len(names))) for share in SHARES]
    groups = np.split(order, [len(names) - sizes[1] - sizes[2], len(names) - sizes[2]])
    of_source = {name: group for group, members in enumerate(groups) for name in (names[i] for i in members)}
    group = np.array([of_source[source] for source in sources])
    return [np.flatnonzero(group == g) for g in range(3)]


def trained(images: list[np.ndarray], n: int, side: int, recipe: Recipe) -> Arrays:
    """One job: the parameters of a model trained on `n` random patches of the images."""
    patches = random_patches(images, n, side, recipe.seed)

    def make(checkpoint: Path) -> Artifact:
        model, _ = train(patches, recipe, checkpoint)
        return Artifact({f"model.{name}": to_numpy(value) for name, value in model.state_dict().items()}, {})

    parts = {
        "patches": artifacts.array_hash(patches),
        "recipe": asdict(recipe),
        "code": code_hash(__name__),
        **computed_with(),
    }
    return artifacts.cached("detector", parts, make).arrays


def restored(found: Arrays, recipe: Recipe, shape: tuple[int, int, int]) -> Any:
    model: Model = build(recipe, shape)
    load_parameters(model, Artifact(found, {}))
    return model.eval()
