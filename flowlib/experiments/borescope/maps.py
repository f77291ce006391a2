"""The borescope study (thesis section 5), on simulated videos: what notebook 05 prepares, and every method's maps."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowlib.autoencoders import ConvAutoencoder
from flowlib.baselines import KNearestNeighbours, PCAReconstruction
from flowlib.detector.model import PATCH, Detector, resized
from flowlib.detector.patches import dense_map, labelled_patches, padded, patch_map, random_patches
from flowlib.experiments.borescope.frames import Parts, Shot
from flowlib.glow import Glow
from flowlib.runtime import artifacts, parallel
from flowlib.runtime.artifacts import Arrays, Artifact
from flowlib.runtime.code import code_hash
from flowlib.training import Recipe, computed_with, score, to_device_of, to_numpy, trained

REDUCED = 8  # pixels on a side that patches are reduced to for PCA and nearest neighbours
REFERENCES = {"PCA of patches": "PCA", "kNN of patches": "kNN"}
REFERENCE_STRIDE = 16
CHUNK = 16  # frames of a job

Grouped = dict[str, list[np.ndarray]]  # maps of the frames of each group: "held", "normal", "defective"


# --- all of them ----------------------------------------------------------------------------------------------------


def every_method(
    parts: Parts, recipes: Mapping[str, Recipe], n: int, seeds: Sequence[int], executor: Executor
) -> dict[str, list[Grouped]]:
    """Maps of each of the `recipes` and of the references, by name and seed; `n` patches are learnt from.

    Each seed replaces the recipe's own; the references have one.
    """
    groups = {"held": parts.held, "normal": parts.normal, "defective": parts.defective}
    shots = [one for group in groups.values() for one in group]
    ends = np.cumsum([len(group) for group in groups.values()])

    def grouped(found: list[np.ndarray]) -> Grouped:
        return {name: found[end - len(group) : end] for (name, group), end in zip(groups.items(), ends, strict=True)}

    jobs = [(parts.training, replace(recipe, seed=seed), n, shots) for recipe in recipes.values() for seed in seeds]
    of_models = iter(parallel.run(model_maps, jobs, executor, "models"))
    found = {name: [grouped(next(of_models)) for _ in seeds] for name in recipes}
    others = [(name, parts.training, n, REFERENCE_STRIDE, 0, shots) for name in REFERENCES.values()]
    of_references = parallel.run(reference_maps, others, executor, "PCA and neighbours")
    return found | {name: [grouped(maps)] for name, maps in zip(REFERENCES, of_references, strict=True)}


def every_detector_map(
    detector: Detector, shots: Sequence[Shot], executor: Executor
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A detector's scores, ``(N,)``, and its maps, float32, of each shot."""
    jobs = [(detector, list(shots[i : i + CHUNK])) for i in range(0, len(shots), CHUNK)]
    found = [one for chunk in parallel.run(detector_maps, jobs, executor, "detector") for one in chunk]
    return np.array([score for score, _ in found]), [values for _, values in found]


def every_stride(
    training: list[Shot],
    recipe: Recipe,
    n: int,
    strides: Sequence[int],
    seeds: Sequence[int],
    shots: Sequence[Shot],
    executor: Executor,
    patch: int = PATCH,
) -> dict[int, list[list[np.ndarray]]]:
    """NLL maps of patches at each of the strides, of each shot, a list a seed; each seed replaces the recipe's own.

    `patch` is the patches' side, in pixels.
    """
    chunks = [list(shots[i : i + CHUNK]) for i in range(0, len(shots), CHUNK)]
    jobs = [
        (training, replace(recipe, seed=seed), n, stride, chunk, patch)
        for stride in strides
        for seed in seeds
        for chunk in chunks
    ]
    found = iter(parallel.run(stride_maps, jobs, executor, "strides"))
    return {stride: [[values for _ in chunks for values in next(found)[0]] for _ in seeds] for stride in strides}


# --- maps of every method: one job each, lists of ``(H, W)`` float32 -------------------------------------------------


def model_maps(training: list[Shot], recipe: Recipe, n: int, shots: list[Shot]) -> list[np.ndarray]:
    return (flow_maps if recipe.model == "Glow" else autoencoder_maps)(training, recipe, n, shots)


def flow_maps(training: list[Shot], recipe: Recipe, n: int, shots: list[Shot]) -> list[np.ndarray]:
    """Dense NLL in nats of a 32x32 patch; the flow is told the viewpoint where the recipe has classes."""
    conditional = recipe.options.get("classes", 0) > 0
    views = np.array([one.view for one in training])
    patches, labels = labelled_patches([one.image for one in training], views, n, PATCH, recipe.seed)

    def each(flow: Glow, one: Shot) -> np.ndarray:
        return dense_map(flow, one.image, PATCH, 4, one.view if conditional else None)

    model = trained(patches, recipe, labels if conditional else None)
    return mapped("flow", (patches, labels), recipe, shots, lambda one: each(model, one))  # type: ignore[arg-type]


def autoencoder_maps(training: list[Shot], recipe: Recipe, n: int, shots: list[Shot]) -> list[np.ndarray]:
    """Squared reconstruction error of a convolutional autoencoder, pixels in [0, 1], run over the whole image."""
    patches = random_patches([one.image for one in training], n, PATCH, recipe.seed)
    state = trained(patches, recipe).state_dict()

    def each(one: Shot) -> np.ndarray:
        H, W = one.image.shape[1:]
        batch = padded(one.image, 8)
        model = ConvAutoencoder(tuple(batch.shape[1:]), **recipe.options)
        model.load_state_dict(state)  # the weights know no size
        with torch.inference_mode():
            return to_numpy(model.squared_error(to_device_of(model, batch))[0, :H, :W])

    return mapped("autoencoder", (patches,), recipe, shots, each)


def reference_maps(
    name: str, training: list[Shot], n: int, stride: int, seed: int, shots: list[Shot]
) -> list[np.ndarray]:
    """ "PCA" or "kNN" of 32x32 patches reduced to 8x8, at a stride: the score of a patch, overlaps averaged."""
    patches = random_patches([one.image for one in training], n, PATCH, seed)
    model: Any = {"PCA": PCAReconstruction(32, seed), "kNN": KNearestNeighbours()}[name]
    model.fit(reduced(patches))

    def each(one: Shot) -> np.ndarray:
        return patch_map(lambda some: model.score_samples(reduced(some)), one.image, PATCH, stride)

    return mapped(name, (patches,), stride, shots, each)


def reduced(patches: np.ndarray) -> np.ndarray:
    """Means of 4x4 blocks: uint8 ``(n, C, 32, 32)`` to ``(n, C, 8, 8)``."""
    n, C = patches.shape[:2]
    blocks = patches.reshape(n, C, REDUCED, PATCH // REDUCED, REDUCED, PATCH // REDUCED)
    return np.rint(blocks.mean((3, 5))).astype(np.uint8)


def detector_maps(detector: Detector, shots: list[Shot]) -> list[tuple[float, np.ndarray]]:
    """A detector's score and map of each shot."""
    worked = [detector.working_map(one.image) for one in shots]
    return [
        (detector.score(values), resized(values, one.mask.shape)) for one, values in zip(shots, worked, strict=True)
    ]


def stride_maps(
    training: list[Shot], recipe: Recipe, n: int, stride: int | None, shots: list[Shot], patch: int = PATCH
) -> tuple[list[np.ndarray], float]:
    """NLL maps by the thesis's patches at a stride, or dense (at 4) where that is None, and the seconds an image."""
    patches = random_patches([one.image for one in training], n, patch, recipe.seed)
    flow = trained(patches, recipe)
    began = time.perf_counter()
    if stride is None:
        found = [dense_map(flow, one.image, patch, 4) for one in shots]  # type: ignore[arg-type]
    else:
        found = [patch_map(lambda some: score(flow, some), one.image, patch, stride) for one in shots]
    return [values.astype(np.float32) for values in found], (time.perf_counter() - began) / len(shots)


def mapped(
    name: str, training: tuple[np.ndarray, ...], settings: object, shots: list[Shot], each: Callable[[Shot], np.ndarray]
) -> list[np.ndarray]:
    """The map of each shot, float32, made once for what a model was trained on and its settings."""

    def make(_: Path) -> Artifact:
        return Artifact({f"{i:05d}": each(one).astype(np.float32) for i, one in enumerate(shots)}, {})

    parts = {
        "name": name,
        "training": [artifacts.array_hash(array) for array in training],
        "settings": repr(settings),
        "shots": artifacts.array_hash(np.concatenate([one.image.ravel() for one in shots])),
        "code": code_hash(__name__),
        **computed_with(),
    }
    arrays: Arrays = artifacts.cached("maps", parts, make).arrays
    return [arrays[f"{i:05d}"] for i in range(len(shots))]
