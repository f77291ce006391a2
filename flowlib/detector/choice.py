"""Which map, and which way from a map to a score: those that best find made-up defects on held-out normal images."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flowlib.detector import made_up, maps
from flowlib.detector.local_ratio import LocalRatio
from flowlib.detector.model import FLOW, LARGEST_SHARES, PATCH, image_score
from flowlib.glow import Glow
from flowlib.metrics import auroc
from flowlib.runtime.artifacts import Arrays

DAMAGED = 72  # images with made-up defects in the choice
DEFECTS = 3  # made-up defects on each of them
CHOICE_COLUMNS = ("map", "way", "pixels", "images", "found")


def damaged_image(
    image: np.ndarray, others: list[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """An image with made-up defects of the kinds that are for choosing, and their mask."""
    alike = [other for other in others if other.shape == image.shape]
    mask = np.zeros(image.shape[1:], dtype=bool)
    for _ in range(DEFECTS):
        image, changed = made_up.damage(image, alike[rng.integers(len(alike))], made_up.CHOICE, rng)
        mask |= changed
    return image, mask


class Reading(NamedTuple):
    """Of one image: scores ``(maps, ways)``, and every fifth pixel of each map, unchanged and changed ones."""

    scores: np.ndarray
    background: np.ndarray
    changed: np.ndarray


def readings(
    known: Arrays,
    flow_state: Any,
    ratio_state: Any,
    channels: int,
    side: int,
    work: list[tuple[np.ndarray, np.ndarray]],
) -> list[Reading]:
    """One job: what the choice and the calibration need of some images and the masks of their made-up defects."""
    flow = Glow((channels, PATCH, PATCH), **FLOW)
    flow.load_state_dict(flow_state)
    ratio = LocalRatio((channels, side, side))
    ratio.load_state_dict(ratio_state)
    ratio.eval()
    out = []
    for image, mask in work:
        found = np.stack(list(maps.maps(known, flow, ratio, image).values()))  # (maps, H, W)
        scores = np.array([[image_score(values, share) for share in LARGEST_SHARES.values()] for values in found])
        pixels, inside = found.reshape(len(found), -1)[:, ::5], mask.ravel()[::5]
        out.append(Reading(scores, pixels[:, ~inside], pixels[:, inside]))
    return out


def choice_table(normal: list[Reading], damaged: list[Reading]) -> pd.DataFrame:
    """How well each map, and each way from a map to a score, finds the made-up defects: AUROC of pixels and images."""
    rows = []
    for m, name in enumerate(maps.NAMES):
        inside = np.concatenate([reading.changed[m] for reading in damaged])
        outside = np.concatenate([reading.background[m] for reading in (*normal, *damaged)])
        pixels = auroc(outside, inside)
        for w, way in enumerate(LARGEST_SHARES):
            images = auroc(*(np.array([reading.scores[m, w] for reading in group]) for group in (normal, damaged)))
            rows.append((name, way, pixels, images, (pixels + images) / 2))
    return pd.DataFrame(rows, columns=list(CHOICE_COLUMNS))


def chosen(choice: pd.DataFrame, normal: list[Reading], damaged: list[Reading], sources: Sequence[Any]) -> int:
    """The row of `choice` to use: the best, unless it knows the place and does not earn it.

    It earns it where, over the `sources` of the damaged images, the mean of what it finds more than the best row
    without the place is above its standard error (the rule of one standard error, Breiman et al. 1984, section 3.4).
    """
    by_place = choice["map"].str.contains(maps.BY_PLACE, regex=False)
    best, plain = int(choice["found"].idxmax()), int(choice.loc[~by_place, "found"].idxmax())
    if best == plain:
        return best
    gain = pd.Series(found_in_each(best, normal, damaged) - found_in_each(plain, normal, damaged))
    of_source = gain.groupby(pd.Series([str(source) for source in sources])).mean()
    return best if len(of_source) > 1 and of_source.mean() > of_source.sem() else plain


def found_in_each(row: int, normal: list[Reading], damaged: list[Reading]) -> np.ndarray:
    """Of each damaged image, ``(D,)``: mean of its own pixels' AUROC and of the share of normal images it outscores."""
    m, w = divmod(row, len(LARGEST_SHARES))
    scores = np.array([reading.scores[m, w] for reading in normal])
    pixels = [auroc(r.background[m], r.changed[m]) if r.changed[m].size else 0.5 for r in damaged]
    images = [auroc(scores, reading.scores[m, w : w + 1]) for reading in damaged]
    return (np.array(pixels) + np.array(images)) / 2
