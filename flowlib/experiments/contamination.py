"""The design of notebook 01 (thesis 4.1, Table 1): contaminated training sets."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from flowlib.metrics import Interval, auroc_interval, difference_interval, mean_interval, slope_interval

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
