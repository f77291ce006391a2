"""The failures that the thesis saw (Fig. 13 and 14), each measured on the frames that can show it.

Texture: the tenth of a normal frame's metal that has the strongest, against the rest. Reflections: metal in a specular
reflection against the other metal of a normal frame. Borders: small defects inside one patch of the thesis's grid
against such that lie across a border, at equal size. Black shadow: pixels of missing pieces that show black against the
pixels of the frame without a defect. Frames are given by their place among the test frames, throughout.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import minimum_filter, uniform_filter

from flowlib.detector.model import PATCH
from flowlib.experiments.borescope.frames import Shot, blades
from flowlib.experiments.borescope.measures import across_border, differences, shares, within_image
from flowlib.metrics import Interval, slope_interval
from flowlib.simulator.dataset import REFLECTION, SHADOW
from flowlib.study import claims

METAL, MISSING = 0, "missing_piece"  # of `Shot.regions`, neither reflection nor shadow; of `Shot.label`
ALARMS = 0.05  # of the pixels without a defect, at which recall is taken
GLINT, BLACK = 30, 10  # pixels that a frame must have in a reflection, and of missing metal that show black
TEXTURED = 300  # pixels that a frame must have on metal, for its texture to be asked about


class Compared(NamedTuple):
    """Frames by place, and of each the pixels in question and those that they are compared with, bool ``(H, W)``."""

    places: list[int]
    inside: list[np.ndarray]
    outside: list[np.ndarray]


def reflections(shots: Sequence[Shot]) -> Compared:
    """Normal frames with `GLINT` pixels or more in a specular reflection: these pixels, and the metal outside of them,
    without the black that lies behind blades."""
    places = [i for i, one in enumerate(shots) if one.label == "good" and (one.regions == REFLECTION).sum() >= GLINT]
    return Compared(
        places, [shots[i].regions == REFLECTION for i in places], [shots[i].regions == METAL for i in places]
    )


def textures(shots: Sequence[Shot]) -> Compared:
    """Normal frames with `TEXTURED` pixels or more whose surround is metal without reflection: of these pixels the
    tenth with the largest standard deviation of grey levels in it, and the rest."""
    found = Compared([], [], [])
    for place, one in enumerate(shots):
        inner = minimum_filter(one.regions == METAL, PATCH, mode="constant")
        if one.label == "good" and inner.sum() >= TEXTURED:
            grey = one.image.mean(0, dtype=np.float64)
            spread = uniform_filter(grey**2, PATCH) - uniform_filter(grey, PATCH) ** 2
            strong = inner & (spread >= np.quantile(spread[inner], 0.9))
            found.places.append(place)
            found.inside.append(strong)
            found.outside.append(inner & ~strong)
    return found


def black_shadows(shots: Sequence[Shot]) -> Compared:
    """Frames of missing pieces with `BLACK` defective pixels or more in black shadow: these pixels, and those without a
    defect."""
    black = [one.mask & (one.regions == SHADOW) & (one.label == MISSING) for one in shots]
    places = [i for i, pixels in enumerate(black) if pixels.sum() >= BLACK]
    return Compared(places, [black[i] for i in places], [~shots[i].mask for i in places])


def within(compared: Compared, maps: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """AUROC within each frame of `compared`, ``(S, n)``, from the maps of all test frames by seed."""
    places, inside, outside = compared
    return np.stack([within_image([of_seed[i] for i in places], inside, outside) for of_seed in maps])


def recall_within(
    compared: Compared, maps: Sequence[Sequence[np.ndarray]], false_positives: float = ALARMS
) -> np.ndarray:
    """Share of the pixels in question that score above what a rate of those compared with exceed, ``(S, n)``."""

    def recall(values: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> float:
        return float((values[inside] > np.quantile(values[outside], 1 - false_positives)).mean())

    places, inside, outside = compared
    return np.array(
        [[recall(of_seed[i], a, b) for i, a, b in zip(places, inside, outside, strict=True)] for of_seed in maps]
    )


def mean_within(compared: Compared, values: np.ndarray, shots: Sequence[Shot]) -> Interval:
    """Mean of what `within` or `recall_within` gives."""
    return shares(values, [shots[i] for i in compared.places])


def with_more_data(
    every: Sequence[Sequence[np.ndarray]], tenth: Sequence[Sequence[np.ndarray]], shots: Sequence[Shot]
) -> dict[str, Interval]:
    """AUROC of reflections under flows of all training blades and of a tenth of them, and the first less the second,
    from the maps of all test frames by seed. Some frame must have a reflection."""
    glints = reflections(shots)
    of_all, of_tenth = within(glints, every), within(glints, tenth)
    return {
        "all blades": mean_within(glints, of_all, shots),
        "a tenth": mean_within(glints, of_tenth, shots),
        "all less a tenth": differences(of_all - of_tenth, [shots[i] for i in glints.places]),
    }


def small_defects(shots: Sequence[Shot]) -> tuple[np.ndarray, np.ndarray]:
    """Places of the frames whose defect fits a patch: of those inside one of the grid, and of those across a border."""
    border = [across_border(one.mask) if one.mask.any() else None for one in shots]
    inside, across = ([i for i, value in enumerate(border) if value is wanted] for wanted in (False, True))
    return np.array(inside, dtype=int), np.array(across, dtype=int)


def border_gap(overlaps: np.ndarray, shots: Sequence[Shot]) -> Interval | None:
    """Mean overlap of small defects inside one patch less that of those across a border, at equal size, with its
    interval over blades and seeds.

    `overlaps` ``(S, n)`` of all test frames, at the thesis's stride. The difference of two means is the slope on which
    of the two it is; what both owe to the logarithm of the number of pixels is taken off. None where either is missing,
    under three blades have any, or size alone tells the two apart.
    """
    inside, across = small_defects(shots)
    small = np.concatenate([inside, across])
    of_small = blades([shots[i] for i in small])
    if not (len(inside) and len(across)) or len(np.unique(of_small)) < 3:
        return None
    size = np.log([shots[i].mask.sum() for i in small])
    is_inside, overlap = (
        without(size, values) for values in (np.isin(small, inside).astype(float), overlaps[:, small])
    )
    if np.ptp(is_inside) < 1e-9:
        return None
    value, low, high = slope_interval(is_inside, overlap, clusters=of_small)
    return Interval(value, max(low, -1.0), min(high, 1.0))


def without(size: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values ``(n,)`` or ``(S, n)`` less their least-squares line on `size`, ``(n,)``."""
    centred = size - size.mean()
    slope = values @ centred / (centred @ centred) if np.ptp(size) > 1e-9 else np.zeros(values.shape[:-1])
    return values - slope[..., None] * centred


# --- what notebook 05 tells and shows --------------------------------------------------------------------------------


def table(found: Mapping[str, Sequence[Sequence[np.ndarray]]], shots: Sequence[Shot]) -> pd.DataFrame:
    """Mean AUROC within the frame, with its interval, in words: a row a failure, a column a method.

    `found`: of each method the maps of all test frames by seed.
    """
    rows = []
    for name, compared in (
        ("reflections (normal; lower is better)", reflections(shots)),
        ("black shadow of missing pieces", black_shadows(shots)),
    ):
        if compared.places:
            means = {m: mean_within(compared, within(compared, maps), shots) for m, maps in found.items()}
            rows.append({"AUROC within the frame": name} | {m: claims.show(mean) for m, mean in means.items()})
    return pd.DataFrame(rows)


class Example(NamedTuple):
    """The frame that shows a failure most, and the map that shows it."""

    title: str
    place: int
    map: np.ndarray


def worst_examples(
    maps: Sequence[np.ndarray], at_stride: Sequence[np.ndarray], overlaps: np.ndarray, shots: Sequence[Shot]
) -> list[Example]:
    """Of each failure that some test frame can show, the worst frame: by its AUROC within, or by its overlap.

    All of one seed: `maps`, and `at_stride` with its `overlaps` ``(n,)`` at the thesis's stride.
    """
    examples = []
    glints, black, (_, across) = reflections(shots), black_shadows(shots), small_defects(shots)
    if glints.places:
        values = within(glints, [maps])[0]
        worst = glints.places[int(values.argmax())]
        examples.append(Example(f"reflection: AUROC {values.max():.2f}", worst, maps[worst]))
    if len(across):
        worst = int(across[overlaps[across].argmin()])
        title = f"{shots[worst].label.replace('_', ' ')} across a border"
        examples.append(Example(title, worst, at_stride[worst]))
    if black.places:
        values = within(black, [maps])[0]
        worst = black.places[int(values.argmin())]
        examples.append(Example(f"black shadow: AUROC {values.min():.2f}", worst, maps[worst]))
    return examples
