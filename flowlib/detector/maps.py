"""Anomaly maps of whole images, one value a pixel, higher is more anomalous; all of them fitted on normal images only.

=================  =================================================================================================
likelihood         negative log-likelihood of the 32x32 window around a pixel, the thesis's score made dense, in nats
typicality         how far that is from its mean over normal windows, to either side, in standard deviations: dark and
                   smooth parts have a likelihood above all normal ones (Nalisnick et al. 2019)
contrast           likelihood of the pixel's own 8x8 window less that of the ring around it, to either side
density            Mahalanobis distance of the terms of the likelihood (log-determinants and priors by level, over 8x8
                   and 32x32 windows) from the normal ones (after Morningstar et al. 2021, "Density of states")
ratio              log-ratio of changed to unchanged, learned from made-up defects (`flowlib.detector.local_ratio`)
PCA                squared error of an 8x8 window's reconstruction by the principal components of normal windows
=================  =================================================================================================

Each also comes "by place", standardised by what normal images have at the same place, for parts that are always seen
alike, and as "ratio + density by place", the sum of two. Which one is used is chosen in `flowlib.detector`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, uniform_filter, zoom

from flowlib.detector.local_ratio import LocalRatio
from flowlib.detector.patches import padded
from flowlib.glow import Glow, spread
from flowlib.runtime.artifacts import Arrays
from flowlib.training import to_device_of, to_numpy

WINDOW, SMALL = 32, 8  # pixels: the thesis's patch, and what a small defect fills
PLACE_GRID = 8  # pixels a cell of what is known of each place
COMPONENTS = 12  # of PCA
BY_PLACE = " by place"
SUM = "ratio" + BY_PLACE + " + density" + BY_PLACE
PLAIN = ("likelihood", "typicality", "contrast", "density", "ratio", "PCA")
NAMES = (*PLAIN, *(name + BY_PLACE for name in PLAIN), SUM)


def fit(flow: Glow, ratio: LocalRatio, images: Sequence[np.ndarray], seed: int = 0) -> Arrays:
    """What the maps need to know of normal images, uint8 ``(C, H, W)`` each: a dictionary of float64 arrays."""
    rng = np.random.default_rng(seed)
    read = [terms(flow, image) for image in images]  # (F, H, W) each
    columns = np.concatenate([thinned(each, rng) for each in read])  # (n, F)
    nll = np.concatenate([thinned(likelihoods(each), rng) for each in read])  # (n, 2)
    covariance = np.cov(columns.T) + 1e-3 * np.diag(columns.var(0) + 1e-6)
    pixels = np.concatenate([thinned(windows(image), rng) for image in images])  # (n, C * 16)
    _, _, axes = np.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
    known = {
        "nll": np.array([nll[:, 0].mean(), nll[:, 0].std()]),
        "contrast": np.array([np.median(nll[:, 1])]),
        "terms": columns.mean(0),
        "precision": np.linalg.inv(covariance),
        "pixels": pixels.mean(0),
        "axes": axes[: min(COMPONENTS, len(axes) // 2)],
    }
    plain = [plain_maps(known, flow, ratio, image) for image in images]
    for name in PLAIN:
        values = np.concatenate([thinned(maps[name][None], rng) for maps in plain])
        known[f"scale {name}"] = np.array([np.median(values), np.subtract(*np.quantile(values, [0.9, 0.1])) + 1e-9])
        coarse = np.stack([on_place_grid(maps[name]) for maps in plain if maps[name].shape == plain[0][name].shape])
        # cells of a place borrow their deviation from their neighbours, and a tenth of that of all places
        deviation = gaussian_filter(coarse.std(0), 1) + 0.1 * coarse.std()
        known[f"place {name}"] = np.stack([coarse.mean(0), deviation + 1e-9])
    known["place shape"] = np.array(plain[0]["ratio"].shape)
    return known


def maps(known: Arrays, flow: Glow, ratio: LocalRatio, image: np.ndarray) -> dict[str, np.ndarray]:
    """All maps of `NAMES` of one uint8 image ``(C, H, W)``, float32 ``(H, W)`` each."""
    plain = plain_maps(known, flow, ratio, image)
    shape = image.shape[1:]
    everywhere = {
        name: (values - known[f"scale {name}"][0]) / known[f"scale {name}"][1] for name, values in plain.items()
    }
    by_place = {}
    for name, values in plain.items():
        mean, deviation = (at_size(table, shape) for table in known[f"place {name}"])
        by_place[name + BY_PLACE] = (values - mean) / deviation
    total = by_place["ratio" + BY_PLACE] + by_place["density" + BY_PLACE]
    return {name: values.astype(np.float32) for name, values in {**everywhere, **by_place, SUM: total}.items()}


def plain_maps(known: Arrays, flow: Glow, ratio: LocalRatio, image: np.ndarray) -> dict[str, np.ndarray]:
    """The maps of `PLAIN`, before they are standardised, ``(H, W)`` each."""
    read = terms(flow, image)
    window, ring = likelihoods(read)
    mean, deviation = known["nll"]
    away = np.moveaxis(read, 0, -1) - known["terms"]  # (H, W, F)
    columns = np.moveaxis(windows(image), 0, -1) - known["pixels"]
    rest = columns - (columns @ known["axes"].T) @ known["axes"]
    H, W = image.shape[1:]
    with torch.inference_mode():
        changed = to_numpy(ratio(to_device_of(ratio, padded(image, 8)))[0, :H, :W].double())
    return {
        "likelihood": window,
        "typicality": abs(window - mean) / max(deviation, 1e-9),
        "contrast": abs(ring - known["contrast"][0]),
        "density": np.sqrt(np.einsum("hwf,fg,hwg->hw", away, known["precision"], away).clip(0)),
        "ratio": changed,
        "PCA": np.square(rest).mean(-1),
    }


def terms(flow: Glow, image: np.ndarray) -> np.ndarray:
    """Terms of the likelihood in nats, ``(2T, H, W)``: the mean over 8x8 windows of each, then over 32x32 windows."""
    H, W = image.shape[1:]
    with torch.inference_mode():
        each = [
            to_numpy(-spread(term, 2**level)[0, :H, :W].double())
            for level, _, term in flow.position_terms(to_device_of(flow, padded(image, 2 ** len(flow.levels))))
        ]
    return np.stack([uniform_filter(term, window, mode="nearest") for window in (SMALL, WINDOW) for term in each])


def likelihoods(read: np.ndarray) -> np.ndarray:
    """Of `terms`, ``(2, H, W)``: NLL in nats of the 32x32 window, and of the 8x8 window less the ring around it."""
    small, large = read.reshape(2, -1, *read.shape[1:]).sum(1)  # nats a pixel
    ring = (large * WINDOW**2 - small * SMALL**2) / (WINDOW**2 - SMALL**2)
    return np.stack([large * WINDOW**2, (small - ring) * SMALL**2])


def windows(image: np.ndarray) -> np.ndarray:
    """The 8x8 window around each pixel as means of 2x2 blocks, in [0, 1]: uint8 ``(C, H, W)`` to ``(16 C, H, W)``."""
    H, W = image.shape[1:]
    reach = SMALL // 2 - 1
    blocks = uniform_filter(image / 255, (0, 2, 2), mode="nearest")
    blocks = np.pad(blocks, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    offsets = range(0, SMALL - 1, 2)
    return np.concatenate([blocks[:, y : y + H, x : x + W] for y in offsets for x in offsets])


def thinned(values: np.ndarray, rng: np.random.Generator, n: int = 2000) -> np.ndarray:
    """Values ``(F, H, W)`` at up to `n` random places: ``(n, F)``."""
    columns = values.reshape(len(values), -1).T
    return columns[rng.choice(len(columns), min(n, len(columns)), replace=False)]


def on_place_grid(values: np.ndarray) -> np.ndarray:
    """Means over cells of 8x8 pixels, ``(H, W)`` to ``(H / 8, W / 8)``, rounded up."""
    H, W = values.shape
    whole = np.pad(values, ((0, -H % PLACE_GRID), (0, -W % PLACE_GRID)), mode="edge")
    return whole.reshape(whole.shape[0] // PLACE_GRID, PLACE_GRID, -1, PLACE_GRID).mean((1, 3))


def at_size(table: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Values of cells at every pixel of an image ``(H, W)``, linear between the middles of the cells."""
    factors = [side / cells for side, cells in zip(shape, table.shape, strict=True)]
    return zoom(table, factors, order=1, mode="nearest", grid_mode=True)
