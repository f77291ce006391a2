"""The ratio of the times of two trainings, by a clock that is made up."""

import time
from itertools import count

import numpy as np
import pytest

from flowlib.experiments.borescope import times
from flowlib.training import Recipe


def test_a_step_is_timed_without_what_comes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seconds a step and one, after a start of a hundred and of ten."""
    spent = [0.0]
    of_recipe = {"Glow": (100, 3), "ConvAutoencoder": (10, 1)}

    def train(_: np.ndarray, recipe: Recipe) -> None:
        start, step = of_recipe[recipe.model]
        spent[0] += start + step * recipe.steps

    monkeypatch.setattr(times, "train", train)
    monkeypatch.setattr(time, "thread_time", lambda: spent[0])
    images = np.zeros((4, 1, 32, 32), np.uint8)
    ratio = times.step_ratio(images, Recipe("Glow"), Recipe("ConvAutoencoder"))
    assert ratio == pytest.approx((3, 3, 3))


def test_it_trains_what_it_times(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = count()
    monkeypatch.setattr(times, "train", lambda _, recipe: [next(steps) for _ in range(recipe.steps)])
    assert times.step_seconds(np.zeros((4, 1, 32, 32), np.uint8), Recipe()) > 0
    assert next(steps) == 1 + 1 + times.STEPS
