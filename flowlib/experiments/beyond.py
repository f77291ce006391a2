"""The jobs of notebook 06, and how it chooses among scores (`flowlib.scoring`) on normal images alone."""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from flowlib import training
from flowlib.baselines import KNearestNeighbours, PCAReconstruction, jpegls_size
from flowlib.datasets import check_images
from flowlib.detector import made_up
from flowlib.detector.local_ratio import CHANGES, pixel_statistics, train_ratio
from flowlib.experiments import squares
from flowlib.glow import Glow
from flowlib.metrics import auroc
from flowlib.runtime import artifacts
from flowlib.runtime.artifacts import Arrays, Artifact
from flowlib.runtime.code import code_hash
from flowlib.scoring import SCORES, Readings, ScoreFunction, edges, in_batches, likelihood_ratio, nearest, read, rooted
from flowlib.training import Recipe, to_numpy, trained


def scored(
    images: np.ndarray, recipe: Recipe, normal: np.ndarray, tests: dict[str, np.ndarray], ratio_steps: int = 0
) -> Arrays:
    """One job: every score of every test set, float64 ``(n,)`` each, under "score/test".

    The flow is that of `recipe` and `images`; the scores are fitted on `normal`. With `ratio_steps` above 0 the two
    ratios are added: the background flow by the recipe's steps, the local network by `ratio_steps`.
    """

    def make(_: Path) -> Artifact:
        flow = trained(images, recipe)
        if not isinstance(flow, Glow):
            raise ValueError(f"scored: the recipe's model is {recipe.model}, it must be Glow")
        fits = dict(SCORES)
        if ratio_steps:
            fits["likelihood ratio"] = partial(likelihood_ratio, recipe=recipe)
            fits["local ratio"] = partial(
                local_ratio, steps=ratio_steps, batch_size=recipe.batch_size, seed=recipe.seed
            )
        of_normal = read(flow, normal)
        functions: dict[str, ScoreFunction] = {name: fit(of_normal) for name, fit in fits.items()}
        arrays: Arrays = {}
        for test, some in tests.items():
            readings = read(flow, some)
            arrays |= {f"{name}/{test}": function(readings) for name, function in functions.items()}
        return Artifact(arrays, {})

    parts = {
        "model": training.model_parts(images, recipe),
        "normal": artifacts.array_hash(normal),
        "tests": {name: artifacts.array_hash(test) for name, test in tests.items()},
        "ratio_steps": ratio_steps,
        "code": code_hash(__name__),
    }
    return artifacts.cached("scores", parts, make).arrays


def pixel_scored(normal: np.ndarray, tests: dict[str, np.ndarray]) -> Arrays:
    """One job: what pixels say without a flow, fitted on `normal`; as `scored`."""

    def make(_: Path) -> Artifact:
        of_edges = nearest(rooted(edges(normal)))
        components = min(PCAReconstruction().components, len(normal))
        functions = {
            "JPEG-LS size": jpegls_size,
            "PCA reconstruction": PCAReconstruction(components).fit(normal).score_samples,
            "5 nearest neighbours": KNearestNeighbours().fit(normal).score_samples,
            "neighbours, edges": lambda images: of_edges(rooted(edges(images))),
        }
        return Artifact({f"{n}/{t}": f(some) for n, f in functions.items() for t, some in tests.items()}, {})

    parts = {
        "normal": artifacts.array_hash(normal),
        "tests": {name: artifacts.array_hash(test) for name, test in tests.items()},
        "code": code_hash(__name__),
    }
    return artifacts.cached("scores", parts, make).arrays


def outliers(images: np.ndarray, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """What is no picture of anything, uint8, in the shape of `images`: `count` of uniform noise, and as many constants.

    Each constant image has one grey level; the levels are spread evenly over 0 to 255.
    """
    shape = (count, *images.shape[1:])
    levels = np.linspace(0, 255, count).round().astype(np.uint8)
    return {
        "uniform noise": np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8),
        "constant": np.broadcast_to(levels[:, None, None, None], shape).copy(),
    }


def made_up_images(images: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Images that are wrong in a made-up way, by its name, from normal ones: uint8 ``(N, 1, H, W)``, same shape.

    None is a flip, noise, constant or of another class: what the tests of notebook 06 ask for is not among them.
    """
    check_images(images)
    rng = np.random.default_rng(seed)
    others = np.roll(images, 1, axis=0)
    N, _, H, W = images.shape
    local = images
    for _ in range(CHANGES):
        local, _ = made_up.made_up_changes(local, rng)
    joined, erased, tilted = images.copy(), images.copy(), images.copy()
    joined[:, :, H // 2 :] = others[:, :, H // 2 :]
    for image, half in zip(erased, rng.integers(0, [2] * N), strict=True):
        image[:, :, half * W // 2 : (half + 1) * W // 2] = 0
    angles = rng.uniform(30, 60, N) * np.where(rng.random(N) < 0.5, 1, -1)
    for image, angle in zip(tilted, angles, strict=True):
        image[0] = Image.fromarray(image[0]).rotate(angle, Image.Resampling.BILINEAR)
    return {
        "local changes": local,
        "two halves": joined,
        "half erased": erased,
        "two blended": ((images.astype(np.uint16) + others) // 2).astype(np.uint8),
        "tilted": tilted,
        "blurred": gaussian_filter(images, (0, 0, 1, 1)),
        "darker": images // 2,
    }


def choice_table(results: Sequence[Arrays], kinds: Iterable[str]) -> pd.DataFrame:
    """AUROC of each kind of made-up image against "held" normals, a row a score, the highest mean first.

    `results` are those of `scored`, one a normal set and seed, over which the AUROCs are averaged.
    """
    kinds = list(kinds)
    names = [name.removesuffix("/held") for name in results[0] if name.endswith("/held")]
    rows = [
        [np.mean([auroc(result[f"{name}/held"], result[f"{name}/{kind}"]) for result in results]) for kind in kinds]
        for name in names
    ]
    table = pd.DataFrame(rows, pd.Index(names, name="score"), kinds)
    return table.assign(mean=table.mean(axis=1)).sort_values("mean", ascending=False, kind="stable")


def local_ratio(normal: Readings, steps: int = 200, batch_size: int = 16, seed: int = 0) -> ScoreFunction:
    """Highest window mean of a local log-ratio, changed against unchanged, nats (`flowlib.experiments.squares`).

    A small network learns on the pixels of normal images to tell made-up changes: cut-and-paste, grey-level shifts,
    bumps, scratches. The window is chosen on a tenth of the normal images, which the network does not see.
    """
    held, images = np.split(normal.images, [math.ceil(len(normal.images) / 10)])
    network = train_ratio(images, pixel_statistics, steps, batch_size, seed)

    @torch.inference_mode()
    def maps(images: np.ndarray) -> np.ndarray:  # (N, H, W)
        batches = in_batches(network, images)
        return np.concatenate([to_numpy(network(pixel_statistics(batch))[:n, 0]) for batch, n in batches])

    changed, _ = made_up.made_up_changes(held, np.random.default_rng(seed))
    window = squares.best_window(maps(held), maps(changed))
    return lambda readings: squares.window_score(maps(readings.images), window).astype(np.float64)
