"""Small squares on shirts (thesis 4.2): what notebook 03 measures beyond the likelihood, and a local score.

The local score is a density ratio: a small network is shown normal images with made-up changes (irregular patches,
bumps, scratches) and tells, at each pixel, changed from unchanged. Its logit estimates the log-ratio of the two
densities of the neighbourhood, up to a constant (Sugiyama, Suzuki & Kanamori 2012; made-up anomalies as in Li et al.
2021, "CutPaste", and Zavrtanik et al. 2021, "DRAEM"). No image with a real anomaly takes part in it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.ndimage import binary_dilation, uniform_filter
from torch import Tensor, nn

from flowlib import training
from flowlib.baselines import COVARIATES, KNearestNeighbours, PCAReconstruction
from flowlib.datasets import add_squares, by_class, check_images
from flowlib.experiments import made_up
from flowlib.experiments.local_ratio import flow_statistics, pixel_statistics, train_ratio
from flowlib.glow import Glow
from flowlib.metrics import auroc
from flowlib.runtime import artifacts
from flowlib.runtime.artifacts import Arrays, Artifact
from flowlib.runtime.code import code_hash
from flowlib.training import Recipe, batches, to_device_of, to_numpy, trained

INPUTS = ("pixels", "flow statistics")
SIZES = (2, 3, 4)  # pixels on a side of the squares
LARGER = (2, 3, 4, 6, 8, 10, 12)  # sides of the squares that ask for the smallest that can be found
BOTTLENECKS = {18: (32, 16, 2), 72: (32, 16, 8), 288: (32, 16, 32)}  # channels, by the numbers in the middle (of 3x3)

Scores = tuple[np.ndarray, np.ndarray]  # of normal and of marked images, ``(S, n)`` or, of one seed, ``(n,)``


# --- the images and the runs ---------------------------------------------------------------------------------------


class Marked(NamedTuple):
    """Images of one class, uint8 ``(N, 1, 28, 28)``, and what is known of the squares.

    train, held: training images to learn from, and those held out for choices; changed: `held` with made-up changes.
    normal, marked: test images without and with a square; unmarked: the marked ones before they were marked.
    masks: of the squares, bool ``(n, 28, 28)``; table: a row a square, as `add_squares` has it, with its colour.
    """

    train: np.ndarray
    held: np.ndarray
    changed: np.ndarray
    normal: np.ndarray
    unmarked: np.ndarray
    marked: np.ndarray
    masks: np.ndarray
    table: pd.DataFrame

    def sets(self, *names: str) -> dict[str, np.ndarray]:
        """Sets of images by name, as the jobs below take them."""
        return {name: getattr(self, name) for name in names}


def marked_class(number: int, held_out: int, n: int) -> Marked:
    """Fashion-MNIST's class of that number: `held_out` training images kept apart, up to `n` test images, of which 40 %
    are marked (thesis 4.2)."""
    held, train = np.split(by_class("fashion-mnist", "train")[number], [held_out])
    test = by_class("fashion-mnist", "test", n)[number]
    images, masks, table = add_squares(test, share=0.4)
    anomalous = table["anomalous"].to_numpy()
    table = table[anomalous].reset_index(drop=True)
    table["colour"] = np.where(table["level"] == 0, "black", "white")
    changed, _ = made_up.made_up_changes(held, np.random.default_rng(0))
    return Marked(
        train, held, changed, test[~anomalous], test[anomalous], images[anomalous], masks[anomalous, 0], table
    )


def saved_again(images: np.ndarray, form: str, quality: int = 75) -> np.ndarray:
    """Grey images, uint8 ``(N, 1, H, W)``, as they come back from files: "PNG", or "JPEG" of that `quality`."""
    check_images(images)
    again = np.empty_like(images)
    for image, read in zip(images, again, strict=True):
        file = BytesIO()
        Image.fromarray(image[0]).save(file, form, **({"quality": quality} if form == "JPEG" else {}))
        read[0] = np.asarray(Image.open(file))
    return again


def saved_sets(of: Marked) -> dict[str, np.ndarray]:
    """What is told from the normal images as they are: marked or not, saved to a file or not."""
    return {
        "marked": of.marked,
        "unmarked, saved as JPEG": saved_again(of.unmarked, "JPEG"),
        "marked, saved as JPEG": saved_again(of.marked, "JPEG"),
        "marked, saved as PNG": saved_again(of.marked, "PNG"),
    }


def larger_squares(of: Marked) -> dict[str, np.ndarray]:
    """The unmarked images with a square of each of the sides `LARGER`, by "SIDExSIDE"."""
    return {f"{side}x{side}": add_squares(of.unmarked, share=1, sizes=[side])[0] for side in LARGER}


def controlled_runs(train: np.ndarray, glow: Recipe) -> dict[str, tuple[np.ndarray, Recipe]]:
    """Runs that differ from Glow's in one choice: training images and recipe, by what was changed."""

    def with_option(**changed: float) -> tuple[np.ndarray, Recipe]:
        return train, replace(glow, options=glow.options | changed)

    depth, width = glow.options["steps"], glow.options["hidden_channels"]
    return {
        "as above, one seed": (train, glow),
        "a quarter of the steps": (train, replace(glow, steps=max(1, glow.steps // 4))),
        "4 times the steps": (train, replace(glow, steps=4 * glow.steps)),
        "100 images only, 4 times the steps": (train[:100], replace(glow, steps=4 * glow.steps)),
        f"K = {max(1, depth // 2)} steps of flow": with_option(steps=max(1, depth // 2)),
        f"K = {2 * depth} steps of flow": with_option(steps=2 * depth),
        f"width {width // 2}": with_option(hidden_channels=width // 2),
        f"width {2 * width}": with_option(hidden_channels=2 * width),
        "alpha = 0.05 in the logit": with_option(alpha=0.05),
    }


# --- the jobs ------------------------------------------------------------------------------------------------------


def train_and_map(images: np.ndarray, recipe: Recipe, tests: dict[str, np.ndarray]) -> Arrays:
    """One job: the score of every pixel of the test sets under the trained model, float32 ``(n, H, W)`` each.

    For Glow the negative log-likelihood in nats (its sum is the image's); for an autoencoder the squared error of
    pixels in [0, 1] (its mean is the image's), and with "<name> reconstruction" the reconstructions, in [0, 1].
    """

    def make(_: Path) -> Artifact:
        model = trained(images, recipe)
        arrays = {}
        for name, test in tests.items():
            if isinstance(model, Glow):
                arrays[name] = mapped(model, test, lambda batch: -model.log_prob_map(batch))
            else:
                arrays[name] = mapped(model, test, model.squared_error)
                arrays[f"{name} reconstruction"] = mapped(model, test, lambda batch: model(batch)[:, 0])
        return Artifact(arrays, {})

    return artifacts.cached("maps", parts(images, recipe, tests), make).arrays


def noise_averaged(images: np.ndarray, recipe: Recipe, tests: dict[str, np.ndarray], draws: int) -> Arrays:
    """NLL in nats ``(n,)`` of each test set under a trained Glow, the mean over `draws` of dequantisation noise."""

    def make(_: Path) -> Artifact:
        model = trained(images, recipe)
        if not isinstance(model, Glow):
            raise ValueError(f"noise_averaged: the recipe's model is {recipe.model}, it must be Glow")
        generator = torch.Generator().manual_seed(recipe.seed)
        arrays = {}
        for name, test in tests.items():
            some = to_device_of(model, test)
            with torch.inference_mode():  # noise is drawn on the CPU, so that every device sees the same
                noise = (torch.rand(test.shape, generator=generator).to(some.device) for _ in range(draws))
                arrays[name] = to_numpy(torch.stack([-model.log_prob(some, each) for each in noise]).mean(0).double())
        return Artifact(arrays, {})

    return artifacts.cached("maps", parts(images, recipe, tests) | {"draws": draws}, make).arrays


def local_ratio(
    images: np.ndarray, flow: Recipe, inputs: str, steps: int, batch_size: int, seed: int, tests: dict[str, np.ndarray]
) -> Arrays:
    """One job: train the ratio network on normal `images` and map the test sets, float32 ``(n, H, W)``, log-ratio in
    nats, higher is more anomalous.

    `inputs` is "pixels", or "flow statistics" of the flow that the recipe `flow` and `images` determine. Three 3x3
    convolutions, so that a pixel is judged by the 7x7 around it (and by what the flow saw).
    """
    if inputs not in INPUTS:
        raise ValueError(f"inputs is {inputs!r}, it must be one of {', '.join(INPUTS)}")

    def make(_: Path) -> Artifact:
        model = trained(images, flow).requires_grad_(False) if inputs == "flow statistics" else None

        statistics = pixel_statistics if model is None else partial(flow_statistics, model)  # type: ignore[arg-type]
        network = train_ratio(images, statistics, steps, batch_size, seed)

        def ratio(batch: Tensor) -> Tensor:
            return network(statistics(batch))[:, 0]

        return Artifact({name: mapped(network, test, ratio) for name, test in tests.items()}, {})

    settings = {"inputs": inputs, "steps": steps, "batch_size": batch_size, "seed": seed, "flow": asdict(flow)}
    return artifacts.cached("maps", parts(images, flow, tests) | settings, make).arrays


@torch.inference_mode()
def mapped(model: nn.Module, images: np.ndarray, function: Callable[[Tensor], Tensor]) -> np.ndarray:
    """What a function of batches, that has the model in it, says of all images."""
    return np.concatenate([to_numpy(function(batch)) for (batch,) in batches(model, images)])


def parts(images: np.ndarray, recipe: Recipe, tests: dict[str, np.ndarray]) -> dict[str, object]:
    """What determines a job's result, for its key."""
    return {
        "model": training.model_parts(images, recipe),
        "tests": {name: artifacts.array_hash(test) for name, test in tests.items()},
        "code": code_hash(__name__),
    }


# --- scores of images and maps -------------------------------------------------------------------------------------


def stacked(results: Sequence[Arrays], name: str) -> np.ndarray:
    """What the jobs of all seeds say of one set, float64 ``(S, n, ...)``."""
    return np.stack([result[name] for result in results]).astype(np.float64)


def standardised(maps: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """`maps` ``(N, H, W)`` less the mean of the `normal` maps at each position, in their standard deviations there.

    Where normal images hardly differ (the black surround), a thousandth of the overall deviation is added.
    """
    return (maps - normal.mean(0)) / (normal.std(0) + 1e-3 * normal.std())


def standardised_sets(maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The maps ``(S, n, H, W)`` of "normal" and "marked" images, `standardised` by those of "held" ones, each seed."""
    return {
        name: np.stack([standardised(*pair) for pair in zip(maps[name], maps["held"], strict=True)])
        for name in ("normal", "marked")
    }


def window_score(maps: np.ndarray, window: int) -> np.ndarray:
    """The highest mean of a `window` x `window` part of each map: ``(N, H, W)`` to ``(N,)``."""
    if not 1 <= window <= min(maps.shape[1:]):
        raise ValueError(f"window is {window}, it must lie in [1, {min(maps.shape[1:])}], the map's side")
    means = uniform_filter(maps.astype(np.float64), (0, window, window)) if window > 1 else maps
    H, W = maps.shape[1:]
    first = window // 2  # of the middles whose windows lie within the map
    return means[:, first : first + H - window + 1, first : first + W - window + 1].max((1, 2))


def painted_over(reconstructions: np.ndarray, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Whether each square is reconstructed nearer to the ring around it than to itself, bool ``(N,)`` (thesis Fig. 8).

    All ``(N, H, W)``: reconstructions in [0, 1], uint8 images, bool masks with one square each. Compared are mean grey
    levels: of the reconstruction inside the square, of the square, and of the pixels that touch it.
    """
    nearer = []
    for reconstruction, image, mask in zip(reconstructions, images / 255, masks, strict=True):
        ring = binary_dilation(mask, np.ones((3, 3))) & ~mask
        inside = reconstruction[mask].mean()
        nearer.append(abs(inside - image[ring].mean()) < abs(inside - image[mask].mean()))
    return np.array(nearer)


def best_window(normal: np.ndarray, changed: np.ndarray, windows: Sequence[int] = (1, 2, 3, 4)) -> int:
    """The window whose `window_score` best tells maps of `changed` images from those of `normal` ones (AUROC)."""
    return max(windows, key=lambda window: auroc(window_score(normal, window), window_score(changed, window)))


def window_scores(maps: Mapping[str, np.ndarray]) -> tuple[int, dict[str, np.ndarray]]:
    """The window that best tells the maps of "held" from those of "changed", and the scores ``(S, n)`` of every set.

    `maps` are those of the local ratio, ``(S, n, H, W)``; one window is chosen for all seeds.
    """
    window = best_window(np.concatenate(maps["held"]), np.concatenate(maps["changed"]))
    return window, {name: np.stack([window_score(each, window) for each in of_set]) for name, of_set in maps.items()}


def untrained_scores(of: Marked) -> dict[str, Scores]:
    """What needs no model of ours: PCA, nearest neighbours, and each covariate, as it is and as the distance from its
    mean over the held-out images."""
    found: dict[str, Scores] = {}
    for name, model in (("PCA reconstruction", PCAReconstruction()), ("5 nearest neighbours", KNearestNeighbours())):
        model.fit(of.train)
        found[name] = (model.score_samples(of.normal), model.score_samples(of.marked))
    for name, measure in COVARIATES.items():
        centre, values = measure(of.held).mean(), (measure(of.normal), measure(of.marked))
        found[name] = values
        found[f"{name}, distance from mean"] = (abs(values[0] - centre), abs(values[1] - centre))
    return found
