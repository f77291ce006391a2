"""Every class of small images against every other, by flows of pixels and of a frozen network's features."""

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import pandas as pd

from flowlib.detector import feature_flow, features
from flowlib.detector.features import NETWORK, PIXELS
from flowlib.detector.model import OWN_WAY, WAYS, image_score
from flowlib.experiments.features import some_positions
from flowlib.experiments.pairs import class_bootstrap
from flowlib.metrics import auroc_interval
from flowlib.runtime.artifacts import Arrays
from flowlib.runtime.parallel import run

# Longest sides, of small images. A position of the network sees much around it; of pixels it has its block alone, which
# at 32 pixels is a quarter of a side. At 112 it would be 2x2 pixels of an image of 28.
PAIR_SIZES = {NETWORK: 112, PIXELS: 32}
PAIR_WAYS = ("mean", OWN_WAY)  # the first orders images by likelihood
KINDS = ("pixels", "features")
WHOLE = ("Fashion-MNIST", "MNIST")


def pair_scores(
    train: Sequence[np.ndarray], test: Sequence[np.ndarray], network: str, steps: int, seed: int, executor: Executor
) -> np.ndarray:
    """Scores of test images under a flow of each of the sets `train`, ``(way, trained set, tested set, n)``.

    Sets are of small images, uint8 ``(n, 1, H, W)``, n the same for all of `test`; ways are those of `PAIR_WAYS`.
    """
    jobs = [(images, network, steps, seed) for images in train]
    flows = run(set_flow, jobs, executor, f"flows, {network}")
    found = run(set_scores, [(flows, images, network) for images in test], executor, f"scores, {network}")
    return np.stack(found, axis=2)


def set_flow(images: np.ndarray, network: str, steps: int, seed: int) -> Arrays:
    """The parameters of a `FeatureFlow` of small images."""
    positions = some_positions(list(images), lambda image: small(image, network)[0], np.random.default_rng(seed))
    return feature_flow.trained(positions.vectors, steps, seed)


def set_scores(flows: Sequence[Arrays], images: np.ndarray, network: str) -> np.ndarray:
    """Scores of small images under each flow, ``(way, flow, n)``."""
    restored = [feature_flow.restored(arrays) for arrays in flows]
    scores = np.empty((len(PAIR_WAYS), len(flows), len(images)))
    for i, image in enumerate(images):
        found, shape = small(image, network)
        for j, fitted in enumerate(restored):
            values = features.at_pixels(feature_flow.nll_map(fitted, found), shape)
            scores[:, j, i] = [image_score(values, WAYS[way]) for way in PAIR_WAYS]
    return scores


def small(image: np.ndarray, network: str) -> tuple[np.ndarray, tuple[int, int]]:
    """Features of a small image enlarged to its size in `PAIR_SIZES`, and the height and width that are the image's."""
    enlarged, shape = features.fitted(image, PAIR_SIZES.get(network, PAIR_SIZES[NETWORK]))
    return features.features(network)(enlarged), shape


def pair_table(classes: dict[str, np.ndarray], whole: dict[str, np.ndarray], names: Sequence[str]) -> pd.DataFrame:
    """AUROC on "pixels" and on "features", a row a way and an ordered pair of classes, and one of the whole sets.

    Arguments
    ---------
    classes: by kind of features, `pair_scores` of each class under a flow of each.
    whole: by kind, `pair_scores` under a flow of all of Fashion-MNIST, of its ten classes and of the ten digits.
    names: of the classes.

    Returns
    -------
    Columns way, normal, anomaly, and of either kind its AUROC, low and high.
    """
    rows = []
    for w, way in enumerate(PAIR_WAYS):
        asked = {(a, b): {k: (s[w, i, i], s[w, i, j]) for k, s in classes.items()}
                 for i, a in enumerate(names) for j, b in enumerate(names) if i != j}  # fmt: skip
        asked[WHOLE] = {k: (s[w, 0, : len(names)].ravel(), s[w, 0, len(names) :].ravel()) for k, s in whole.items()}
        for (normal, anomaly), scores in asked.items():
            row: dict[str, Any] = {"way": way, "normal": normal, "anomaly": anomaly}
            for kind, (good, bad) in scores.items():
                row |= dict(zip((kind, f"{kind} low", f"{kind} high"), auroc_interval(good, bad), strict=True))
            rows.append(row)
    return pd.DataFrame(rows)


def pair_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Of a `pair_table`, a row a way and a kind: mean AUROC of the pairs of classes, its interval over classes, how
    many pairs lie below one half, the lowest, and the AUROC of the whole sets."""
    rows = []
    for way, of_way in table.groupby("way", sort=False):
        whole = of_way["normal"] == WHOLE[0]
        for kind in KINDS:
            matrix = of_way[~whole].pivot(index="normal", columns="anomaly", values=kind)
            mean = class_bootstrap(matrix.to_numpy())
            row = {"way": way, "features": kind, "mean of pairs": mean.value, "low": mean.low, "high": mean.high}
            row |= {"below 0.5": int((of_way[~whole][kind] < 0.5).sum()), "lowest": of_way[~whole][kind].min()}
            rows.append(row | {" → ".join(WHOLE): of_way[whole][kind].item()})
    return pd.DataFrame(rows)
