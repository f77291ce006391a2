"""The designs of notebooks 01 and 02: contaminated training sets, and every class against every other."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flowlib.datasets import load
from flowlib.metrics import Interval, auroc, auroc_interval
from flowlib.parallel import run
from flowlib.training import Recipe, train_and_score

EIGHTS = (7, 67, 674, 1348, 2696, 5851)  # thesis Table 1; the ones are always 6742


def by_class(name: str, split: str, limit: int | None = None) -> list[np.ndarray]:
    """Images ``(N_c, 1, 28, 28)`` of each class of a set, the first `limit` of each."""
    images, labels = load(name, split)
    return [images[labels == label][:limit] for label in range(labels.max() + 1)]


def contamination_cases() -> pd.DataFrame:
    """Thesis Table 1, a row a case, with both ways of counting the share of eights, in percent.

    The thesis's "% anomalies in the dataset" divides by the number of ones; of the training set, its 86.78 % is 46.5 %.
    """
    ones, eights = 6742, np.array(EIGHTS)
    return pd.DataFrame(
        {
            "case": np.arange(1, len(EIGHTS) + 1),
            "ones": ones,
            "eights": eights,
            "percent_of_ones": 100 * eights / ones,
            "percent_of_training_set": 100 * eights / (ones + eights),
        }
    )


def contaminated(normal: np.ndarray, anomalous: np.ndarray, count: int, seed: int) -> np.ndarray:
    """All of `normal` with `count` images of `anomalous`, drawn without replacement; ValueError if there are fewer."""
    if count > len(anomalous):
        raise ValueError(f"contaminated: {count} anomalous images asked for, there are {len(anomalous)}")
    chosen = np.random.default_rng((seed, count)).choice(len(anomalous), count, replace=False)
    return np.concatenate([normal, anomalous[chosen]])


def class_grid(
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    recipe: Recipe,
    seeds: Sequence[int],
    executor: Executor,
    label: str,
) -> np.ndarray:
    """Train on each class alone and score the test images of all: scores ``(seeds, trained class, tested class, n)``.

    `test` holds the same number n of images of each class.
    """
    tests = {f"{number:02d}": images for number, images in enumerate(test)}
    jobs = [(images, replace(recipe, seed=seed), tests) for seed in seeds for images in train]
    results = run(train_and_score, jobs, executor, label)
    grid = [np.stack([scores[name] for name in tests]) for scores in results]
    return np.stack(grid).reshape(len(seeds), len(train), len(test), -1)


def pair_table(scores: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """AUROC and interval of every ordered pair of a `class_grid`, a row a pair: normal, anomaly, auroc, low, high."""
    rows = []
    for a, normal in enumerate(names):
        for b, anomaly in enumerate(names):
            if a != b:
                interval = auroc_interval(scores[:, a, a], scores[:, a, b])
                rows.append((normal, anomaly, *interval))
    return pd.DataFrame(rows, columns=["normal", "anomaly", "auroc", "low", "high"])


def pair_matrix(scores: np.ndarray) -> np.ndarray:
    """Mean AUROC over seeds of every ordered pair ``(trained, tested)``; NaN on the diagonal."""
    seeds, classes = scores.shape[:2]
    matrix = np.full((classes, classes), np.nan)
    for a in range(classes):
        for b in range(classes):
            if a != b:
                matrix[a, b] = np.mean([auroc(scores[s, a, a], scores[s, a, b]) for s in range(seeds)])
    return matrix


def rule_accuracy(matrix: np.ndarray, covariate: np.ndarray, resamples: int = 2000, seed: int = 0) -> Interval:
    """How often 'fails where the anomalous class has more of it' is right, with an interval over classes.

    `matrix` is a `pair_matrix`; `covariate` the mean of each class, ``(classes,)``. Classes are resampled, and a pair
    is of two different classes, so that pairs that share a class move together.
    """
    more = covariate[None, :] > covariate[:, None]
    right = np.where(np.isnan(matrix), np.nan, (matrix < 0.5) == more)
    return class_bootstrap(right, resamples, seed)


def class_bootstrap(values: np.ndarray, resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean of ``(classes, classes)`` values over the pairs that are not NaN, classes resampled for the interval."""
    rng = np.random.default_rng(seed)
    classes = len(values)
    means = []
    for _ in range(resamples):
        chosen = rng.integers(classes, size=classes)
        drawn = values[np.ix_(chosen, chosen)]
        if not np.isnan(drawn).all():
            means.append(np.nanmean(drawn))
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(np.nanmean(values)), float(low), float(high))


def covariate_detectors(test: Sequence[np.ndarray], covariates: Mapping[str, Callable]) -> dict[str, np.ndarray]:
    """For each covariate the `pair_matrix` of the "detector" that calls an image anomalous where it has more of it.

    No training: this is what a pixel statistic alone says of each ordered pair, ``(classes, classes)``.
    """
    matrices = {}
    for name, measure in covariates.items():
        values = np.stack([measure(images) for images in test])  # (classes, n)
        matrices[name] = pair_matrix(np.repeat(values[None, None], len(test), axis=1))
    return matrices


def left_out_accuracy(features: np.ndarray, fails: np.ndarray) -> np.ndarray:
    """Whether a logistic regression on pairs without a class predicts the outcomes of the pairs with it.

    `features` ``(classes, classes, F)`` and `fails` bool ``(classes, classes)`` of ordered pairs; the diagonal is not
    used. For each two classes, the regression is fitted on all pairs in which neither takes part and asked for the
    two orders of theirs. Returns correctness 1 or 0 ``(classes, classes)``, NaN on the diagonal.
    """
    classes = len(fails)
    right = np.full((classes, classes), np.nan)
    for a in range(classes):
        for b in range(a + 1, classes):
            others = [c for c in range(classes) if c not in (a, b)]
            fitted = [(i, j) for i in others for j in others if i != j]
            x = np.stack([features[pair] for pair in fitted])
            y = np.array([fails[pair] for pair in fitted])
            model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y) if len(set(y)) > 1 else None
            for pair in ((a, b), (b, a)):
                predicted = y[0] if model is None else model.predict(features[pair][None])[0]
                right[pair] = predicted == fails[pair]
    return right
