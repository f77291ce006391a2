"""The jobs of notebook 06, and how it chooses among scores (`flowlib.scoring`) on normal images alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from flowlib import training
from flowlib.baselines import KNearestNeighbours, PCAReconstruction, jpegls_size
from flowlib.datasets import by_class, check_images, load
from flowlib.experiments import made_up, squares
from flowlib.experiments.local_ratio import CHANGES, pixel_statistics, train_ratio
from flowlib.glow import Glow
from flowlib.metrics import Interval, auroc, auroc_interval
from flowlib.runtime import artifacts
from flowlib.runtime.artifacts import Arrays, Artifact
from flowlib.runtime.code import code_hash
from flowlib.scoring import (
    SCORES,
    Readings,
    ScoreFunction,
    edges,
    in_batches,
    likelihood_ratio,
    nearest,
    of_groups,
    read,
    rooted,
)
from flowlib.training import Recipe, to_numpy, trained

FASHION, DIGITS, EIGHTS = "Fashion-MNIST", "MNIST", "eights"  # what is normal
TASKS = {  # what is normal, and what is not
    "F → M": (FASHION, "MNIST"), "M → F": (DIGITS, "Fashion-MNIST"), "8 → 1": (EIGHTS, "ones"),
    "F → up-down": (FASHION, "flipped up-down"), "F → left-right": (FASHION, "flipped left-right"),
    "F → noise": (FASHION, "uniform noise"), "F → constant": (FASHION, "constant"),
    "M → noise": (DIGITS, "uniform noise"), "M → constant": (DIGITS, "constant"),
}  # fmt: skip
TARGETS = {  # AUROC to reach; of garments one class each, the gain over the likelihood
    "F → M": 0.95, "M → F": 0.999, "8 → 1": 0.99, "F → up-down": 0.75, "MNIST, one class": 0.948,
    "Fashion-MNIST, one class": 0.10,
}  # fmt: skip
PUBLISHED = pd.DataFrame(
    [
        ("F → M", "raw flow likelihood", 0.291, "Kamkari et al. 2024"),
        ("F → M", "likelihood with dimension", 0.950, "Kamkari et al. 2024"),
        ("F → M", "DoSE", 1.00, "Morningstar et al. 2021"),
        ("M → F", "raw flow likelihood", 0.999, "Kamkari et al. 2024"),
        ("F → up-down", "DoSE", 0.75, "Morningstar et al. 2021"),
        ("MNIST, one class", "Deep SVDD", 0.948, "Ruff et al. 2018"),
        ("MNIST, '1' normal", "Deep SVDD", 0.997, "Ruff et al. 2018"),
        ("MNIST, '8' normal", "Deep SVDD", 0.939, "Ruff et al. 2018"),
        ("Fashion-MNIST, one class", "Deep SVDD", 0.848, "after Ruff et al. 2018"),
    ],
    columns=["task", "method", "published", "source"],
)


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


@dataclass(frozen=True)
class NormalSet:
    """What a flow learns as normal, uint8 ``(N, 1, 28, 28)``: training images, its recipe, and the tests by name."""

    train: np.ndarray
    recipe: Recipe
    tests: dict[str, np.ndarray]


def normal_sets(of_set: Recipe, of_class: Recipe, score_images: int, held_images: int) -> dict[str, NormalSet]:
    """The three normal sets of the first nine tasks: garments, digits, and eights.

    Of each test set the last `held_images` are kept apart for the choice, as "held" and made wrong in every way of
    `made_up_images`; up to `score_images` of the rest are "normal", and as many of what is anomalous.
    """

    def halves(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return images[:-held_images][:score_images], images[-held_images:]

    (garments, held_garments), (digits, held_digits) = (
        halves(load(name, "test")[0]) for name in ("fashion-mnist", "mnist")
    )
    by_digit = by_class("mnist", "test")
    eights, held_eights = halves(by_digit[8])

    def choosing(held: np.ndarray) -> dict[str, np.ndarray]:
        return {"held": held, **made_up_images(held)}

    return {
        FASHION: NormalSet(load("fashion-mnist", "train")[0], of_set, {
            "normal": garments, "MNIST": digits,
            "flipped up-down": garments[:, :, ::-1], "flipped left-right": garments[..., ::-1],
            **outliers(garments, score_images), **choosing(held_garments),
        }),
        DIGITS: NormalSet(load("mnist", "train")[0], of_set, {
            "normal": digits, "Fashion-MNIST": garments, **outliers(digits, score_images), **choosing(held_digits),
        }),
        EIGHTS: NormalSet(by_class("mnist", "train")[8], of_class, {
            "normal": eights, "ones": by_digit[1][:score_images], **choosing(held_eights),
        }),
    }  # fmt: skip


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


# --- the tables of the report -------------------------------------------------------------------------------------


def stacked(*kinds: Sequence[Arrays]) -> Arrays:
    """Scores ``(S, n)`` under "score/test" from the jobs of all seeds, ``(n,)``, of each kind of job in turn."""
    return {name: np.stack([arrays[name] for arrays in jobs]) for jobs in kinds for name in jobs[0]}


def score_names(results: Arrays) -> list[str]:
    """The scores of a job, in their order."""
    return list(dict.fromkeys(name.split("/")[0] for name in results))


def task_table(results: Mapping[str, Arrays], tasks: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """AUROC of every score on every task, with intervals: score, task, auroc, low, high.

    `results` are `stacked` scores by normal set; a task is a normal set and the test that is anomalous there.
    """
    rows = []
    for task, (normal_set, test) in tasks.items():
        scores = results[normal_set]
        for score in score_names(scores):
            interval = auroc_interval(scores[f"{score}/normal"], scores[f"{score}/{test}"], resamples=400)
            rows.append({"score": score, "task": task, **interval._asdict()})
    return pd.DataFrame(rows).rename(columns={"value": "auroc"})


def class_grids(*kinds: Sequence[Arrays]) -> dict[str, np.ndarray]:
    """Scores of each class under each class's flow, ``(S, trained class, tested class, n)``, by score.

    Each kind of job: of every class in turn, again for every seed; its tests are the classes, "0", "1" and so on.
    """
    grids = {}
    for jobs in kinds:
        for score in score_names(jobs[0]):
            tests = [name for name in jobs[0] if name.startswith(f"{score}/")]
            grid = np.stack([[arrays[test] for test in tests] for arrays in jobs])  # (S * trained, tested, n)
            grids[score] = grid.reshape(-1, len(tests), *grid.shape[1:])
    return grids


def one_class_table(grids: Mapping[tuple[str, str], np.ndarray], classes: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """AUROC of each class as the normal one, against the others together: set, normal, score, auroc, low, high.

    `grids` are those of `class_grids`, by set and score; `classes` the names of a set's classes.
    """
    rows = []
    for (name, score), grid in grids.items():
        for c, label in enumerate(classes[name]):
            others = np.delete(grid[:, c], c, axis=1).reshape(len(grid), -1)
            interval = auroc_interval(grid[:, c, c], others, resamples=400)
            rows.append({"set": name, "normal": label, "score": score, **interval._asdict()})
    return pd.DataFrame(rows).rename(columns={"value": "auroc"})


def targets_met(found: Mapping[str, Sequence[Interval]], bounds: Sequence[float]) -> dict[str, int]:
    """How many targets each score meets by its value, of those in `bounds`; intervals in their order."""
    return {
        score: sum(interval.value >= bound for interval, bound in zip(intervals, bounds, strict=True))
        for score, intervals in found.items()
    }


def group_table(
    results: Mapping[str, Arrays], tasks: Mapping[str, tuple[str, str]], sizes: Sequence[int]
) -> pd.DataFrame:
    """AUROC of the typicality of groups of images, of the `sizes` that leave two groups.

    Columns: task, sides, size, auroc, low, high. Arguments as those of `task_table`.
    """
    rows = []
    for task, (normal_set, test) in tasks.items():
        held, normal, anomalous = (results[normal_set][f"likelihood/{name}"] for name in ("held", "normal", test))
        for size in (size for size in sizes if 2 * size <= normal.shape[1]):
            for sides in ("one-sided", "two-sided"):
                of = partial(of_groups, size=size, two_sided=sides == "two-sided")
                of_normal, of_anomalous = (
                    np.stack([of(*each) for each in zip(nll, held, strict=True)]) for nll in (normal, anomalous)
                )
                interval = auroc_interval(of_normal, of_anomalous, resamples=400)
                rows.append({"task": task, "sides": sides, "size": size, **interval._asdict()})
    return pd.DataFrame(rows).rename(columns={"value": "auroc"})


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
