"""Small squares on shirts (thesis 4.2): what notebook 03 measures beyond the likelihood, and a local score.

The local score is a density ratio: a small network is shown normal images with made-up changes (irregular patches,
bumps, scratches) and tells, at each pixel, changed from unchanged. Its logit estimates the log-ratio of the two
densities of the neighbourhood, up to a constant (Sugiyama, Suzuki & Kanamori 2012; made-up anomalies as in Li et al.
2021, "CutPaste", and Zavrtanik et al. 2021, "DRAEM"). No image with a real anomaly takes part in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_dilation, gaussian_filter, uniform_filter
from torch import Tensor, nn
from torch.nn import functional as F

from flowlib import artifacts, training
from flowlib.artifacts import Arrays, Artifact
from flowlib.datasets import check_images
from flowlib.glow import Glow
from flowlib.metrics import auroc
from flowlib.runtime.code import code_hash
from flowlib.training import Recipe, trained

INPUTS = ("pixels", "flow statistics")
CHANGES = 3  # made-up ones on each image that the ratio network learns from
CHANNELS = 24  # of the ratio network
LEARNING_RATE = 6e-3


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
            batches = torch.from_numpy(test).split(training.SCORING_BATCH)
            with torch.inference_mode():
                if isinstance(model, Glow):
                    arrays[name] = torch.cat([-model.log_prob_map(batch) for batch in batches]).numpy()
                else:
                    arrays[name] = torch.cat([model.squared_error(batch) for batch in batches]).numpy()
                    arrays[f"{name} reconstruction"] = torch.cat(
                        [model.forward(batch)[:, 0] for batch in batches]
                    ).numpy()
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
            with torch.inference_mode():
                each = [
                    -model.log_prob(torch.from_numpy(test), torch.rand(test.shape, generator=generator))
                    for _ in range(draws)
                ]
            arrays[name] = torch.stack(each).mean(0).double().numpy()
        return Artifact(arrays, {})

    return artifacts.cached("maps", parts(images, recipe, tests) | {"draws": draws}, make).arrays


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


# --- the local ratio -----------------------------------------------------------------------------------------------


def made_up_changes(images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One small change on the object of each image, never a filled rectangle: images and bool masks ``(N, H, W)``.

    A third each: an irregular patch, cut from anywhere in another image of `images` or shifted in grey level; a smooth
    bump, brighter or darker; a scratch. Takes uint8 ``(N, 1, H, W)`` with some pixel above 0 each; grey levels are
    clipped to [0, 255] and rounded. The mask holds where more than half of the change's full strength fell and some
    level changed.
    """
    check_images(images)
    if images.shape[1] != 1 or not (images > 0).any((1, 2, 3)).all():
        raise ValueError("made_up_changes: images must have one channel and some pixel above 0 each")
    changed, masks = images.copy(), np.zeros((len(images), *images.shape[2:]), dtype=bool)
    for index, (image,) in enumerate(images):
        while fills_a_rectangle(masks[index]):
            centre = rng.choice(np.argwhere(image > 0))
            kind = rng.integers(3)
            if kind == 0:
                strength, target = irregular_patch(image, images[rng.integers(len(images)), 0], centre, rng)
            elif kind == 1:
                strength, target = bump(image, centre, rng)
            else:
                strength, target = scratch(image, centre, rng)
            new = np.rint(np.clip(image + strength * (target - image), 0, 255)).astype(np.uint8)
            changed[index, 0], masks[index] = new, (strength > 0.5) & (new != image)
    return changed, masks


def irregular_patch(
    image: np.ndarray, other: np.ndarray, centre: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Where (0 or 1) and what: a disc of radius 1 to 3 pixels with a ragged edge, and grey levels to put there."""
    noise = gaussian_filter(rng.normal(size=image.shape), rng.uniform(0.6, 1.2))
    inside = distances(image.shape, centre) / rng.uniform(1.2, 3.0) < 1 + 0.35 * noise / noise.std()
    if rng.random() < 0.5:
        return inside.astype(float), np.roll(other, rng.integers(image.shape), (0, 1)).astype(float)
    return inside.astype(float), image + 90 * rng.normal()


def bump(image: np.ndarray, centre: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian bump, standard deviation 0.6 to 1.6 pixels, 60 to 300 grey levels up or down."""
    strength = np.exp(-0.5 * (distances(image.shape, centre) / rng.uniform(0.6, 1.6)) ** 2)
    return strength, image + rng.choice([-1, 1]) * rng.uniform(60, 300)


def scratch(image: np.ndarray, centre: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A straight line, 2 to 7 pixels long and about 1 to 2 wide, in any direction and of any grey level."""
    angle, length, half_width = rng.uniform(0, np.pi), rng.uniform(2, 7), rng.uniform(0.4, 1.0)
    y, x = np.indices(image.shape) - centre[:, None, None]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    strength = np.clip(half_width + 0.5 - abs(across), 0, 1) * (abs(along) < length / 2)
    return strength, np.full(image.shape, rng.uniform(0, 255))


def distances(shape: tuple[int, ...], centre: np.ndarray) -> np.ndarray:
    return np.hypot(*(np.indices(shape) - centre[:, None, None]))


def fills_a_rectangle(mask: np.ndarray) -> bool:
    """Whether a mask is all of its bounding box (an empty one is)."""
    rows, columns = np.nonzero(mask)
    return len(rows) == 0 or len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def pixel_statistics(images: Tensor) -> Tensor:
    """uint8 ``(N, 1, H, W)`` to ``(N, 3, H, W)``: grey level in [0, 1], and whether it is the lowest or the highest."""
    return torch.cat((images / 255, images == 0, images == 255), 1)


def flow_statistics(flow: Glow, images: Tensor) -> Tensor:
    """What a flow says of each position, ``(N, F, H, W)``: the terms of its likelihood, its latents, and the place
    within the block of ``2**levels`` pixels that they speak of.

    Terms are in tens of nats, latents in standard deviations and cut at 6; both are repeated over their blocks.
    """
    N, _, H, W = images.shape
    columns = [repeated(term[:, None] / 10, 2**level) for level, _, term in flow.position_terms(images)]
    columns += [repeated(z.clamp(-6, 6), 2**level) for level, z in enumerate(flow.encode(images), start=1)]
    block = 2 ** len(flow.levels)
    place = torch.eye(block).repeat(1, max(H, W) // block)
    columns += [place[:, :H, None].expand(N, -1, H, W), place[:, None, :W].expand(N, -1, H, W)]
    return torch.cat(columns, 1)


def repeated(x: Tensor, block: int) -> Tensor:
    return x.repeat_interleave(block, 2).repeat_interleave(block, 3)


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

        def statistics(batch: np.ndarray) -> Tensor:
            tensor = torch.from_numpy(batch)
            return pixel_statistics(tensor) if model is None else flow_statistics(model, tensor)  # type: ignore[arg-type]

        network = train_ratio(images, statistics, steps, batch_size, seed)
        arrays = {}
        for name, test in tests.items():
            with torch.inference_mode():
                batches = [test[i : i + training.SCORING_BATCH] for i in range(0, len(test), training.SCORING_BATCH)]
                arrays[name] = torch.cat([network(statistics(batch))[:, 0] for batch in batches]).numpy()
        return Artifact(arrays, {})

    settings = {"inputs": inputs, "steps": steps, "batch_size": batch_size, "seed": seed, "flow": asdict(flow)}
    return artifacts.cached("maps", parts(images, flow, tests) | settings, make).arrays


def train_ratio(
    images: np.ndarray, statistics: Callable[[np.ndarray], Tensor], steps: int, batch_size: int, seed: int
) -> nn.Module:
    """Logistic regression of "changed here" on the neighbourhood's `statistics`, by Adam."""
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        C = CHANNELS
        network = nn.Sequential(
            nn.Conv2d(statistics(images[:1]).shape[1], C, 3, padding=1), nn.ReLU(),
            nn.Conv2d(C, C, 3, padding=1), nn.ReLU(),
            nn.Conv2d(C, C, 3, padding=1), nn.ReLU(),
            nn.Conv2d(C, 1, 1),
        )  # fmt: skip
    optimiser = torch.optim.Adam(network.parameters())
    for step in range(steps):
        batch = images[rng.integers(len(images), size=batch_size)]
        changed, masks = batch, np.zeros((batch_size, *images.shape[2:]), dtype=bool)
        for _ in range(CHANGES):
            changed, more = made_up_changes(changed, rng)
            masks |= more
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * training.schedule(step, steps)
        loss = F.binary_cross_entropy_with_logits(network(statistics(changed))[:, 0], torch.from_numpy(masks).float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def best_window(normal: np.ndarray, changed: np.ndarray, windows: Sequence[int] = (1, 2, 3, 4)) -> int:
    """The window whose `window_score` best tells maps of `changed` images from those of `normal` ones (AUROC)."""
    return max(windows, key=lambda window: auroc(window_score(normal, window), window_score(changed, window)))
