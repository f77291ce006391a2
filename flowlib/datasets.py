"""MNIST and Fashion-MNIST as arrays, squares put on their objects (thesis 4.2) and gratings (4.3).

Images are uint8 ``(N, C, H, W)`` throughout, so that likelihoods stay comparable.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import binary_fill_holes

from flowlib.runtime.download import ensure, idx_files, read_idx

CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "mnist": ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
    "fashion-mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
}

LOW = (1, 2, 3, 4, 5)  # cycles across the image
HIGH = (11, 12, 13, 14, 15)
PER_FREQUENCY = 120


def load(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one split, fetched and verified first where need be (`flowlib.runtime.download.ensure`).

    Arguments
    ---------
    name: "mnist" or "fashion-mnist" (LeCun et al. 1998; Xiao et al. 2017).
    split: "train" (60000 images) or "test" (10000).

    Returns
    -------
    images: uint8 ``(N, 1, 28, 28)``, 0 is the black background.
    labels: int64 ``(N,)``, 0 to 9, named by ``CLASS_NAMES[name]``.

    Raises
    ------
    ValueError: unknown `name` or `split`.
    DataError: the files cannot be had, or are not what data/manifest.json promises.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}, it must be 'train' or 'test'")
    folder = ensure(name)
    images, labels = (
        read_idx(folder / file.name, file.shape)
        for file in idx_files(name)  # images before labels
        if file.name.startswith("train-" if split == "train" else "t10k-")
    )
    return images[:, None].copy(), labels.astype(np.int64)


def by_class(name: str, split: str, limit: int | None = None) -> list[np.ndarray]:
    """Images ``(N_c, 1, 28, 28)`` of each class of a set, the first `limit` of each."""
    images, labels = load(name, split)
    return [images[labels == label][:limit] for label in range(labels.max() + 1)]


def add_squares(
    images: np.ndarray,
    share: float,
    sizes: Sequence[int] = (2, 3, 4),
    levels: Sequence[int] = (0, 255),
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Put one black or white square on the object of a share of the images (thesis 4.2, Fig. 6).

    Arguments
    ---------
    images: uint8 ``(N, C, H, W)``; they are not changed.
    share: of the images to mark, in [0, 1]; ``round(share * N)`` of them, chosen at random (thesis: 400 of 1000).
    sizes: side lengths to draw from, in pixels (thesis: 2x2 to 4x4).
    levels: grey levels to draw from, in [0, 255] (thesis: black and white).
    seed: the same seed gives the same squares.

    The object is the filled silhouette of the pixels above 0. Size and level are drawn uniformly; then the place, among
    those where the square lies wholly on the object or, where it fits nowhere, overlaps it most. A place where the
    square would change no pixel is never taken; where there is none, another size and level are drawn.

    Returns
    -------
    images: uint8 ``(N, C, H, W)``, equal to the input outside the masks.
    masks: bool ``(N, 1, H, W)``, true on the squares.
    table: a row an image: index, anomalous, size (pixels), level, row and column (of the square's upper left pixel),
        contrast (mean absolute difference to the pixels it replaced) and ring_contrast (to the pixels that touch the
        square, corners too), both in grey levels. Missing for images without a square.

    Raises
    ------
    ValueError: an argument out of its range, a square larger than the image, or an image that no square can change.
    """
    check_images(images)
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}, it must lie in [0, 1]")
    if not sizes or not 1 <= min(sizes) <= max(sizes) <= min(images.shape[2:]):
        raise ValueError(f"sizes are {tuple(sizes)}, each must lie in [1, {min(images.shape[2:])}], the image's side")
    if not levels or not 0 <= min(levels) <= max(levels) <= 255:
        raise ValueError(f"levels are {tuple(levels)}, each must lie in [0, 255]")
    rng = np.random.default_rng(seed)
    marked = images.copy()
    masks = np.zeros((len(images), 1, *images.shape[2:]), dtype=bool)
    anomalous = rng.permutation(len(images)) < round(share * len(images))
    rows: list[dict[str, object]] = []
    for index, image in enumerate(images):
        rows.append({"index": index, "anomalous": anomalous[index]})
        if not anomalous[index]:
            continue
        size, level, row, column = draw_square(image, sizes, levels, rng, index)
        square = np.s_[:, row : row + size, column : column + size]
        around = np.s_[:, max(row - 1, 0) : row + size + 1, max(column - 1, 0) : column + size + 1]
        masks[index][square] = True
        marked[index][square] = level
        rows[-1] |= {
            "size": size,
            "level": level,
            "row": row,
            "column": column,
            "contrast": mean_difference(image[square], level),
            "ring_contrast": mean_difference(image[around][:, ~masks[index, 0][around[1:]]], level),
        }
    types = {
        "index": "int64",
        "anomalous": "bool",
        "size": "Int64",
        "level": "Int64",
        "row": "Int64",
        "column": "Int64",
    }
    types |= {"contrast": "float64", "ring_contrast": "float64"}
    return marked, masks, pd.DataFrame(rows, columns=list(types)).astype(types)


def draw_square(
    image: np.ndarray, sizes: Sequence[int], levels: Sequence[int], rng: np.random.Generator, index: int
) -> tuple[int, int, int, int]:
    """Size, level, row and column of a square that changes `image` ``(C, H, W)``, on its object as far as it fits."""
    object_ = binary_fill_holes((image > 0).any(axis=0))
    kinds = [(size, level) for size in sizes for level in levels]
    for kind in rng.permutation(len(kinds)):
        size, level = kinds[kind]
        changes = sliding_window_view((image != level).any(axis=0), (size, size)).any(axis=(2, 3))
        if changes.any():
            overlap = np.where(changes, sliding_window_view(object_, (size, size)).sum(axis=(2, 3)), -1)
            places = np.argwhere(overlap == overlap.max())  # (n, 2)
            row, column = places[rng.integers(len(places))].tolist()
            return size, level, row, column
    raise ValueError(f"image {index} cannot be marked: no square of sizes {sizes} and levels {levels} changes a pixel")


def mean_difference(pixels: np.ndarray, level: int) -> float:
    """Mean absolute difference of uint8 `pixels` to `level`, in grey levels; NaN when there are none."""
    return float(np.abs(pixels.astype(int) - level).mean()) if pixels.size else float("nan")


def frequencies(seed: int = 0, size: int = 32) -> tuple[np.ndarray, pd.DataFrame]:
    """The toy frequency set: stripes of low (1-5) and high (11-15) frequency, 120 images each (thesis 4.3, Fig. 9).

    A picture is a cosine grating of `frequency` whole cycles across the image, from 0 up to its intensity:
    ``intensity / 2 * (1 + cos(2 pi frequency x / size))`` at the pixels ``x = 0 .. size - 1``, rounded, clipped to 255.
    Of each frequency, half of the pictures are rotated by 90 degrees (horizontal stripes).

    The thesis gives the frequencies, the counts, the range of intensities (75 to 256) and the rotation. It leaves open
    the waveform, its phase, what intensity means, the image's size and how the intensities are spread. Chosen here: a
    sinusoid, a single frequency in the Fourier sense; a bright stripe at the first pixel, so that the brightest pixel
    has the intensity exactly; 120 different whole intensities a frequency, drawn without replacement; 32 pixels, a side
    that resolves 15 cycles and can be halved as often as the models need. No phase is varied, so two seeds differ in
    their intensities and rotations only. Near the limit of ``size / 2`` cycles (14 and 15) the samples show a beat, as
    any sampled grating does.

    Arguments
    ---------
    seed: of the intensities and of which pictures are rotated.
    size: side of the images in pixels, at least 31, to resolve 15 cycles; otherwise ValueError.

    Returns
    -------
    images: uint8 ``(1200, 1, size, size)``.
    table: a row an image, sorted by frequency and ascending intensity (the order in which the thesis feeds them):
        frequency (cycles across the image), group ("low" or "high"), intensity (75 to 256), rotated.
    """
    if size <= 2 * max(HIGH):
        raise ValueError(f"size is {size}, it must be at least {2 * max(HIGH) + 1} to resolve {max(HIGH)} cycles")
    rng = np.random.default_rng(seed)
    images, rows = [], []
    for frequency in LOW + HIGH:
        wave = (1 + np.cos(2 * np.pi * frequency * np.arange(size) / size)) / 2
        intensities = np.sort(rng.choice(np.arange(75, 257), PER_FREQUENCY, replace=False))
        rotated = rng.permutation(np.arange(PER_FREQUENCY) % 2 == 1)
        for intensity, turn in zip(intensities.tolist(), rotated.tolist(), strict=True):
            stripes = np.tile(np.rint(intensity * wave).clip(0, 255).astype(np.uint8), (size, 1))
            images.append(np.rot90(stripes) if turn else stripes)
            rows.append((frequency, "low" if frequency in LOW else "high", intensity, turn))
    return np.stack(images)[:, None], pd.DataFrame(rows, columns=["frequency", "group", "intensity", "rotated"])


def check_images(images: np.ndarray) -> None:
    """ValueError unless `images` is uint8 ``(N, C, H, W)``."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images are {images.dtype} {images.shape}, they must be uint8 (N, C, H, W)")
