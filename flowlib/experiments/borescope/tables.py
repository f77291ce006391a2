"""The tables of notebook 05: from scores and maps of the test frames to rows with intervals over blades and seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import beta, spearmanr

from flowlib.experiments.borescope.frames import Parts, Shot, blades
from flowlib.experiments.borescope.measures import (
    Scored,
    differences,
    frame_overlaps,
    pixel_aurocs,
    shares,
    sizes,
)
from flowlib.metrics import Interval, auroc_interval, average_precision, conformal_threshold

LIMITS = (0.3, 0.05)  # false-positive rates up to which overlaps are averaged
SIZES = ("under 100", "100 to 999", "1000 up")
RATES = (0.01, 0.05, 0.1)  # nominal, of false alarms


def described(shots: Sequence[Shot]) -> pd.DataFrame:
    """Every defective frame: defect, blade, view, pixels."""
    return pd.DataFrame(
        {"defect": one.label, "blade": one.blade, "view": one.viewpoint, "pixels": int(one.mask.sum())} for one in shots
    )


def methods(found: Mapping[str, Scored], parts: Parts) -> pd.DataFrame:
    """A row a method: how well it finds frames (image AUROC, AP), pixels, and regions at each of `LIMITS`.

    Columns: method, AP, and of each measure NAME, NAME low, NAME high; "image", "pixel", "AUPRO 0.3", "AUPRO 0.05".
    """
    masks, defects = [one.mask for one in parts.tested], has_defect(parts.tested)
    clusters = blades(parts.normal), blades(parts.defective)
    rows = []
    for name, (normal, defective, maps) in found.items():
        precision = np.mean([average_precision(a, b) for a, b in zip(normal, defective, strict=True)])
        measures = {"image": auroc_interval(normal, defective, clusters=clusters)}
        if maps:
            of_seeds, (numbers, *_) = zip(*(pixel_aurocs(of_seed, masks) for of_seed in maps), strict=True)
            measures["pixel"] = shares(np.stack(of_seeds), parts.tested, numbers)
            for limit in LIMITS:
                overlaps = np.stack([frame_overlaps(of_seed, masks, limit) for of_seed in maps])
                measures[f"AUPRO {limit}"] = shares(overlaps, parts.tested, defects)
        row = {"method": name, "AP": precision}
        for measure, interval in measures.items():
            row |= {measure: interval.value, f"{measure} low": interval.low, f"{measure} high": interval.high}
        rows.append(row)
    return pd.DataFrame(rows)


def measure(table: pd.DataFrame, method: str, name: str) -> Interval:
    """One measure of one method, from the table of `methods`."""
    row = table.set_index("method").loc[method]
    return Interval(*(row[f"{name}{end}"] for end in ("", " low", " high")))


def groups(found: Mapping[str, Scored], parts: Parts, resamples: int = 200) -> pd.DataFrame:
    """Image AUROC of each kind of defect, by name, then of each of `SIZES`: method, group, auroc, low, high."""
    kinds, size_of = np.array([one.label for one in parts.defective]), sizes(parts.defective).astype(str).to_numpy()
    members = {kind: kinds == kind for kind in np.unique(kinds)}
    members |= {f"{size} pixels": size_of == size for size in SIZES if (size_of == size).any()}
    of_normal, of_defective = blades(parts.normal), blades(parts.defective)
    rows = []
    for name, (normal, defective, _) in found.items():
        for group, some in members.items():
            interval = auroc_interval(
                normal, defective[:, some], resamples=resamples, clusters=(of_normal, of_defective[some])
            )
            rows.append(
                {"method": name, "group": group, "auroc": interval.value, "low": interval.low, "high": interval.high}
            )
    return pd.DataFrame(rows)


def of_groups(table: pd.DataFrame, method: str, names: Sequence[str]) -> dict[str, Interval]:
    """AUROC of a method on those of the groups that the table of `groups` has."""
    rows = table[(table["method"] == method) & table["group"].isin(names)]
    return {row.group: Interval(row.auroc, row.low, row.high) for row in rows.itertuples()}


def lowest_kind(table: pd.DataFrame, method: str, kinds: Sequence[str]) -> tuple[str, Interval]:
    """The kind of defect that a method finds worst, from the table of `groups`, and its AUROC."""
    rows = table[table["method"] == method].set_index("group").loc[list(kinds)]
    worst = str(rows["auroc"].idxmin())
    return worst, Interval(*rows.loc[worst, ["auroc", "low", "high"]])


# --- strides ---------------------------------------------------------------------------------------------------------


def strides(
    shots: Sequence[Shot],
    of_all: Mapping[str, Sequence[Sequence[np.ndarray]]],
    of_few: Mapping[str, tuple[Sequence[np.ndarray], float]],
) -> pd.DataFrame:
    """What a stride costs and finds: stride, seconds, overlap, low, high, agreement (Spearman, with stride 4).

    `of_all`: maps of all shots by seed, where a stride has them; `of_few`: of a few of them by one seed, and the
    seconds an image, a row each; "4" must be among these.
    """
    finest, _ = of_few["4"]
    rows = []
    for stride, (maps, seconds) in of_few.items():
        overlap = Interval(np.nan, np.nan, np.nan)
        if stride in of_all:
            overlap = shares(overlaps_of(of_all[stride], shots), shots, has_defect(shots))
        row = {"stride": stride, "seconds": seconds, "overlap": overlap.value, "low": overlap.low, "high": overlap.high}
        rows.append(row | {"agreement": 1.0 if stride == "4" else agreement(maps, finest)})
    return pd.DataFrame(rows)


def overlaps_of(maps: Sequence[Sequence[np.ndarray]], shots: Sequence[Shot]) -> np.ndarray:
    """Region overlap of each shot up to a false-positive rate of 0.3, by seed, ``(S, n)``; 0 without a defect."""
    return np.stack([frame_overlaps(of_seed, [one.mask for one in shots]) for of_seed in maps])


def overlap_gain(first: np.ndarray, second: np.ndarray, shots: Sequence[Shot], places: Sequence[int]) -> Interval:
    """`first` less `second`, each of `overlaps_of`: mean over the shots at some places."""
    return differences(first - second, shots, np.isin(np.arange(len(shots)), places).astype(float))


def has_defect(shots: Sequence[Shot]) -> np.ndarray:
    """1 for a shot with a defect, else 0: the weight of what `overlaps_of` gives."""
    return np.array([float(one.mask.any()) for one in shots])


def agreement(maps: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """Spearman's rank correlation of two maps, every fifth pixel, mean over images."""
    each = [spearmanr(a.ravel()[::5], b.ravel()[::5]).statistic for a, b in zip(maps, others, strict=True)]
    return float(np.mean(each))


# --- threshold and viewpoint -----------------------------------------------------------------------------------------


def calibration(held: np.ndarray, found: Scored, parts: Parts) -> pd.DataFrame:
    """False alarms on unseen blades at thresholds from the `held` scores ``(n,)``, a row a rate of `RATES`.

    Columns: nominal, actual, low, high, expected low and high (where 95 % of rates lie if frames are independent:
    Vovk 2012, a beta distribution), threshold, found (share of the defective frames above it). One seed's scores.
    """
    rows = []
    for rate in RATES:
        threshold = conformal_threshold(held, rate)
        alarms = (found.normal[:1] > threshold).astype(float)
        actual = shares(alarms, parts.normal)
        allowed = int(rate * (len(held) + 1))  # of the calibration scores that may lie above the threshold
        low, high = beta.ppf([0.025, 0.975], allowed, len(held) + 1 - allowed) if allowed else (0.0, 0.0)
        row = {"nominal": rate, "actual": actual.value, "low": actual.low, "high": actual.high}
        row |= {"expected low": low, "expected high": high, "threshold": threshold}
        rows.append(row | {"found": (found.defective[0] > threshold).mean()})
    return pd.DataFrame(rows)


def auroc_gain(first: Scored, second: Scored, parts: Parts) -> Interval:
    """Image AUROC of `first` less that of `second`, same frames and seeds, with its interval over defective blades."""
    of_first, of_second = (
        np.stack([ranks_in(a, b) for a, b in zip(each.normal, each.defective, strict=True)]) for each in (first, second)
    )
    return differences(of_first - of_second, parts.defective)


def ranks_in(normal: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Share of the `normal` scores that lie below each score, ``(n,)``."""
    return np.searchsorted(np.sort(normal), scores) / len(normal)
