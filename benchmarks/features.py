"""What finds real damage: flow, neighbours, Gaussian, flow in context, on features; what each costs: features.csv.

    python benchmarks/features.py [--blades SEED ...] [FOLDER ...]

Solar cells always; simulated blades (200 normal ones, made in minutes) of each seed named with --blades; and any
folders laid out as MVTec AD. What `flowlib.detector.context` says and the share of a map that is its score were settled
with cells, the blades of seed 0 and pictures of ball screws in sight; blades of other seeds took no part. Neighbours
are what PatchCore does, the Gaussian what PaDiM does but for one of all positions, each without its choice of a subset.
On pixels: notebook 08.
Each row is computed in a process of its own, on one core.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch

from flowlib.detector.features import NETWORK
from flowlib.experiments import features
from flowlib.runtime import parallel
from flowlib.runtime.paths import data_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--blades", nargs="*", type=int, default=[], metavar="SEED")
    asked = parser.parse_args()
    cases = [features.cells(), *map(features.folder, asked.folders)]
    with parallel.processes() as pool:
        for seed in asked.blades:
            made = features.blades(data_folder() / "borescope", (200, 20, 28), 8, 2, pool, seed)
            cases.append(made._replace(name=f"{made.name}, seed {seed}"))
    rows = []
    one_thread = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1, **one_thread) as alone:
        for case in cases:
            for method in features.METHODS:
                rows.append(alone.submit(features.compared, case, NETWORK, method).result().row)
                pd.DataFrame(rows).to_csv(Path(__file__).with_suffix(".csv"), index=False, float_format="%.3f")
                print(rows[-1], flush=True)
    print(features.regret(pd.DataFrame(rows)).round(3).to_string())


if __name__ == "__main__":
    main()
