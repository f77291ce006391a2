"""Every kind of job of the study, tiny, on the GPU where there is one and on the CPU.

Usage: python benchmarks/devices.py

Prints a row a job: seconds on the device, and the largest difference from the CPU's result as a share of that result's
largest value (blank where a model is trained with noise, which each device draws for itself). A job that fails says
what it met, and the exit status is 1. Where there is no GPU both are the CPU and all differences are 0.

Under two minutes; keeps nothing. Needs torch, numpy, scipy, pandas, scikit-learn and safetensors; what else flowlib
imports may be missing and is then stood in for by something that does nothing, as no job here asks anything of it.
"""

# ruff: noqa: E402 - stand-ins come before what imports them

import importlib.machinery
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))


def idle_bar(steps: Iterable = (), **_: object) -> mock.MagicMock:
    """A progress bar that shows nothing."""
    bar = mock.MagicMock()
    bar.__iter__.return_value = iter(steps)
    return bar


for name in ("filelock", "psutil", "tqdm", "PIL", "imagecodecs", "av"):
    if importlib.util.find_spec(name) is None:
        stand_in = mock.MagicMock(__spec__=importlib.machinery.ModuleSpec(name, None), tqdm=idle_bar)
        sys.modules[name] = sys.modules[f"{name}.auto"] = stand_in

import numpy as np
import torch

from flowlib import training
from flowlib.detector import fitting
from flowlib.detector.features import PIXELS
from flowlib.detector.model import PATCH, Detector, Settings
from flowlib.detector.patches import dense_map, patch_map
from flowlib.experiments import beyond, squares
from flowlib.experiments.borescope import maps as borescope
from flowlib.experiments.borescope.frames import Shot
from flowlib.explorer import models as explorer
from flowlib.explorer.models import Shirts, Square
from flowlib.explorer.pictures import Picture
from flowlib.runtime import artifacts
from flowlib.training import Recipe, score

STEPS = 4
OPTIONS = {"levels": 2, "steps": 2, "hidden_channels": 16}
FLOW = Recipe("Glow", OPTIONS, STEPS, 8)
LABELLED = Recipe("Glow", OPTIONS | {"classes": 2}, STEPS, 8)
CONVOLUTIONAL = Recipe("ConvAutoencoder", {}, STEPS, 8, 3e-3)
CONNECTED = Recipe("FullyConnectedAutoencoder", {}, STEPS, 8, 2e-3)
DETECTOR: dict[str, Detector] = {}
MODELS: dict[str, training.Model] = {}  # trained on the CPU, so that both devices speak of the same


def textures(n: int, side: int) -> np.ndarray:
    """Slanted grey images with noise, uint8 ``(n, 1, side, side)``."""
    rng = np.random.default_rng(side)
    ramp = np.linspace(60, 160, side) + rng.uniform(-20, 20, (n, 1, 1, 1))
    return (ramp + rng.normal(0, 8, (n, 1, side, side))).clip(1, 255).astype(np.uint8)


SHIRTS, PATCHES, FRAMES = textures(64, 28), textures(64, PATCH), textures(8, 64)
LABELS = np.arange(len(PATCHES)) % 2
TESTS = {"some": SHIRTS[:20]}
SHOTS = [Shot("good", i, i % 2, image, image[0] < 0, (image[0] < 0).astype(int)) for i, image in enumerate(FRAMES)]


def trained(images: np.ndarray, recipe: Recipe, labels: np.ndarray | None = None) -> training.Model:
    """The model of images and recipe, trained on the CPU, copied to the device."""
    key = f"{artifacts.array_hash(images)} {recipe}"
    place = training.best_device()
    if key not in MODELS:
        with mock.patch.object(training, "best_device", return_value=torch.device("cpu")):
            MODELS[key], _ = training.train(images, recipe, labels=labels)
    model = training.build(recipe, images.shape[1:])
    model.load_state_dict(MODELS[key].state_dict())
    return model.to(place).eval()


def fitted() -> Detector:
    with ThreadPoolExecutor(1) as executor:
        return fitting.fit(list(FRAMES), settings=Settings(PIXELS, steps=STEPS), executor=executor)


def losses(recipe: Recipe, labels: np.ndarray | None = None) -> np.ndarray:
    return training.train(PATCHES, recipe, labels=labels)[1]


def none(_: object) -> None:
    """Of a job whose numbers depend on the device's own noise."""


def detector_maps() -> np.ndarray:
    """Of one flow of features, wherever it was trained."""
    DETECTOR.setdefault("fitted", fitted())
    return DETECTOR["fitted"].map(FRAMES[0])


def explorer_maps() -> list[np.ndarray]:
    found = []
    for recipe, labels in ((FLOW, None), (LABELLED, LABELS)):
        method = explorer.flow_method(trained(PATCHES, recipe, labels), recipe.options.get("classes", 0))
        picture = Picture("a", FRAMES[0])
        found += [method.pixels(picture), method.patches(picture, PATCHES)]
    arrays = explorer.parameters(PATCHES, CONVOLUTIONAL)
    method = explorer.autoencoder_method(arrays, {})
    return [*found, method.pixels(Picture("a", FRAMES[0])), method.patches(Picture("a", FRAMES[0]), PATCHES)]


def shirts() -> list[np.ndarray]:
    said = Shirts(trained(SHIRTS, FLOW), trained(SHIRTS, CONVOLUTIONAL), SHIRTS, SHIRTS).said(0, Square())
    return [said.nll_map, said.change, said.reconstruction]


JOBS: dict[str, Callable[[], object]] = {
    "train Glow": lambda: none(losses(FLOW)),
    "train Glow with labels": lambda: none(losses(LABELLED, LABELS)),
    "train the convolutional autoencoder": lambda: losses(CONVOLUTIONAL),
    "train the fully connected autoencoder": lambda: losses(CONNECTED),
    "score (01, 02, 04)": lambda: [score(trained(PATCHES, r), PATCHES) for r in (FLOW, CONVOLUTIONAL, CONNECTED)],
    "score with labels": lambda: score(trained(PATCHES, LABELLED, LABELS), PATCHES, LABELS),
    "maps of squares, Glow (03)": lambda: squares.train_and_map(SHIRTS, FLOW, TESTS),
    "maps of squares, autoencoder (03)": lambda: squares.train_and_map(SHIRTS, CONVOLUTIONAL, TESTS),
    "mean over noise (03)": lambda: squares.noise_averaged(SHIRTS, FLOW, TESTS, 2),
    "local ratio, pixels (03)": lambda: squares.local_ratio(SHIRTS, FLOW, "pixels", STEPS, 8, 0, TESTS),
    "local ratio, flow statistics (03)": lambda: squares.local_ratio(
        SHIRTS, FLOW, "flow statistics", STEPS, 8, 0, TESTS
    ),
    "scores beyond likelihood (06)": lambda: beyond.scored(SHIRTS, FLOW, SHIRTS, TESTS, STEPS),
    "thesis's patch map (05)": lambda: patch_map(lambda some: score(trained(PATCHES, FLOW), some), FRAMES[0], PATCH, 8),
    "dense map (05)": lambda: dense_map(trained(PATCHES, FLOW), FRAMES[0], PATCH, 4),
    "flow maps (05)": lambda: borescope.flow_maps(SHOTS, LABELLED, 32, SHOTS[:2]),
    "autoencoder maps (05)": lambda: borescope.autoencoder_maps(SHOTS, CONVOLUTIONAL, 32, SHOTS[:2]),
    "stride maps (05)": lambda: [borescope.stride_maps(SHOTS, FLOW, 32, stride, SHOTS[:1])[0] for stride in (16, None)],
    "fit a detector (05)": lambda: none(fitted()),
    "detector's maps (05)": detector_maps,
    "explorer's maps (07)": explorer_maps,
    "explorer's shirts (07)": shirts,
}


def flat(found: object) -> np.ndarray:
    """All numbers of nested lists and dicts of arrays, in order."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list | tuple):
        return np.concatenate([flat(each) for each in found])
    return np.asarray(found, dtype=np.float64).ravel()


def run(job: Callable[[], object], place: torch.device) -> tuple[object, float]:
    """A job's result on a device, and the seconds it took."""
    with mock.patch.object(training, "best_device", return_value=place):
        began = time.perf_counter()
        found = job()
        return found, time.perf_counter() - began


def main() -> int:
    place, cpu = training.best_device(), torch.device("cpu")
    print(f"device: {torch.cuda.get_device_name() if place.type == 'cuda' else 'CPU'}, torch {torch.__version__}")
    failed = 0
    print(f"{'job':40}{'device':8}{'seconds':>8}  difference from the CPU")
    for name, job in JOBS.items():
        try:
            found, seconds = run(job, place)
            difference = ""
            if found is not None:
                here, there = flat(found), flat(run(job, cpu)[0] if place != cpu else found)
                difference = f"{np.abs(here - there).max() / np.abs(there).max():.1e}"
            print(f"{name:40}{place.type:8}{seconds:8.2f}  {difference}", flush=True)
        except Exception as error:  # the other jobs are still to be tried
            failed += 1
            print(f"{name:40}{place.type:8}  FAILED  {error!r}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(
            artifacts, "cached", lambda kind, parts, make: make(Path(folder) / f"{time.monotonic_ns()}.safetensors")
        ),
        mock.patch.object(training, "trained", trained),
    ):
        for module in (squares, beyond, borescope, explorer, sys.modules["flowlib.scoring"]):
            module.trained = trained
        sys.exit(main())
