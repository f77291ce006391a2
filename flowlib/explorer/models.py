"""The explorer's models: how each makes maps of pictures, and what Glow and the autoencoder say of shirts."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from flowlib.autoencoders import ConvAutoencoder
from flowlib.detector import fitting, storage
from flowlib.detector.model import PATCH, Detector, DetectorError, Settings
from flowlib.detector.patches import labelled_patches, padded, position_nll, random_patches
from flowlib.experiments.borescope.frames import Shot
from flowlib.experiments.squares import painted_over
from flowlib.explorer.pictures import ExplorerError, Picture
from flowlib.glow import Glow
from flowlib.metrics import p_values
from flowlib.runtime import artifacts, parallel
from flowlib.runtime.artifacts import Arrays, Artifact
from flowlib.runtime.code import code_hash
from flowlib.training import Recipe, build, computed_with, load_parameters, score, to_device_of, to_numpy, trained


@dataclass(frozen=True)
class Method:
    """A model, and how it makes maps.

    scores: names of its maps; unit: theirs. pixels: of a picture, the value of each pixel, ``(h, w)``, of which windows
    take the sum or mean. patches: of a picture's patches ``(n, C, p, p)``, the score of each, ``(n,)``. A detector
    has one map, dense, and brings its own calibration: stride and window mean nothing to it.
    """

    scores: tuple[str, ...]
    unit: str
    pixels: Callable[[Picture], np.ndarray] | None = None
    patches: Callable[[Picture, np.ndarray], np.ndarray] | None = None
    sums: bool = True
    detector: Detector | None = None


def train_methods(
    shots: Sequence[Shot], recipes: Mapping[str, Recipe], patches: int, executor: Executor
) -> dict[str, Method]:
    """The models of notebook 05, trained on random patches of normal shots, or taken from its cache."""
    images, views = [one.image for one in shots], np.array([one.view for one in shots])
    jobs: list[tuple[np.ndarray, Recipe, np.ndarray | None]] = []
    for recipe in recipes.values():
        if recipe.options.get("classes", 0):
            cut, labels = labelled_patches(images, views, patches, PATCH, recipe.seed)
            jobs.append((cut, recipe, labels))
        else:
            jobs.append((random_patches(images, patches, PATCH, recipe.seed), recipe, None))
    found = parallel.run(parameters, jobs, executor, "models")
    shape = (len(images[0]), PATCH, PATCH)
    return {
        name: flow_method(restored(arrays, recipe, shape), recipe.options.get("classes", 0))
        if recipe.model == "Glow"
        else autoencoder_method(arrays, recipe.options)
        for (name, recipe), arrays in zip(recipes.items(), found, strict=True)
    }


def parameters(images: np.ndarray, recipe: Recipe, labels: np.ndarray | None = None) -> Arrays:
    """One job: the parameters of a trained model, as `restored` takes them."""
    state = trained(images, recipe, labels).state_dict()
    return {f"model.{name}": to_numpy(value) for name, value in state.items()}


def restored(arrays: Arrays, recipe: Recipe, shape: tuple[int, int, int]) -> Any:
    """The model of a recipe with the parameters that `parameters` found."""
    model = build(recipe, shape)
    load_parameters(model, Artifact(arrays, {}))
    return model.eval()


def flow_method(flow: Glow, views: int = 0) -> Method:
    """NLL in nats; a flow that is told one of `views` viewpoints takes the likeliest where a picture has none."""

    likeliest: dict[str, int] = {}

    def view_of(picture: Picture) -> int | None:
        if not views or picture.view is not None:
            return picture.view if views else None
        if picture.key not in likeliest:
            totals = [position_nll(flow, picture.image, view).sum() for view in range(views)]
            likeliest[picture.key] = int(np.argmin(totals))
        return likeliest[picture.key]

    def pixels(picture: Picture) -> np.ndarray:
        return position_nll(flow, picture.image, view_of(picture))

    def patches(picture: Picture, some: np.ndarray) -> np.ndarray:
        view = view_of(picture)
        labels = None if view is None else to_device_of(flow, np.full(len(some), view))
        with torch.inference_mode():
            nll = -flow.log_prob_map(to_device_of(flow, some), labels=labels).sum((1, 2))
        return to_numpy(nll.double())

    return Method(("NLL",), "nats", pixels, patches)


def autoencoder_method(arrays: Arrays, options: Mapping[str, Any]) -> Method:
    """Squared reconstruction error of a convolutional autoencoder, pixels in [0, 1], mean over a window or patch."""

    @lru_cache(maxsize=8)
    def model(shape: tuple[int, int, int]) -> ConvAutoencoder:
        return restored(arrays, Recipe("ConvAutoencoder", dict(options)), shape)  # the weights know no size

    def pixels(picture: Picture) -> np.ndarray:
        h, w = picture.image.shape[1:]
        batch = padded(picture.image, 8)
        with torch.inference_mode():
            autoencoder = model(tuple(batch.shape[1:]))
            return to_numpy(autoencoder.squared_error(to_device_of(autoencoder, batch))[0, :h, :w])

    def patches(picture: Picture, some: np.ndarray) -> np.ndarray:
        autoencoder = model(some.shape[1:])
        with torch.inference_mode():
            return to_numpy(autoencoder.anomaly_score(to_device_of(autoencoder, some)).double())

    return Method(("squared error",), "squared error", pixels, patches, sums=False)


def detector_method(fitted: Detector) -> Method:
    return Method((fitted.settings.features,), "normal widths", detector=fitted)


def kept_detector(
    images: Sequence[np.ndarray],
    sources: Sequence[Any],
    settings: Settings,
    folder: Path,
    executor: Executor,
) -> tuple[Detector, Path]:
    """The detector of `detector.fit`, kept in `folder` under a name made of all that determines it, and its folder,
    which ``flowlib score`` takes."""
    parts = {
        "images": [artifacts.array_hash(image) for image in images],
        "sources": [str(source) for source in sources],
        "settings": asdict(settings),
        "code": code_hash("flowlib.detector.fitting"),
        **computed_with(),
    }
    place = Path(folder) / f"detector_{artifacts.key(parts)[:12]}"
    try:
        return storage.load(place), place
    except DetectorError:
        fitted = fitting.fit(images, sources, settings, executor)
        storage.save(fitted, place)
        return fitted, place


# --- the second tab: a square on a shirt, placed by hand (thesis 4.2) -----------------------------------------------


class Square(NamedTuple):
    """Side in pixels (0 for none), grey level, and the column and row of its upper left pixel."""

    size: int = 4
    level: int = 255
    x: int = 12
    y: int = 12


class Said(NamedTuple):
    """Of one shirt and square: images uint8 ``(28, 28)``, maps in nats, reconstruction in [0, 1]; NLL in nats with and
    without the square, the share of normal shirts with a higher one, the error with and without, painted over."""

    shirt: np.ndarray
    marked: np.ndarray
    nll_map: np.ndarray
    change: np.ndarray
    reconstruction: np.ndarray
    nll: float
    nll_before: float
    higher: float
    error: float
    error_before: float
    painted: bool | None


class Shirts:
    """Both models of notebook 03 and test shirts, uint8 ``(N, 1, 28, 28)``; `held` are normal ones to compare with."""

    def __init__(self, flow: Glow, autoencoder: ConvAutoencoder, shirts: np.ndarray, held: np.ndarray) -> None:
        self.flow, self.autoencoder, self.shirts = flow, autoencoder, shirts
        self.normal = score(flow, held)  # nats
        with torch.inference_mode():
            maps = flow.log_prob_map(to_device_of(flow, held[:200]))
        self.limit = float(to_numpy(maps.abs().quantile(0.995)))  # of the colours, for all shirts

    def said(self, index: int, square: Square) -> Said:
        """What the models say. Raises ExplorerError for a shirt that is not there or a square that is not on it."""
        if not 0 <= index < len(self.shirts):
            raise ExplorerError(f"shirt {index} is not there: choose one from 0 to {len(self.shirts) - 1}")
        size, level, x, y = square
        side = self.shirts.shape[-1]
        if not (0 <= size <= side and 0 <= level <= 255 and 0 <= x <= side - size and 0 <= y <= side - size):
            raise ExplorerError(f"the square must lie within {side}x{side} pixels, its level in [0, 255]: {square}")
        pair = self.shirts[[index, index]].copy()  # as it is, marked
        pair[1, 0, y : y + size, x : x + size] = level
        mask = np.zeros((side, side), dtype=bool)
        mask[y : y + size, x : x + size] = True
        with torch.inference_mode():
            maps = to_numpy(-self.flow.log_prob_map(to_device_of(self.flow, pair)))
            reconstruction = to_numpy(self.autoencoder(to_device_of(self.autoencoder, pair))[:, 0])
        nll, error = maps.sum((1, 2), dtype=np.float64), score(self.autoencoder, pair)
        painted = bool(painted_over(reconstruction[1:], pair[1:, 0], mask[None])[0]) if 0 < size < side else None
        return Said(
            shirt=pair[0, 0],
            marked=pair[1, 0],
            nll_map=maps[1],
            change=maps[1] - maps[0],
            reconstruction=reconstruction[1],
            nll=float(nll[1]),
            nll_before=float(nll[0]),
            higher=float(p_values(self.normal, nll[1:])[0]),
            error=float(error[1]),
            error_before=float(error[0]),
            painted=painted,
        )

    def within(self, square: Square) -> Square:
        """The square moved into the picture."""
        most = self.shirts.shape[-1] - square.size
        return square._replace(x=min(max(square.x, 0), most), y=min(max(square.y, 0), most))
