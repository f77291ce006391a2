"""The design of notebook 04: three models on gratings, and how their scores depend on frequency and intensity.

Throughout, `scores` are anomaly scores ``(S, N)`` of the same N test images by S training seeds, and `table` describes
those images, a row an image, as `flowlib.datasets.frequencies` does. Intervals are those of `flowlib.metrics`.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np
import pandas as pd

from flowlib.experiments.jobs import train_and_score_all
from flowlib.metrics import (
    Interval,
    difference_interval,
    mean_interval,
    positive_mean_interval,
    ratio_interval,
    slope_interval,
)
from flowlib.training import Recipe

TRAINING_SETS = ("all", "low", "high")


def split(table: pd.DataFrame, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of training and test images: a random half of each frequency each, in the table's order.

    The thesis does not say how it split its set (4.3).
    """
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(table), dtype=bool)
    for rows in table.groupby("frequency").indices.values():
        chosen[rng.permutation(rows)[: len(rows) // 2]] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def frequency_scores(
    images: np.ndarray,
    table: pd.DataFrame,
    recipes: Mapping[str, Recipe],
    training_sets: Sequence[str],
    seeds: Sequence[int],
    executor: Executor,
    label: str,
) -> tuple[dict[tuple[str, str], np.ndarray], dict[tuple[str, str], np.ndarray]]:
    """Train each model on each training set; scores of all test images and of the model's own training images.

    Arguments
    ---------
    images, table: all of `flowlib.datasets.frequencies`; halved by `split`, the same way for every seed.
    recipes: by the model's name in the report; each seed replaces the recipe's own.
    training_sets: of "all", "low" and "high": the group of frequencies trained on.

    Returns
    -------
    Two dicts by (model, training set): scores of the test images ``(S, N)``, and of the training images.
    """
    train, test = split(table)
    groups = table["group"].to_numpy()[train]
    fitted = {name: images[train[(groups == name) | (name == "all")]] for name in training_sets}
    jobs = [
        (fitted[name], replace(recipe, seed=seed), {"test": images[test], "train": fitted[name]})
        for recipe in recipes.values()
        for name in training_sets
        for seed in seeds
    ]
    results = iter(train_and_score_all(jobs, executor, label))
    of_test, of_train = {}, {}
    for model in recipes:
        for name in training_sets:
            scored = [next(results) for _ in seeds]
            of_test[model, name] = np.stack([each["test"] for each in scored])
            of_train[model, name] = np.stack([each["train"] for each in scored])
    return of_test, of_train


def frequency_means(table: pd.DataFrame, scores: np.ndarray, errors: bool) -> pd.DataFrame:
    """Mean score of each frequency with its interval over seeds and images: frequency, value, low, high.

    Of `errors`, which are positive, the mean and the interval are taken on a log scale.
    """
    interval = positive_mean_interval if errors else mean_interval
    indices = table.groupby("frequency").indices
    return pd.DataFrame([{"frequency": f, **interval(scores[:, rows])._asdict()} for f, rows in indices.items()])


def relative(scores: np.ndarray) -> np.ndarray:
    """Scores ``(S, N)`` of each seed as shares of that seed's mean, so that seeds and models of any scale compare."""
    return scores / scores.mean(axis=1, keepdims=True)


def frequency_slope(table: pd.DataFrame, scores: np.ndarray) -> Interval:
    """Slope of score against frequency, per cycle. Whole frequencies are resampled: others could have been drawn."""
    return slope_interval(table["frequency"].to_numpy(float), scores, clusters=table["frequency"].to_numpy())


def intensity_slope(table: pd.DataFrame, scores: np.ndarray) -> Interval:
    """Slope of score against intensity at equal frequency (one line's slope, ten intercepts), per 100 grey levels."""
    return slope_interval(centred(table, table["intensity"].to_numpy(float)) / 100, centred(table, scores))


def intensity_slopes(table: pd.DataFrame, scores: np.ndarray) -> pd.DataFrame:
    """Slope of score against intensity of each frequency, per 100 grey levels: frequency, value, low, high."""
    intensity = table["intensity"].to_numpy(float) / 100
    indices = table.groupby("frequency").indices
    return pd.DataFrame(
        [{"frequency": f, **slope_interval(intensity[r], scores[:, r])._asdict()} for f, r in indices.items()]
    )


def intensity_correlation(table: pd.DataFrame, scores: np.ndarray) -> Interval:
    """Spearman's rank correlation of score and intensity within a frequency, mean over frequencies, in [-1, 1].

    Ranks are taken within each frequency and scaled to unit variance there, which makes the pooled slope the mean of
    the correlations. Resamples keep the ranks of the whole sample.
    """
    x, y = (np.apply_along_axis(lambda row: scaled_ranks(table, row), -1, v) for v in (table["intensity"], scores))
    value, low, high = slope_interval(x, y)
    return Interval(value, max(low, -1.0), min(high, 1.0))


def stands_out(table: pd.DataFrame, scores: np.ndarray, frequency: int, apart: Sequence[int], errors: bool) -> Interval:
    """How far the mean score at `frequency` lies above the highest of the frequencies that are not in `apart`.

    A difference; of `errors` the ratio less 1. Which of the others is the highest is not chosen on the data that it is
    compared on: each is compared. The lower end is the lowest of the lower ends, as all must lie below (an
    intersection-union test, Berger 1982). The upper end is the lowest of upper ends that hold for all of them together
    (Bonferroni), since any one of the others decides. The interval covers 95 % at least.
    """
    frequencies = table["frequency"].to_numpy()
    others = sorted(set(frequencies) - set(apart) - {frequency})
    compared = ratio_interval if errors else difference_interval

    def each(level: float, resamples: int) -> list[Interval]:
        own = scores[:, frequencies == frequency]
        return [compared(own, scores[:, frequencies == other], level, resamples) for other in others]

    lowest = min(each(0.95, 1000), key=lambda interval: interval.low)
    joint = each(1 - 0.05 / len(others), 2000)
    ends = (min(one.value for one in joint), lowest.low, min(one.high for one in joint))
    return Interval(*(end - 1 if errors else end for end in ends))


def relative_gap(first: np.ndarray, second: np.ndarray) -> Interval:
    """``mean(first) / mean(second) - 1`` of positive scores ``(S, N)`` and ``(S, M)``, seeds on a log scale."""
    return Interval(*(end - 1 for end in ratio_interval(first, second)))


def centred(table: pd.DataFrame, values: np.ndarray) -> np.ndarray:
    """Values ``(..., N)`` less the mean of their frequency."""
    values = np.array(values, dtype=float)
    for rows in table.groupby("frequency").indices.values():
        values[..., rows] -= values[..., rows].mean(axis=-1, keepdims=True)
    return values


def scaled_ranks(table: pd.DataFrame, values: np.ndarray) -> np.ndarray:
    """Ranks of values ``(N,)`` within their frequency, mean 0 and variance 1 there; 0 where all are equal."""
    ranks = pd.Series(np.asarray(values, dtype=float)).groupby(table["frequency"].to_numpy()).rank()
    scaled = ranks.groupby(table["frequency"].to_numpy()).transform(lambda r: (r - r.mean()) / (r.std(ddof=0) or 1.0))
    return scaled.to_numpy()
