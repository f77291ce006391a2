"""How much of a training step of the default flow is its steps of flow, in C++, and how much is around them.

    python benchmarks/step.py [--rounds 400]

L=2, K=8, width 32, one hidden layer, 16 images of 28x28, one thread. In turn: a step as `flowlib.training` takes it; a
step that autograd, torch's fused Adam and its clipping take; and what the C++ of the steps of flow takes of that one,
forward and gradient (`flow_forward` and `flow_gradient` in kernels/steps.cpp, which both have). In CPU seconds of the
thread, so that a shared machine disturbs little. Writes reports/speed/step.csv.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from flowlib.kernels import steps
from flowlib.kernels.loop import combine
from flowlib.training import Course, Recipe, Training, batch_table, build, schedule

OUT = Path(__file__).resolve().parent.parent / "reports" / "speed"
RECIPE = Recipe("Glow", {"levels": 2, "steps": 8, "hidden_channels": 32, "hidden_layers": 1}, batch_size=16)


def seconds_of(function: Callable[[int], Any], step: int) -> float:
    began = time.thread_time()
    function(step)
    return time.thread_time() - began


def by_course(images: np.ndarray) -> Callable[[int], Any]:
    course = Course([Training(images, RECIPE)])
    return lambda step: course.one_by_one(range(step, step + 1))


def by_autograd(images: np.ndarray) -> Callable[[int], Any]:
    """The same batches, noise and rates, with what torch has for each part."""
    model: Any = build(RECIPE, images.shape[1:])
    data = torch.from_numpy(images)
    model.initialise(data[:256])
    optimiser = torch.optim.Adam(model.parameters(), RECIPE.learning_rate, fused=True)
    table = torch.from_numpy(batch_table(len(images), RECIPE.batch_size, RECIPE.steps, RECIPE.seed))

    def step(number: int) -> None:
        generator = torch.Generator().manual_seed(combine(RECIPE.seed, number))
        optimiser.param_groups[0]["lr"] = RECIPE.learning_rate * schedule(number, RECIPE.steps)
        batch = data[table[number]]
        loss = model.loss(batch, torch.rand(batch.shape, generator=generator)).mean()
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 50.0)
        assert np.isfinite(loss.item() + norm.item())
        optimiser.step()

    return step


def measure(rounds: int) -> pd.DataFrame:
    torch.set_num_threads(1)
    ramp = np.linspace(0, 200, 28) + np.random.default_rng(0).uniform(0, 50, (2000, 1, 28, 28))
    images = ramp.astype(np.uint8)
    course, autograd = by_course(images), by_autograd(images)
    call, spent = steps.call, [0.0]

    def timed(*arguments: Any) -> None:
        spent[0] += seconds_of(lambda _: call(*arguments), 0)

    steps.call = timed  # type: ignore[assignment]
    rows = []
    for step in range(min(rounds, RECIPE.steps)):
        now, spent[0] = seconds_of(course, step), 0.0
        rows.append((now, seconds_of(autograd, step), spent[0]))
    steps.call = call
    taken = np.array(rows[rounds // 10 :])  # after a warm-up
    names = ("a step", "a step by autograd", "its steps of flow in C++")
    table = pd.DataFrame({"what": names, "milliseconds": 1e3 * np.median(taken, 0)})
    table["of the steps of flow"] = np.median(taken / taken[:, 2:], 0)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=400)
    table = measure(parser.parse_args().rounds)
    print(table.to_string(index=False, float_format="%.3f"))
    table.to_csv(OUT / "step.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
