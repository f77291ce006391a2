"""How well squares are found (thesis 4.2): the tables of notebook 03. AUROC is that of marked against normal images."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.ndimage import binary_dilation
from scipy.stats import norm

from flowlib.detector.map_metrics import pixel_auroc, region_overlaps
from flowlib.experiments.squares import SIZES, Scores
from flowlib.metrics import Interval, auroc_difference, auroc_interval, mean_interval
from flowlib.runtime.artifacts import Arrays

CONTRASTS = (0, 32, 64, 96, 128, 160, 192, 256)  # edges of the bins, grey levels
FOUND = 0.9  # AUROC from which on a defect counts as found


def differences_by_size(first: Scores, second: Scores, table: pd.DataFrame) -> dict[str, Interval]:
    """AUROC of the first model less that of the second, on the squares of each size."""
    members = {f"{size}x{size}": (table["size"] == size).to_numpy() for size in SIZES}
    return {
        name: auroc_difference((first[0], first[1][:, inside]), (second[0], second[1][:, inside]))
        for name, inside in members.items()
    }


def by_size_and_bottleneck(
    first: Scores, by_bottleneck: Mapping[int, Scores], table: pd.DataFrame
) -> dict[str, Interval]:
    """`differences_by_size` against each autoencoder of `by_bottleneck`: "2x2, 18 numbers" and so on."""
    return {
        f"{size}, {numbers} numbers": interval
        for numbers, second in by_bottleneck.items()
        for size, interval in differences_by_size(first, second, table).items()
    }


def by_size_and_colour(scores: Mapping[str, Scores], table: pd.DataFrame) -> pd.DataFrame:
    """AUROC of each score on squares of each size and colour: score, size, colour, auroc, low, high."""
    sizes = {"all": np.full(len(table), True)} | {f"{s}x{s}": (table["size"] == s).to_numpy() for s in SIZES}
    rows = []
    for name, (normal, marked) in scores.items():
        for size, members in sizes.items():
            for colour in ("both", "black", "white"):
                inside = members & ((table["colour"] == colour) | (colour == "both")).to_numpy()
                interval = auroc_interval(normal, np.atleast_2d(marked)[:, inside], resamples=400)
                rows.append({"score": name, "size": size, "colour": colour, **interval._asdict()})
    return pd.DataFrame(rows).rename(columns={"value": "auroc"})


def by_contrast(scores: Mapping[str, Scores], table: pd.DataFrame) -> pd.DataFrame:
    """AUROC of each score by contrast of the square with its ring, in bins of two squares or more, of marked images
    against the same images unmarked: both ``(S, n)``.

    Columns: score, contrast (middle of the bin, grey levels), squares (how many), auroc, low, high.
    """
    rows = []
    for name, (unmarked, marked) in scores.items():
        for low, high in pairwise(CONTRASTS):
            inside = table["ring_contrast"].between(low, high, inclusive="left").to_numpy()
            if inside.sum() >= 2:
                interval = auroc_interval(unmarked[:, inside], marked[:, inside])
                row = {"score": name, "contrast": (low + high) / 2, "squares": inside.sum()}
                rows.append(row | interval._asdict())
    return pd.DataFrame(rows).rename(columns={"value": "auroc"})


def control_table(runs: Mapping[str, Sequence[Arrays]]) -> pd.DataFrame:
    """AUROC of the NLL in each run, with that of normal images: change, nll of normal shirts, auroc, low, high."""
    rows = []
    for name, results in runs.items():
        normal, marked = (np.stack([result[group] for result in results]) for group in ("normal", "marked"))
        interval = auroc_interval(normal, marked)
        rows.append({"change": name, "nll of normal shirts": normal.mean(), **interval._asdict()})
    return pd.DataFrame(rows).rename(columns={"value": "auroc"})


def training_changes(runs: Mapping[str, Sequence[Arrays]], early: str, late: str) -> dict[str, Interval]:
    """How the mean NLL of "normal" and of "marked" images changes from one of the runs to another, image by image."""
    return {
        group: mean_interval(np.stack([b[group] - a[group] for a, b in zip(runs[early], runs[late], strict=True)]))
        for group in ("normal", "marked")
    }


def map_table(maps: Mapping[str, Scores], masks: np.ndarray) -> pd.DataFrame:
    """Pixel AUROC and AUPRO of maps of normal and marked images, ``(S, n, H, W)``; masks ``(n, H, W)`` of the marked.

    Columns: map, pixel_auroc (mean over seeds), lowest seed, highest seed, aupro, low, high.
    """
    rows = []
    for name, (normal, marked) in maps.items():
        joined = np.concatenate([normal, marked], axis=1)
        both = np.concatenate([np.zeros((normal.shape[1], *masks.shape[1:]), bool), masks])
        pixel = [pixel_auroc(each, both) for each in joined]
        overlap = mean_interval(np.stack([np.concatenate(region_overlaps(each, both)) for each in joined]))
        seeds = {"pixel_auroc": np.mean(pixel), "lowest seed": min(pixel), "highest seed": max(pixel)}
        interval = {"aupro": overlap.value, "low": max(overlap.low, 0), "high": min(overlap.high, 1)}
        rows.append({"map": name, **seeds, **interval})
    return pd.DataFrame(rows)


def where_it_changes(change: np.ndarray, masks: np.ndarray) -> pd.DataFrame:
    """Mean change of the NLL in nats inside the square and within four pixels around it: where, value, low, high.

    `change` is the map of the marked image less that of the same image unmarked, ``(S, n, H, W)``.
    """
    around = binary_dilation(masks, np.ones((1, 9, 9))) & ~masks
    places = {"inside the square": masks, "within four pixels around it": around}
    sums = {where: np.where(members, change, 0).sum((2, 3)) for where, members in places.items()}
    return pd.DataFrame([{"where": where, **mean_interval(total)._asdict()} for where, total in sums.items()])


def saved_table(scores: Mapping[str, Mapping[str, np.ndarray]], normal: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """AUROC of sets of images against the normal ones, by model: model, images, auroc, low, high. All ``(S, n)``."""
    rows = [
        {"model": model, "images": images, **auroc_interval(normal[model], of_set)._asdict()}
        for model, sets in scores.items()
        for images, of_set in sets.items()
    ]
    return pd.DataFrame(rows).rename(columns={"value": "auroc"})


def detection_limits(normal: np.ndarray, unmarked: np.ndarray, larger: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """What a square of each size adds to a score, against the score's spread, and how well it is found.

    If normal scores are normal with deviation s and a defect adds D to each, AUROC = Phi(D / (sqrt(2) s)).

    Arguments
    ---------
    normal: scores ``(S, N)`` of normal images.
    unmarked, larger: of the same images without and, by size ("4x4"), with a square, ``(S, n)``.

    Returns
    -------
    A row a size: size, side (pixels), change (D, mean over seeds and images) with change_low and change_high, spread
    (s, mean over seeds), expected (AUROC by the formula), auroc, low, high (measured).
    """
    spread = float(normal.std(axis=1).mean())
    rows = []
    for size, marked in larger.items():
        change, found = mean_interval(marked - unmarked), auroc_interval(normal, marked)
        row = {"size": size, "side": int(size.split("x")[0]), "change": change.value, "change_low": change.low}
        row |= {"change_high": change.high, "spread": spread, "expected": norm.cdf(change.value / (2**0.5 * spread))}
        rows.append(row | {"auroc": found.value, "low": found.low, "high": found.high})
    return pd.DataFrame(rows)


def smallest_change(spread: float, wanted: float = FOUND) -> float:
    """The change of a score that the formula of `detection_limits` wants for an AUROC."""
    return float(2**0.5 * spread * norm.ppf(wanted))


def smallest_found(limits: pd.DataFrame, column: str, wanted: float = FOUND) -> str:
    """The smallest of the sizes of `detection_limits` from which on a column's AUROC reaches what is wanted."""
    reached = (limits.sort_values("side", ascending=False)[column] >= wanted).cummin()
    sizes = limits.loc[reached[reached].index].sort_values("side")["size"]
    return str(sizes.iloc[0]) if len(sizes) else f"none up to {limits.sort_values('side')['size'].iloc[-1]}"
