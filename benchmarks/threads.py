"""One process a core with one thread each, or one process with a thread a core? Training steps a second, interleaved.

    python benchmarks/threads.py [--seconds 20] [--rounds 3]

Glow as in profile quick (K=8, width 32, 28x28, batches of 16) and wider (width 128, batches of 64). Each arrangement
uses all cores for the given seconds, in turn, several times. Writes threads.csv beside this file.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

SIZES = {"K=8, width 32, batch 16": (32, 16), "K=8, width 128, batch 64": (128, 64)}


def steps_done(width: int, batch: int, seconds: float) -> int:
    """Training steps of one process in `seconds`, after a warm-up."""
    import torch

    from flowlib import Glow

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    flow = Glow((1, 28, 28), levels=2, steps=8, hidden_channels=width)
    images = torch.randint(0, 256, (batch, 1, 28, 28), dtype=torch.uint8)
    flow.initialise(images)
    optimiser = torch.optim.Adam(flow.parameters(), 1e-4, fused=True)

    def step() -> None:
        loss = flow.loss(images).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    for _ in range(3):
        step()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        step()
        done += 1
    return done


def together(processes: int, threads: int, width: int, batch: int, seconds: float) -> float:
    """Steps a second of that many processes at once."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--one", str(width), str(batch), str(seconds)]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return sum(int(process.communicate()[0]) for process in running) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        width, batch, seconds = options.one
        print(steps_done(int(width), int(batch), float(seconds)))
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rows = []
    for number in range(options.rounds):
        for size, (width, batch) in SIZES.items():
            for processes, threads in ((cores, 1), (1, cores)):
                rate = together(processes, threads, width, batch, options.seconds)
                rows.append(
                    {"round": number, "size": size, "processes": processes, "threads": threads, "steps/s": rate}
                )
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False, float_format="%.1f")
    print(table.groupby(["size", "processes", "threads"])["steps/s"].agg(["min", "median", "max"]).round(1))


if __name__ == "__main__":
    main()
