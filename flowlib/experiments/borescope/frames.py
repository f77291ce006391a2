"""The frames of notebook 05: simulated videos, ingested and read back."""

import re
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from flowlib.detector import fitting
from flowlib.inspection.ingest import ingest
from flowlib.inspection.layouts import layout
from flowlib.inspection.pictures import read_image, read_mask
from flowlib.runtime.code import code_hash
from flowlib.simulator.dataset import VIEWPOINTS, simulate

VIEWS = tuple(VIEWPOINTS)


class Shot(NamedTuple):
    """A frame: label ("good" or a defect), blade, place in `VIEWS`, image ``(C, H, W)``, mask, regions ``(H, W)``."""

    label: str
    blade: int
    view: int
    image: np.ndarray
    mask: np.ndarray
    regions: np.ndarray

    @property
    def viewpoint(self) -> str:
        return VIEWS[self.view]


class Parts(NamedTuple):
    """Frames by what they are for: normal ones to train with and held ones to calibrate with, and, of other blades,
    normal and defective ones to test with."""

    training: list[Shot]
    held: list[Shot]
    normal: list[Shot]
    defective: list[Shot]

    @property
    def tested(self) -> list[Shot]:
        return [*self.normal, *self.defective]


def prepare(
    folder: Path, blades: tuple[int, int, int], frames: int, every: int, seed: int, executor: Executor
) -> tuple[list[Shot], list[Shot]]:
    """Simulate the videos of normal, normal test and defective `blades`, ingest them, and read the frames back.

    Returns the training and the test shots. What is there already is not made again.
    """
    videos = videos_of(folder, blades, frames, seed)
    images = folder / f"{videos.name.replace('videos', 'frames')}_every{every}"
    simulate(videos, *blades, frames=frames, seed=seed, executor=executor)
    ingest(videos, images, frames=frames, every=every)
    found = layout(images)
    train = [shot("good", path, None, images) for path in found.normal]
    return train, [shot(label, path, found.masks.get(path), images) for label, path in found.test]


def videos_of(folder: Path, blades: tuple[int, int, int], frames: int, seed: int) -> Path:
    """Where `prepare` puts the videos, laid out as `flowlib.simulator.dataset.simulate` does."""
    code = code_hash("flowlib.simulator.dataset")[:8]
    return folder / f"videos_{'-'.join(map(str, blades))}x{frames}_seed{seed}_{code}"


def divided(shots: Sequence[Shot], test: Sequence[Shot], seed: int = 0) -> Parts:
    """Training shots divided by blade, as `fitting.fit` does, and the test's.

    A frame of a damaged blade that shows no damage is not tested.
    """
    training, held = ([shots[i] for i in part] for part in fitting.divided([one.blade for one in shots], seed))
    normal = [one for one in test if one.label == "good"]
    return Parts(training, held, normal, [one for one in test if one.mask.any()])


def fewer(shots: Sequence[Shot], share: float) -> list[Shot]:
    """The shots of a share of their blades, of one blade at least: those that come at even steps by number."""
    of_all = np.unique(blades(shots))
    number = max(1, round(share * len(of_all)))
    some = of_all[np.arange(number) * len(of_all) // number]
    return [one for one in shots if one.blade in some]


def of_each_view(shots: Sequence[Shot]) -> list[Shot]:
    """The first shot from each viewpoint, in the order of `VIEWS`."""
    first: dict[int, Shot] = {}
    for one in shots:
        first.setdefault(one.view, one)
    return [first[view] for view in sorted(first)]


def of_each_kind(shots: Sequence[Shot], enough: int = 2500) -> list[Shot]:
    """The shot of each kind of defect that shows most of it, kinds by name; from `enough` pixels on all are alike."""
    kinds = sorted({one.label for one in shots})
    return [
        max((one for one in shots if one.label == kind), key=lambda one: min(one.mask.sum(), enough)) for kind in kinds
    ]


def blades(shots: Sequence[Shot]) -> np.ndarray:
    return np.array([one.blade for one in shots])


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
