"""One training loop for every model, and the cache around it.

A `Recipe` and the training images determine a model to the bit (on one machine, with one thread): batches and
dequantisation noise are drawn from the seed and the step number, so that a run that was killed continues from its last
checkpoint as if nothing had happened.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from flowlib.autoencoders import Autoencoder, ConvAutoencoder, FullyConnectedAutoencoder
from flowlib.glow import Glow
from flowlib.runtime import artifacts
from flowlib.runtime.artifacts import Artifact, ArtifactError
from flowlib.runtime.code import code_hash

MODELS: dict[str, type[Any]] = {cls.__name__: cls for cls in (Glow, ConvAutoencoder, FullyConnectedAutoencoder)}
Model = Glow | Autoencoder

WARM_UP = 0.1  # share of the steps in which the learning rate rises from zero; a cosine takes it back
GRADIENT_NORM = (
    50.0  # nats; a longer gradient is cut to this length (one odd image of a small batch can be 1000 times it)
)
INITIAL_IMAGES = 256  # seen by the data-dependent initialisation
CHECKPOINT_SECONDS = 30.0
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


def build(recipe: Recipe, image_shape: tuple[int, ...]) -> Model:
    """The untrained model of a recipe, its random parameters drawn from the recipe's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return MODELS[recipe.model](image_shape, **recipe.options)


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
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
        raise ValueError(f"train: images must be uint8 (N, C, H, W) with N > 0, got {images.dtype} {images.shape}")
    model = build(recipe, images.shape[1:]).to(best_device())
    data = to_device_of(model, images)
    classes = None if labels is None else to_device_of(model, labels)
    optimiser = torch.optim.Adam(model.parameters(), recipe.learning_rate, fused=True)
    losses: list[float] = []
    if checkpoint is not None and (saved := artifacts.read_or_discard(checkpoint)) is not None:
        restore(model, optimiser, saved)
        losses = saved.arrays["losses"].tolist()
    else:
        model.initialise(data[batch_indices(len(data), INITIAL_IMAGES, 0, recipe.seed)])

    kept = max(1, round(recipe.batch_size * (1 - recipe.trim)))
    last_saved = time.monotonic()
    progress = tqdm(
        range(len(losses), recipe.steps), initial=len(losses), total=recipe.steps, leave=False, disable=None
    )
    for step in progress:
        indices = batch_indices(len(data), recipe.batch_size, step, recipe.seed)
        generator = torch.Generator(data.device).manual_seed(combine(recipe.seed, step))
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * schedule(step, recipe.steps)
        condition = {} if classes is None else {"labels": classes[indices]}
        each = model.loss(data[indices], generator, **condition)
        loss = each.mean() if kept >= len(each) else each.topk(kept, largest=False).values.mean()
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        losses.append(loss.item())
        if not (math.isfinite(losses[-1]) and math.isfinite(norm)):
            place = (
                first_not_finite(model, data[indices], condition)
                if not math.isfinite(losses[-1])
                else "in the gradient"
            )
            raise TrainingError(
                f"{recipe.model}: not finite at step {step}, {place}, images {indices.tolist()} of the set; "
                "lower learning_rate or take more steps (their first tenth warms up)"
            )
        optimiser.step()
        if on_step is not None:
            on_step(step, model)
        if checkpoint is not None and time.monotonic() - last_saved > CHECKPOINT_SECONDS:
            artifacts.write(checkpoint, snapshot(model, optimiser, losses))
            last_saved = time.monotonic()
    return model.eval(), np.array(losses)


def schedule(step: int, steps: int) -> float:
    """Learning rate as a share of the highest: a linear rise over the first tenth, then half a cosine to zero."""
    return min((step + 1) / max(1.0, WARM_UP * steps), 0.5 * (1 + math.cos(math.pi * step / steps)))


def batch_indices(n: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Indices of the batch of a step: epochs are permutations drawn from the seed and the epoch's number."""
    first = step * batch_size
    wanted = np.arange(first, first + batch_size)
    epochs = {epoch: np.random.default_rng((seed, int(epoch))).permutation(n) for epoch in np.unique(wanted // n)}
    return torch.from_numpy(np.array([epochs[i // n][i % n] for i in wanted]))


def combine(seed: int, step: int) -> int:
    """One seed for torch from a run's seed and a step."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1)


def first_not_finite(model: Model, images: Tensor, condition: dict[str, Tensor]) -> str:
    """Where a forward pass first meets a number that is not finite."""
    if isinstance(model, Glow):
        return model.first_not_finite(images, **condition)
    if not isinstance(model, Autoencoder):
        return "in the loss"
    hidden = images.float() / 255
    for name, layer in [*model.encoder.named_children(), *model.decoder.named_children()]:
        hidden = layer(hidden)
        if not hidden.isfinite().all():
            return f"in layer {name} ({type(layer).__name__})"
    return "in the loss"


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
        arrays = {f"model.{name}": to_numpy(value) for name, value in model.state_dict().items()}
        return Artifact({**arrays, "losses": losses}, {"seconds": round(time.monotonic() - started, 3)})

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
        return to_numpy(torch.cat([model.anomaly_score(*batch).double() for batch in batches(model, *columns)]))


def train_and_score(images: np.ndarray, recipe: Recipe, tests: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One job of a study: the trained model's anomaly scores of each of the test sets, all of it cached."""
    parts = {
        "model": artifacts.key(model_parts(images, recipe)),
        "tests": {name: artifacts.array_hash(test) for name, test in tests.items()},
    }

    def make(_: Path) -> Artifact:
        model = trained(images, recipe)
        return Artifact({name: score(model, test) for name, test in tests.items()}, {})

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


def snapshot(model: Model, optimiser: torch.optim.Optimizer, losses: list[float]) -> Artifact:
    """A checkpoint: parameters, the optimiser's state and the losses so far."""
    arrays = {f"model.{name}": to_numpy(value) for name, value in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        arrays |= {f"optimiser.{index}.{name}": to_numpy(value) for name, value in state.items()}
    return Artifact({**arrays, "losses": np.array(losses)}, {"step": len(losses)})


def restore(model: Model, optimiser: torch.optim.Optimizer, saved: Artifact) -> None:
    """Undo `snapshot`."""
    load_parameters(model, saved)
    state: dict[int, dict[str, Tensor]] = {}
    for name, array in saved.arrays.items():
        if name.startswith("optimiser."):
            _, index, entry = name.split(".")
            state.setdefault(int(index), {})[entry] = torch.from_numpy(array.copy())
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


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
