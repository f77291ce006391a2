"""Whatever is computed with torch has torch's version, device and threads in its key, wherever it is kept."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from experiments.borescope.made import frame
from experiments.test_frequencies import Inline

from flowlib import training
from flowlib.detector import feature_flow
from flowlib.detector.model import Detector, Facts, Settings
from flowlib.experiments import beyond, squares
from flowlib.experiments.borescope import maps
from flowlib.explorer import models
from flowlib.inspection import scan
from flowlib.runtime import artifacts
from flowlib.training import Recipe

GLOW = Recipe("Glow", {"levels": 1, "steps": 1, "hidden_channels": 4}, 2, 8)
IMAGES = np.zeros((4, 1, 32, 32), np.uint8)
TESTS = {"test": IMAGES}
SHOTS = [frame()]


def scoring() -> None:
    """Begins to score a folder with a detector that is all there but for its models."""
    empty = Detector(Settings(), 1, None, None, 0.0, 1.0, np.zeros(9), 1.0, Facts((1, 1), (1, 1), False))  # type: ignore[arg-type]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        (Path(folder) / "detector.safetensors").write_bytes(b"")
        patch.setattr(scan, "load", lambda model: empty)
        scan.new_run(Path(folder), Path(folder) / "in", Path(folder) / "out", {}, 1, None, False)


KEPT: dict[str, Any] = {
    "a trained model": lambda: training.trained(IMAGES, GLOW),
    "its scores": lambda: training.train_and_score(IMAGES, GLOW, TESTS),
    "its maps": lambda: squares.train_and_map(IMAGES, GLOW, TESTS),
    "its mean over noise": lambda: squares.noise_averaged(IMAGES, GLOW, TESTS, 2),
    "a local ratio": lambda: squares.local_ratio(IMAGES, GLOW, "pixels", 1, 2, 0, TESTS),
    "every score": lambda: beyond.scored(IMAGES, GLOW, IMAGES, TESTS),
    "a detector's models": lambda: feature_flow.trained(np.ones((9, 4), np.float32), 1, 0),
    "a detector": lambda: models.kept_detector(list(IMAGES), range(4), Settings(), Path(), Inline()),
    "maps of frames": lambda: maps.mapped("flow", (IMAGES,), GLOW, SHOTS, lambda one: one.mask),
    "a folder of scores": scoring,
}


class Asked(Exception):
    """A key was asked for."""


def key_of(job: Any, patch: pytest.MonkeyPatch) -> str:
    """The key under which a job looks for what it would compute; nothing is computed."""
    found = []
    key = artifacts.key

    def asked(parts: dict[str, Any]) -> str:
        found.append(key(parts))
        raise Asked

    with patch.context() as inner:
        inner.setattr(artifacts, "key", asked)
        with pytest.raises(Asked):
            job()
    return found[0]


@pytest.mark.parametrize("name", KEPT)
def test_the_key_knows_what_torch_computes_with(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [key_of(KEPT[name], monkeypatch), key_of(KEPT[name], monkeypatch)]
    assert keys[0] == keys[1]
    for target, attribute, value in (
        (torch, "__version__", "1.0"),
        (torch, "get_num_threads", lambda: 97),
        (training, "best_device", lambda: torch.device("meta")),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, attribute, value)
            keys.append(key_of(KEPT[name], patch))
    assert len(set(keys)) == 4
