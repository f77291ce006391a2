"""What training costs, as a ratio in one process: claim 5.10."""

import time
from dataclasses import replace

import numpy as np

from flowlib.metrics import Interval, mean_interval
from flowlib.training import Recipe, train

STEPS, REPEATS = 8, 7


def step_ratio(images: np.ndarray, first: Recipe, second: Recipe) -> Interval:
    """Processor time of a step of the first recipe over that of a step of the second, on uint8 images ``(N, C, H, W)``.

    The two are measured in turn, `REPEATS` times, what comes before the first step taken off.
    """
    for recipe in (first, second):
        train(images, replace(recipe, steps=1))  # what is compiled or loaded once
    ratios = [step_seconds(images, first) / step_seconds(images, second) for _ in range(REPEATS)]
    return mean_interval(np.array(ratios))


def step_seconds(images: np.ndarray, recipe: Recipe) -> float:
    """Processor seconds of this thread for one step of training."""

    def seconds(steps: int) -> float:
        began = time.thread_time()
        train(images, replace(recipe, steps=steps))
        return time.thread_time() - began

    one = seconds(1)
    return max((seconds(1 + STEPS) - one) / STEPS, 1e-6)
