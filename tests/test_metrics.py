"""Metrics against slow references, exact answers and the guarantees that they state."""

from math import floor, inf, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress, norm, spearmanr
from scipy.stats import t as student_t
from sklearn.metrics import average_precision_score, roc_auc_score

from flowlib.metrics import (
    Interval,
    auroc,
    auroc_difference,
    auroc_interval,
    average_precision,
    conformal_threshold,
    difference_interval,
    mean_interval,
    p_values,
    positive_mean_interval,
    rank_correlation,
    ratio_interval,
    slope_interval,
)

properties = settings(derandomize=True, max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)
tied_scores = st.lists(st.integers(-3, 3), min_size=1, max_size=30)


@given(tied_scores, tied_scores)
@settings(deadline=None)
def test_auroc_counts_pairs_and_half_of_the_ties(normal: list[int], anomalous: list[int]) -> None:
    pairs = [(b > a) + 0.5 * (b == a) for a in normal for b in anomalous]
    assert auroc(np.array(normal), np.array(anomalous)) == pytest.approx(np.mean(pairs))
    assert auroc(np.array(anomalous), np.array(normal)) == pytest.approx(1 - np.mean(pairs))


@given(tied_scores, tied_scores)
@properties
def test_ranking_measures_are_those_of_scikit_learn(normal: list[int], anomalous: list[int]) -> None:
    truth, scores = [0] * len(normal) + [1] * len(anomalous), normal + anomalous
    a, b = np.array(normal), np.array(anomalous)
    assert auroc(a, b) == pytest.approx(roc_auc_score(truth, scores))
    assert average_precision(a, b) == pytest.approx(average_precision_score(truth, scores))


@given(tied_scores, tied_scores, st.permutations(range(30)))
@settings(properties, max_examples=20)
def test_ranking_measures_see_the_order_alone(normal: list[int], anomalous: list[int], order: list[int]) -> None:
    a, b = np.array(normal, dtype=float), np.array(anomalous, dtype=float)
    for measure in (auroc, average_precision):
        found = measure(a, b)
        for rising in (np.exp, np.cbrt, lambda x: 1e6 * x - 7, lambda x: np.where(x == 3, inf, x)):
            assert measure(rising(a), rising(b)) == found
        assert measure(a[np.argsort(order[: a.size])], b[np.argsort(order[: b.size])]) == found
        assert measure(np.tile(a, 3), np.tile(b, 3)) == pytest.approx(found)
        assert measure(a, b + 10) == pytest.approx(1)
    assert auroc(b, a) == pytest.approx(1 - auroc(a, b)) == pytest.approx(auroc(-a, -b))
    assert auroc(a * 0, b * 0) == 0.5


def test_ranking_measures_accept_infinite_scores_and_have_known_values() -> None:
    normal, anomalous = np.array([-inf, 0.0, 2.0]), np.array([1.0, inf])
    assert auroc(normal, anomalous) == pytest.approx(5 / 6)
    # By falling score: anomalous (precision 1), normal, anomalous (precision 2/3), each with half of the recall.
    assert average_precision(normal, anomalous) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.zeros(30), np.zeros(10)) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("normal", "anomalous", "named"),
    [([], [1.0], "normal"), ([1.0], [np.nan], "anomalous"), ([1.0], [[1.0]], "anomalous")],
)
def test_unfit_scores_are_refused_by_name(normal: list, anomalous: list, named: str) -> None:
    for measure in (auroc, average_precision):
        with pytest.raises(ValueError, match=f"^{named} "):
            measure(np.array(normal), np.array(anomalous))


@pytest.mark.parametrize("seeds", [1, 3])
def test_auroc_interval_is_the_bootstrap_written_out(seeds: int) -> None:
    rng = np.random.default_rng(1)
    normal, anomalous = rng.integers(0, 9, size=(seeds, 37)), rng.integers(3, 12, size=(seeds, 23))  # with many ties
    again = np.random.default_rng(5)
    images = [(again.integers(37, size=37), again.integers(23, size=23)) for _ in range(200)]
    draws = np.array([[auroc(normal[s][i], anomalous[s][j]) for s in range(seeds)] for i, j in images])
    means = draws.mean(axis=1)
    if seeds > 1:
        chosen = [draws[r][again.integers(seeds, size=seeds)].mean() for r in range(200)]
        stretch = sqrt(3 / 2) * student_t.ppf(0.95, 2) / norm.ppf(0.95)
        means += stretch * (chosen - means)
    value = np.mean([auroc(normal[s], anomalous[s]) for s in range(seeds)])
    expected = [value, *np.quantile(means, [0.05, 0.95])]
    assert auroc_interval(normal, anomalous, level=0.9, resamples=200, seed=5) == pytest.approx(expected)


def test_all_seeds_share_each_resample_of_the_images() -> None:
    """Three seeds that agree on every image say no more about the images than one does."""
    rng = np.random.default_rng(2)
    normal, anomalous = rng.normal(size=60), rng.normal(size=50) + 1
    one = auroc_interval(normal, anomalous)
    assert auroc_interval(np.tile(normal, (3, 1)), np.tile(anomalous, (3, 1))) == pytest.approx(one)
    assert mean_interval(np.tile(normal, (3, 1))) == pytest.approx(mean_interval(normal))
    pairs = [difference_interval(np.tile(normal, (s, 1)), np.tile(anomalous, (s, 1))) for s in (1, 3)]
    assert pairs[0] == pytest.approx(pairs[1])


def test_spread_between_seeds_is_inflated_for_their_small_number() -> None:
    """All three draws fall on the lowest seed once in 27 resamples, more than 2.5 %: the ends are the extreme seeds."""
    values = np.tile([[-1.0], [0.0], [1.0]], (1, 20))
    end = sqrt(3 / 2) * 4.302653 / 1.959964  # Student's t with two degrees of freedom over the normal's
    assert mean_interval(values) == pytest.approx((0, -end, end), rel=1e-6)
    normal = np.tile(np.arange(100.0), (3, 1))
    value, low, high = auroc_interval(normal, normal + np.array([[50.0], [100.0], [100.0]]))
    assert value == pytest.approx((0.875 + 1 + 1) / 3)
    assert low < 0.875
    assert high == 1  # not beyond 1, to which the inflation leads


def test_auroc_interval_follows_its_arguments() -> None:
    rng = np.random.default_rng(3)
    normal, anomalous = rng.normal(size=(2, 40)), rng.normal(size=(2, 30)) + 1
    value, low, high = auroc_interval(normal, anomalous)
    assert value == pytest.approx(np.mean([auroc(normal[s], anomalous[s]) for s in range(2)]))
    assert low < value < high
    assert auroc_interval(normal, anomalous) == (value, low, high)
    assert auroc_interval(normal, anomalous, seed=1) != (value, low, high)
    narrow = auroc_interval(normal, anomalous, level=0.5)
    assert low < narrow.low < narrow.high < high


def test_perfect_separation_keeps_the_doubt_of_the_smaller_group() -> None:
    normal, anomalous = np.arange(1000.0), np.arange(2000.0, 2100.0)
    for seeds in (1, 3):
        above = auroc_interval(np.tile(normal, (seeds, 1)), np.tile(anomalous, (seeds, 1)))
        assert above == pytest.approx((1, 1 - 3 / 100, 1), abs=1e-3)
        assert above.low**100 == pytest.approx(0.05)  # the chance of 100 ordered pairs of 100 is then just 5 %
        below = auroc_interval(np.tile(anomalous, (seeds, 1)), np.tile(normal, (seeds, 1)))
        assert below == pytest.approx((0, 0, 1 - above.low))


@pytest.mark.parametrize("seeds", [1, 4])
def test_mean_and_difference_intervals_have_the_width_of_theory(seeds: int) -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(5, 2, size=400), rng.normal(1, 6, size=300)
    mean = mean_interval(np.tile(first, (seeds, 1)), resamples=4000)
    error = first.std() / sqrt(400)
    assert mean == pytest.approx((first.mean(), first.mean() - 1.96 * error, first.mean() + 1.96 * error), abs=0.02)
    difference = difference_interval(np.tile(first, (seeds, 1)), np.tile(second, (seeds, 1)), resamples=4000)
    error, middle = sqrt(first.var() / 400 + second.var() / 300), first.mean() - second.mean()
    assert difference == pytest.approx((middle, middle - 1.96 * error, middle + 1.96 * error), abs=0.06)


def test_slope_is_least_squares_with_the_width_of_theory() -> None:
    rng = np.random.default_rng(5)
    x = rng.uniform(1e8, 1e8 + 10, size=500)
    y = np.stack([3 * x + rng.normal(size=500)] * 2)
    value, low, high = slope_interval(x, y, resamples=4000)
    line = linregress(x, y[0])
    assert value == pytest.approx(line.slope)
    residuals, centred = y[0] - line.slope * x - line.intercept, x - x.mean()
    error = sqrt(np.sum((centred * residuals) ** 2)) / np.sum(centred**2)  # White's, as pairs are resampled
    assert (low, high) == pytest.approx((value - 1.96 * error, value + 1.96 * error), abs=0.1 * error)


def test_slope_is_the_mean_over_seeds() -> None:
    x = np.arange(50.0)
    assert slope_interval(x, np.stack([1 * x, 2 * x, 6 * x])).value == pytest.approx(3)


def test_slope_resamples_whole_clusters() -> None:
    """Ten copies of each observation, marked as such, add nothing; taken for independent they would."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    once = slope_interval(x, y, np.arange(30))
    clusters = np.repeat([f"image {i:02}" for i in range(30)], 10)
    assert slope_interval(np.repeat(x, 10), np.repeat(y, 10), clusters) == pytest.approx(once)
    size = rng.integers(1, 9, size=30)
    ragged_x, ragged_y, ragged = np.repeat(x, size), np.repeat(y, size), np.repeat(np.arange(30), size)
    order = rng.permutation(len(ragged))
    shuffled = slope_interval(ragged_x[order], ragged_y[order], ragged[order])
    assert shuffled == pytest.approx(slope_interval(ragged_x, ragged_y, ragged))
    independent = slope_interval(np.repeat(x, 10), np.repeat(y, 10))
    assert independent.high - independent.low < 0.6 * (once.high - once.low)


def test_slope_survives_resamples_without_spread() -> None:
    """Of three clusters with one x each, one resample in nine takes the same cluster three times."""
    x = np.repeat([1.0, 2.0, 3.0], 4)
    assert slope_interval(x, 2 * x + 1, clusters=x) == pytest.approx((2, 2, 2))


def covered(intervals: list[Interval], truth: float) -> float:
    return float(np.mean([low <= truth <= high for _, low, high in intervals]))


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_over_clusters_cover_what_they_say(seeds: int) -> None:
    """Frames of a blade share most of their score, and models of a seed some: 20 normal and 28 damaged blades."""
    rng = np.random.default_rng(seeds)
    sizes = 20, 28
    names = [np.arange(size).repeat(3) for size in sizes]
    spread = 0.4 if seeds > 1 else 0.0  # of seeds: one of them says nothing of it
    truth = norm.cdf(1 / sqrt(2 + spread**2))
    means, weighted, aurocs, gaps = [], [], [], []
    for _ in range(300):
        of_seed = spread * rng.normal(size=(seeds, 1))
        a, b = (
            0.8 * rng.normal(size=size).repeat(3)
            + 0.6 * rng.normal(size=(1, 3 * size))
            + 0.2 * rng.normal(size=(seeds, 3 * size))
            for size in sizes
        )
        b = b + of_seed
        settings = {"resamples": 200}
        means.append(mean_interval(b, clusters=names[1], **settings))
        weighted.append(mean_interval(a, clusters=names[0], weights=rng.integers(1, 5, 60), **settings))
        aurocs.append(auroc_interval(a, b + 1, clusters=(names[0], 100 + names[1]), **settings))
        gaps.append(slope_interval((names[1] % 2).astype(float), b, names[1], **settings))
    widest = 0.98 if seeds == 1 else 0.995  # three seeds are given more than they need where clusters spread, too
    for intervals, true in ((means, 0.0), (weighted, 0.0), (gaps, 0.0), (aurocs, float(truth))):
        assert 0.92 < covered(intervals, true) < widest


def test_few_clusters_are_stretched_and_one_says_nothing() -> None:
    """Two clusters: half of the resamples take one twice, so the ends are the extreme clusters, stretched."""
    values = np.array([-1.0, -1.0, 1.0, 1.0])
    end = sqrt(2) * 12.7062 / 1.959964  # Student's t with one degree of freedom over the normal's
    assert mean_interval(values, clusters=np.array([0, 0, 1, 1])) == pytest.approx((0, -end, end), rel=1e-5)
    assert mean_interval(values, clusters=np.zeros(4), bounds=(-2, 1)) == (0, -2, 1)
    assert mean_interval(np.ones(1), clusters=np.zeros(1)) == (1, -inf, inf)
    assert auroc_interval(np.array([0.0, 1.0]), np.array([0.5]), clusters=(np.array([0, 1]), np.array([2]))) == (
        0.5,
        0,
        1,
    )
    apart = auroc_interval(np.arange(20.0), np.arange(20.0) + 50, clusters=(np.arange(20), 20 + np.arange(20) // 5))
    assert apart == pytest.approx((1, 0.05 ** (1 / 4), 1))


def test_copies_in_a_cluster_add_nothing() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(1, 12)), rng.normal(1, 1, (1, 9))
    names = np.arange(12), 20 + np.arange(9)
    once = auroc_interval(a, b, clusters=names)
    ten = auroc_interval(a.repeat(10, 1), b.repeat(10, 1), clusters=(names[0].repeat(10), names[1].repeat(10)))
    assert ten == pytest.approx(once)
    many = auroc_interval(a.repeat(10, 1), b.repeat(10, 1))
    assert many.high - many.low < 0.5 * (ten.high - ten.low)
    assert mean_interval(a.repeat(10, 1), clusters=names[0].repeat(10)) == pytest.approx(
        mean_interval(a, clusters=names[0])
    )


def test_weights_count_and_what_has_none_does_not() -> None:
    values, weights = np.array([[0.5, 9.0, 0.25], [1.0, 9.0, 0.5]]), np.array([4.0, 0.0, 16.0])
    found = mean_interval(values, clusters=np.array([0, 1, 2]), weights=weights)
    assert found.value == pytest.approx((0.75 * 4 + 0.375 * 16) / 20)
    assert found == mean_interval(values[:, [0, 2]], clusters=np.array([0, 2]), weights=weights[[0, 2]])


def test_unfit_samples_are_refused_by_name() -> None:
    three, five = np.ones((3, 4)), np.ones((5, 4))
    with pytest.raises(ValueError, match="normal and anomalous must hold the scores of the same seeds, not of 3 and 5"):
        auroc_interval(three, five)
    with pytest.raises(ValueError, match="first and second must hold"):
        difference_interval(three, five)
    with pytest.raises(ValueError, match="values must have shape"):
        mean_interval(np.ones((3, 1)))
    with pytest.raises(ValueError, match="values holds values that are not finite"):
        mean_interval(np.array([1.0, inf]))
    with pytest.raises(ValueError, match="level"):
        auroc_interval(three, three + 1, level=95)
    with pytest.raises(ValueError, match="three clusters"):
        slope_interval(np.arange(4.0), np.arange(4.0), clusters=np.array([0, 0, 1, 1]))
    with pytest.raises(ValueError, match="x to vary"):
        slope_interval(np.ones(4), np.arange(4.0))
    with pytest.raises(ValueError, match="same observations: 4, 5"):
        slope_interval(np.arange(4.0), np.arange(5.0))


# Conformal calibration. Exchangeable means that any of n + 1 normal images may be the new one: take each in turn.

rates = st.integers(1, 99).map(lambda percent: percent / 100)


@given(st.permutations(range(30)), st.integers(2, 30), rates)
@settings(deadline=None)
def test_false_alarms_of_distinct_scores_are_exactly_the_largest_number_allowed(
    scores: list[int], size: int, rate: float
) -> None:
    drawn = np.array(scores[:size], dtype=float)
    alarms = sum(drawn[i] > conformal_threshold(np.delete(drawn, i), rate) for i in range(size))
    assert alarms == floor(round(rate * 100) * size / 100)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30), rates)
@settings(deadline=None)
def test_false_alarms_with_ties_never_exceed_the_nominal_rate(scores: list[int], rate: float) -> None:
    drawn = np.array(scores, dtype=float)
    alarms = sum(drawn[i] > conformal_threshold(np.delete(drawn, i), rate) for i in range(len(drawn)))
    assert 100 * alarms <= round(100 * rate) * len(drawn)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=120), rates)
@settings(deadline=None)
def test_p_values_agree_with_the_threshold(calibration: list[int], rate: float) -> None:
    scores = np.arange(-1.0, 11.0)
    flagged = scores > conformal_threshold(np.array(calibration), rate)
    assert ((p_values(np.array(calibration), scores) <= rate) == flagged).all()


def test_conformal_known_answers() -> None:
    calibration = np.arange(1.0, 100.0)[::-1]  # 99 scores
    assert conformal_threshold(calibration, 0.05) == 95
    assert conformal_threshold(calibration, 0.29) == 71  # 0.29 * 100 < 29 in floating point
    assert conformal_threshold(calibration, 0.01) == 99
    assert conformal_threshold(calibration, 0.0099) == inf
    assert p_values(calibration, np.array([0.0, 50.0, 99.5])) == pytest.approx([1.0, 0.51, 0.01])


def test_unfit_calibration_is_refused_by_name() -> None:
    for rate in (0, 1, 5, np.nan):
        with pytest.raises(ValueError, match="false_alarm_rate"):
            conformal_threshold(np.arange(9.0), rate)
    with pytest.raises(ValueError, match="calibration_scores"):
        conformal_threshold(np.array([]), 0.1)
    with pytest.raises(ValueError, match="calibration_scores"):
        p_values(np.array([np.nan]), np.ones(2))


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), rates, rates)
@properties
def test_a_lower_rate_or_a_higher_score_only_raises_the_threshold(scores: list[int], one: float, other: float) -> None:
    calibration = np.array(scores, dtype=float)
    low, high = sorted((one, other))
    assert conformal_threshold(calibration, low) >= conformal_threshold(calibration, high)
    raised = np.append(calibration[1:], calibration[0] + 5)
    assert conformal_threshold(raised, one) >= conformal_threshold(calibration, one)
    assert conformal_threshold(calibration[::-1], one) == conformal_threshold(calibration, one)
    moved = conformal_threshold(2 * calibration - 3, one)
    assert moved == 2 * conformal_threshold(calibration, one) - 3
    assert np.mean(calibration > conformal_threshold(calibration, one)) <= one
    assert (conformal_threshold(calibration, one) == inf) == (floor(round(one * 100) * (len(scores) + 1) / 100) == 0)


@given(st.integers(1, 4), st.integers(2, 40), st.integers(2, 40), seeds)
@properties
def test_intervals_hold_their_estimate(n: int, first: int, second: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, first)).round(1), rng.normal(0.5, 1, size=(n, second)).round(1)
    for interval in (auroc_interval(a, b, resamples=200), auroc_interval(-a, -b, resamples=200)):
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
    mean, difference = mean_interval(a, resamples=200), difference_interval(a, b, resamples=200)
    for interval in (mean, difference):
        assert interval.low <= interval.value <= interval.high
    moved = mean_interval(10 * a + 3, resamples=200)
    assert moved == pytest.approx([10 * end + 3 for end in mean])
    assert difference_interval(a + 5, b + 5, resamples=200) == pytest.approx(difference)
    assert mean_interval(a * 0 + 2) == (2, 2, 2)


@given(st.integers(1, 3), seeds)
@settings(properties, max_examples=6)
def test_intervals_shrink_with_the_root_of_the_number_of_images(n: int, seed: int) -> None:
    """Seeds that agree, so that images alone make the width; sixteen times as many make about a quarter of it."""
    rng = np.random.default_rng(seed)

    def widths(images: int) -> list[float]:
        a, b = (np.tile(rng.normal(middle, 1, images), (n, 1)) for middle in (0, 0.7))
        x = rng.normal(size=images)
        each = (auroc_interval(a, b), mean_interval(a), difference_interval(a, b), slope_interval(x, a))
        return [interval.high - interval.low for interval in each]

    ratio = np.array(widths(1600)) / widths(100)
    assert (abs(np.log(ratio / 0.25)) < np.log(1.8)).all()
    a, b = rng.normal(size=40), rng.normal(0.7, 1, 40)
    by_level = [np.ptp(auroc_interval(a, b, level=level)[1:]) for level in (0.5, 0.8, 0.95)]
    assert (np.diff(by_level) > 0).all()


def test_interval_fields_are_named() -> None:
    interval = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert isinstance(interval, Interval)
    assert interval.low <= interval.value == 2 <= interval.high


def test_auroc_difference_is_paired():
    rng = np.random.default_rng(0)
    normal, marked = rng.normal(size=(3, 80)), rng.normal(0.7, 1, (3, 60))
    same = auroc_difference((normal, marked), (normal, marked))
    assert same == (0, 0, 0)
    other = (normal + 0.1 * rng.normal(size=(3, 80)), marked + 0.1 * rng.normal(size=(3, 60)))
    near = auroc_difference((normal, marked), other)
    expected = np.mean([auroc(normal[s], marked[s]) - auroc(other[0][s], other[1][s]) for s in range(3)])
    assert near.value == pytest.approx(expected)
    assert near.low < near.value < near.high
    alone = auroc_interval(normal, marked)
    assert near.high - near.low < 0.5 * (alone.high - alone.low)  # shared images cancel
    ties = (np.zeros((1, 5)), np.zeros((1, 4)))
    assert auroc_difference((np.zeros((1, 5)), np.ones((1, 4))), ties).value == 0.5


def test_every_interval_covers_what_it_says() -> None:
    """Data made 100 times: seeds and images add what they do, and 95 % of the intervals hold the truth, or more where
    three seeds are given more than they need."""
    rng = np.random.default_rng(11)
    found: dict[str, list[Interval]] = {}
    settings = {"resamples": 200}
    gap = float(norm.cdf(1 / sqrt(2 + 0.3**2)))  # of images about 0 and 1, seeds moving the latter by 0.3
    truths = {"mean": 1.0, "difference": 1.0, "slope": 0.5, "ratio": np.exp(0.5), "positive": np.exp(0.625)}
    truths |= {"auroc": gap, "auroc difference": 0.0, "ranks": 0.0}
    for _ in range(100):
        of_seed = 0.3 * rng.normal(size=(3, 1))
        a, b, x = rng.normal(size=(3, 80)), 1 + of_seed + rng.normal(size=(3, 60)), rng.normal(size=60)
        skewed = np.exp(0.5 + of_seed + 0.5 * rng.normal(size=(3, 60)))  # its mean is exp(0.625) times a seed's own
        images, other = rng.normal(size=(1, 60)), rng.normal(size=(1, 80))
        both = [(other + 0.5 * rng.normal(size=(3, 80)), images + 0.5 * rng.normal(size=(3, 60))) for _ in range(2)]
        each = {
            "mean": mean_interval(b, **settings),
            "difference": difference_interval(b, a, **settings),
            "slope": slope_interval(x, (0.5 + of_seed) * x + rng.normal(size=(3, 60)), **settings),
            "ratio": ratio_interval(skewed, np.exp(0.5 * a), **settings),
            "positive": positive_mean_interval(skewed, **settings),
            "auroc": auroc_interval(a, b, **settings),
            "auroc difference": auroc_difference(*both, **settings),
            "ranks": rank_correlation(x, b, **settings),
        }
        for name, interval in each.items():
            found.setdefault(name, []).append(interval)
    share = {name: covered(intervals, float(truths[name])) for name, intervals in found.items()}
    assert {name: value for name, value in share.items() if not value > 0.88} == {}


def test_ratios_and_means_of_positive_values_stay_positive_and_know_no_unit() -> None:
    rng = np.random.default_rng(12)
    errors = np.exp(rng.normal(size=(3, 40)) + np.array([[0.0], [2.0], [4.0]]))  # seeds of very different sizes
    assert mean_interval(errors).low < 0  # which no error is
    found = positive_mean_interval(errors)
    assert found.value == pytest.approx(np.exp(np.log(errors.mean(1)).mean()))
    assert 0 < found.low < found.value < found.high
    assert positive_mean_interval(1000 * errors) == pytest.approx([1000 * end for end in found])
    ratio = ratio_interval(errors, 2 * errors[:, :30])
    assert ratio_interval(7 * errors, 14 * errors[:, :30]) == pytest.approx(ratio)
    assert ratio_interval(errors, errors * 0 + errors.mean(1, keepdims=True)).value == pytest.approx(1)
    for values in (np.zeros((2, 3)), np.array([1.0, -1.0])):
        with pytest.raises(ValueError, match="must be positive, the lowest is"):
            positive_mean_interval(values)
    with pytest.raises(ValueError, match="same seeds"):
        ratio_interval(errors, errors[:2])


def test_rank_correlation_is_spearmans_mean_over_seeds() -> None:
    rng = np.random.default_rng(13)
    x = rng.normal(size=50).round(1)  # with ties
    y = np.stack([x + rng.normal(size=50), -x + 2 * rng.normal(size=50)])
    found = rank_correlation(x, y)
    assert found.value == pytest.approx(np.mean([spearmanr(x, each).statistic for each in y]))
    assert found.low < found.value < found.high
    assert rank_correlation(x, np.exp(x)[None]) == pytest.approx((1, 1, 1))
