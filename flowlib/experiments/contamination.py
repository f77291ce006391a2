"""The design of notebook 01 (thesis 4.1, Table 1): contaminated training sets."""

import numpy as np
import pandas as pd

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
