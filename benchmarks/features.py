"""What finds real damage: flow, neighbours, Gaussian, flow in context, on features; costs and regrets: two CSV files.

    python benchmarks/features.py [FOLDER ...] [--blades SEED ...]

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
from flowlib.detector.model import OWN_WAY, WAYS
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
    table = regrets(pd.DataFrame(rows))
    table.to_csv(Path(__file__).with_name("features_regret.csv"), index=False, float_format="%.3f")
    print(table.round(3).to_string())


def regrets(table: pd.DataFrame) -> pd.DataFrame:
    """Of each set the best image AUROC of all methods and ways, and what two rules, which know no defect, have less:
    that of `flowlib fit`, and the one before it, the flow without context by the mean of the highest tenth."""
    rows = []
    for name, of_set in table.groupby("set", sort=False):
        found = of_set.set_index("method")[list(WAYS)].stack()
        row = {"set": name, "best": " by ".join(found.idxmax()), "image AUROC": found.max()}
        row |= {"regret": found.max() - found["flow in context", OWN_WAY]}
        rows.append(row | {"regret before": found.max() - found["flow", features.CLAIMED]})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
