"""Models and images meet on one device, in every kind of job: tried without a GPU, on torch's device "meta".

A tensor there has a shape and no numbers; an operation of it with one on the CPU raises, as one on a GPU would. On a
machine with a GPU, ``benchmarks/devices.py`` compares the numbers.
"""

import ast
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from flowlib import scoring, training
from flowlib.detector.feature_flow import FeatureFlow, nll_map
from flowlib.detector.patches import dense_map, patch_map
from flowlib.experiments import beyond, squares
from flowlib.explorer import models
from flowlib.explorer.models import Shirts, Square
from flowlib.explorer.pictures import Picture
from flowlib.runtime import paths
from flowlib.training import Recipe, build, score

FLOW = Recipe("Glow", {"levels": 2, "steps": 1, "hidden_channels": 4})
AUTOENCODER = Recipe("ConvAutoencoder", {"channels": (4, 4, 4)})
IMAGES = np.random.default_rng(0).integers(1, 256, (6, 1, 32, 32), dtype=np.uint8)
PICTURE = Picture("a", IMAGES[0])
WAYS = {"from_numpy", "as_tensor", "numpy", "cpu"}  # from an array to a tensor and back


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Trained models lie on "meta"; what comes back from there, by `to_numpy` alone, is ones."""

    def untrained(images: np.ndarray, recipe: Recipe, labels: np.ndarray | None = None):
        return build(recipe, images.shape[1:]).to("meta").eval()

    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    monkeypatch.setattr(training, "best_device", lambda: torch.device("meta"))
    monkeypatch.setattr(Tensor, "cpu", lambda self: torch.ones(self.shape, dtype=self.dtype))
    monkeypatch.setattr(Tensor, "__bool__", lambda self: True)  # of checks of a range, which need numbers
    for module in (training, scoring, squares, beyond):
        monkeypatch.setattr(module, "trained", untrained)


def on_meta(recipe: Recipe) -> training.Model:
    return build(recipe, IMAGES.shape[1:]).to("meta").eval()


TESTS = {"some": IMAGES}
JOBS: dict[str, Callable[[], object]] = {
    "score": lambda: score(on_meta(FLOW), IMAGES),
    "score, autoencoder": lambda: score(on_meta(AUTOENCODER), IMAGES),
    "maps of squares": lambda: squares.train_and_map(IMAGES, FLOW, TESTS),
    "maps of squares, autoencoder": lambda: squares.train_and_map(IMAGES, AUTOENCODER, TESTS),
    "mean over noise": lambda: squares.noise_averaged(IMAGES, FLOW, TESTS, 2),
    "local ratio, pixels": lambda: squares.local_ratio(IMAGES, FLOW, "pixels", 2, 4, 0, TESTS),
    "local ratio, flow": lambda: squares.local_ratio(IMAGES, FLOW, "flow statistics", 2, 4, 0, TESTS),
    "readings": lambda: scoring.read(on_meta(FLOW), IMAGES),
    "likelihood ratio": lambda: scoring.likelihood_ratio(scoring.read(on_meta(FLOW), IMAGES), FLOW),
    "local ratio of beyond": lambda: beyond.local_ratio(scoring.read(on_meta(FLOW), IMAGES), 2, 4),
    "explorer, shirts": lambda: Shirts(on_meta(FLOW), on_meta(AUTOENCODER), IMAGES, IMAGES).said(0, Square()),
    "explorer, patches": lambda: models.flow_method(on_meta(FLOW)).patches(PICTURE, IMAGES),
    "detector": lambda: nll_map(FeatureFlow(4).to("meta"), np.ones((4, 3, 5), dtype=np.float32)),
    "dense map": lambda: dense_map(on_meta(FLOW), IMAGES[0], 32, 4),
    "patch map": lambda: patch_map(lambda some: score(on_meta(FLOW), some), IMAGES[0], 32, 16),
}


@pytest.mark.parametrize("job", JOBS)
def test_images_go_where_the_model_is(job: str, elsewhere: None):
    JOBS[job]()


def test_a_model_refuses_images_on_another_device(elsewhere: None):
    """So that the jobs above can fail."""
    with pytest.raises(RuntimeError, match="device"):
        on_meta(FLOW).log_prob_map(torch.from_numpy(IMAGES))


def test_one_module_knows_the_way_to_a_device():
    """Elsewhere arrays become tensors through `to_device_of` and tensors arrays through `to_numpy`."""
    found = {
        path.relative_to(paths.ROOT).as_posix()
        for path in (paths.ROOT / "flowlib").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WAYS
    }
    assert found == {"flowlib/training.py"}


def test_the_benchmark_of_a_gpu_runs_and_its_ways_agree(monkeypatch: pytest.MonkeyPatch):
    """What benchmarks/gpu.py asks of a GPU before it measures, on the device that is here."""
    monkeypatch.syspath_prepend(paths.ROOT / "benchmarks")
    compared = __import__("gpu").agreement()
    assert len(compared) == 4
    assert not [what for what, found, allowed in compared if not found <= allowed]
