"""The trainings of a study as jobs: on a CPU in processes, one each; on a GPU those of one shape as one model."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flowlib.runtime import artifacts
from flowlib.runtime.artifacts import Arrays, Artifact
from flowlib.runtime.parallel import DASK, run
from flowlib.training import (
    Model,
    Recipe,
    Training,
    TrainingError,
    arrays_of,
    best_device,
    model_parts,
    train_and_score,
    train_many,
)

Job = tuple[np.ndarray, Recipe, dict[str, np.ndarray]]  # training images, recipe, test sets


def train_and_score_all(jobs: Sequence[Job], executor: Executor, label: str) -> list[Arrays]:
    """`flowlib.training.train_and_score` of each job.

    Through `executor`, or, where the best device of this process is a GPU and no cluster is named, one after another
    here, where their models have been trained together. A model that fails there is trained again alone, which says so.
    """
    if best_device().type == "cpu" or os.environ.get(DASK):
        return run(train_and_score, jobs, executor, label)
    with suppress(TrainingError):
        keep_trained([(images, recipe) for images, recipe, _ in jobs])
    return [train_and_score(*job) for job in jobs]


def keep_trained(models: Sequence[tuple[np.ndarray, Recipe]]) -> None:
    """Train those that no earlier run has kept, together where they are of one shape, and keep them.

    Each has a checkpoint of its own, the one that `flowlib.training.trained` would go on from.
    """
    keys = [model_parts(images, recipe) for images, recipe in models]
    paths = [artifacts.path_of("model", parts) for parts in keys]
    new = {path: at for at, path in enumerate(paths) if not path.exists()}
    for path in new:
        path.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    trainings = [Training(*models[at], checkpoint=path.with_suffix(".checkpoint")) for path, at in new.items()]
    trained = train_many(trainings)
    notes = {"seconds": round((time.monotonic() - began) / max(1, len(new)), 3)}  # each model's share
    for at, (model, losses) in zip(new.values(), trained, strict=True):
        artifacts.cached("model", keys[at], partial(artifact_of, model, losses, notes))


def artifact_of(model: Model, losses: np.ndarray, notes: dict[str, Any], _: Path) -> Artifact:
    return Artifact({**arrays_of(model), "losses": losses}, notes)
