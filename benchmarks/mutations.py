"""Do the tests notice a mistake? 35 faults, one at a time, each in a copy of the project that its tests run on.

    python benchmarks/mutations.py [--only glow.py runtime/artifacts.py]

Each fault is one that a person might make: a wrong sign, an index too few, a bound forgotten, a leak between training
and test. The list was fixed before any of them was run. First the tests run on an unchanged copy and must pass; then
for each fault those of its module, up to the first failure. Writes mutations.csv beside this file and ends with status
1 when fewer than 30 faults are caught.

The first run, of thirty faults, caught 26. What survived (in cropping, defects, detector and toys) stayed in the list,
and the tests of those modules were sharpened. Five faults were added with the modules that came later.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
ENOUGH = 30
MOST_SECONDS = 900  # for the tests of a module; a fault that makes them hang is caught, too


class Fault(NamedTuple):
    """What is wrong in a file of flowlib, where `old` becomes `new`, and the files of tests asked to find it."""

    module: str
    wrong: str
    old: str
    new: str
    tests: tuple[str, ...]


FAULTS = [
    Fault(
        "runtime/artifacts.py",
        "no process waits for another's lock",
        "        lock.acquire()\n",
        "        pass\n",
        ("runtime/test_artifacts.py",),
    ),
    Fault(
        "baselines.py",
        "nearest neighbour in place of the k-th",
        "kneighbors(pixels)[0][:, -1]",
        "kneighbors(pixels)[0][:, 0]",
        ("test_baselines.py",),
    ),
    Fault(
        "metrics.py",
        "a resample's sum over the weights of the whole sample",
        "drawn[:, 1:] / drawn[:, :1]",
        "drawn[:, 1:] / total[0]",
        ("test_metrics.py",),
    ),
    Fault(
        "simulator/camera.py",
        "a pixel counts as changed only if all colours are",
        ">= NOTICEABLE).any(axis=0)",
        ">= NOTICEABLE).all(axis=0)",
        ("simulator/test_dataset.py",),
    ),
    Fault(
        "study/criteria.py",
        "the estimate, not its interval, is compared with the bound",
        'state: State = "holds" if interval.low > bound',
        'state: State = "holds" if interval.value > bound',
        ("study/test_claims.py",),
    ),
    Fault(
        "inspection/cropping.py",
        "a variance compared with a deviation",
        "mean**2 < STILL**2",
        "mean**2 < STILL",
        ("inspection/test_cropping.py", "inspection/test_ingest.py"),
    ),
    Fault(
        "experiments/black_pixels.py",
        "the box's last column is cut off",
        "columns.min() : columns.max() + 1]",
        "columns.min() : columns.max()]",
        ("test_datasets.py",),
    ),
    Fault(
        "simulator/defects.py",
        "a crack from the edge runs off the blade",
        "angle = outward + np.pi + rng.normal(0, 0.35)",
        "angle = outward + rng.normal(0, 0.35)",
        ("simulator/test_dataset.py",),
    ),
    Fault(
        "detector/fitting.py",
        "calibration images train the flow, too",
        "np.flatnonzero(~calibrating), np.flatnonzero(calibrating)",
        "np.arange(len(sources)), np.flatnonzero(calibrating)",
        ("detector/test_fitting.py",),
    ),
    Fault(
        "runtime/download.py",
        "a file of the right length needs no checksum",
        "if len(content) != file.bytes or hashlib",
        "if len(content) != file.bytes and hashlib",
        ("runtime/test_download.py",),
    ),
    Fault(
        "experiments/black_pixels.py",
        "a pair's second class takes part in its own regression",
        "if c not in (a, b)]",
        "if c != a]",
        ("experiments/test_pairs.py",),
    ),
    Fault(
        "explorer/state.py",
        "a window may be shorter than the stride",
        "view = replace(view, window=max(view.window, view.stride))\n",
        "view = replace(view, window=view.window)\n",
        ("explorer/test_state.py",),
    ),
    Fault(
        "experiments/frequencies.py",
        "the dimmer half of each frequency trains, not a random one",
        "chosen[rng.permutation(rows)[: len(rows) // 2]] = True",
        "chosen[rows[: len(rows) // 2]] = True",
        ("experiments/test_frequencies.py",),
    ),
    Fault(
        "inspection/ingest.py",
        "a mask that has changed is not read again",
        "for path in (job.path, *job.labels.values())]",
        "for path in (job.path,)]",
        ("inspection/test_ingest.py",),
    ),
    Fault(
        "inspection/scan.py",
        "the box forgets the rows cut off above it",
        "region._replace(y0=region.y0 + top, y1=region.y1 + top)",
        "region._replace(y0=region.y0, y1=region.y1)",
        ("inspection/test_scan.py",),
    ),
    Fault(
        "experiments/made_up.py",
        "grey levels beyond 255 wrap around",
        "np.rint(np.clip(image + strength * (target - image), 0, 255))",
        "np.rint(image + strength * (target - image)).astype(np.int64)",
        ("experiments/test_made_up.py",),
    ),
    Fault(
        "detector/feature_flow.py",
        "the scales of the standardisation are left out of the likelihood",
        "determinant = -self.deviation.log().sum().expand(len(x))",
        "determinant = torch.zeros(len(x), dtype=x.dtype)",
        ("detector/test_feature_flow.py",),
    ),
    Fault(
        "inspection/videos.py",
        "frames that build on a damaged one pass for good",
        "packet.is_corrupt or (damaged and not frame.key_frame)",
        "packet.is_corrupt",
        ("inspection/test_media.py",),
    ),
    Fault(
        "metrics.py",
        "a conformal rank of n in place of n + 1",
        "(scores.size + 1)) - 1",
        "scores.size) - 1",
        ("test_metrics.py",),
    ),
    Fault(
        "inspection/normals.py",
        "of many files the first are taken, not evenly spread ones",
        "[places[i * len(places) // most] for i in range(most)]",
        "places[:most]",
        ("inspection/test_scan.py",),
    ),
    Fault(
        "runtime/parallel.py",
        "results in the order in which jobs end",
        "return [future.result() for future in futures]",
        "return [future.result() for future in as_completed(futures)]",
        ("runtime/test_parallel.py",),
    ),
    Fault(
        "detector/patches.py",
        "no patch is cut from the last row or column of places",
        "rng.integers(side - patch + 1) for side",
        "rng.integers(max(1, side - patch)) for side",
        ("detector/test_patches.py",),
    ),
    Fault(
        "scoring.py",
        "the gradient in the pixel, not in its logit",
        "gradient = gradient * y * (1 - y) * (256",
        "gradient = gradient * (256",
        ("test_scoring.py",),
    ),
    Fault(
        "experiments/local_ratio.py",
        "of several changes only the last is labelled",
        "            masks |= more\n",
        "            masks = more\n",
        ("experiments/test_squares.py",),
    ),
    Fault(
        "study/runner.py",
        "a notebook that failed is taken for up to date",
        'entry.get("status") == "ok" and entry.get("key") == key',
        'entry.get("key") == key',
        ("study/test_runner.py",),
    ),
    Fault(
        "datasets.py",
        "the highest intensity is never drawn",
        "np.arange(75, 257)",
        "np.arange(75, 256)",
        ("test_datasets.py",),
    ),
    Fault(
        "training.py",
        "every epoch has the same order",
        "np.random.default_rng((seed, epoch))",
        "np.random.default_rng(seed)",
        ("test_training.py",),
    ),
    Fault(
        "kernels/coupling.py",
        "the gradient passes the bound of the scale as if there were none",
        "value=-1)  # through tanh",
        "value=0)  # through tanh",
        ("test_glow.py",),
    ),
    Fault(
        "kernels/network.py",
        "a hidden layer's gradient passes where the layer is zero",
        "grad_hidden = through_relu(w[..., :-1].mT @ grad_hidden, activation)",
        "grad_hidden = w[..., :-1].mT @ grad_hidden",
        ("test_glow.py",),
    ),
    Fault(
        "kernels/products.h",
        "neighbours are taken from the next image",
        "if (y == s.H - 1) std::fill_n(inside.at[6 + k] + i, length, 0);",
        "",
        ("kernels/test_steps.py",),
    ),
    Fault(
        "kernels/steps.cpp",
        "a hidden layer's gradient passes where the layer is zero",
        "l ? multiply<After::where_positive>(next) : multiply(next);",
        "multiply(next);",
        ("kernels/test_steps.py",),
    ),
    Fault(
        "kernels/steps.py",
        "the inverse takes actnorm's shift off after the rotation",
        "-(A @ c[..., None])[..., 0]",
        "-c",
        ("kernels/test_steps.py",),
    ),
    Fault(
        "runtime/compiled.py",
        "half of a library is loaded",
        'return digest(path) == path.with_suffix(".sha256").read_text()',
        "return path.exists()",
        ("kernels/test_steps.py",),
    ),
    Fault(
        "glow.py",
        "actnorm's shift is not scaled",
        "= -mean * log_scale.exp()",
        "= -mean",
        ("test_glow.py",),
    ),
]


def check_texts(faults: list[Fault]) -> None:
    """Exit with one line where a fault's text is not in its module exactly once."""
    for fault in faults:
        count = (ROOT / "flowlib" / fault.module).read_text(encoding="utf-8").count(fault.old)
        if count != 1:
            sys.exit(f"flowlib/{fault.module} holds {fault.old!r} {count} times, not once: mend the list of faults")


def copied(folder: Path) -> Path:
    """A copy of the project as it stands, without what was made in it."""
    names = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".", ":!reports"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def tested(folder: Path, tests: tuple[str, ...]) -> tuple[str, float]:
    """The first test that fails in a copy of the project, "" when all pass, and the seconds."""
    files = [f"tests/{name}" for name in tests]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "--no-header", "-p", "no:cacheprovider", *files]
    # PYTHONPATH: processes that the tests start import the copy, too; FLOWLIB_DATA: nothing comes from a cache
    data = tempfile.mkdtemp(dir=folder.parent)
    own = {"PYTHONPATH": str(folder), "FLOWLIB_DATA": data, "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=folder, env=os.environ | own, capture_output=True, text=True, timeout=MOST_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no end within {MOST_SECONDS} s", MOST_SECONDS
    seconds = time.perf_counter() - began
    if done.returncode == 0:
        return "", seconds
    if done.returncode < 0:
        return f"{signal.Signals(-done.returncode).name} in {files[0]}", seconds
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+?)(?:\[| - |$)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or failed is None:
        sys.exit(f"{' '.join(files)} did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return failed[1], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[fault.module for fault in FAULTS], metavar="MODULE")
    chosen = [fault for fault in FAULTS if fault.module in parser.parse_args().only]
    check_texts(FAULTS)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        whole = copied(Path(scratch, "whole"))
        for tests in dict.fromkeys(fault.tests for fault in chosen):
            failed, seconds = tested(whole, tests)
            if failed:
                sys.exit(f"{failed} fails without any fault: mend it first")
            print(f"{', '.join(tests)}: all pass, {seconds:.0f} s", flush=True)
        for fault in chosen:
            folder = Path(shutil.copytree(whole, Path(scratch, "faulty")))
            path = folder / "flowlib" / fault.module
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
            failed, seconds = tested(folder, fault.tests)
            shutil.rmtree(folder)
            rows.append({"module": fault.module, "fault": fault.wrong, "caught by": failed, "seconds": round(seconds)})
            print(f"{fault.module}: {fault.wrong}: {failed or 'SURVIVED'}, {seconds:.0f} s", flush=True)
    table = pd.DataFrame(rows)
    caught = int((table["caught by"] != "").sum())
    print(table.assign(**{"caught by": table["caught by"].replace("", "SURVIVED")}).to_string(index=False))
    print(f"{caught} of {len(table)} faults caught")
    if len(chosen) == len(FAULTS):
        table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
        sys.exit(caught < ENOUGH)


if __name__ == "__main__":
    main()
