"""The borescope study (thesis section 5), on simulated videos: what notebook 05 prepares, and every method's maps."""

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from flowlib import artifacts, made_up, simulator
from flowlib.artifacts import Arrays, Artifact
from flowlib.autoencoders import ConvAutoencoder
from flowlib.baselines import KNearestNeighbours, PCAReconstruction
from flowlib.detector import PATCH, Detector
from flowlib.glow import Glow
from flowlib.ingest import ingest
from flowlib.media import layout, read_image, read_mask
from flowlib.patches import dense_map, labelled_patches, padded, patch_map, random_patches
from flowlib.runtime.code import code_hash
from flowlib.simulator import REFLECTION as REFLECTION
from flowlib.simulator import SHADOW as SHADOW
from flowlib.simulator import VIEWPOINTS, simulate
from flowlib.training import Recipe, score, trained

VIEWS = tuple(VIEWPOINTS)
REDUCED = 8  # pixels on a side that patches are reduced to for PCA and nearest neighbours


class Shot(NamedTuple):
    """A frame: label ("good" or a defect), blade, place in `VIEWS`, image ``(C, H, W)``, mask, regions ``(H, W)``."""

    label: str
    blade: int
    view: int
    image: np.ndarray
    mask: np.ndarray
    regions: np.ndarray


def prepare(
    folder: Path, blades: tuple[int, int, int], frames: int, every: int, seed: int, executor: Executor
) -> tuple[list[Shot], list[Shot]]:
    """Simulate the videos of normal, normal test and defective `blades`, ingest them, and read the frames back.

    Returns the training and the test shots. What is there already is not made again.
    """
    stem = f"{'-'.join(map(str, blades))}x{frames}_seed{seed}_{code_hash(simulator.__name__)[:8]}"
    videos, images = folder / f"videos_{stem}", folder / f"frames_{stem}_every{every}"
    simulate(videos, *blades, frames=frames, seed=seed, executor=executor)
    ingest(videos, images, frames=frames, every=every)
    found = layout(images)
    train = [shot("good", path, None, images) for path in found.normal]
    return train, [shot(label, path, found.masks.get(path), images) for label, path in found.test]


def shot(label: str, path: Path, mask: Path | None, root: Path) -> Shot:
    parts = re.fullmatch(r"blade_(\d+)_(\w+)_f\d+", path.stem)
    if parts is None:
        raise ValueError(f"{path} is no frame of a simulated video: its name must be blade_NNN_VIEWPOINT_fNNNNNN")
    image = read_image(path)
    regions = np.asarray(Image.open(root / "regions" / label / path.name))
    nothing = np.zeros(image.shape[1:], dtype=bool)
    return Shot(
        label, int(parts[1]), VIEWS.index(parts[2]), image, nothing if mask is None else read_mask(mask), regions
    )


def damaged(shots: Sequence[Shot], n: int, seed: int) -> list[Shot]:
    """`n` copies of normal shots with a made-up defect each, of the kinds that are for choosing."""
    rng = np.random.default_rng(seed)
    copies = []
    for i in range(n):
        one = shots[i % len(shots)]
        alike = [other.image for other in shots if other.image.shape == one.image.shape]
        image, mask = made_up.damage(one.image, alike[rng.integers(len(alike))], made_up.CHOICE, rng)
        copies.append(one._replace(label="made up", image=image, mask=mask))
    return copies


# --- maps of every method: one job each, lists of ``(H, W)`` float32 -------------------------------------------------


def flow_maps(training: list[Shot], recipe: Recipe, n: int, shots: list[Shot]) -> list[np.ndarray]:
    """Dense NLL in nats of a 32x32 patch; the flow is told the viewpoint where the recipe has classes."""
    conditional = recipe.options.get("classes", 0) > 0
    views = np.array([one.view for one in training])
    patches, labels = labelled_patches([one.image for one in training], views, n, PATCH, recipe.seed)

    def each(flow: Glow, one: Shot) -> np.ndarray:
        return dense_map(flow, one.image, PATCH, 4, one.view if conditional else None)

    model = trained(patches, recipe, labels if conditional else None)
    return kept("flow", (patches, labels), recipe, shots, lambda one: each(model, one))  # type: ignore[arg-type]


def autoencoder_maps(training: list[Shot], recipe: Recipe, n: int, shots: list[Shot]) -> list[np.ndarray]:
    """Squared reconstruction error of a convolutional autoencoder, pixels in [0, 1], run over the whole image."""
    patches = random_patches([one.image for one in training], n, PATCH, recipe.seed)
    state = trained(patches, recipe).state_dict()

    def each(one: Shot) -> np.ndarray:
        H, W = one.image.shape[1:]
        batch = padded(one.image, 8)
        model = ConvAutoencoder(tuple(batch.shape[1:]), **recipe.options)  # type: ignore[arg-type]
        model.load_state_dict(state)  # the weights know no size
        with torch.inference_mode():
            return model.squared_error(batch)[0, :H, :W].numpy()

    return kept("autoencoder", (patches,), recipe, shots, each)


def reference_maps(
    name: str, training: list[Shot], n: int, stride: int, seed: int, shots: list[Shot]
) -> list[np.ndarray]:
    """ "PCA" or "kNN" of 32x32 patches reduced to 8x8, at a stride: the score of a patch, overlaps averaged."""
    patches = random_patches([one.image for one in training], n, PATCH, seed)
    model: Any = {"PCA": PCAReconstruction(32, seed), "kNN": KNearestNeighbours()}[name]
    model.fit(reduced(patches))

    def each(one: Shot) -> np.ndarray:
        return patch_map(lambda some: model.score_samples(reduced(some)), one.image, PATCH, stride)

    return kept(name, (patches,), stride, shots, each)


def reduced(patches: np.ndarray) -> np.ndarray:
    """Means of 4x4 blocks: uint8 ``(n, C, 32, 32)`` to ``(n, C, 8, 8)``."""
    n, C = patches.shape[:2]
    blocks = patches.reshape(n, C, REDUCED, PATCH // REDUCED, REDUCED, PATCH // REDUCED)
    return np.rint(blocks.mean((3, 5))).astype(np.uint8)


def detector_maps(detector: Detector, shots: list[Shot]) -> list[dict[str, np.ndarray]]:
    """Every map of a detector, float16."""
    found = [detector.all_maps(one.image) for one in shots]
    return [{name: values.astype(np.float16) for name, values in each.items()} for each in found]


def stride_maps(
    training: list[Shot], recipe: Recipe, n: int, stride: int | None, shots: list[Shot]
) -> tuple[list[np.ndarray], float]:
    """NLL maps by the thesis's patches at a stride, or dense (at 4) where that is None, and the seconds an image."""
    patches = random_patches([one.image for one in training], n, PATCH, recipe.seed)
    flow = trained(patches, recipe)
    began = time.perf_counter()
    if stride is None:
        found = [dense_map(flow, one.image, PATCH, 4) for one in shots]  # type: ignore[arg-type]
    else:
        found = [patch_map(lambda some: score(flow, some), one.image, PATCH, stride) for one in shots]
    return [values.astype(np.float32) for values in found], (time.perf_counter() - began) / len(shots)


def kept(
    name: str, training: tuple[np.ndarray, ...], settings: object, shots: list[Shot], each: Callable[[Shot], np.ndarray]
) -> list[np.ndarray]:
    """Maps of shots, made once and kept."""

    def make(_: Path) -> Artifact:
        return Artifact({f"{i:05d}": each(one).astype(np.float32) for i, one in enumerate(shots)}, {})

    parts = {
        "name": name,
        "training": [artifacts.array_hash(array) for array in training],
        "settings": repr(settings),
        "shots": artifacts.array_hash(np.concatenate([one.image.ravel() for one in shots])),
        "code": code_hash(__name__),
    }
    arrays: Arrays = artifacts.cached("maps", parts, make).arrays
    return [arrays[f"{i:05d}"] for i in range(len(shots))]
