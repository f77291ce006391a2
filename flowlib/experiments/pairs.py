"""The designs of notebooks 01 and 02: contaminated training sets, and every class against every other."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import t

from flowlib.experiments.jobs import train_and_score_all
from flowlib.metrics import Interval, auroc, auroc_interval, stretch_of
from flowlib.training import Recipe

Classes = Sequence[np.ndarray]  # images by class; of a test set as many of each


def class_grid(
    train: Classes, test: Classes, recipe: Recipe, seeds: Sequence[int], executor: Executor, label: str
) -> np.ndarray:
    """Train on each class alone and score the test images of all, ``(seeds, trained class, tested class, n)``."""
    return class_grids({label: (train, test, seeds)}, recipe, executor, label)[label]


def class_grids(
    sets: Mapping[str, tuple[Classes, Classes, Sequence[int]]], recipe: Recipe, executor: Executor, label: str
) -> dict[str, np.ndarray]:
    """`class_grid` of several training and test sets, with the seeds of each, by name."""
    jobs = []
    for train, test, seeds in sets.values():
        tests = {str(number): images for number, images in enumerate(test)}
        jobs += [(images, replace(recipe, seed=seed), tests) for seed in seeds for images in train]
    results = iter(train_and_score_all(jobs, executor, label))
    grids = {}
    for name, (train, test, seeds) in sets.items():
        scores = [next(results) for _ in seeds for _ in train]
        grid = np.stack([of_one[str(number)] for of_one in scores for number in range(len(test))])
        grids[name] = grid.reshape(len(seeds), len(train), len(test), -1)
    return grids


def pair_table(scores: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """AUROC and interval of every ordered pair of a `class_grid`, a row a pair: normal, anomaly, auroc, low, high."""
    rows = []
    for a, normal in enumerate(names):
        for b, anomaly in enumerate(names):
            if a != b:
                interval = auroc_interval(scores[:, a, a], scores[:, a, b])
                rows.append((normal, anomaly, *interval))
    return pd.DataFrame(rows, columns=["normal", "anomaly", "auroc", "low", "high"])


def failing_pairs(table: pd.DataFrame) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Of a `pair_table`, the pairs (normal, anomaly) whose whole interval lies below one half, and those of them whose
    reverse lies above it: they fail one way only."""
    fails = [(row.normal, row.anomaly) for row in table[table["high"] < 0.5].itertuples()]
    behaves = {(row.normal, row.anomaly) for row in table[table["low"] > 0.5].itertuples()}
    return fails, [(normal, anomaly) for normal, anomaly in fails if (anomaly, normal) in behaves]


def pair_matrix(scores: np.ndarray) -> np.ndarray:
    """Mean AUROC over seeds of every ordered pair ``(trained, tested)``; NaN on the diagonal."""
    seeds, classes = scores.shape[:2]
    matrix = np.full((classes, classes), np.nan)
    for a in range(classes):
        for b in range(classes):
            if a != b:
                matrix[a, b] = np.mean([auroc(scores[s, a, a], scores[s, a, b]) for s in range(seeds)])
    return matrix


def rule_accuracy(
    matrix: np.ndarray, covariate: np.ndarray, resamples: int = 2000, seed: int = 0, asked: np.ndarray | None = None
) -> Interval:
    """How often 'fails where the anomalous class has more of it' is right, with an interval over classes.

    `matrix` is a `pair_matrix`; `covariate` the mean of each class, ``(classes,)``, or of each ordered pair,
    ``(classes, classes)``, how much more the anomalous class has. Classes are resampled, and a pair is of two different
    classes, so that pairs that share a class move together. `asked`, bool ``(classes, classes)``: of these pairs only.
    """
    more = covariate[None, :] - covariate[:, None] if covariate.ndim == 1 else covariate
    left_out = np.isnan(matrix) if asked is None else np.isnan(matrix) | ~asked
    right = np.where(left_out, np.nan, (matrix < 0.5) == (more > 0))
    return class_bootstrap(right, resamples, seed)


def class_bootstrap(values: np.ndarray, resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean of ``(classes, classes)`` values over the pairs that are not NaN, classes resampled for the interval.

    Classes are few, so deviations between resamples are stretched as those of clusters are in `flowlib.metrics`; the
    ends are cut to the range of the values.
    """
    rng = np.random.default_rng(seed)
    classes = len(values)
    means = []
    for _ in range(resamples):
        chosen = rng.integers(classes, size=classes)
        drawn = values[np.ix_(chosen, chosen)]
        if not np.isnan(drawn).all():
            means.append(np.nanmean(drawn))
    value = float(np.nanmean(values))
    ends = value + stretch_of(classes, classes - 1) * (np.quantile(means, [0.025, 0.975]) - value)
    low, high = np.clip(ends, np.nanmin(values), np.nanmax(values))
    return Interval(value, float(low), float(high))


def one_order(matrix: np.ndarray) -> Interval:
    """How much of a `pair_matrix` one number of each row and one of each column explain: the share of its variance
    under the best sum of both, with a jackknife interval over classes.

    1 where every flow puts the classes in the same order, at the same distances. Matrices ``(n, n)`` of random numbers
    have (2 n - 2) / (n (n - 1) - 1) on average, 0.2 for ten classes. At least four classes.
    """
    classes = len(matrix)
    value = explained(matrix)
    kept = [np.delete(np.arange(classes), one) for one in range(classes)]
    without = np.array([explained(matrix[np.ix_(rest, rest)]) for rest in kept])
    error = np.sqrt((classes - 1) * without.var())  # Efron & Stein 1981
    reach = float(t.ppf(0.975, classes - 1) * error)
    return Interval(value, max(value - reach, 0.0), min(value + reach, 1.0))


def explained(matrix: np.ndarray) -> float:
    """The share of the variance off the diagonal that row and column effects explain."""
    rows, columns = np.nonzero(~np.eye(len(matrix), dtype=bool))
    values, effects = matrix[rows, columns], np.eye(len(matrix))
    design = np.hstack([effects[rows], effects[columns]])
    left = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(1 - left.var() / values.var())


def fail_both_ways(matrix: np.ndarray) -> int:
    """How many pairs of classes have an AUROC below one half whichever of the two is trained on."""
    return int(((matrix < 0.5) & (matrix.T < 0.5)).sum()) // 2


def inclusion(images: Sequence[np.ndarray], pairs: int = 500, seed: int = 0) -> np.ndarray:
    """How much of the ink of a class's image lies within that of another's, mean over random `pairs` of images.

    Of uint8 images ``(N, 1, H, W)`` by class; ``(classes, classes)`` in [0, 1], row the including and column the
    included class: the sum of the lower of both grey levels over that of the included image (a fuzzy set's inclusion).
    """
    rng = np.random.default_rng(seed)
    drawn = [some[rng.integers(len(some), size=pairs)].astype(float).reshape(pairs, -1) for some in images]
    shares = [[(np.minimum(a, b).sum(1) / b.sum(1)).mean() for b in drawn] for a in drawn]
    return np.array(shares)
