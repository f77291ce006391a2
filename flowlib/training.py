"""One way of training for every model (`flowlib.kernels.loop`), and the cache around it.

A `Recipe` and the training images determine a model to the bit (on one machine, with one thread): batches and
dequantisation noise are drawn from the seed and the step number, so that a run that was killed continues from its last
checkpoint as if nothing had happened.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowlib.autoencoders import Autoencoder, ConvAutoencoder, FullyConnectedAutoencoder
from flowlib.glow import Glow
from flowlib.kernels.descent import adam_rates
from flowlib.kernels.graphs import of_batches
from flowlib.kernels.loop import Loop
from flowlib.runtime import artifacts
from flowlib.runtime.artifacts import Artifact, ArtifactError
from flowlib.runtime.code import code_hash

MODELS: dict[str, type[Any]] = {cls.__name__: cls for cls in (Glow, ConvAutoencoder, FullyConnectedAutoencoder)}
Model = Glow | Autoencoder

WARM_UP = 0.1  # share of the steps in which the learning rate rises from zero; a cosine takes it back
INITIAL_IMAGES = 256  # seen by the data-dependent initialisation
SCORING_BATCH = 128


class TrainingError(RuntimeError):
    """Training met a number that is not finite; the message names the step, the place and the images of the batch."""


@dataclass(frozen=True)
class Recipe:
    """All that determines a trained model but the images.

    ``model`` is a name in `MODELS` and ``options`` its arguments but the image shape. ``trim`` is the share of each
    batch, those with the highest loss, that is left out of the gradient (trimmed likelihood).
    """

    model: str = "Glow"
    options: dict[str, Any] = field(default_factory=dict)
    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 1e-2
    trim: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"Recipe: model is {self.model!r}, it must be one of {', '.join(MODELS)}")
        if min(self.steps, self.batch_size) < 1 or self.learning_rate <= 0:
            raise ValueError("Recipe: steps and batch_size must be at least 1 and learning_rate positive")
        if not 0 <= self.trim < 1:
            raise ValueError(f"Recipe: trim is {self.trim}, it must lie in [0, 1)")

    @property
    def kept(self) -> int:
        """How many images of a batch are in the gradient."""
        return max(1, round(self.batch_size * (1 - self.trim)))


def build(recipe: Recipe, image_shape: tuple[int, ...]) -> Model:
    """The untrained model of a recipe, its random parameters drawn from the recipe's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return MODELS[recipe.model](image_shape, **recipe.options)


@dataclass(frozen=True)
class Training:
    """What one model learns from: the arguments of `train`."""

    images: np.ndarray
    recipe: Recipe
    labels: np.ndarray | None = None
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        images = self.images
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
            raise ValueError(f"train: images must be uint8 (N, C, H, W) with N > 0, got {images.dtype} {images.shape}")


def train(
    images: np.ndarray,
    recipe: Recipe,
    checkpoint: Path | None = None,
    on_step: Callable[[int, Model], None] | None = None,
    labels: np.ndarray | None = None,
) -> tuple[Model, np.ndarray]:
    """Train on uint8 `images` ``(N, C, H, W)``; returns the model and the loss of each step, ``(steps,)``.

    A conditional flow wants `labels`, int64 ``(N,)``. A `checkpoint` that exists is continued from, and written anew
    every half minute. `on_step` sees every step.

    Raises TrainingError when a loss or gradient is not finite; the model keeps the parameters before that step.
    """
    (found,) = Course([Training(images, recipe, labels, checkpoint)]).run(on_step)
    return found


def train_many(trainings: Sequence[Training]) -> list[tuple[Model, np.ndarray]]:
    """`train` of each, which ends as it would alone, to rounding: those of one shape together, as one model.

    Of one shape are flows whose images are, whose recipes differ in seed and trim alone, and which go on from the same
    step of their checkpoints, if any. Together are as many as memory holds.
    """
    groups: dict[str, list[int]] = {}
    for at, training in enumerate(trainings):
        groups.setdefault(shape_of(training) or str(at), []).append(at)
    found: dict[int, tuple[Model, np.ndarray]] = {}
    for waiting in groups.values():
        number = len(waiting)
        while waiting:
            some, waiting = waiting[:number], waiting[number:]
            try:
                found |= zip(some, Course([trainings[at] for at in some]).run(), strict=True)
            except torch.OutOfMemoryError:
                if len(some) == 1:
                    raise
                waiting, number = some + waiting, (len(some) + 1) // 2
    return [found[at] for at in range(len(trainings))]


def shape_of(training: Training) -> str | None:
    """What trainings must share to be done together; None for one that is done alone."""
    if training.recipe.model != "Glow":
        return None
    saved = None if training.checkpoint is None else artifacts.read_or_discard(training.checkpoint)
    step = 0 if saved is None else saved.notes["step"]
    recipe = replace(training.recipe, seed=0, trim=0.0)
    return f"{recipe} {training.images.shape[1:]} {training.labels is None} {step}"


class Course(Loop):
    """The `Loop` of trainings of one shape: what it reads of them, and how it goes on from their checkpoints."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.trainings, recipe = trainings, trainings[0].recipe
        saved = [None if t.checkpoint is None else artifacts.read_or_discard(t.checkpoint) for t in trainings]
        models = [begun(t, found) for t, found in zip(trainings, saved, strict=True)]
        place = next(models[0].parameters())
        sizes = [len(t.images) for t in trainings]
        tables = [
            batch_table(n, recipe.batch_size, recipe.steps, t.recipe.seed)
            for n, t in zip(sizes, trainings, strict=True)
        ]
        starts = (np.cumsum(sizes) - sizes).repeat(recipe.batch_size)
        columns = [to_device_of(place, np.concatenate([t.images for t in trainings]))]
        if trainings[0].labels is not None:
            columns.append(to_device_of(place, np.concatenate([t.labels for t in trainings])))
        super().__init__(
            models,
            columns,
            to_device_of(place, np.concatenate(tables, 1) + starts),
            adam_rates(recipe.learning_rate * schedule(step, recipe.steps) for step in range(recipe.steps)).to(place),
            [t.recipe.seed for t in trainings],
            [t.recipe.kept for t in trainings],
        )
        if found := [one for one in saved if one]:
            self.losses = np.stack([one.arrays["losses"] for one in found], 1).tolist()
            for name, moment in self.descent.moments.items():
                moment.copy_(torch.from_numpy(np.stack([one.arrays[name] for one in found])).view(moment.shape))

    def not_finite(self, step: int, losses: list[float], norms: list[float]) -> TrainingError:
        """It names the first that was not."""
        at = int(np.argmin(np.isfinite(losses) & np.isfinite(norms)))
        recipe = self.trainings[at].recipe
        images, *labels = (batch.chunk(len(self.trainings))[at] for batch in self.batch)
        place = "in the gradient" if np.isfinite(losses[at]) else self.models[at].first_not_finite(images, *labels)
        indices = batch_table(len(self.trainings[at].images), recipe.batch_size, recipe.steps, recipe.seed)[step]
        mend = "lower learning_rate or take more steps (their first tenth warms up)"
        return TrainingError(
            f"{recipe.model}: not finite at step {step}, {place}, images {indices.tolist()} of the set; {mend}"
        )

    def save(self) -> None:
        """Write a checkpoint of each training that wants one: parameters, Adam's moments, and the losses so far."""
        losses = np.array(self.losses).T
        for at, (training, model) in enumerate(zip(self.trainings, self.models, strict=True)):
            if training.checkpoint is not None:
                moments = {name: to_numpy(m.view(len(losses), -1)[at]) for name, m in self.descent.moments.items()}
                artifact = Artifact({**arrays_of(model), **moments, "losses": losses[at]}, {"step": len(self.losses)})
                artifacts.write(training.checkpoint, artifact)


def begun(training: Training, saved: Artifact | None) -> Model:
    """The model at the start of its training, or as it was saved."""
    model = build(training.recipe, training.images.shape[1:]).to(best_device())
    if saved is not None:
        load_parameters(model, saved)
    else:
        some = batch_table(len(training.images), INITIAL_IMAGES, 1, training.recipe.seed)[0]
        images = to_device_of(model, training.images[some])
        noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(training.recipe.seed))
        model.initialise(images, noise.to(images.device))  # with noise, as it will train
    return model


def schedule(step: int, steps: int) -> float:
    """Learning rate as a share of the highest: a linear rise over the first tenth, then half a cosine to zero."""
    return min((step + 1) / max(1.0, WARM_UP * steps), 0.5 * (1 + math.cos(math.pi * step / steps)))


def batch_table(n: int, batch_size: int, steps: int, seed: int) -> np.ndarray:
    """Indices of the batch of each step, ``(steps, batch_size)``: epochs are permutations drawn from seed and epoch."""
    epochs = range(-(-steps * batch_size // n))
    order = np.concatenate([np.random.default_rng((seed, epoch)).permutation(n) for epoch in epochs])
    return order[: steps * batch_size].reshape(steps, batch_size)


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_device_of(place: nn.Module | Tensor, array: np.ndarray) -> Tensor:
    """An array as a tensor on the device of a model, or of another tensor: the one way from images to a model."""
    device = place.device if isinstance(place, Tensor) else next(place.parameters()).device
    return torch.from_numpy(np.array(array, order="C")).to(device)  # a copy: torch warns of read-only arrays


def batches(model: nn.Module, *columns: np.ndarray) -> Iterator[tuple[Tensor, ...]]:
    """Arrays of N rows each, `SCORING_BATCH` rows at a time, on the device of the model."""
    for start in range(0, len(columns[0]), SCORING_BATCH):
        yield tuple(to_device_of(model, column[start : start + SCORING_BATCH]) for column in columns)


# --- the cache -----------------------------------------------------------------------------------------------------


def trained(images: np.ndarray, recipe: Recipe, labels: np.ndarray | None = None) -> Model:
    """`train`, or the model that an earlier run made of the same images, recipe, code and kind of device."""

    def make(checkpoint: Path) -> Artifact:
        started = time.monotonic()
        model, losses = train(images, recipe, checkpoint, labels=labels)
        return Artifact({**arrays_of(model), "losses": losses}, {"seconds": round(time.monotonic() - started, 3)})

    found = artifacts.cached("model", model_parts(images, recipe, labels), make)
    model = build(recipe, images.shape[1:])
    load_parameters(model, found)
    return model.to(best_device()).eval()


def score(model: Model, images: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """Anomaly scores, ``(N,)`` float64, of uint8 images ``(N, C, H, W)``: nats for Glow, else mean squared error."""
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"score: there are {len(labels)} labels for {len(images)} images")
    columns = (images,) if labels is None else (images, labels)
    with torch.inference_mode():
        return to_numpy(torch.cat(of_batches(model.anomaly_score, batches(model, *columns))).double())


def train_and_score(images: np.ndarray, recipe: Recipe, tests: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One job of a study: the trained model's anomaly scores of each of the test sets, all of it cached.

    The sets are scored as one, so that a GPU captures one graph for all of them.
    """
    parts = {
        "model": artifacts.key(model_parts(images, recipe)),
        "tests": {name: artifacts.array_hash(test) for name, test in tests.items()},
    }

    def make(_: Path) -> Artifact:
        scores = score(trained(images, recipe), np.concatenate(list(tests.values())))
        ends = np.cumsum([len(test) for test in tests.values()])
        return Artifact(dict(zip(tests, np.split(scores, ends[:-1]), strict=True)), {})

    return artifacts.cached("scores", parts, make).arrays


def model_parts(images: np.ndarray, recipe: Recipe, labels: np.ndarray | None = None) -> dict[str, Any]:
    """All that determines a trained model, for its key."""
    return {
        "labels": None if labels is None else artifacts.array_hash(labels),
        "images": artifacts.array_hash(images),
        "recipe": asdict(recipe),
        "code": code_hash(__name__),
        **computed_with(),
    }


def computed_with() -> dict[str, Any]:
    """What torch's last bits hang on beside code and data, for the key of everything computed with it."""
    return {"torch": torch.__version__, "device": best_device().type, "threads": torch.get_num_threads()}


def arrays_of(model: Model) -> dict[str, np.ndarray]:
    """The parameters of a model, by name, for an artifact."""
    return {f"model.{name}": to_numpy(value) for name, value in model.state_dict().items()}


def load_parameters(model: Model, saved: Artifact) -> None:
    """Fill the model from an artifact; ArtifactError when names or shapes are not the model's."""
    arrays = {name.removeprefix("model."): a for name, a in saved.arrays.items() if name.startswith("model.")}
    try:
        model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    except RuntimeError as error:
        raise ArtifactError(f"saved parameters are not those of this {type(model).__name__}: {error}") from error


def to_numpy(value: Tensor) -> np.ndarray:
    """The way back: an array in the CPU's memory, from a tensor on any device."""
    return value.detach().cpu().numpy()
