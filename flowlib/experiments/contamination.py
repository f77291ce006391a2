"""The design of notebook 01 (thesis 4.1, Table 1): contaminated training sets."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from flowlib.experiments.jobs import Job
from flowlib.metrics import Interval, auroc_interval, difference_interval, mean_interval, slope_interval
from flowlib.study.criteria import Evidence
from flowlib.training import Recipe

EIGHTS = (7, 67, 674, 1348, 2696, 5851)  # thesis Table 1; the ones are always 6742
PLAIN = "plain"  # training, without a trim
NONE, ALONE = "none", "nothing else"  # cases that the table lacks: no anomaly in training, and anomalies alone
SAID = (0.1, 1, 10, 20, 40, 86.78)  # percent, the table's "% anomalies in the dataset"


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


def table_1_off(ones: int, eights: int) -> dict[str, Interval]:
    """By how much the thesis's Table 1 is off: its largest counts against those of the training set, its shares (in
    percent) against the shares of eights in what is trained on. Exact, intervals without width."""
    cases = contamination_cases()
    off = {"ones": float(cases["ones"].max() - ones), "eights": float(cases["eights"].max() - eights)}
    for case, said, share in zip(cases["case"], SAID, cases["percent_of_training_set"], strict=True):
        off[f"case {case}"] = said - float(share)
    return {name: Interval(value, value, value) for name, value in off.items()}


def like_table_1(normal: np.ndarray, anomalous: np.ndarray, case: int, seed: int) -> np.ndarray:
    """`contaminated`, with as many anomalous images a normal one as a case of Table 1 has (1 to 6)."""
    return contaminated(normal, anomalous, round(EIGHTS[case - 1] / 6742 * len(normal)), seed)


def contaminated(normal: np.ndarray, anomalous: np.ndarray, count: int, seed: int) -> np.ndarray:
    """All of `normal` with `count` images of `anomalous`, drawn without replacement; ValueError if there are fewer."""
    if count > len(anomalous):
        raise ValueError(f"contaminated: {count} anomalous images asked for, there are {len(anomalous)}")
    chosen = np.random.default_rng((seed, count)).choice(len(anomalous), count, replace=False)
    return np.concatenate([normal, anomalous[chosen]])


def case_jobs(
    normal: np.ndarray, anomalous: np.ndarray, recipe: Recipe, seeds: Sequence[int], tests: dict[str, np.ndarray]
) -> list[Job]:
    """A training of each of the six cases with each seed, which also draws the anomalous images."""
    cases = range(1, len(EIGHTS) + 1)
    return [
        (like_table_1(normal, anomalous, case, seed), replace(recipe, seed=seed), tests)
        for case in cases
        for seed in seeds
    ]


def by_case(results: Sequence[Mapping[str, np.ndarray]], name: str) -> np.ndarray:
    """The scores of one test set from the results of `case_jobs`, ``(cases, S, N)``."""
    return np.stack([result[name] for result in results]).reshape(len(EIGHTS), len(results) // len(EIGHTS), -1)


def evidence(
    eights_in_ones: tuple[np.ndarray, np.ndarray],
    sixes_in_threes: tuple[np.ndarray, np.ndarray],
    eights_alone: tuple[np.ndarray, np.ndarray],
) -> dict[str, Evidence]:
    """What the claims 1.1 to 1.5 are judged by.

    NLL in nats of test images: of the normal and of the anomalous digit in the six cases, ``(6, S, N)`` each, and of
    the eights and the ones under flows of eights alone, ``(S, N)`` each.
    """
    by_pair = {
        (pair, PLAIN): {str(case): both for case, both in enumerate(zip(*nll, strict=True), start=1)}
        for pair, nll in (("8 in 1", eights_in_ones), ("6 in 3", sixes_in_threes))
    }
    found = separated(separation(by_pair), "8 in 1")
    eights = eights_in_ones[1]
    return {
        "1.1": drift(*eights_in_ones),
        "1.2": {
            "slope": slope_of_eights(eights, np.array(EIGHTS)),
            "case 6 - case 1": mean_interval(eights[-1] - eights[0]),
        },
        "1.3": {name: interval for name, interval in found.items() if int(name[-1]) <= 3},
        "1.4": found,
        "1.5": {"8 -> 1": auroc_interval(*eights_alone)},
    }


def separation(scores: Mapping[tuple[str, str], Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> pd.DataFrame:
    """How far the anomalies are from the normal images, a row a model: pair, training, case, distance of the mean NLL
    with distance_low and distance_high (nats), auroc, low, high.

    `scores` by pair and way of training, then by case: NLL ``(S, N)`` of the normal and ``(S, M)`` of the anomalous
    test images.
    """
    rows = []
    for (pair, training), by_case in scores.items():
        for case, (normal, anomalous) in by_case.items():
            distance, auroc = difference_interval(anomalous, normal), auroc_interval(normal, anomalous)
            names = ("distance", "distance_low", "distance_high", "auroc", "low", "high")
            row = {"pair": pair, "training": training, "case": case}
            rows.append(row | dict(zip(names, [*distance, *auroc], strict=True)))
    return pd.DataFrame(rows)


def separated(table: pd.DataFrame, thesis_pair: str) -> dict[str, Interval]:
    """The AUROC of the six cases of plain training, from `separation`: "case 1" of the thesis's own pair, and
    "PAIR, case 1" of another."""
    rows = table[(table["training"] == PLAIN) & table["case"].str.isdigit()]
    names = [("" if row.pair == thesis_pair else f"{row.pair}, ") + f"case {row.case}" for row in rows.itertuples()]
    return {n: Interval(r.auroc, r.low, r.high) for n, r in zip(names, rows.itertuples(), strict=True)}


def drift(nll_of_ones: np.ndarray, nll_of_eights: np.ndarray) -> dict[str, Interval]:
    """How far test ones move from case 1 to each later case, as a share of the distance of the means in case 1.

    NLL in nats, ``(cases, S, N)`` each.
    """
    gap = (nll_of_eights[0].mean() - nll_of_ones[0].mean()).item()
    changes = (mean_interval(of_case - nll_of_ones[0]) for of_case in nll_of_ones[1:])
    return {f"case {case}": Interval(*(v / gap for v in change)) for case, change in enumerate(changes, start=2)}


def slope_of_eights(nll: np.ndarray, eights: np.ndarray) -> Interval:
    """Slope of the NLL of test eights ``(cases, S, N)`` against the decades of `eights` in training ``(cases,)``.

    An image's scores in all cases are resampled together.
    """
    cases, seeds, n = nll.shape
    x = np.repeat(np.log10(np.asarray(eights, dtype=float)), n)
    return slope_interval(x, nll.transpose(1, 0, 2).reshape(seeds, -1), clusters=np.tile(np.arange(n), cases))
