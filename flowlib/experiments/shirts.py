"""All that notebook 03 trains and scores, in one pool of processes, sorted by what is asked of it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flowlib.experiments import squares
from flowlib.experiments.squares import INPUTS, Marked, Scores, stacked, window_scores
from flowlib.metrics import auroc_interval
from flowlib.runtime.artifacts import Arrays
from flowlib.runtime.parallel import run
from flowlib.training import Recipe, train_and_score

RATIO_SETS = ("held", "changed", "normal", "unmarked", "marked")


class Seeds(NamedTuple):
    """Training seeds of Glow and all that is compared with it seed by seed, of the autoencoder, and of controls."""

    flow: list[int]
    autoencoder: list[int]
    control: list[int]


class Runs(NamedTuple):
    """What the models say; S is the number of a model's seeds, n that of the images of a set.

    flow_maps, error_maps: by set of images, ``(S, n, 28, 28)``: NLL in nats, squared error of pixels in [0, 1].
    nll, error: the images' scores, ``(S, n)``: their sums and means.
    rebuilt: the autoencoder's reconstructions of the marked images, ``(S, n, 28, 28)``.
    controls: by what was changed, a result a seed. saved: by model, then by set. larger: NLL by size of square.
    by_bottleneck: errors of normal and marked images by the numbers in the autoencoder's middle.
    ratio_maps: of the local ratio by its inputs, then by set. blind: by class, the same of pixels, ``(1, n, 28, 28)``
    for each seed.
    """

    flow_maps: dict[str, np.ndarray]
    error_maps: dict[str, np.ndarray]
    nll: dict[str, np.ndarray]
    error: dict[str, np.ndarray]
    rebuilt: np.ndarray
    controls: dict[str, Sequence[Arrays]]
    saved: dict[str, dict[str, np.ndarray]]
    larger: dict[str, np.ndarray]
    by_bottleneck: dict[int, Scores]
    ratio_maps: dict[str, dict[str, np.ndarray]]
    blind: dict[str, list[dict[str, np.ndarray]]]


def every_run(
    shirts: Marked,
    blind: Mapping[str, Marked],
    glow: Recipe,
    autoencoder: Recipe,
    ratio_steps: int,
    noise_draws: int,
    seeds: Seeds,
    executor: Executor,
) -> Runs:
    """Train and score everything; each of the seeds replaces a recipe's own."""
    sets = {"train": shirts.train[: len(shirts.normal)], **shirts.sets("held", "normal", "unmarked", "marked")}
    pairs = shirts.sets("normal", "marked")
    saved, larger = squares.saved_sets(shirts), squares.larger_squares(shirts)
    narrow = {n: replace(autoencoder, options={"channels": c}) for n, c in squares.BOTTLENECKS.items()}

    def of_seeds(recipe: Recipe, chosen: Sequence[int], tests: dict, images: np.ndarray = shirts.train) -> list[tuple]:
        return [(images, replace(recipe, seed=seed), tests) for seed in chosen]

    def ratios(of: Marked, inputs: str, chosen: Sequence[int]) -> list[tuple]:
        tests = of.sets(*RATIO_SETS)
        return [(of.train, replace(glow, seed=s), inputs, ratio_steps, glow.batch_size, s, tests) for s in chosen]

    # Each group of jobs by name, a result a seed.
    changed = squares.controlled_runs(shirts.train, glow)
    of_controls = {name: of_seeds(recipe, seeds.control, pairs, some) for name, (some, recipe) in changed.items()}
    controls = grouped(run(train_and_score, flat(of_controls), executor, "controlled runs"), of_controls)
    noise = [(*job, noise_draws) for job in of_seeds(glow, seeds.control, pairs)]
    noise_name = f"mean over {noise_draws} draws of dequantisation noise"
    controls[noise_name] = run(squares.noise_averaged, noise, executor, "noise")

    of_maps = {"Glow": of_seeds(glow, seeds.flow, sets), "AE": of_seeds(autoencoder, seeds.autoencoder, sets)}
    mapped = grouped(run(squares.train_and_map, flat(of_maps), executor, "Glow and autoencoder"), of_maps)
    flow_maps, error_maps = ({name: stacked(found, name) for name in sets} for found in mapped.values())

    of_scores: dict[object, list[tuple]] = {
        "Glow": of_seeds(glow, seeds.flow, saved | larger),
        "AE": of_seeds(autoencoder, seeds.autoencoder, saved),
        **{numbers: of_seeds(recipe, seeds.flow, pairs) for numbers, recipe in narrow.items()},
    }
    scored = grouped(run(train_and_score, flat(of_scores), executor, "saved, larger, bottlenecks"), of_scores)

    of_ratios = {i: ratios(shirts, i, s) for i, s in zip(INPUTS, (seeds.flow, seeds.control), strict=True)}
    ratio = grouped(run(squares.local_ratio, flat(of_ratios), executor, "local ratio"), of_ratios)
    of_blind = {name: ratios(of, "pixels", seeds.control) for name, of in blind.items()}
    unseen = grouped(run(squares.local_ratio, flat(of_blind), executor, "local ratio, blind"), of_blind)
    return Runs(
        flow_maps,
        error_maps,
        {name: maps.sum((2, 3)) for name, maps in flow_maps.items()},
        {name: maps.mean((2, 3)) for name, maps in error_maps.items()},
        stacked(mapped["AE"], "marked reconstruction"),
        controls,
        {
            "Glow": {name: stacked(scored["Glow"], name) for name in saved},
            "convolutional autoencoder": {name: stacked(scored["AE"], name) for name in saved},
        },
        {name: stacked(scored["Glow"], name) for name in larger},
        {n: (stacked(scored[n], "normal"), stacked(scored[n], "marked")) for n in narrow},
        {inputs: {name: stacked(found, name) for name in RATIO_SETS} for inputs, found in ratio.items()},
        {c: [{name: stacked([one], name) for name in RATIO_SETS} for one in found] for c, found in unseen.items()},
    )


def flat(groups: Mapping[Any, list[tuple]]) -> list[tuple]:
    return [job for jobs in groups.values() for job in jobs]


def grouped(results: Sequence[Arrays], groups: Mapping) -> dict:
    """Results in the order of `flat` jobs, back under the names of their groups."""
    left = iter(results)
    return {name: [next(left) for _ in jobs] for name, jobs in groups.items()}


def window_table(runs: Runs) -> tuple[pd.DataFrame, dict[str, dict[str, np.ndarray]]]:
    """The window chosen for each of the local ratio's inputs, and how well it tells made-up changes: inputs, window,
    auroc, low, high; then the scores of all sets, ``(S, n)``, by "local ratio, INPUTS"."""
    rows, scores = [], {}
    for inputs, maps in runs.ratio_maps.items():
        window, found = window_scores(maps)
        interval = auroc_interval(found["held"], found["changed"])
        rows.append({"inputs": inputs, "window": window, **interval._asdict()})
        scores[f"local ratio, {inputs}"] = found
    return pd.DataFrame(rows).rename(columns={"value": "auroc"}), scores


def blind_table(runs: Runs, blind: Mapping[str, Marked]) -> pd.DataFrame:
    """AUROC of the local ratio on classes that played no part in its design: class, size, window, auroc, low, high."""
    rows = []
    for name, of in blind.items():
        for maps in runs.blind[name]:
            window, scores = window_scores(maps)
            for size in squares.SIZES:
                interval = auroc_interval(scores["normal"], scores["marked"][:, of.table["size"] == size])
                rows.append({"class": name, "size": f"{size}x{size}", "window": window, **interval._asdict()})
    return pd.DataFrame(rows).rename(columns={"value": "auroc"})
