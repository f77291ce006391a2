"""What likelihood is usual in such a context: the NLL that a position's surround leads one to expect.

Some places of a good part are rarer than others wherever they are seen: an edge, a hole, a reflection. A map of the
likelihood alone is high there on every good image, and hides a scratch on plain metal. So the negative log-likelihood
of a position is compared with that of normal positions whose surround looks alike (a contextual anomaly in the sense of
Chandola et al. 2009): a ridge regression on the means of the features over squares around the position, of which a
small defect is a small part. Where a surround is unlike all that were seen, the expectation stays within those of
normal ones.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

SIDES = 9, 21  # positions on a side of the squares
PENALTY = 0.05  # of each standardised mean's variance
CLIPPED = 0.001  # of normal positions' expectations, at either end


@dataclass(frozen=True)
class Expectation:
    """A linear function of `surround`, within limits: weights float32 ``(2 D,)``; bias, low and high in nats."""

    weights: np.ndarray
    bias: float
    low: float
    high: float

    def of(self, surrounds: np.ndarray) -> np.ndarray:
        """The expected NLL in nats, float32 ``(n,)``, of surrounds ``(n, 2 D)``."""
        return np.clip(surrounds @ self.weights + np.float32(self.bias), self.low, self.high, dtype=np.float32)

    def of_map(self, features: np.ndarray) -> np.ndarray:
        """The expected NLL at each position, float32 ``(D, H, W)`` to ``(H, W)``."""
        return self.of(surround(features).reshape(len(self.weights), -1).T).reshape(features.shape[1:])


def surround(features: np.ndarray) -> np.ndarray:
    """Means over the squares around each position, borders continued: float32 ``(D, H, W)`` to ``(2 D, H, W)``."""
    return np.concatenate([uniform_filter(features, (0, side, side), mode="nearest") for side in SIDES])


def expectation(surrounds: np.ndarray, nll: np.ndarray) -> Expectation:
    """Fitted to the surrounds ``(n, 2 D)`` and NLL in nats ``(n,)`` of normal positions."""
    from sklearn.linear_model import Ridge  # here, since it takes a second, which who scores need not wait

    mean, deviation = surrounds.mean(0, dtype=np.float64), surrounds.std(0, dtype=np.float64)
    deviation[deviation < 1e-6] = 1
    standard = ((surrounds - mean.astype(np.float32)) / deviation.astype(np.float32)).astype(np.float32)
    ridge = Ridge(PENALTY * len(nll), solver="cholesky").fit(standard, nll)
    weights = ridge.coef_ / deviation
    bias = float(ridge.intercept_ - weights @ mean)
    low, high = np.quantile(ridge.predict(standard), [CLIPPED, 1 - CLIPPED])
    return Expectation(weights.astype(np.float32), bias, float(low), float(high))
