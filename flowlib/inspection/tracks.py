"""The verdict of a whole video from the scores of its frames, and the frames that speak for it.

A score that stays tells damage from a flicker of light: damage is in view while the camera passes it, a reflection
flares up in a frame or two. So a video's score is the highest level that three of five scored frames in a row reach:
one or two frames, however high, do not raise it, and one blurred frame in the midst of damage does not lower it.

The choice is by simulation and without a single anomaly of any data set (`tests/inspection/test_tracks.py` has the
numbers in short): where good videos carry flickers, the highest frame and the mean of the highest few find little of
the damage that stays for three frames or more, three of five find nearly all that there is to find; where they carry
none, it costs next to nothing. What it cannot find is damage in view for fewer than three scored frames. On the
simulator's blades, which flicker little, it finds as much as the highest frame and no more (README).

Calibrated on whole good videos (split conformal, `flowlib.metrics.conformal_threshold`), a good video like them is
flagged with a probability of at most the stated rate, whatever the model is worth and however alike its frames are.
"""

from collections.abc import Iterable
from fractions import Fraction
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from flowlib.metrics import conformal_threshold

WINDOW = 5  # scored frames in a row, of which the most must reach a level
SOFTER = 4  # times the rate of false alarms: "look" begins there
SOFTEST = 0.5
EVIDENCE = 3, 5  # frames of a video that are shown: at least, and at most
STATES = ("flag", "look", "pass")  # the worst first


class Promise(NamedTuple):
    """Thresholds that `n` good scores can stand for: above `flag` with a probability of at most `rate`, above `look` of
    at most `look_rate`. `rate` is that which was asked for, or 1 / (n + 1) where that is higher; `needed` good ones
    would do for the rate asked for."""

    flag: float
    look: float
    rate: float
    look_rate: float
    n: int
    needed: int

    def state(self, score: float) -> str:
        """Of `STATES`."""
        return "flag" if score > self.flag else "look" if score > self.look else "pass"


def promise(good: Iterable[float], rate: float) -> Promise:
    """Calibrate on the scores ``(n,)`` of good videos, or of good images, for a rate of false alarms in (0, 1).

    Raises ValueError where there is no score, or the rate is not between 0 and 1.
    """
    scores = np.array(list(good), dtype=np.float64)
    if scores.size == 0:
        raise ValueError("there is no good score to calibrate on")
    if not 0 < rate < 1:
        raise ValueError(f"rate is {rate}, it must lie between 0 and 1")
    softer, lowest = max(rate, min(SOFTER * rate, SOFTEST)), 1 / (scores.size + 1)
    flag, look = (min(conformal_threshold(scores, each), float(scores.max())) for each in (rate, softer))
    needed = ceil(1 / Fraction(str(rate))) - 1
    return Promise(flag, look, max(rate, lowest), max(softer, lowest), scores.size, needed)


def lasting(track: np.ndarray) -> np.ndarray:
    """The level that stays around each frame: scores ``(..., T)`` in the order of time to ``(..., T)``.

    It is the highest that most of `WINDOW` frames in a row, the frame among them, reach; of a shorter video, of all.
    """
    track = np.asarray(track, dtype=np.float64)
    T = track.shape[-1]
    width = min(WINDOW, T)
    rank = width - (width // 2 + 1)  # from the lowest: 3 of 5 are at least as high, 3 of 4, 2 of 3, 2 of 2, 1 of 1
    levels = np.sort(sliding_window_view(track, width, axis=-1), axis=-1)[..., rank]  # (..., T - width + 1)
    edge = [(0, 0)] * (track.ndim - 1) + [(width - 1, width - 1)]
    padded = np.pad(levels, edge, constant_values=-np.inf)
    return sliding_window_view(padded, width, axis=-1).max(axis=-1)  # over the windows that hold the frame


def video_score(track: np.ndarray) -> np.ndarray:
    """The scores ``(...)`` of videos from those of their frames ``(..., T)``, T of at least 1."""
    return lasting(track).max(axis=-1)


def evidence(track: np.ndarray) -> list[int]:
    """The frames ``(T,)`` that speak most for a video's score, the strongest first, apart in time: three to five.

    A frame speaks with the lower of its own score and the level that stays around it, so that a flicker counts for no
    more than its neighbours do. Frames are a tenth of the video apart; of a video with fewer than three such, fewer.
    """
    track = np.asarray(track, dtype=np.float64)
    speaks = np.minimum(track, lasting(track))
    gap = max(1, len(track) // 10)
    chosen: list[int] = []
    for frame in np.lexsort((-track, -speaks)):
        if len(chosen) == EVIDENCE[1]:
            break
        if all(abs(int(frame) - other) > gap for other in chosen):
            chosen.append(int(frame))
    return chosen
