"""Numbers of the report: ranking quality with intervals, and conformal thresholds.

Scores are higher for more anomalous. Ranking measures use the order alone, so they accept infinite scores; NaN is
refused everywhere. Arguments that do not fit raise a ValueError that names them.

Intervals are percentile intervals of a two-level bootstrap over crossed factors (Owen 2007, "pigeonhole bootstrap"):
test images and training seeds are resampled independently, the same images for every seed, since all seeds score the
same images. S seeds understate their variance by (S - 1) / S and few of them by more, so deviations between seeds are
stretched by sqrt(S / (S - 1)) and by Student's t quantile over the normal's (2.2 with three seeds). In simulation (1000
normal data sets each) a nominal 95 % interval then covers 93 to 96 % with 2 to 10 seeds where seeds alone make the
spread. With one seed the interval speaks of the images only.

Images that share a cause, such as the frames of one part, are no independent draws: `clusters` names what each came
from, and whole clusters are resampled (Cameron, Gelbach & Miller 2008). Clusters are few as seeds are, so deviations
between them are stretched in the same way, n of them by sqrt(n / (n - 1)) and Student's t. One cluster says nothing of
its spread, and the interval is all that the estimate can be.
"""

from fractions import Fraction
from math import floor, inf, sqrt
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata, t
from sklearn.metrics import average_precision_score


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval, in the unit of the estimate."""

    value: float
    low: float
    high: float


def auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Area under the ROC curve in [0, 1]: the chance that an anomalous image outscores a normal one; ties count half.

    Arguments
    ---------
    normal, anomalous: scores of the two groups of images, shapes (N,) and (M,).

    Source: Hanley & McNeil 1982 (the Mann-Whitney form).
    """
    normal, anomalous = np.sort(_scores(normal, "normal")), _scores(anomalous, "anomalous")
    outscored = np.searchsorted(normal, anomalous, "left") + np.searchsorted(normal, anomalous, "right")
    return float(outscored.sum() / (2 * normal.size * anomalous.size))


def average_precision(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Average precision in (0, 1] of scores (N,) and (M,), the anomalous images being the positives.

    Chance is their share M / (N + M). Stepwise, not interpolated (`sklearn.metrics.average_precision_score`).
    """
    normal, anomalous = _scores(normal, "normal"), _scores(anomalous, "anomalous")
    is_anomalous = np.repeat([0, 1], [normal.size, anomalous.size])
    ranks = rankdata(np.concatenate([normal, anomalous]))  # scikit-learn refuses infinite scores
    return float(average_precision_score(is_anomalous, ranks))


def auroc_interval(
    normal: np.ndarray,
    anomalous: np.ndarray,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    clusters: tuple[np.ndarray, np.ndarray] | None = None,
) -> Interval:
    """Mean AUROC over training seeds, with its bootstrap interval over seeds and test images, or clusters of images.

    If every seed separates the groups perfectly (AUROC 1 or 0), all resamples agree and the bootstrap would claim
    certainty. The open end is then the one-sided exact bound given by min(N, M) disjoint pairs, all ordered alike:
    AUROC >= (1 - level) ** (1 / min(N, M)), about 1 - 3 / min(N, M) at 95 %. It is conservative, as it leaves the other
    pairs out, and so wider than the bootstrap interval of an AUROC just below 1. N and M are then those of clusters.

    Arguments
    ---------
    normal: scores of N normal test images by S seeds, shape (S, N), or (N,) for one seed; N >= 2.
    anomalous: scores of M anomalous test images by the same seeds, shape (S, M) or (M,); M >= 2.
    level: nominal coverage in (0, 1).
    resamples: number of bootstrap resamples.
    seed: seed of the resampling, not of the training.
    clusters: labels of the normal and of the anomalous images, shapes (N,) and (M,); none is in both.

    Source: Owen 2007; Clopper & Pearson 1934 and Hanley & Lippman-Hand 1983 (rule of three) for the exact bound.
    """
    fewest = 2 if clusters is None else 1
    normal = _scores_by_seed(normal, "normal", fewest=fewest)
    anomalous = _scores_by_seed(anomalous, "anomalous", fewest=fewest)
    _check_same_seeds(normal, anomalous, "normal and anomalous")
    seeds = len(normal)
    of_normal, of_anomalous = clusters or (None, None)
    (normal_index, n), (anomalous_index, m) = _indexed(of_normal, normal), _indexed(of_anomalous, anomalous)
    if clusters is not None and np.isin(*clusters).any():
        raise ValueError("clusters: normal and anomalous images must not share one")
    value = float(np.mean([auroc(a, b) for a, b in zip(normal, anomalous, strict=True)]))

    # One sort a seed; a resample then only changes how often each score counts.
    order = np.argsort(normal, axis=1)
    ranked = np.take_along_axis(normal, order, axis=1)
    below = [np.searchsorted(ranked[s], anomalous[s], "left") for s in range(seeds)]
    up_to = [np.searchsorted(ranked[s], anomalous[s], "right") for s in range(seeds)]
    rng = np.random.default_rng(seed)
    draws = np.empty((resamples, seeds))
    for draw in draws:
        normal_counts = _resampled_counts(n, rng)[normal_index]
        anomalous_counts = _resampled_counts(m, rng)[anomalous_index]
        pairs = normal_counts.sum() * anomalous_counts.sum()
        for s in range(seeds):
            cumulative = np.concatenate([[0], np.cumsum(normal_counts[order[s]])])
            draw[s] = (cumulative[below[s]] + cumulative[up_to[s]]) @ anomalous_counts / (2 * pairs)
    _, low, high = _percentile_interval(
        value, draws, level, rng, 1.0 if clusters is None else stretch_of(min(n, m), min(n, m) - 1, level)
    )
    exact = (1 - level) ** (1 / min(n, m))
    return Interval(value, exact if value == 1 else max(low, 0.0), 1 - exact if value == 0 else min(high, 1.0))


def auroc_difference(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], resamples: int = 1000, seed: int = 0
) -> Interval:
    """AUROC of `first` less that of `second`, mean over seeds, with its 95 % interval.

    Each is a pair of scores, normal ``(S, N)`` and anomalous ``(S, M)``, of the same images and as many seeds; images
    and seeds are resampled as in `auroc_interval`, for both models alike.
    """

    def outscored(normal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
        a, n = anomalous[:, :, None], normal[:, None, :]
        return (a > n) + 0.5 * (a == n)  # (S, M, N)

    difference = outscored(*first) - outscored(*second)
    _, m, n = difference.shape
    rng = np.random.default_rng(seed)
    normal_counts = np.stack([_resampled_counts(n, rng) for _ in range(resamples)])
    anomalous_counts = np.stack([_resampled_counts(m, rng) for _ in range(resamples)])
    draws = np.stack([(anomalous_counts @ each * normal_counts).sum(1) for each in difference], axis=1) / (m * n)
    return _percentile_interval(float(difference.mean()), draws, 0.95, rng)


def mean_interval(
    values: np.ndarray,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    clusters: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    bounds: tuple[float, float] = (-inf, inf),
) -> Interval:
    """Mean over seeds and images of finite `values` (S, N), or (N,) for one seed; N >= 2; the rest as `auroc_interval`.

    For the same images under two conditions pass the differences image by image.

    Arguments
    ---------
    clusters: labels, shape (N,); with them N >= 1.
    weights: how much each image counts, shape (N,), not negative, one positive at least. What has no weight counts for
        nothing, nor does a cluster of such images. Left out, all count alike.
    bounds: what the mean can be; the ends are cut to it.
    """
    values = _scores_by_seed(values, "values", finite=True, fewest=2 if clusters is None else 1)
    rng = np.random.default_rng(seed)
    if clusters is None and weights is None:
        interval = _percentile_interval(float(values.mean()), _resampled_means(values, resamples, rng), level, rng)
    else:
        weights = np.ones(values.shape[1]) if weights is None else _scores(weights, "weights", finite=True)
        if weights.size != values.shape[1] or weights.min() < 0 or weights.max() == 0:
            raise ValueError(f"weights must be of the {values.shape[1]} images, none negative and one positive")
        counted = weights > 0
        index, n = _indexed(None if clusters is None else np.asarray(clusters)[counted], values[:, counted])
        moments = np.vstack([weights[counted], weights[counted] * values[:, counted]])  # (1 + S, N)
        of_cluster = np.stack([np.bincount(index, weights=moment) for moment in moments], axis=1)  # (n, 1 + S)
        drawn = np.stack([_resampled_counts(n, rng) @ of_cluster for _ in range(resamples)])
        total = of_cluster.sum(axis=0)
        value = float((total[1:] / total[0]).mean())
        stretch = 1.0 if clusters is None else stretch_of(n, n - 1, level)
        interval = _percentile_interval(value, drawn[:, 1:] / drawn[:, :1], level, rng, stretch)
    return Interval(interval.value, max(interval.low, bounds[0]), min(interval.high, bounds[1]))


def difference_interval(
    first: np.ndarray, second: np.ndarray, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Mean of `first` (S, N) minus mean of `second` (S, M), different images under the same S seeds.

    Either may be (N,) for one seed; all finite; N, M >= 2; the rest as `auroc_interval`.
    """
    first, second = _scores_by_seed(first, "first", finite=True), _scores_by_seed(second, "second", finite=True)
    _check_same_seeds(first, second, "first and second")
    rng = np.random.default_rng(seed)
    draws = _resampled_means(first, resamples, rng) - _resampled_means(second, resamples, rng)
    return _percentile_interval(float(first.mean() - second.mean()), draws, level, rng)


def ratio_interval(
    first: np.ndarray, second: np.ndarray, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Mean of `first` (S, N) over mean of `second` (S, M), different images under the same S seeds; all positive.

    The ratios of the seeds are averaged on a log scale, on which seeds spread as far up as down, so that neither end
    can fall below zero; the rest as `auroc_interval`.
    """
    first, second = _scores_by_seed(first, "first", finite=True), _scores_by_seed(second, "second", finite=True)
    _check_same_seeds(first, second, "first and second")
    if not min(first.min(), second.min()) > 0:
        raise ValueError(f"first and second must be positive, the lowest is {min(first.min(), second.min())}")
    rng = np.random.default_rng(seed)
    draws = np.log(_resampled_means(first, resamples, rng)) - np.log(_resampled_means(second, resamples, rng))
    value = float((np.log(first.mean(1)) - np.log(second.mean(1))).mean())
    return Interval(*np.exp(_percentile_interval(value, draws, level, rng)).tolist())


def positive_mean_interval(values: np.ndarray, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> Interval:
    """Mean over images and geometric mean over seeds of positive `values` (S, N), such as errors; the interval is that
    of the logarithm, and so above zero; the rest as `auroc_interval`."""
    return ratio_interval(values, np.ones((len(np.atleast_2d(values)), 2)), level, resamples, seed)


def rank_correlation(
    x: np.ndarray, y: np.ndarray, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Spearman's rank correlation in [-1, 1] of x (n,) and y (S, n), mean over seeds. Resamples keep the ranks of the
    whole sample; the rest as `slope_interval`."""
    x, y = (np.apply_along_axis(rankdata, -1, values) for values in (_scores(x, "x"), _scores_by_seed(y, "y")))
    x, y = ((ranks - ranks.mean(-1, keepdims=True)) / ranks.std(-1, keepdims=True) for ranks in (x, y))
    value, low, high = slope_interval(x, y, None, level, resamples, seed)
    return Interval(value, max(low, -1.0), min(high, 1.0))


def slope_interval(
    x: np.ndarray,
    y: np.ndarray,
    clusters: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Least-squares slope of y on x, mean over seeds, with a bootstrap over seeds and clusters of observations.

    Observations that share a cause, such as the images of one frequency, are resampled together, and few such clusters
    are stretched as those of a line are, which takes two: by sqrt(n / (n - 2)) and t. Resamples in which x does not
    vary are left out.

    Arguments
    ---------
    x: shape (n,), finite, not constant.
    y: shape (n,), or (S, n) for S seeds; finite.
    clusters: labels, shape (n,), three or more distinct; left out, each observation is a cluster of its own.
    level, resamples, seed: as `auroc_interval`.

    Returns
    -------
    The slope, in units of y per unit of x.

    Source: Cameron, Gelbach & Miller 2008 (pairs cluster bootstrap).
    """
    x, y = _scores(x, "x", finite=True), _scores_by_seed(y, "y", finite=True)
    if x.size != y.shape[1]:
        raise ValueError(f"x and y must be of the same observations: {x.size}, {y.shape[1]}")
    index, n = _indexed(clusters, y)
    if n < 3 or np.ptp(x) == 0:
        raise ValueError(f"a slope needs x to vary and three clusters or more; there are {n}, x from {x.min()}")

    x = x - x.mean()
    moments = np.vstack([np.ones_like(x), x, x * x, y, x * y])  # (3 + 2S, n)
    of_cluster = np.stack([np.bincount(index, weights=moment) for moment in moments], axis=1)  # (clusters, 3 + 2S)

    def spread(sums: np.ndarray) -> np.ndarray:
        return sums[:, 0] * sums[:, 2] - sums[:, 1] ** 2

    def slopes(sums: np.ndarray) -> np.ndarray:
        sum_y, sum_xy = np.split(sums[:, 3:], 2, axis=1)
        return (sums[:, :1] * sum_xy - sums[:, 1:2] * sum_y) / spread(sums)[:, None]

    rng = np.random.default_rng(seed)
    drawn = np.stack([_resampled_counts(n, rng) @ of_cluster for _ in range(resamples)])
    total = of_cluster.sum(axis=0, keepdims=True)
    varied = spread(drawn) > 1e-9 * spread(total)
    stretch = 1.0 if clusters is None else stretch_of(n, n - 2, level)
    return _percentile_interval(float(slopes(total).mean()), slopes(drawn[varied]), level, rng, stretch)


def _percentile_interval(
    value: float, draws: np.ndarray, level: float, rng: np.random.Generator, stretch: float = 1.0
) -> Interval:
    """Interval of a mean over seeds from `draws` (R, S), the statistic of each seed on R resamples of the images.

    `stretch` is that of the deviations between clusters of images; infinite where there is only one.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be a coverage in (0, 1), not {level}")
    if stretch == inf:
        return Interval(value, -inf, inf)
    resamples, seeds = draws.shape
    means = draws.mean(axis=1)
    between_seeds = np.zeros(resamples)
    if seeds > 1:
        chosen = np.take_along_axis(draws, rng.integers(seeds, size=(resamples, seeds)), axis=1).mean(axis=1)
        between_seeds = stretch_of(seeds, seeds - 1, level) * (chosen - means)
    if stretch != 1:
        means = value + stretch * (means - value)
    low, high = np.quantile(means + between_seeds, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def stretch_of(n: int, freedom: int, level: float = 0.95) -> float:
    """By how much a bootstrap of n draws with so many degrees of freedom understates what they deviate by."""
    if not 0 < level < 1:
        raise ValueError(f"level must be a coverage in (0, 1), not {level}")
    return (
        inf if freedom == 0 else sqrt(n / freedom) * float(t.ppf((1 + level) / 2, freedom) / norm.ppf((1 + level) / 2))
    )


def _indexed(clusters: np.ndarray | None, values: np.ndarray) -> tuple[np.ndarray, int]:
    """The number of each image's cluster, of the images of `values` (S, N), and how many there are."""
    size = values.shape[1]
    if clusters is None:
        return np.arange(size), size
    if np.shape(clusters) != (size,):
        raise ValueError(f"clusters must be of the same {size} observations, not of shape {np.shape(clusters)}")
    names, index = np.unique(clusters, return_inverse=True)
    return index, len(names)


def _resampled_counts(n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n items occurs in one resample with replacement, shape (n,)."""
    return np.bincount(rng.integers(n, size=n), minlength=n)


def _resampled_means(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Mean of each seed of `values` (S, N) on each resample of the images, shape (R, S)."""
    n = values.shape[1]
    draws = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(draws.ravel(), minlength=resamples * n).reshape(resamples, n) @ values.T / n


def conformal_threshold(calibration_scores: np.ndarray, false_alarm_rate: float) -> float:
    """Threshold that the score of a new normal image exceeds with probability at most `false_alarm_rate`.

    It is the ceil((n + 1)(1 - rate))-th smallest of the n calibration scores, and infinite (nothing is flagged) where
    n < 1 / rate - 1, as no finite one has the guarantee. This holds for any model and distribution, on average over
    calibration sets, if the calibration images were held out of training and are exchangeable with the new one. Without
    ties the rate is also above `false_alarm_rate` - 1 / (n + 1).

    Arguments
    ---------
    calibration_scores: scores of held-out normal images, shape (n,).
    false_alarm_rate: in (0, 1).

    Source: Vovk, Gammerman & Shafer 2005; Angelopoulos & Bates 2023 (split conformal prediction, outlier detection).
    """
    scores = np.sort(_scores(calibration_scores, "calibration_scores"))
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate must be in (0, 1), not {false_alarm_rate}")
    # Fraction, because in floating point 0.29 * 100 is below 29, which would cost one rank.
    above = floor(Fraction(str(false_alarm_rate)) * (scores.size + 1)) - 1
    return float(scores[scores.size - above - 1]) if above >= 0 else inf


def p_values(calibration_scores: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Conformal p-value of each of `scores` (N,), in [1 / (n + 1), 1]; low is anomalous.

    It is (1 + number of the n `calibration_scores` at least as high) / (n + 1); for a normal image P(p <= a) <= a.
    `p <= false_alarm_rate` flags the very images above `conformal_threshold`.

    Source: Bates, Candes, Lei, Romano & Sesia 2023.
    """
    calibration = np.sort(_scores(calibration_scores, "calibration_scores"))
    at_least = calibration.size - np.searchsorted(calibration, _scores(scores, "scores"), "left")
    return (1 + at_least) / (1 + calibration.size)


def _scores(values: np.ndarray, name: str, finite: bool = False) -> np.ndarray:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or scores.size == 0:
        raise ValueError(f"{name} must have shape (n,), n >= 1, not {scores.shape}")
    if np.isnan(scores).any() or (finite and np.isinf(scores).any()):
        raise ValueError(f"{name} holds values that are {'not finite' if finite else 'NaN'}")
    return scores


def _scores_by_seed(values: np.ndarray, name: str, finite: bool = False, fewest: int = 2) -> np.ndarray:
    scores = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if scores.ndim != 2 or scores.shape[0] == 0 or scores.shape[1] < fewest:
        raise ValueError(f"{name} must have shape (seeds, images) or (images,), images >= {fewest}, not {scores.shape}")
    _scores(scores.ravel(), name, finite)
    return scores


def _check_same_seeds(first: np.ndarray, second: np.ndarray, names: str) -> None:
    if len(first) != len(second):
        raise ValueError(f"{names} must hold the scores of the same seeds, not of {len(first)} and {len(second)}")
