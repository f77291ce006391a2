"""Which defaults train Glow fastest: held-out nats against seconds, one option changed at a time.

    python benchmarks/training_defaults.py [--seconds 20]

Shirts of Fashion-MNIST; the last 500 training images are held out, and scored with dequantisation noise, so that the
curve is a bound on the likelihood of the 8-bit images. Seconds are the process's own CPU time on one thread, scoring
left out, so that a shared machine disturbs little. Writes training_defaults.csv and .png beside this file.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib

import matplotlib.pyplot as plt
import pandas as pd
import torch

from flowlib import training
from flowlib.datasets import load
from flowlib.figures.style import BLUE, GREEN, GREY, ORANGE, RED, SKY, STYLE
from flowlib.kernels import loop
from flowlib.kernels.descent import EPSILON, FIRST, SECOND, Descent
from flowlib.training import Recipe, train

BASE = {"steps": 8, "hidden_channels": 32}
PLAIN = 0.499  # a logit of [0.499, 0.501] is a straight line to a part in a million: plain scaling


def adamax(descent: Descent, rates: torch.Tensor) -> None:
    """In place of `Descent.update`: the largest gradient, slowly forgotten, in place of the second moment's root."""
    first, largest = descent.moments.values()
    first.lerp_(descent.gradient, 1 - FIRST)
    torch.maximum(largest.mul_(SECOND), descent.gradient.abs().add_(EPSILON), out=largest)
    descent.value.sub_(EPSILON / rates[1] * first / largest)


ADAM, ADAMAX = Descent.update, adamax
# panel -> option -> (model options, batch, learning rate, optimiser, longest gradient)
PANELS = {
    "preprocessing": {
        "logit, alpha 1e-6 (default)": (BASE, 16, 1e-2, ADAM, 50.0),
        "logit, alpha 1e-3": (BASE | {"alpha": 1e-3}, 16, 1e-2, ADAM, 50.0),
        "logit, alpha 0.05": (BASE | {"alpha": 0.05}, 16, 1e-2, ADAM, 50.0),
        "plain scaling": (BASE | {"alpha": PLAIN}, 16, 1e-2, ADAM, 50.0),
    },
    "optimiser": {
        "Adam, 1e-2 (default)": (BASE, 16, 1e-2, ADAM, 50.0),
        "Adam, 3e-3": (BASE, 16, 3e-3, ADAM, 50.0),
        "Adamax, 1e-2": (BASE, 16, 1e-2, ADAMAX, 50.0),
        "Adamax, 2e-2": (BASE, 16, 2e-2, ADAMAX, 50.0),
        "Adam, 1e-2, gradient not cut": (BASE, 16, 1e-2, ADAM, 1e9),
    },
    "batch": {
        "16 (default)": (BASE, 16, 1e-2, ADAM, 50.0),
        "8": (BASE, 8, 1e-2, ADAM, 50.0),
        "32": (BASE, 32, 1e-2, ADAM, 50.0),
        "64": (BASE, 64, 1e-2, ADAM, 50.0),
    },
    "size": {
        "K=8, width 32 (default)": (BASE, 16, 1e-2, ADAM, 50.0),
        "K=4, width 32": (BASE | {"steps": 4}, 16, 1e-2, ADAM, 50.0),
        "K=8, width 64": (BASE | {"hidden_channels": 64}, 16, 1e-2, ADAM, 50.0),
        "K=16, width 32": (BASE | {"steps": 16}, 16, 1e-2, ADAM, 50.0),
    },
}


class TimeIsUp(Exception):
    pass


def curve(option, seconds: float, images, held_out) -> list[tuple[float, float]]:
    """(seconds, held-out nats) of one training, its schedule spread over the steps that fit into `seconds`."""
    options, batch, rate, optimiser, gradient = option
    loop.GRADIENT_NORM = gradient
    Descent.update = optimiser  # type: ignore[method-assign]
    noise = torch.rand(held_out.shape, generator=torch.Generator().manual_seed(0))
    state = {"spent": 0.0, "last": 0.0, "next": 1.0}
    points = []

    def watch(step, model):
        now = time.process_time()
        state["spent"] += now - state["last"]
        if state["spent"] > state["next"] or step == recipe.steps - 1:
            with torch.no_grad():
                points.append((state["spent"], -model.log_prob(held_out, noise).mean().item()))
            state["next"] *= 1.5
        state["last"] = time.process_time()

    def timed(step, model):
        if step == 3:
            state["last"] = time.process_time()
        if step == 13:
            state["a step"] = (time.process_time() - state["last"]) / 10
            raise TimeIsUp

    recipe = Recipe("Glow", options, 10000, batch, rate)
    with contextlib.suppress(TimeIsUp):
        train(images, recipe, on_step=timed)
    recipe = Recipe("Glow", options, max(10, round(seconds / state["a step"])), batch, rate)
    state["last"] = time.process_time()
    try:
        train(images, recipe, on_step=watch)
    except training.TrainingError as error:
        print(error)
    return points


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=20.0)
    seconds = arguments.parse_args().seconds
    torch.set_num_threads(1)
    images, labels = load("fashion-mnist", "train")
    shirts = images[labels == 6]
    held_out = torch.from_numpy(shirts[-500:])
    known: dict = {}
    rows = []
    for panel, options in PANELS.items():
        for name, option in options.items():
            key = repr(option)
            if key not in known:
                known[key] = curve(option, seconds, shirts[:-500], held_out)
            rows += [(panel, name, round(spent, 2), round(nats, 1)) for spent, nats in known[key]]
            print(f"{panel:14s} {name:32s} {known[key][-1] if known[key] else 'stopped'}", flush=True)
    table = pd.DataFrame(rows, columns=["panel", "option", "seconds", "held_out_nats"])
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    draw(table)


def draw(table: pd.DataFrame) -> None:
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 2, figsize=(12, 9), sharex=True, sharey=True)
        for axes, (panel, lines) in zip(grid.flat, table.groupby("panel", sort=False), strict=True):
            for (name, points), colour, marker in zip(
                lines.groupby("option", sort=False), (BLUE, RED, GREEN, ORANGE, SKY, GREY), "os^vDx", strict=False
            ):
                axes.plot(points["seconds"], points["held_out_nats"], color=colour, marker=marker, label=name)
            axes.set(title=panel, xscale="log", ylim=(2100, 3600))
            axes.legend(fontsize=11)
        for axes in grid[-1]:
            axes.set_xlabel("CPU seconds of training, one thread")
        for axes in grid[:, 0]:
            axes.set_ylabel("held-out NLL (nats)")
        figure.savefig(Path(__file__).with_suffix(".png"), metadata={"Software": None})


if __name__ == "__main__":
    main()
