"""flowlib's Glow on a GPU: training and scoring as CUDA graphs, one flow and many at once, beside what the chip allows.

    python benchmarks/gpu.py [--out FILE] [--seconds SECONDS]

Runs on a bare machine with a checkout of this project, torch, numpy and safetensors; installs and fetches nothing;
under four minutes. What else flowlib imports may be missing and is then stood in for by something that does nothing.

First, whether the ways agree: the CPU and the GPU, a graph and its steps one by one, many flows and each alone. Then,
of five flows of L=2 and K=32, milliseconds a flow of a training step and of a scoring pass (medians): one flow step by
step, one by a graph, 8 and 32 at once, and 32 with TF32 and how far that leads the likelihood astray; peak memory; and
the floor, the larger of two: operations of the products at the rate of a large product, and bytes that a step of flow
reads and writes at the rate of a large copy, both measured. Without a GPU only the agreement is tried, tiny.
"""

# ruff: noqa: E402 - stand-ins come before what imports them

import argparse
import importlib.machinery
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))


def idle_bar(steps: Iterable = (), **_: object) -> mock.MagicMock:
    """A progress bar that shows nothing."""
    bar = mock.MagicMock()
    bar.__iter__.return_value = iter(steps)
    return bar


for name in ("filelock", "pandas", "psutil", "tqdm"):
    if importlib.util.find_spec(name) is None:
        stand_in = mock.MagicMock(__spec__=importlib.machinery.ModuleSpec(name, None), tqdm=idle_bar)
        sys.modules[name] = sys.modules[f"{name}.auto"] = stand_in

import numpy as np
import torch

from flowlib import training
from flowlib.kernels import graphs, loop
from flowlib.kernels.graphs import captured
from flowlib.training import Course, Recipe, Training, build, train, train_many

# width, hidden layers, images of a batch, their side
ROWS = ((32, 1, 32, 28), (128, 2, 64, 32), (128, 1, 64, 32), (128, 1, 32, 28), (512, 2, 64, 32))
MANY = (8, 32)
STEPS_OF_FLOW, LEVELS = 32, 2
ENOUGH = 2.0  # seconds for one
TINY = Recipe("Glow", {"levels": 2, "steps": 2, "hidden_channels": 8}, steps=12, batch_size=8)


def pictures(n: int, side: int, seed: int = 0) -> np.ndarray:
    """Slanted grey images with noise, uint8 ``(n, 1, side, side)``."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(60, 160, side) + rng.uniform(-20, 20, (n, 1, 1, 1))
    return (ramp + rng.normal(0, 8, (n, 1, side, side))).clip(1, 255).astype(np.uint8)


# --- agreement -------------------------------------------------------------------------------------------------------


def agreement() -> list[tuple[str, float, float]]:
    """What was compared, the largest difference as a share of the largest number, and what is allowed."""
    images, place = pictures(64, 28), training.best_device()
    model, losses = train(images, TINY)
    rows = []
    with mock.patch.object(loop, "captured", return_value=None):
        rows.append(("training, graph and one by one", difference(losses, train(images, TINY)[1]), 1e-5))
    several = pictures(320, 28, seed=1)  # more than one batch
    scores = training.score(model, several)
    with mock.patch.object(graphs, "captured", return_value=None):
        rows.append(("scoring, graph and one by one", difference(scores, training.score(model, several)), 1e-5))
    with mock.patch.object(training, "best_device", return_value=torch.device("cpu")):
        there = build(TINY, images.shape[1:])
        there.load_state_dict({name: value.cpu() for name, value in model.state_dict().items()})
        rows.append((f"scoring, {place.type} and CPU", difference(scores, training.score(there, several)), 1e-5))
    recipes = [Recipe("Glow", TINY.options, TINY.steps, 8, trim=trim, seed=at) for at, trim in enumerate((0, 0.25, 0))]
    many = [Training(pictures(40 + at, 28, at), recipe) for at, recipe in enumerate(recipes)]
    together = np.stack([losses for _, losses in train_many(many)])
    alone = np.stack([train(one.images, one.recipe)[1] for one in many])
    rows.append(("training, three flows together and alone", difference(together, alone), 1e-4))
    return rows


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# --- speed -----------------------------------------------------------------------------------------------------------


def milliseconds(function: Callable[[], Any]) -> float:
    """Median by the GPU's own clock, of as many calls as `ENOUGH` allows."""
    function()
    torch.cuda.synchronize()
    taken, began = [], time.perf_counter()
    while len(taken) < 3 or (time.perf_counter() - began < ENOUGH and len(taken) < 30):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end))
    return statistics.median(taken)


def rates() -> tuple[float, float]:
    """Operations a second of a large product in single precision, and bytes a second of a large copy."""
    a, b = torch.randn(8192, 8192, device="cuda"), torch.empty(8192, 8192, device="cuda")
    product = milliseconds(lambda: torch.mm(a, a, out=b))
    copy = milliseconds(lambda: b.copy_(a))
    return 2 * 8192**3 / product * 1e3, 2 * a.nbytes / copy * 1e3


def floors(width: int, layers: int, batch: int, side: int) -> tuple[float, float]:
    """Operations and bytes of a scoring pass of one flow.

    Of the convolutions' products; and of a step of flow's input and output, each read or written once: a kernel that
    did a whole step would move no more.
    """
    operations = moved = 0.0
    for level in range(1, LEVELS + 1):
        C, positions = 2 ** (level + 1), batch * (side // 2**level) ** 2
        products = C * C + width * (9 * (C - C // 2) + (layers - 1) * width + 18 * (C // 2))
        operations += 2.0 * positions * products * STEPS_OF_FLOW
        moved += 4.0 * positions * 2 * C * STEPS_OF_FLOW
    return operations, moved


def measured(row: tuple[int, int, int, int], number: int, graph: bool) -> dict[str, float]:
    """Of `number` flows at once: milliseconds a flow of a training step and of scoring, and peak megabytes."""
    width, layers, batch, side = row
    options = {"levels": LEVELS, "steps": STEPS_OF_FLOW, "hidden_channels": width, "hidden_layers": layers}
    images = pictures(256, side)
    recipes = [Recipe("Glow", options, 1000, batch, 1e-4, seed=seed) for seed in range(number)]
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    course = Course([Training(images, recipe) for recipe in recipes])
    course.feed(0)
    step = (captured(course.step, course.descent.state) if graph else None) or course.step
    if graph and step == course.step:
        print("   (could not be captured)")

    def train_step() -> None:
        course.feed(1)
        step()

    found = {"training": milliseconds(train_step) / number, "megabytes": torch.cuda.max_memory_allocated() / 1e6}
    model, (batch_images, *_) = course.descent.model, course.arguments
    with torch.no_grad():
        score = (captured(lambda: model.log_prob(batch_images), [batch_images]) if graph else None) or (
            lambda: model.log_prob(batch_images)
        )
        found["scoring"] = milliseconds(score) / number
    return found


def tf32_error(row: tuple[int, int, int, int]) -> float:
    """The largest change of a log-likelihood by TF32, in nats of the image, of a flow at its start."""
    width, layers, _, side = row
    options = {"levels": LEVELS, "steps": STEPS_OF_FLOW, "hidden_channels": width, "hidden_layers": layers}
    images = pictures(64, side)
    course = Course([Training(images, Recipe("Glow", options, 20, 32))])
    course.one_by_one(range(10))
    values = []
    for allowed in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        with torch.no_grad():
            values.append(course.descent.model.log_prob(course.columns[0]))
    torch.backends.cuda.matmul.allow_tf32 = False
    return float((values[0] - values[1]).abs().max())


def table(seconds: float) -> list[str]:
    """The measurements; none begins after so many seconds."""
    began = time.perf_counter()
    operations, bandwidth = rates()
    lines = [
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}: products {operations / 1e12:.1f} TFLOP/s, "
        f"copies {bandwidth / 1e12:.2f} TB/s",
        "",
        "| width | layers | batch | how | training (ms) | scoring (ms) | peak (MB) | floor of training | of scoring |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in ROWS:
        needed, moved = floors(*row)
        floor = max(needed / operations, moved / bandwidth) * 1e3
        ways = [("one, step by step", 1, False, False), ("one", 1, True, False)]
        ways += [(f"{number} at once", number, True, False) for number in MANY]
        ways += [(f"{MANY[-1]} at once, TF32", MANY[-1], True, True)]
        for how, number, graph, tf32 in ways:
            if time.perf_counter() - began > seconds:
                lines.append(f"\nNot measured for want of time: {row} {how} and what follows.")
                return lines
            torch.backends.cuda.matmul.allow_tf32 = tf32
            try:
                found = measured(row, number, graph)
                cells = [f"{found['training']:.2f}", f"{found['scoring']:.2f}", f"{found['megabytes']:.0f}"]
            except torch.OutOfMemoryError:
                cells = ["no memory", "", ""]
            torch.backends.cuda.matmul.allow_tf32 = False
            cells += [f"{3 * floor:.3f}", f"{floor:.3f}"]
            width, layers, batch, side = row
            lines.append(f"| {width} | {layers} | {batch} of {side}x{side} | {how} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
        lines.append(
            f"| {row[0]} | {row[1]} | {row[2]} of {row[3]}x{row[3]} | TF32's error | {tf32_error(row):.2g} nats |"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write what is printed to this file")
    parser.add_argument("--seconds", type=float, default=200, help="after which no further measurement begins")
    arguments = parser.parse_args()
    out = arguments.out
    torch.set_num_threads(1)
    rows = agreement()
    lines = [f"{what:45} {found:.1e} (at most {allowed:.0e})" for what, found, allowed in rows]
    print("\n".join(lines), flush=True)
    failed = [what for what, found, allowed in rows if not found <= allowed]
    if failed:
        lines.append(f"DISAGREE: {', '.join(failed)}")
    elif torch.cuda.is_available():
        lines += ["", *table(arguments.seconds)]
    else:
        lines.append("No GPU: the ways agree on the CPU, where nothing is captured; GPU figures are not measured.")
    print("\n".join(lines[len(rows) :]))
    if out is not None:
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
