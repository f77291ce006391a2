"""The design of notebook 01 (thesis 4.1, Table 1): contaminated training sets."""

import numpy as np
import pandas as pd

from flowlib.metrics import Interval, mean_interval, slope_interval

EIGHTS = (7, 67, 674, 1348, 2696, 5851)  # thesis Table 1; the ones are always 6742


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
