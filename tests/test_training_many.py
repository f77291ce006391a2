"""Many trainings as one: each ends as it would alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flowlib import training
from flowlib.kernels import loop
from flowlib.training import Recipe, Training, TrainingError, train, train_many

FLOW = Recipe("Glow", {"levels": 2, "steps": 2, "hidden_channels": 4}, steps=8, batch_size=4, seed=3)
DEEP = replace(FLOW, options={**FLOW.options, "hidden_layers": 3, "learned_prior": False})
CONDITIONAL = replace(FLOW, options={**FLOW.options, "classes": 2})


def some_images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)


def different(recipe: Recipe, folder: Path | None = None) -> list[Training]:
    """Of one shape, but for everything that may differ: number of images, seed, trim."""
    out = []
    for at, (n, trim) in enumerate(((20, 0.0), (3, 0.25), (31, 0.5))):
        labels = np.arange(n) % 2 if "classes" in recipe.options else None
        checkpoint = None if folder is None else folder / f"{at}.checkpoint"
        out.append(Training(some_images(n, at), replace(recipe, seed=at, trim=trim), labels, checkpoint))
    return out


def alone(one: Training) -> tuple[training.Model, np.ndarray]:
    return train(one.images, one.recipe, labels=one.labels)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def assert_alike(found, expected, rtol: float, atol: float) -> None:
    for (model, losses), (other, other_losses) in zip(found, expected, strict=True):
        np.testing.assert_allclose(losses, other_losses, rtol=rtol)
        assert not model.training
        for (name, one), two in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=atol, msg=name)


@pytest.mark.parametrize("recipe", [FLOW, DEEP, CONDITIONAL], ids=["default", "deep", "conditional"])
def test_each_ends_as_it_would_alone(recipe: Recipe, double: None):
    many = different(recipe)
    assert_alike(train_many(many), [alone(one) for one in many], 1e-11, 1e-10)


def test_in_single_precision_too():
    """Alone it is the compiled loss, together torch's; Adam's first steps are of one length, whatever the gradient."""
    many = different(replace(FLOW, steps=4))
    assert_alike(train_many(many), [alone(one) for one in many], 1e-4, 2e-3)


def test_what_is_of_another_shape_is_trained_apart_and_in_its_place(monkeypatch: pytest.MonkeyPatch):
    wide = replace(FLOW, options={**FLOW.options, "hidden_channels": 5}, steps=3)
    autoencoder = Recipe("ConvAutoencoder", {"channels": [4, 4, 2]}, steps=2, batch_size=4)
    first = replace(FLOW, steps=3)
    recipes = [first, autoencoder, wide, replace(first, seed=9), replace(first, learning_rate=1e-3), autoencoder]
    many = [Training(some_images(12), recipe) for recipe in recipes]
    together = []
    run = training.Course.run
    monkeypatch.setattr(training.Course, "run", lambda self: together.append(len(self.trainings)) or run(self))
    found = train_many(many)
    assert sorted(together) == [1, 1, 1, 1, 2]
    monkeypatch.undo()
    assert_alike(found, [alone(one) for one in many], 1e-4, 2e-3)


def test_those_that_were_stopped_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, double: None):
    """Two were stopped after step 3, together, the third after step 5, alone."""
    many = different(FLOW, tmp_path)
    expected = train_many([replace(one, checkpoint=None) for one in many])
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    feed = training.Course.feed

    def stop_at(last: int) -> None:
        def stopping(self: training.Course, step: int) -> None:
            if step == last:
                raise KeyboardInterrupt
            feed(self, step)

        monkeypatch.setattr(training.Course, "feed", stopping)

    for some, last in ((many[:2], 3), (many[2:], 5)):
        stop_at(last)
        with pytest.raises(KeyboardInterrupt):
            train_many(some)
    begun = []
    monkeypatch.setattr(training.Course, "feed", lambda self, step: begun.append(step) or feed(self, step))
    assert_alike(train_many(many), expected, 1e-11, 1e-10)
    assert [begun.count(step) for step in range(3, 8)] == [1, 1, 2, 2, 2]


def test_memory_decides_how_many_are_together(monkeypatch: pytest.MonkeyPatch, double: None):
    many = [Training(some_images(9, at), replace(FLOW, seed=at, steps=2)) for at in range(7)]
    expected = train_many(many)
    tried = []

    class Short(training.Course):
        def __init__(self, trainings):
            tried.append(len(trainings))
            if len(trainings) > 2:
                raise torch.OutOfMemoryError("no room")
            super().__init__(trainings)

    monkeypatch.setattr(training, "Course", Short)
    assert_alike(train_many(many), expected, 1e-11, 1e-10)
    assert tried == [7, 4, 2, 2, 2, 1]


def test_one_that_is_not_finite_is_named(monkeypatch: pytest.MonkeyPatch):
    many = different(replace(FLOW, learning_rate=1e6, steps=30))
    with pytest.raises(TrainingError, match=r"Glow: not finite at step \d+, in .*, images \[.*\] of the set"):
        train_many(many)


# --- as on a GPU ---------------------------------------------------------------------------------------------------


def eagerly(function, state):
    """What `captured` gives on a GPU, without a graph: the same function, called thrice before and undone."""
    before = [tensor.clone() for tensor in state]
    for _ in range(3):
        function()
    for tensor, value in zip(state, before, strict=True):
        tensor.copy_(value)
    return function


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("stride", [1, 3, 100])
def test_the_static_step_is_the_loop(number: int, stride: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """To the bit, wherever it is asked whether all is finite, and from a checkpoint on."""
    many = different(FLOW, tmp_path)[:number]
    expected = train_many(many)
    monkeypatch.setattr(loop, "captured", eagerly)
    monkeypatch.setattr(loop, "CHECK_STEPS", stride)
    assert_alike(train_many(many), expected, 0, 0)


def test_what_is_not_finite_is_found_by_going_back(monkeypatch: pytest.MonkeyPatch):
    """The message and the parameters are those of the loop that looks at every step."""
    one = Training(some_images(20), replace(FLOW, learning_rate=1e6, steps=60))
    messages, states = [], []
    for stride in (None, 7):
        if stride:
            monkeypatch.setattr(loop, "captured", eagerly)
            monkeypatch.setattr(loop, "CHECK_STEPS", stride)
        course = training.Course([one])
        with pytest.raises(TrainingError) as error:
            course.run()
        messages.append(str(error.value))
        states.append(course.descent.value.clone())
    assert messages[0] == messages[1]
    assert torch.equal(*states)
