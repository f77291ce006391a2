"""A study's trainings: on a CPU one by one through the executor, on a GPU together; the scores are the same."""

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flowlib import training
from flowlib.experiments import jobs as module
from flowlib.experiments.jobs import train_and_score_all
from flowlib.training import Recipe, TrainingError

FLOW = Recipe("Glow", {"levels": 1, "steps": 2, "hidden_channels": 4}, steps=3, batch_size=4)
TESTS = {"some": np.random.default_rng(7).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)}


def job(seed: int, n: int, **change):
    images = np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)
    return images, replace(FLOW, seed=seed, **change), TESTS


class Never(Executor):
    def submit(self, *_: object, **__: object):
        raise AssertionError("it is not asked")


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """The numbers of trainings together, all of them on the CPU."""
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    monkeypatch.setattr(module, "best_device", lambda: torch.device("cuda"))
    together: list[int] = []
    run = training.Course.run
    monkeypatch.setattr(training.Course, "run", lambda self, *a: together.append(len(self.trainings)) or run(self, *a))
    return together


def test_on_a_gpu_they_are_trained_together_and_kept(as_on_a_gpu: list[int]):
    jobs = [job(0, 9), job(1, 12, trim=0.25), job(2, 5)]
    found = train_and_score_all(jobs, Never(), "jobs")
    assert as_on_a_gpu == [3]
    again = train_and_score_all([*jobs, job(3, 6)], Never(), "jobs")
    assert as_on_a_gpu == [3, 1]
    assert [np.array_equal(one["some"], two["some"]) for one, two in zip(found, again, strict=False)] == [True] * 3
    for scores, (images, recipe, _) in zip(found, jobs, strict=True):
        model, _ = training.train(images, recipe)
        np.testing.assert_allclose(scores["some"], training.score(model, TESTS["some"]), rtol=1e-3)


def test_on_a_cpu_each_goes_through_the_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    jobs = [job(0, 9), job(1, 12)]
    with ThreadPoolExecutor(1) as executor:
        found = train_and_score_all(jobs, executor, "jobs")
    expected = [training.score(training.train(images, recipe)[0], TESTS["some"]) for images, recipe, _ in jobs]
    assert all(np.array_equal(one["some"], other) for one, other in zip(found, expected, strict=True))


def test_one_that_fails_says_so(as_on_a_gpu: list[int]):
    with pytest.raises(TrainingError, match="not finite at step"):
        train_and_score_all([job(0, 9, steps=40), job(1, 9, steps=40, learning_rate=1e9)], Never(), "jobs")
