"""flowlib's Glow against normflows, nflows and FrEIA: same configuration, weights and batch, interleaved in one run.

    python -m pip install -e .[benchmarks]
    python benchmarks/speed.py [--rounds 5] [--quick]

For 1 and 3 channels, widths 64, 128 and 512, one and two hidden layers, 1 and 2 threads: likelihoods compared first,
then seconds of a training step (Adam included), a scoring pass and sampling, a batch of 64 at 32x32 each, and what the
matrix products alone would take at the rate measured beside them (the floor); peak memory of training, each in a
process of its own. Then the time to a held-out likelihood, and how cost grows with the work. Writes reports/speed.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from peers import PEERS, common_glow
from torch import Tensor

from flowlib import Glow
from flowlib.glow import squeeze, unsqueeze
from flowlib.runtime import compiled

warnings.filterwarnings("ignore")  # the peers' own
OUT = Path(__file__).resolve().parent.parent / "reports" / "speed"
BATCH, SIZE, LEVELS = 64, 32, 2
ENOUGH = 30.0  # seconds for the rounds of a configuration, after two of them
REFERENCE = {"channels": 1, "width": 128, "layers": 2, "steps": 32}
REFERENCE_KEY = tuple(REFERENCE.values())
TIMED = ("training step", "scoring", "sampling")
AIMS = dict(zip(TIMED, (1.8, 2.2, 2.0), strict=True))  # at the reference with two threads
IN_TORCH = "flowlib without a compiler"
EXAMPLES, OURS = "as the peers' examples do", "by flowlib's recipe"
LEARNED_1X1 = ("nflows", "normflows")  # peers whose 1x1 convolution is learned, as ours is


def configurations(quick: bool) -> list[dict[str, int]]:
    """Those to compare: the reference at its full depth first; width 512 is 8 steps of flow deep, for time."""
    if quick:
        return [REFERENCE | {"threads": 1}]
    out = []
    for channels, width, layers, threads in itertools.product((1, 3), (64, 128, 512), (2, 1), (1, 2)):
        steps = 8 if width == 512 else 32
        out.append({"channels": channels, "width": width, "layers": layers, "steps": steps, "threads": threads})
    # what matters most first: what was measured is kept when the rest is not waited for
    return sorted(out, key=lambda one: (one["channels"] - 1 + abs(one["width"] - 128), -one["layers"]))


def built(channels: int, width: int, layers: int, steps: int, **_: Any) -> tuple[dict[str, Any], Tensor]:
    """All four with the same weights, and a batch of images, uint8 ``(64, C, 32, 32)``."""
    images = torch.randint(0, 256, (BATCH, channels, SIZE, SIZE), dtype=torch.uint8)
    flow = common_glow(
        (channels, SIZE, SIZE), images, levels=LEVELS, steps=steps, hidden_channels=width, hidden_layers=layers
    )
    return {"flowlib": flow} | {name: peer(flow) for name, peer in PEERS.items()}, images


def work(model: Any, images: Tensor) -> dict[str, Callable[[], Any]]:
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-5, fused=True)

    def training_step() -> None:
        optimiser.zero_grad()
        model.loss(images).mean().backward()
        optimiser.step()

    def scoring() -> None:
        with torch.inference_mode():
            model.log_prob(images)

    return dict(zip(TIMED, (training_step, scoring, lambda: model.sample(BATCH)), strict=True))


def without_compiler(function: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> None:
        library = compiled.library
        compiled.library = lambda name: None  # type: ignore[assignment]
        try:
            function()
        finally:
            compiled.library = library

    return run


def operations(channels: int, width: int, layers: int, steps: int, **_: Any) -> float:
    """Floating point operations of the convolutions in one forward pass of a batch (multiply and add are two)."""
    total = 0.0
    for level in range(1, LEVELS + 1):
        C = channels * 2 ** (level + 1)
        positions = BATCH * (SIZE // 2**level) ** 2
        products = C * C + width * (9 * (C - C // 2) + (layers - 1) * width + 18 * (C // 2))
        total += 2.0 * positions * products * steps
    return total


def seconds_of(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def matrix_rate() -> float:
    """Operations a second of a matrix product that fits the cache, the best of a few."""
    a, b = torch.randn(256, 256), torch.randn(256, 2048)
    out = torch.empty(256, 2048)
    return 2.0 * 256 * 256 * 2048 / min(seconds_of(lambda: torch.mm(a, b, out=out)) for _ in range(20))


def compare(configuration: dict[str, int], rounds: int) -> list[dict[str, Any]]:
    """Rows of one configuration: seconds of each library and of the floor, medians of interleaved rounds."""
    torch.manual_seed(0)
    torch.set_num_threads(configuration["threads"])
    models, images = built(**configuration)
    with torch.inference_mode():
        expected = models["flowlib"].log_prob(images)
        differences = {name: (model.log_prob(images) - expected).abs().max().item() for name, model in models.items()}
    assert max(differences.values()) < 1e-5 * expected.abs().max().item(), differences
    works = {name: work(model, images) for name, model in models.items()}
    if configuration.items() >= REFERENCE.items():
        works[IN_TORCH] = {what: without_compiler(one) for what, one in works["flowlib"].items()}
        differences[IN_TORCH] = differences["flowlib"]
    taken: dict[tuple[str, str], list[float]] = {(name, what): [] for name in works for what in TIMED}
    rates = []
    began = time.perf_counter()
    for number in range(rounds + 1):  # the first warms up
        if number > 2 and time.perf_counter() - began > ENOUGH:
            break
        rates.append(matrix_rate())
        for what in TIMED:
            for name, one in works.items():
                seconds = seconds_of(one[what])
                if number:
                    taken[name, what].append(seconds)
    forward = operations(**configuration) / statistics.median(rates)
    floors = {"training step": 3 * forward, "scoring": forward, "sampling": forward}
    rows = []
    for (name, what), all_seconds in taken.items():
        row = {"library": name, "what": what, "seconds": statistics.median(all_seconds), "fastest": min(all_seconds)}
        rows.append(configuration | row | {"floor": floors[what], "difference (nats)": differences[name]})
    memory = {name: net_memory(name, configuration) for name in models} if configuration["threads"] == 1 else {}
    for name, value in memory.items():
        rows.append(configuration | {"library": name, "what": "training memory", "megabytes": value})
    return rows


def net_memory(name: str, configuration: dict[str, int]) -> float:
    """Peak less start, in MB, of two training steps in a process of its own."""
    command = [sys.executable, __file__, "--memory", name, json.dumps(configuration)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_memory(name: str, configuration: dict[str, int]) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(configuration["threads"])
    models, images = built(**configuration)
    step = work(models[name], images)["training step"]
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    step()
    step()
    print((status("VmHWM") - before) / 1024)


def status(field: str) -> float:
    """A field of this process' status, in kB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(field)).split()[1])


# --- time to a likelihood --------------------------------------------------------------------------------------------


def time_to_likelihood(seconds: float) -> list[dict[str, Any]]:
    """Held-out NLL of Fashion-MNIST shirts against seconds of training, one thread, and how well each inverts then.

    All train the reference configuration with Adam at 1e-3 on batches of 64, as the peers' examples do, for `seconds`,
    and the peers also our defaults' configuration with our recipe; flowlib trains its defaults for several times.
    """
    from flowlib.datasets import load
    from flowlib.training import Recipe, batch_table, schedule, train

    torch.set_num_threads(1)
    images, labels = load("fashion-mnist", "train")
    shirts = images[labels == 6]
    learned, held_out = torch.from_numpy(shirts[:5000]), torch.from_numpy(shirts[5000:5500])
    shape = tuple(learned.shape[1:])
    rows: list[dict[str, Any]] = []

    def add(library: str, recipe: str, spent: float, steps: int, model: Any) -> None:
        with torch.inference_mode():
            nll = float(torch.cat([-model.log_prob(part) for part in held_out.split(64)]).mean())
        errors = {f"error at {times}x": inverse_error(model, held_out[:64], times) for times in (1, 4)}
        rows.append({"library": library, "recipe": recipe, "seconds": spent, "steps": steps, "nll": nll} | errors)
        print(rows[-1], flush=True)

    small = {"levels": 2, "steps": 8, "hidden_channels": 32, "hidden_layers": 1}
    big = {"levels": 2, "steps": 32, "hidden_channels": 128, "hidden_layers": 2}
    for how, options, batch, rate in ((EXAMPLES, big, 64, 1e-3), (OURS, small, 16, 1e-2)):
        for name, library in (PEERS if how == OURS else PEERS | {"flowlib": lambda flow: flow}).items():
            model: Any = library(common_glow(shape, learned[:256], **options))  # type: ignore[arg-type]
            optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], rate, fused=True)
            spent, step = 0.0, 0
            table = torch.from_numpy(batch_table(len(learned), batch, 100_000, 0))
            while spent < seconds:
                began = time.perf_counter()
                if how == OURS:  # its schedule wants to know how many steps there will be
                    total = max(step + 1, int(seconds / spent * step)) if step else 400
                    for group in optimiser.param_groups:
                        group["lr"] = rate * schedule(min(step, total - 1), total)
                loss = model.loss(learned[table[step]]).mean()
                optimiser.zero_grad()
                loss.backward()
                if how == OURS:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 50.0)
                optimiser.step()
                spent += time.perf_counter() - began
                step += 1
            add(name, how, spent, step, model)
    pace = 0.0
    for wanted in (1.0, 5.0, 10.0, 20.0, 40.0):
        steps = max(20, int(wanted / pace)) if pace else 60
        began = time.perf_counter()
        model, _ = train(learned.numpy(), Recipe(options=small, steps=steps, batch_size=16))
        spent = time.perf_counter() - began
        pace = spent / steps
        add("flowlib", OURS, spent, steps, model)
    return rows


@torch.no_grad()
def inverse_error(model: Any, images: Tensor, times: float) -> float:
    """How far there and back leads from so many times the logits of images: the largest error by the largest input."""
    h = times * torch.logit(1e-6 + (1 - 2e-6) * (images + 0.5) / 256)
    if isinstance(model, Glow):
        latents, there = [], h.transpose(0, 1)
        for level in model.levels:
            z, there = level.split(level.flow(squeeze(there))[0])
            latents.append(z)
        back = there
        for level, z in zip(reversed(model.levels), reversed(latents), strict=True):
            back = unsqueeze(level.inverse(torch.cat((z, back))))
        back = back.transpose(0, 1)
    else:
        back = model.invert(model.transform(h)[0])
    return float((back - h).abs().max() / h.abs().max())


# --- how cost grows --------------------------------------------------------------------------------------------------


def scaling() -> list[dict[str, Any]]:
    """Seconds and memory against images, width, depth and image size, one thread; the dense map of large frames."""
    from flowlib.runtime import parallel
    from flowlib.training import Recipe, score, train

    torch.set_num_threads(1)
    rows = []

    def add(what: str, value: int, function: Callable[[], Any], work: float) -> None:
        function()
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
        seconds = min(seconds_of(function) for _ in range(3))
        rows.append(
            {"what": what, "value": value, "seconds": seconds, "work": work, "MB": (status("VmHWM") - before) / 1024}
        )
        print(rows[-1], flush=True)

    def flow(size: int = 28, width: int = 32, steps: int = 8) -> Glow:
        torch.manual_seed(0)
        return Glow((1, size, size), levels=2, steps=steps, hidden_channels=width).eval()

    def scored(model: Glow, images: np.ndarray) -> Callable[[], Any]:
        return lambda: score(model, images)

    def mapped(model: Glow, picture: Tensor) -> Callable[[], Any]:
        def dense() -> None:
            with torch.inference_mode():
                model.log_prob_map(picture)

        return dense

    rng = np.random.default_rng(0)
    for n in (250, 500, 1000, 2000, 4000):
        add("images scored", n, scored(flow(), rng.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8)), n)
    images = rng.integers(0, 256, (256, 1, 28, 28), dtype=np.uint8)
    for width in (16, 32, 64, 128, 256):
        add("width", width, scored(flow(width=width), images), width)
    for steps in (4, 8, 16, 32):
        add("steps of flow", steps, scored(flow(steps=steps), images), steps)
    for size in (32, 64, 128, 256):
        some = rng.integers(0, 256, (16, 1, size, size), dtype=np.uint8)
        add("image side", size, scored(flow(32), some), size * size)
    shirts = rng.integers(0, 256, (500, 1, 28, 28), dtype=np.uint8)
    recipe = Recipe(options={"levels": 2, "steps": 8, "hidden_channels": 32, "hidden_layers": 1}, steps=200)
    for processes in (1, 2):
        with parallel.processes(processes) as pool:
            jobs = [(shirts, replace(recipe, seed=seed)) for seed in range(4)]
            add("processes, four trainings", processes, partial(parallel.run, train, jobs, pool), 1 / processes)
    for height, width in ((320, 320), (1080, 1920), (2160, 3840)):
        picture = torch.from_numpy(rng.integers(0, 256, (1, 1, height, width), dtype=np.uint8))
        add("dense map, rows", height, mapped(flow(32), picture), height * width)
    return rows


# --- the page --------------------------------------------------------------------------------------------------------


def write_page(out: Path, facts: dict[str, Any]) -> None:
    """reports/speed/README.md and its figures, from the tables beside it."""
    table = pd.read_csv(out / "peers.csv")
    timed = table[table["what"].isin(TIMED)]
    keys = ["channels", "width", "layers", "steps", "threads", "what"]
    wide = timed.pivot_table(index=keys, columns="library", values="seconds")
    fastest = wide[list(PEERS)].min(axis=1)
    ratio = (fastest / wide["flowlib"]).rename("times faster than the fastest peer")
    floor = timed[timed["library"] == "flowlib"].set_index(keys)["floor"]
    summary = pd.DataFrame(
        {"flowlib (s)": wide["flowlib"], "fastest peer (s)": fastest, "peer": wide[list(PEERS)].idxmin(axis=1)}
    )
    summary["ratio"], summary["flowlib / floor"], summary["peer / floor"] = (
        ratio,
        wide["flowlib"] / floor,
        fastest / floor,
    )
    memory = table[table["what"] == "training memory"].pivot_table(
        index=["channels", "width", "layers", "steps"], columns="library", values="megabytes"
    )
    memory["leanest peer / flowlib"] = memory[list(PEERS)].min(axis=1) / memory["flowlib"]
    draw_ratios(summary, out / "ratios.png")
    lines = [
        "# Speed: flowlib's Glow against other PyTorch Glows",
        "",
        "Same configuration, same weights (likelihoods agree before anything is timed), same batch: 64 images of "
        "32x32, L=2. Medians of two or more interleaved rounds after a warm-up; ratios are what to read, for the "
        "machine is shared. "
        f"{facts['machine']}; torch {facts['torch']}.",
        "",
        in_short(wide, memory),
        "",
        "![ratios](ratios.png)",
        "",
        "## Seconds a batch",
        "",
        "The floor is what the convolutions' products would take at the matrix rate measured in the same run "
        "(a training step counts three forward passes); that is torch's, and can be beaten. FrEIA's 1x1 convolution is "
        "fixed, the others' is learned.",
        "",
        markdown(summary.reset_index()),
        "",
        "## Memory of training, peak less start (MB)",
        "",
        markdown(memory.reset_index()),
    ]
    if (out / "likelihood.csv").exists():
        found = pd.read_csv(out / "likelihood.csv")
        lines += ["", "## Time to a likelihood", "", f"{LIKELIHOOD_TEXT} {reached(found)}", "", markdown(found)]
    if (out / "step.csv").exists():
        lines += [
            "",
            "## A training step of the default flow",
            "",
            STEP_TEXT,
            "",
            markdown(pd.read_csv(out / "step.csv")),
        ]
    lines += ["", "## On a GPU", "", GPU_TEXT]
    if (out / "scaling.csv").exists():
        found = pd.read_csv(out / "scaling.csv")
        found["seconds per unit of work, first is 1"] = found.groupby("what", group_keys=False)[
            ["seconds", "work"]
        ].apply(lambda rows: (rows["seconds"] / rows["work"]) / (rows["seconds"] / rows["work"]).iloc[0])
        draw_scaling(found, out / "scaling.png")
        lines += ["", "## How cost grows", "", SCALING_TEXT, "", "![scaling](scaling.png)", "", markdown(found)]
    (out / "README.md").write_text("\n".join([*lines, "", LEARNED, ""]), encoding="utf-8")


def in_short(wide: pd.DataFrame, memory: pd.DataFrame) -> str:
    """The reference configuration in a table, beside what was aimed at; `wide` has seconds by library."""
    rows = []
    for (threads, what), row in wide.loc[REFERENCE_KEY].iterrows():
        ours = {"": row["flowlib"], ", no compiler": row[IN_TORCH]}
        ratios = {f"against the fastest{name}": row[list(PEERS)].min() / seconds for name, seconds in ours.items()}
        learned = row[list(LEARNED_1X1)].min() / row["flowlib"]
        aim = AIMS[what] if threads == 2 else ""
        rows.append({"threads": threads, "what": what} | ratios | {"against a learned 1x1": learned, "aimed at": aim})
    leaner = memory.loc[REFERENCE_KEY, "leanest peer / flowlib"]
    return (
        "At the reference (K=32, width 128, two hidden layers, one channel) flowlib is so many times as fast as the "
        "fastest peer, as it is and where there is no compiler, and as the fastest with a learned 1x1 convolution:\n\n"
        f"{markdown(pd.DataFrame(rows))}\n\n"
        f"Its training takes {leaner:.1f} times less memory than the leanest peer's; aimed at was 2."
    )


def reached(found: pd.DataFrame) -> str:
    """When flowlib reaches what the best peer does, for each recipe of the peers, in a sentence each."""
    ours = found[found["library"] == "flowlib"]
    sentences = []
    for recipe, peers in found[found["library"] != "flowlib"].groupby("recipe"):
        best = peers.loc[peers["nll"].idxmin()]
        soon = ours.loc[ours["nll"] <= best["nll"], "seconds"]
        when = f"after {soon.min():.1f} s" if len(soon) else f"not within {ours['seconds'].max():.0f} s"
        sentences.append(
            f"Trained {recipe}, the best peer, {best['library']}, is at {best['nll']:.0f} nats after "
            f"{best['seconds']:.0f} s; flowlib is there {when}."
        )
    return " ".join(sentences)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, numbers to three digits."""
    rows = [[f"{cell:.3g}" if isinstance(cell, float) and cell < 1000 else f"{cell:.0f}" if isinstance(cell, float)
             else str(cell) for cell in row] for row in table.itertuples(index=False)]  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(table.columns), ["---"] * len(table.columns), *rows])


LIKELIHOOD_TEXT = (
    "Held-out negative log-likelihood (nats) of Fashion-MNIST shirts after so many seconds of training, one thread: "
    "the reference configuration (K=32, width 128, two hidden layers) with Adam at 1e-3 on batches of 64 as the peers' "
    "examples do, and flowlib's defaults (K=8, width 32) with its recipe. Errors are those of going there and back, "
    "from the logits of held-out images and from four times as much, relative to the largest input; peers hold "
    "flowlib's bound of the log-scales here, not their own. No image is at four times the logits, and flowlib refuses "
    "images out of range; inside, 32 steps invert there, but 8, each of which may stretch four times as far, can be "
    "too ill-conditioned for 32-bit floats (in 64 bits they invert)."
)
SCALING_TEXT = (
    "One thread, K=8, width 32 unless it is what varies; the best of three. The last column is flat where cost grows "
    "as the work does (the work of processes is the share of each). MB is what the work adds to the process at most."
)
GPU_TEXT = (
    "Not measured in this version. On a GPU training and scoring run as CUDA graphs, and `flowlib.training.train_many` "
    "trains flows of one shape as one; that each ends as it would alone, and that a step as a graph has it gives the "
    "numbers of the plain loop, is tested on a CPU. `python benchmarks/gpu.py` measures where there is a GPU, with a "
    "checkout, torch, numpy and safetensors: agreement first, then one flow, 8 and 32 at once."
)
STEP_TEXT = (
    "L=2, K=8, width 32, 16 images of 28x28, one thread (`benchmarks/step.py`): what a step takes, what it took when "
    "autograd, torch's fused Adam and its clipping did what is around the steps of flow, and the C++ of these alone. "
    "Aimed at was at most 1.25 times that. Numbers agree with those of autograd to rounding."
)
LEARNED = """## What made the difference

- One call of C++ (`flowlib/kernels/steps.cpp`) for all steps of a level. A panel of positions goes through a whole
  coupling network while it stays in the cache: gather of nine neighbours, all layers with their ReLU, scatter of the
  last layer's nine taps. How near that comes to the products alone is the column "flowlib / floor".
- A thread takes its images through all steps without waiting for another; only where images are fewer than threads do
  they share rows, and wait for one another once a step.
- The gradient is written by hand in the same file. Hidden layers are computed again, operations that the floor does not
  count; kept are what comes out of each step and its log-scale, which is why training takes so little memory.
- Channels first, images second: the 1x1 convolution with actnorm is one small product, and the two halves of a coupling
  are views. Their log-determinants are composed once a pass for all steps of a level together.
- OpenMP is torch's own: threads of another pool fight with torch's, which spin while they wait.
- Around the steps of flow of a training step nothing is left to autograd: dequantisation, squeeze, priors and loss,
  forward and back, are in the same two calls (`flowlib/kernels/loss.h`), and all parameters are one tensor, on which
  Adam and the gradient's length take a few calls (`flowlib/kernels/descent.py`).
- Without a compiler the same is done in torch, layer by layer and in pieces that fit the cache.
- Tried and dropped: panels with positions as rows (gather and scatter are strided then), shares handed out to threads
  one by one, other sizes of tiles and panels, the networks alone in C++ and the rest of a step in torch (1.3 to 1.4
  times slower, small flows and large).
"""


def draw_ratios(summary: pd.DataFrame, path: Path) -> None:
    """A row a configuration, a panel an operation."""
    wide = summary["ratio"].unstack("what").sort_index(level=["channels", "width", "layers", "threads"])
    names = [
        f"{channels} channel{'s' * (channels > 1)}, width {width}, {layers} hidden, {threads} thread"
        + "s" * (threads > 1)
        for channels, width, layers, _, threads in wide.index
    ]
    figure, axes = plt.subplots(
        1, 3, figsize=(11, 1.3 + 0.33 * len(wide)), sharex=True, sharey=True, constrained_layout=True
    )
    for axis, what in zip(axes, TIMED, strict=True):
        axis.hlines(range(len(wide)), 1, wide[what], color="C0", linewidth=2)
        axis.plot(wide[what], range(len(wide)), "o", color="C0", markersize=8)
        axis.axvline(1, color="grey", linewidth=1)
        axis.set_title(what, loc="left")
        axis.set_yticks(range(len(wide)), names)
        axis.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    axes[0].set_xlim(left=0)
    figure.supxlabel("times as fast as the fastest peer")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_scaling(found: pd.DataFrame, path: Path) -> None:
    """A panel for each thing that grows: seconds, and what they would be if they grew as the work does."""
    groups = list(found.groupby("what", sort=False))
    columns = -(-len(groups) // 2)
    figure, axes = plt.subplots(2, columns, figsize=(3 * columns, 5.6), constrained_layout=True)
    for axis, (what, rows) in zip(axes.flat, groups, strict=False):
        axis.plot(rows["value"], rows["seconds"], "o-", color="C0", label="measured")
        expected = rows["seconds"].iloc[0] * rows["work"] / rows["work"].iloc[0]
        axis.plot(rows["value"], expected, "--", color="grey", linewidth=1, label="as the work grows")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(rows["value"], rows["value"])
        axis.set_yticks(rows["seconds"], [f"{seconds:.2g}" for seconds in rows["seconds"]])
        axis.minorticks_off()
        axis.set_xlabel(what)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    axes[0, 0].legend()
    figure.supylabel("seconds")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="the reference configuration, one thread, alone")
    parser.add_argument("--only", choices=["peers", "likelihood", "scaling", "page"], help="one part")
    parser.add_argument("--seconds", type=float, default=60, help="of training of each peer")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        measure_memory(options.memory[0], json.loads(options.memory[1]))
        return
    OUT.mkdir(parents=True, exist_ok=True)
    if options.only in (None, "peers"):
        rows: list[dict[str, Any]] = []
        for configuration in configurations(options.quick):
            rows += compare(configuration, options.rounds)
            table = pd.DataFrame(rows)
            now = table[(table[list(configuration)] == pd.Series(configuration)).all(axis=1)]
            print(
                configuration,
                now.pivot_table(index="library", columns="what", values="seconds").round(3),
                sep="\n",
                flush=True,
            )
            if not options.quick:
                table.to_csv(OUT / "peers.csv", index=False, float_format="%.5g")
    if options.quick:
        return
    if options.only in (None, "likelihood"):
        pd.DataFrame(time_to_likelihood(options.seconds)).to_csv(
            OUT / "likelihood.csv", index=False, float_format="%.5g"
        )
    if options.only in (None, "scaling"):
        pd.DataFrame(scaling()).to_csv(OUT / "scaling.csv", index=False, float_format="%.5g")
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "CPU",
    )
    write_page(OUT, {"machine": f"{cpu}, 2 cores", "torch": torch.__version__})
    print(OUT / "README.md")


if __name__ == "__main__":
    main()
