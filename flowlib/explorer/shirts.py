"""A square on a shirt, placed by hand (thesis 4.2): what Glow's likelihood and the autoencoder say of it."""

from typing import NamedTuple

import numpy as np
import torch

from flowlib.autoencoders import ConvAutoencoder
from flowlib.experiments.squares import painted_over
from flowlib.explorer.pictures import ExplorerError
from flowlib.glow import Glow
from flowlib.metrics import p_values
from flowlib.training import score, to_device_of, to_numpy


class Square(NamedTuple):
    """Side in pixels (0 for none), grey level, and the column and row of its upper left pixel."""

    size: int = 4
    level: int = 255
    x: int = 12
    y: int = 12


class Said(NamedTuple):
    """Of one shirt and square: images uint8 ``(28, 28)``, maps in nats, reconstruction in [0, 1]; NLL in nats with and
    without the square, the share of normal shirts with a higher one, the error with and without, painted over."""

    shirt: np.ndarray
    marked: np.ndarray
    nll_map: np.ndarray
    change: np.ndarray
    reconstruction: np.ndarray
    nll: float
    nll_before: float
    higher: float
    error: float
    error_before: float
    painted: bool | None


class Shirts:
    """Both models of notebook 03 and test shirts, uint8 ``(N, 1, 28, 28)``; `held` are normal ones to compare with."""

    def __init__(self, flow: Glow, autoencoder: ConvAutoencoder, shirts: np.ndarray, held: np.ndarray) -> None:
        self.flow, self.autoencoder, self.shirts = flow, autoencoder, shirts
        self.normal = score(flow, held)  # nats
        with torch.inference_mode():
            maps = flow.log_prob_map(to_device_of(flow, held[:200]))
        self.limit = float(to_numpy(maps.abs().quantile(0.995)))  # of the colours, for all shirts

    def said(self, index: int, square: Square) -> Said:
        """What the models say. Raises ExplorerError for a shirt that is not there or a square that is not on it."""
        if not 0 <= index < len(self.shirts):
            raise ExplorerError(f"shirt {index} is not there: choose one from 0 to {len(self.shirts) - 1}")
        size, level, x, y = square
        side = self.shirts.shape[-1]
        if not (0 <= size <= side and 0 <= level <= 255 and 0 <= x <= side - size and 0 <= y <= side - size):
            raise ExplorerError(f"the square must lie within {side}x{side} pixels, its level in [0, 255]: {square}")
        pair = self.shirts[[index, index]].copy()  # as it is, marked
        pair[1, 0, y : y + size, x : x + size] = level
        mask = np.zeros((side, side), dtype=bool)
        mask[y : y + size, x : x + size] = True
        with torch.inference_mode():
            maps = to_numpy(-self.flow.log_prob_map(to_device_of(self.flow, pair)))
            reconstruction = to_numpy(self.autoencoder(to_device_of(self.autoencoder, pair))[:, 0])
        nll, error = maps.sum((1, 2), dtype=np.float64), score(self.autoencoder, pair)
        painted = bool(painted_over(reconstruction[1:], pair[1:, 0], mask[None])[0]) if 0 < size < side else None
        return Said(
            shirt=pair[0, 0],
            marked=pair[1, 0],
            nll_map=maps[1],
            change=maps[1] - maps[0],
            reconstruction=reconstruction[1],
            nll=float(nll[1]),
            nll_before=float(nll[0]),
            higher=float(p_values(self.normal, nll[1:])[0]),
            error=float(error[1]),
            error_before=float(error[0]),
            painted=painted,
        )

    def within(self, square: Square) -> Square:
        """The square moved into the picture."""
        most = self.shirts.shape[-1] - square.size
        return square._replace(x=min(max(square.x, 0), most), y=min(max(square.y, 0), most))
