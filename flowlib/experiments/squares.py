"""Small squares on shirts (thesis 4.2): what notebook 03 measures beyond the likelihood, and a local score.

The local score is a density ratio: a small network is shown normal images with made-up changes (irregular patches,
bumps, scratches) and tells, at each pixel, changed from unchanged. Its logit estimates the log-ratio of the two
densities of the neighbourhood, up to a constant (Sugiyama, Suzuki & Kanamori 2012; made-up anomalies as in Li et al.
2021, "CutPaste", and Zavrtanik et al. 2021, "DRAEM"). No image with a real anomaly takes part in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_dilation, uniform_filter
from torch import Tensor, nn

from flowlib import training
from flowlib.detector.local_ratio import flow_statistics, pixel_statistics, train_ratio
from flowlib.glow import Glow
from flowlib.metrics import auroc
from flowlib.runtime import artifacts
from flowlib.runtime.artifacts import Arrays, Artifact
from flowlib.runtime.code import code_hash
from flowlib.training import Recipe, batches, to_device_of, to_numpy, trained

INPUTS = ("pixels", "flow statistics")


# --- maps of the two models ----------------------------------------------------------------------------------------


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


def standardised(maps: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """`maps` ``(N, H, W)`` less the mean of the `normal` maps at each position, in their standard deviations there.

    Where normal images hardly differ (the black surround), a thousandth of the overall deviation is added.
    """
    return (maps - normal.mean(0)) / (normal.std(0) + 1e-3 * normal.std())


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


def best_window(normal: np.ndarray, changed: np.ndarray, windows: Sequence[int] = (1, 2, 3, 4)) -> int:
    """The window whose `window_score` best tells maps of `changed` images from those of `normal` ones (AUROC)."""
    return max(windows, key=lambda window: auroc(window_score(normal, window), window_score(changed, window)))
