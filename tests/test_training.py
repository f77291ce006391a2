"""Training: the same numbers from the same seed, however often it is interrupted; and the cache around it."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowlib import Glow, datasets, training
from flowlib.glow import squeeze, unsqueeze
from flowlib.kernels import loop
from flowlib.kernels.descent import Descent
from flowlib.runtime import artifacts
from flowlib.runtime.artifacts import Artifact, ArtifactError
from flowlib.runtime.code import closure, code_hash
from flowlib.training import Model, Recipe, TrainingError, batch_table, build, schedule, score, train, trained

GLOW = Recipe("Glow", {"levels": 1, "steps": 2, "hidden_channels": 4}, steps=6, batch_size=4, seed=3)
CONVOLUTIONAL = Recipe("ConvAutoencoder", {"channels": [4, 4, 2]}, steps=6, batch_size=4, seed=3)
CONNECTED = Recipe("FullyConnectedAutoencoder", {"hidden": [8, 4, 2]}, steps=6, batch_size=4, seed=3)
RECIPES = pytest.mark.parametrize("recipe", [GLOW, CONVOLUTIONAL, CONNECTED], ids=lambda recipe: recipe.model)


def some_images(n: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)


def parameters(model: Model) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes that were really trained, in order."""
    done: list[Recipe] = []

    def counted(images: np.ndarray, recipe: Recipe, *arguments: Any, **options: Any) -> tuple[Model, np.ndarray]:
        done.append(recipe)
        return train(images, recipe, *arguments, **options)

    monkeypatch.setattr(training, "train", counted)
    return done


# --- training ------------------------------------------------------------------------------------------------------


@RECIPES
def test_same_seed_same_bits(recipe: Recipe):
    model, losses = train(some_images(), recipe)
    torch.manual_seed(99)  # the state of the global generator says nothing
    again, losses_again = train(some_images(), recipe)
    other, other_losses = train(some_images(), replace(recipe, seed=4))
    assert losses.shape == (6,)
    assert np.array_equal(losses, losses_again)
    assert parameters(model) == parameters(again)
    assert not np.array_equal(losses, other_losses)
    assert parameters(model) != parameters(other)


def test_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(some_images(), GLOW)
    assert torch.rand(1) == expected


def test_every_step_draws_its_own_noise():
    """With equal images and (almost) no learning, the noise alone moves the loss."""
    _, losses = train(np.full((4, 1, 8, 8), 9, np.uint8), replace(GLOW, learning_rate=1e-12))
    assert np.diff(np.sort(losses)).min() > 1e-4


class Interrupted(Exception):
    pass


@RECIPES
@pytest.mark.parametrize("last", [0, 3, 5])
def test_interrupted_training_ends_with_the_same_bits(
    recipe: Recipe, last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Interrupted in steps 1 and `last`, each time continued from the checkpoint of the step before."""
    expected, expected_losses = train(some_images(), recipe)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    checkpoint = tmp_path / "a.checkpoint"
    started = []
    for stop in (1, last):

        def interrupt(step: int, _: Model, stop: int = stop) -> None:
            started.append(step)
            if step >= stop:
                raise Interrupted

        with pytest.raises(Interrupted):
            train(some_images(), recipe, checkpoint, interrupt)
    assert started == [0, 1, *range(1, max(last, 1) + 1)]  # step 1 was not saved and is done again, step 0 is not
    model, losses = train(some_images(), recipe, checkpoint, lambda step, _: started.append(step))
    assert started[-6 + max(last, 1) :] == list(range(max(last, 1), 6))
    assert np.array_equal(losses, expected_losses)
    assert parameters(model) == parameters(expected)


def test_damaged_checkpoint_is_named_and_training_starts_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    checkpoint = tmp_path / "a.checkpoint"
    checkpoint.write_bytes(b"half")
    model, _ = train(some_images(), GLOW, checkpoint)
    assert parameters(model) == parameters(train(some_images(), GLOW)[0])
    assert str(checkpoint) in capsys.readouterr().err


def test_trimmed_training_ignores_the_highest_losses():
    """One outlier among grey images is the quarter of each batch that is left out: what it holds says nothing."""
    images = np.full((4, 1, 8, 8), 120, np.uint8)  # every batch of four is all of them
    otherwise = images.copy()
    images[3, 0, :4], otherwise[3, 0, :4] = 255, 0
    recipe = replace(CONNECTED, steps=10)
    for trim, influence in ((0.25, False), (0.0, True)):
        model, losses = train(images, replace(recipe, trim=trim))
        other, other_losses = train(otherwise, replace(recipe, trim=trim))
        assert (parameters(model) != parameters(other)) == influence
        assert (losses != other_losses).any() == influence
    model, _ = train(images, replace(recipe, trim=0.99))
    assert all(value.isfinite().all() for value in model.parameters())  # one image is always kept


def spoil_gradient(monkeypatch: pytest.MonkeyPatch, parameter: torch.Tensor) -> None:
    """From now on that of a parameter in training is not finite."""
    shorten = Descent.shorten

    def spoiled(descent: Descent, longest: float) -> torch.Tensor:
        parameter.grad.mul_(torch.inf)
        return shorten(descent, longest)

    monkeypatch.setattr(Descent, "shorten", spoiled)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_not_finite_stops_and_names_step_place_and_images(kind: str, monkeypatch: pytest.MonkeyPatch):
    broken: list[Model] = []
    before: dict[str, bytes] = {}

    def break_step_2(step: int, model: Any) -> None:
        if step == 1:
            if kind == "loss":
                with torch.no_grad():
                    model.levels[0].b_out[1, 0] = torch.nan
            else:
                spoil_gradient(monkeypatch, model.levels[0].actnorm_bias)
            broken.append(model)
            before.update(parameters(model))

    with pytest.raises(TrainingError) as error:
        train(some_images(), GLOW, on_step=break_step_2)
    place = "in level 1, step of flow 1" if kind == "loss" else "in the gradient"
    images = batch_table(20, 4, 3, GLOW.seed)[2].tolist()
    mend = "lower learning_rate or take more steps (their first tenth warms up)"
    assert str(error.value) == f"Glow: not finite at step 2, {place}, images {images} of the set; {mend}"
    assert parameters(broken[0]) == before  # those before that step


CONDITIONAL = replace(GLOW, options={**GLOW.options, "classes": 2})


def labels_for(recipe: Recipe, n: int) -> np.ndarray | None:
    return np.arange(n) % 2 if recipe is CONDITIONAL else None


@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize(
    "recipe", [GLOW, CONDITIONAL, CONVOLUTIONAL, CONNECTED], ids=lambda r: r.model + str(r.options)
)
def test_whichever_parameter_is_not_finite_every_model_stops_and_keeps_its_state(
    recipe: Recipe, kind: str, monkeypatch: pytest.MonkeyPatch
):
    for name, _ in build(recipe, (1, 8, 8)).named_parameters():
        if name.endswith(("w_middle", "lower", "upper")):  # empty here, or half of them unused
            continue
        broken: list[Model] = []
        before: dict[str, bytes] = {}

        def break_step_2(
            step: int,
            model: Any,
            name: str = name,
            broken: list[Model] = broken,
            before: dict[str, bytes] = before,
        ) -> None:
            if step == 1:
                parameter = dict(model.named_parameters())[name]
                if kind == "loss":
                    with torch.no_grad():
                        parameter.fill_(torch.nan)
                else:
                    spoil_gradient(monkeypatch, parameter)
                broken.append(model)
                before.update(parameters(model))

        images = batch_table(20, 4, 3, recipe.seed)[2].tolist()
        message = rf"{recipe.model}: not finite at step 2, in .*, images {images} of the set; ".replace("[", r"\[")
        with pytest.raises(TrainingError, match=message):
            train(some_images(), recipe, on_step=break_step_2, labels=labels_for(recipe, 20))
        assert parameters(broken[0]) == before, name
        monkeypatch.undo()


@pytest.mark.parametrize(
    "recipe", [GLOW, CONDITIONAL, CONVOLUTIONAL, CONNECTED], ids=lambda r: r.model + str(r.options)
)
@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_constant_channel_and_all_black_images_train(recipe: Recipe, level: int):
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    images[:, 1] = level
    for some in (images, np.full_like(images, level)):
        model, losses = train(some, recipe, labels=labels_for(recipe, 6))
        assert np.isfinite(losses).all()
        assert np.isfinite(score(model, some, labels_for(recipe, 6))).all()
        assert all(value.isfinite().all() for value in model.state_dict().values())


def test_not_finite_names_the_layer_of_an_autoencoder():
    def break_second_layer(_: int, model: Any) -> None:
        with torch.no_grad():
            model.encoder[3].weight.fill_(torch.nan)

    with pytest.raises(TrainingError, match=r"at step 1, in layer 3 \(Conv2d\), images \["):
        train(some_images(), CONVOLUTIONAL, on_step=break_second_layer)


@RECIPES
@pytest.mark.parametrize("level", [0, 7, 255])
def test_constant_images_train(recipe: Recipe, level: int):
    images = np.full((5, 1, 8, 8), level, np.uint8)
    model, losses = train(images, recipe)
    assert np.isfinite(losses).all()
    assert np.isfinite(score(model, images)).all()


def test_a_deep_flow_inverts_four_times_the_range_of_images():
    """Beyond any image, where couplings saturate together; in float32."""
    images = some_images(64)
    flow, _ = train(images, Recipe("Glow", {"levels": 1, "steps": 32, "hidden_channels": 16}, steps=100, batch_size=16))
    (level,) = flow.levels
    h = 4 * flow._logit(torch.from_numpy(images), None)
    with torch.no_grad():
        y, determinant = level.flow(squeeze(h))
        back = unsqueeze(level.inverse(y))
    assert determinant.isfinite().all()
    assert (back - h).abs().max() < 1e-3 * h.abs().max()


@RECIPES
def test_loss_falls(recipe: Recipe):
    images = np.zeros((16, 1, 8, 8), np.uint8)
    images[:, :, 2:5, 3:6] = np.arange(100, 260, 10, dtype=np.uint8)[:, None, None, None]
    _, losses = train(images, replace(recipe, steps=40))
    assert losses[-5:].mean() < losses[:5].mean() - 0.1 * abs(losses[:5].mean())


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (7, 7), (5, 12)])
def test_batches_are_epochs_without_repeats(n: int, batch_size: int):
    drawn = batch_table(n, batch_size, n, seed=1)  # batch_size epochs
    epochs = drawn.reshape(batch_size, n)
    assert all(sorted(epoch.tolist()) == list(range(n)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) > 1
    assert not np.array_equal(drawn, batch_table(n, batch_size, n, seed=2))
    assert np.array_equal(drawn[:2], batch_table(n, batch_size, 2, seed=1))  # however many steps there are


def test_learning_rate_rises_and_falls():
    rates = [schedule(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert np.diff(rates)[:8].min() > 0
    assert np.diff(rates)[10:].max() < 0
    assert max(rates) <= 1
    assert rates[50] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.001
    assert all(0 < schedule(step, 2) <= 1 for step in range(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "Glo"}, "'Glo', it must be one of Glow, ConvAutoencoder"),
        ({"steps": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"learning_rate": 0.0}, "learning_rate positive"),
        ({"trim": 1.0}, r"trim is 1.0, it must lie in \[0, 1\)"),
        ({"trim": -0.1}, "trim is -0.1"),
    ],
)
def test_bad_recipe_is_named(change: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Recipe(**change)


@pytest.mark.parametrize("images", [some_images() / 255, some_images()[:, 0], some_images()[:0]])
def test_bad_images_are_named(images: np.ndarray):
    with pytest.raises(ValueError, match="images must be uint8"):
        train(images, GLOW)


# --- the cache -----------------------------------------------------------------------------------------------------


def test_same_recipe_trains_once(data_folder: Path, trainings: list[Recipe]):
    first = trained(some_images(), GLOW)
    second = trained(some_images().copy(), replace(GLOW))
    assert len(trainings) == 1
    assert parameters(first) == parameters(second) == parameters(train(some_images(), GLOW)[0])
    assert not second.training
    assert [path.suffix for path in sorted((data_folder / "artifacts/model").iterdir())] == [".lock", ".safetensors"]


def test_whatever_changes_is_trained_anew(data_folder: Path, trainings: list[Recipe], monkeypatch: pytest.MonkeyPatch):
    one_bit = some_images()
    one_bit[7, 0, 3, 3] ^= 1
    trained(some_images(), GLOW)
    trained(one_bit, GLOW)
    trained(some_images().transpose(0, 1, 3, 2), GLOW)
    for change in (
        {"options": {"levels": 1, "steps": 1, "hidden_channels": 4}},
        {"options": {**GLOW.options, "learned_prior": False}},
        {"steps": 5},
        {"batch_size": 5},
        {"learning_rate": 0.02},
        {"trim": 0.3},
        {"seed": 4},
    ):
        trained(some_images(), replace(GLOW, **change))
    monkeypatch.setattr(training, "code_hash", lambda *modules: "another")
    trained(some_images(), GLOW)
    assert len(trainings) == 11
    assert len(list((data_folder / "artifacts/model").glob("*.safetensors"))) == 11


def test_code_is_part_of_the_key():
    """All that a trained model depends on: `flowlib.runtime.code` follows the imports."""
    assert training.model_parts(some_images(), GLOW)["code"] == code_hash("flowlib.training")
    assert {"flowlib.glow", "flowlib.autoencoders", "flowlib.kernels.coupling"} <= closure("flowlib.training")


@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_damaged_artifact_is_named_and_trained_anew(
    damage: Any, data_folder: Path, trainings: list[Recipe], capsys: pytest.CaptureFixture[str]
):
    first = trained(some_images(), GLOW)
    (path,) = (data_folder / "artifacts/model").glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert parameters(trained(some_images(), GLOW)) == parameters(first)
    assert len(trainings) == 2
    printed = capsys.readouterr().err
    assert f"{path} is damaged" in printed
    assert printed.count("\n") == 1
    assert artifacts.read(path).notes["parts"]["recipe"]["seed"] == GLOW.seed
    assert path.with_suffix(".damaged").read_bytes() == damage(whole)


def test_parameters_of_another_model_are_refused():
    model = build(GLOW, (1, 8, 8))
    arrays = {f"model.{name}": value.numpy() for name, value in build(GLOW, (1, 8, 8)).state_dict().items()}
    for wrong in (
        {**arrays, "model.levels.0.b_out": np.zeros((2, 3), np.float32)},
        {name: array for name, array in arrays.items() if name != "model.levels.0.b_out"},
        {**arrays, "model.more": np.zeros(1, np.float32)},
    ):
        with pytest.raises(ArtifactError, match="saved parameters are not those of this Glow"):
            training.load_parameters(model, Artifact(wrong, {}))
    training.load_parameters(model, Artifact(arrays, {}))


def test_interrupted_cached_training_continues(data_folder: Path, monkeypatch: pytest.MonkeyPatch):
    expected, _ = train(some_images(), GLOW)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    steps: list[int] = []

    def interrupt(step: int, _: Model) -> None:
        steps.append(step)
        if len(steps) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", lambda images, recipe, path, labels: train(images, recipe, path, interrupt))
    with pytest.raises(KeyboardInterrupt):
        trained(some_images(), GLOW)
    assert len(list((data_folder / "artifacts/model").glob("*.checkpoint"))) == 1
    assert parameters(trained(some_images(), GLOW)) == parameters(expected)
    assert steps == [0, 1, 2, 3, 3, 4, 5]
    assert not list((data_folder / "artifacts/model").glob("*.checkpoint"))


def test_scores_are_cached_and_know_their_test_sets(data_folder: Path, trainings: list[Recipe]):
    tests = {"a": some_images(3, seed=1), "b": some_images(4, seed=2)}
    scores = training.train_and_score(some_images(), GLOW, tests)
    model = train(some_images(), GLOW)[0]
    for name, images in tests.items():
        assert scores[name].dtype == np.float64
        assert np.array_equal(scores[name], score(model, images))
    assert len(trainings) == 1
    for path in (data_folder / "artifacts/model").glob("*.safetensors"):
        path.unlink()
    again = training.train_and_score(some_images(), GLOW, tests)
    assert np.array_equal(again["b"], scores["b"])
    assert len(trainings) == 1  # no model was needed
    changed = training.train_and_score(some_images(), GLOW, {**tests, "b": some_images(4, seed=3)})
    assert not np.array_equal(changed["b"], scores["b"])


@RECIPES
def test_score_does_not_depend_on_batch_or_order(recipe: Recipe, monkeypatch: pytest.MonkeyPatch):
    model, _ = train(some_images(), recipe)
    images = some_images(9, seed=5)
    scores = score(model, images)
    assert scores.shape == (9,)
    np.testing.assert_allclose(score(model, images[::-1])[::-1], scores, rtol=1e-5)
    monkeypatch.setattr(training, "SCORING_BATCH", 2)
    np.testing.assert_allclose(score(model, images), scores, rtol=1e-5)
    assert len(np.unique(scores.round(6))) > 1
    with torch.no_grad():
        expected = (
            -model.log_prob(torch.from_numpy(images))
            if isinstance(model, Glow)
            else (model(torch.from_numpy(images)) - torch.from_numpy(images) / 255).square().mean((1, 2, 3))
        )
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_a_conditional_flow_learns_what_its_labels_tell():
    """Black and white images with their labels: each is likely under its own label and not under the other's."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=64)
    images = (rng.integers(0, 40, (64, 1, 8, 8)) + 200 * labels[:, None, None, None]).astype(np.uint8)
    recipe = Recipe("Glow", {"levels": 1, "steps": 2, "hidden_channels": 4, "classes": 2}, steps=200, batch_size=16)
    model = training.trained(images, recipe, labels)
    own, other = training.score(model, images, labels), training.score(model, images, 1 - labels)
    assert (own + 20 < other).all()
    again = training.trained(images, recipe, labels)
    assert np.array_equal(training.score(again, images, labels), own)
    swapped = training.trained(images, recipe, 1 - labels)
    assert not np.array_equal(training.score(swapped, images, labels), own)


def test_a_deep_flow_begins_where_images_are_all_alike():
    """Gratings span few directions: begun without noise, a batch that has it costs 1e14 nats and has no gradient."""
    images, _ = datasets.frequencies()
    recipe = Recipe("Glow", {"levels": 2, "steps": 32, "hidden_channels": 4}, steps=1, batch_size=32, seed=5)
    _, losses = train(images[::4], recipe)
    assert losses[0] < 32 * 32 * 8 * math.log(2), "no worse than pixels that all are as likely"
