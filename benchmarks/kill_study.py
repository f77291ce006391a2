"""kill -9 at random moments: does every rerun continue, and end with the numbers of an undisturbed run, to the bit?

    python benchmarks/kill_study.py [--kills 60] [--seed 0]

Two small notebooks with models of a second each, in a copy of the project. Run after run is stopped at a moment drawn
at random, killed (all of its processes, the runner alone, a papermill, a kernel or a worker), and run again, until one
is quick enough to end before it is killed, or six were killed. Then everything that was made is compared with what an
undisturbed run makes, and all begins anew with empty folders. Writes kill_study.csv beside this file: a row a kill,
with what was going on (`phase`) and what became of it.
"""

import argparse
import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import psutil
from nbformat.v4 import new_code_cell, new_notebook

from flowlib.runtime import artifacts
from flowlib.runtime.download import ensure
from flowlib.runtime.paths import ROOT

PARAMETERS = """report_dir = "reports/small"
seeds = [0, 1]
train_steps = 1"""
IMPORTS = """from dataclasses import replace
import numpy as np
import pandas as pd
from flowlib.datasets import by_class
from flowlib.experiments import pairs
from flowlib.figures import shared, style
from flowlib.metrics import auroc
from flowlib.runtime import parallel
from flowlib.training import Recipe, train_and_score
train, test = by_class("mnist", "train", 400), by_class("mnist", "test", 40)
options = {"levels": 2, "steps": 2, "hidden_channels": 32}"""
NOTEBOOKS = {
    "01_flows": """with parallel.processes(1) as pool:
    recipe = Recipe("Glow", options, train_steps, 8)
    grid = pairs.class_grid(train[:3], test[:3], recipe, seeds, pool, "flows")
---
table = pairs.pair_table(grid, "012")
style.save(shared.matrix(pairs.pair_matrix(grid), "012"), report_dir, "01_pairs", table, "AUROC.")""",
    "02_models": """models = {"Glow": options, "FullyConnectedAutoencoder": {}, "ConvAutoencoder": {}}
recipes = [Recipe(name, own, train_steps, 8, 1e-3, seed=seed) for name, own in models.items() for seed in seeds]
tests = {"ones": test[1], "eights": test[8]}
with parallel.processes(1) as pool:
    found = parallel.run(train_and_score, [(train[1], recipe, tests) for recipe in recipes], pool, "models")
---
scores = pd.DataFrame(
    {"model": recipe.model, "seed": recipe.seed, "image": np.arange(40), "eights": each["eights"], "ones": each["ones"]}
    for recipe, each in zip(recipes, found)
).explode(["image", "eights", "ones"])
style.save(shared.samples([("one", test[1]), ("eight", test[8])]), report_dir, "02_scores", scores, "Images.")""",
}
TRAIN_STEPS = 60
CHECKPOINT_SECONDS = 0.2  # in place of half a minute
VICTIMS = {"all": 4, "runner": 3, "papermill": 1, "kernel": 2, "worker": 2}  # and how often, of 12
GRACE = 60.0  # seconds in which what is left of a killed run must have ended, on a busy machine, too
COLUMNS = ["round", "victim", "second", "phase", "artifacts", "checkpoints", "partial", "ended", "orphans", "same"]


def copy_of_project(root: Path, notebooks: Sequence[str] = tuple(NOTEBOOKS)) -> Path:
    """flowlib, with many checkpoints, these small notebooks and verified data in `root`."""
    shutil.copytree(ROOT / "flowlib", root / "flowlib", ignore=shutil.ignore_patterns("__pycache__"))
    code = root / "flowlib" / "kernels" / "loop.py"
    seldom, often = "\nCHECKPOINT_SECONDS = 30.0\n", f"\nCHECKPOINT_SECONDS = {CHECKPOINT_SECONDS}\n"
    assert seldom in code.read_text()
    code.write_text(code.read_text().replace(seldom, often))
    (root / "data").mkdir()
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copy(ROOT / "data" / "manifest.json", root / "data")
    for name in ("mnist", "fashion-mnist"):
        (root / "data" / name).symlink_to(ensure(name).resolve())
    (root / "notebooks" / "profiles").mkdir(parents=True)
    (root / "notebooks" / "profiles" / "small.yaml").write_text(f"train_steps: {TRAIN_STEPS}\n")
    for name in notebooks:
        parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
        cells = [new_code_cell(text) for text in (IMPORTS, *NOTEBOOKS[name].split("\n---\n"))]
        nbformat.write(new_notebook(cells=[parameters, *cells]), root / "notebooks" / f"{name}.ipynb")
    return root


def start(root: Path) -> subprocess.Popen[bytes]:
    """``flowlib run`` in the copy."""
    command = [sys.executable, "-m", "flowlib", "run", "--profile", "small", "--jobs", "2"]
    own = {"FLOWLIB_DATA": "data", "PYTHONPATH": ".", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
    environment = os.environ | {name: str(root / value) for name, value in own.items()}
    with (root / "output.txt").open("ab") as out:
        return subprocess.Popen(command, cwd=root, env=environment, stdout=out, stderr=out)


def processes(root: Path) -> list[psutil.Process]:
    """All processes of a run in `root`, whoever their parents are by now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("FLOWLIB_DATA") == str(root / "data"):
                found.append(process)
    return found


def kind(process: psutil.Process) -> str:
    """A name in `VICTIMS`, or "helper"."""
    with contextlib.suppress(psutil.Error):
        command = " ".join(process.cmdline())
        for text, name in (
            ("-m flowlib run", "runner"),
            ("papermill", "papermill"),
            ("ipykernel_launcher", "kernel"),
            ("spawn_main", "worker"),
        ):
            if text in command:
                return name
    return "helper"


def phase(root: Path, stopped: Sequence[psutil.Process]) -> str:
    """What stopped processes were at, by the files they hold open and the cells that papermill has counted."""
    opened = set()
    for process in stopped:
        with contextlib.suppress(psutil.Error):
            opened |= {Path(file.path) for file in process.open_files()}
    if any(path.suffix == ".partial" for path in opened):
        return "writing"
    making = [path for path in opened if path.suffix == ".lock" and not path.with_suffix(".safetensors").exists()]
    for folder, name in (("model", "training"), ("scores", "scoring"), ("maps", "scoring")):
        if any(path.parent.name == folder for path in making):
            return name
    logs = (root / "reports" / "small").glob(".*.log")
    cells = [int(cell) for log in logs for cell in re.findall(r"\| *(\d+)/\d+ \[", log.read_text(errors="replace"))]
    kernel = any(kind(process) == "kernel" for process in stopped)  # else the logs are of the run before
    return "drawing" if kernel and max(cells, default=0) > 2 else "environment"


def kill(root: Path, run: subprocess.Popen[bytes], victim: str, rng: random.Random) -> dict[str, Any]:
    """Stop a run, look, kill the victim and let the others go on: what was seen, and what became of it."""
    for _ in range(2):  # a process that was just being started is met the second time
        members = processes(root)
        for member in members:
            with contextlib.suppress(psutil.Error):
                member.suspend()
    kept = list((root / "data").glob("artifacts/*/*"))
    hidden = [path for path in root.glob("*/**/.*") if path.name.endswith(".partial") or path.parent.name in WRITTEN]
    row = {
        "phase": phase(root, members),
        "artifacts": sum(path.suffix == ".safetensors" for path in kept),
        "checkpoints": sum(path.suffix == ".checkpoint" for path in kept),
        "partial": len(hidden),
    }
    victims = [member for member in members if kind(member) == victim]
    victims = [rng.choice(victims)] if victims else members
    for member in victims:
        with contextlib.suppress(psutil.Error):
            member.kill()
    for member in members:
        with contextlib.suppress(psutil.Error):
            member.resume()
    alone = victims != members and victim != "runner"
    if alone:  # the runner is to notice, and to end by itself
        run.wait(timeout=600)
    began = time.monotonic()
    run.wait(timeout=GRACE)
    while (left := processes(root)) and time.monotonic() - began < GRACE:
        time.sleep(0.05)
    for orphan in left:
        with contextlib.suppress(psutil.Error):
            orphan.kill()
    ended = f"exit status {run.returncode}" if alone else f"{time.monotonic() - began:.1f} s"
    return {"victim": victim if victims != members else "all", **row, "ended": ended, "orphans": len(left)}


WRITTEN = ("tables", "claims", "figures")


def made(root: Path) -> dict[str, str]:
    """SHA-256 of every table, claim and figure and of the arrays of every artifact, by their paths.

    Hidden files are those that are being written, and no one reads. Raises ArtifactError where one is damaged.
    """
    files = [path for folder in WRITTEN for path in sorted((root / "reports" / "small" / folder).glob("[!.]*"))]
    found = {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    for path in sorted((root / "data" / "artifacts").glob("*/[!.]*")):
        if path.suffix != ".lock":
            whole = path.suffix == ".safetensors"
            content = artifacts.digest(artifacts.read(path).arrays, "") if whole else "no artifact"
            found[path.relative_to(root).as_posix()] = content
    return found


def empty(root: Path) -> None:
    for folder in (root / "reports", root / "data" / "artifacts"):
        shutil.rmtree(folder, ignore_errors=True)


def undisturbed(root: Path) -> tuple[dict[str, str], float]:
    """What a run makes that nobody kills, and the seconds it takes."""
    began = time.monotonic()
    status = start(root).wait()
    if status != 0:
        raise RuntimeError(f"the undisturbed run ended with status {status}:\n{(root / 'output.txt').read_text()}")
    return made(root), time.monotonic() - began


def survive(
    root: Path, expected: dict[str, str], seconds: float, victims: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    """One round: a run for each of the victims, killed, and the last left to end. A row a kill.

    A run that ends before its moment comes is the last. Every third moment is put off until an artifact is written.
    """
    empty(root)
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for victim in victims:
        writing = rng.random() < 1 / 3
        moment, run = rng.uniform(0, seconds * (0.4 if writing else 0.7)), start(root)
        began = time.monotonic()
        while run.poll() is None and (
            (passed := time.monotonic() - began) < moment
            or (writing and passed < seconds and not any((root / "data").glob("artifacts/*/.*.partial")))
        ):
            time.sleep(0.002 if time.monotonic() - began > moment else 0.02)
        if run.poll() is not None:
            break
        second = round(time.monotonic() - began, 2)
        rows.append({"victim": victim, "second": second, **kill(root, run, victim, rng)})
    else:
        run = start(root)
    status = run.wait(timeout=600)
    same = status == 0 and made(root) == expected
    if not same:
        found = made(root)
        print(f"exit status {status};", [name for name in expected | found if expected.get(name) != found.get(name)])
    return [row | {"same": same} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = copy_of_project(Path(folder).resolve())
        expected, seconds = undisturbed(root)
        print(f"undisturbed: {seconds:.1f} s, {len(expected)} tables, claims, figures and artifacts", flush=True)
        rows: list[dict[str, Any]] = []
        number = 0
        while len(rows) < options.kills:
            victims = rng.choices(list(VICTIMS), list(VICTIMS.values()), k=6)
            new = survive(root, expected, seconds, victims, options.seed + number)
            rows += [{"round": number, **row} for row in new]
            number += 1
            table = pd.DataFrame(rows, columns=COLUMNS)
            table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
            print(table.tail(len(new)).to_string(header=number == 1), flush=True)
    print(pd.crosstab(table["phase"], table["victim"], margins=True))
    print(f"{len(table)} kills, {table['orphans'].sum()} orphans, {(~table['same']).sum()} in rounds that differ")


if __name__ == "__main__":
    main()
