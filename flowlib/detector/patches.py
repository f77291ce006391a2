"""Patches of an image, and maps put together from them (thesis section 5), overlapping or dense.

A heat map of the thesis scores 32x32 patches at a stride and gives every pixel the mean of the patches that cover it.
A flow is convolutional, so its likelihood at every position of the whole image comes from one pass; the sum over a
window then stands for the patch, at any stride, at the cost of one pass. What differs is the border: a patch by itself
ends in zeros, a window goes on.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from flowlib.glow import Glow
from flowlib.training import to_device_of, to_numpy

BATCH = 128  # patches scored at once


def corners(length: int, patch: int, stride: int) -> np.ndarray:
    """Where patches begin along a side of `length` pixels: every `stride`, and a last one that ends with the side."""
    if not 1 <= stride <= patch <= length:  # a longer stride would leave pixels without a patch
        raise ValueError(
            f"patch is {patch} and stride {stride}: patch must lie in [1, {length}] and stride in [1, patch]"
        )
    return np.unique(np.append(np.arange(0, length - patch + 1, stride), length - patch))


def cut(image: np.ndarray, patch: int, stride: int) -> np.ndarray:
    """All patches of an image, row by row: ``(C, H, W)`` to ``(n, C, patch, patch)``."""
    rows, columns = (corners(side, patch, stride) for side in image.shape[1:])
    windows = np.lib.stride_tricks.sliding_window_view(image, (patch, patch), axis=(1, 2))  # (C, H', W', p, p)
    chosen = windows[:, rows[:, None], columns].transpose(1, 2, 0, 3, 4)
    return np.ascontiguousarray(chosen.reshape(-1, len(image), patch, patch))


def stitch(scores: np.ndarray, shape: Sequence[int], patch: int, stride: int) -> np.ndarray:
    """Each pixel's mean over the patches that cover it: scores ``(n,)`` in the order of `cut` to float64 ``(H, W)``."""
    rows, columns = (corners(side, patch, stride) for side in shape)
    table = np.asarray(scores, dtype=np.float64).reshape(len(rows), len(columns))
    # how many patches, of a row and of a column, cover a pixel: the mean is a product of two small matrices
    over_rows, over_columns = (covered(length, at, patch) for length, at in zip(shape, (rows, columns), strict=True))
    return over_rows @ table @ over_columns.T


def covered(length: int, starts: np.ndarray, patch: int) -> np.ndarray:
    """Weights ``(length, n)`` of patches that begin at `starts`: equal among those that cover a pixel, else 0."""
    pixel = np.arange(length)[:, None]
    inside = ((pixel >= starts) & (pixel < starts + patch)).astype(float)
    return inside / inside.sum(1, keepdims=True)


def patch_map(score: Callable[[np.ndarray], np.ndarray], image: np.ndarray, patch: int, stride: int) -> np.ndarray:
    """The thesis's heat map, ``(H, W)``: `score` takes uint8 patches ``(n, C, patch, patch)``; overlaps averaged."""
    patches = cut(image, patch, stride)
    scores = [score(patches[i : i + BATCH]) for i in range(0, len(patches), BATCH)]
    return stitch(np.concatenate(scores), image.shape[1:], patch, stride)


def dense_map(flow: Glow, image: np.ndarray, patch: int, stride: int, label: int | None = None) -> np.ndarray:
    """The same map from one pass of a flow over the whole image: NLL in nats of a patch, ``(H, W)``."""
    table = window_sums(position_nll(flow, image, label), patch)
    rows, columns = (corners(side, patch, stride) for side in image.shape[1:])
    return stitch(table[np.ix_(rows, columns)].ravel(), image.shape[1:], patch, stride)


def position_nll(flow: Glow, image: np.ndarray, label: int | None = None) -> np.ndarray:
    """Negative log-likelihood of every pixel in nats, float64 ``(H, W)``; uint8 image ``(C, H, W)`` of any size.

    A conditional flow takes the image's `label`.
    """
    H, W = image.shape[1:]
    labels = None if label is None else to_device_of(flow, np.array([label]))
    with torch.inference_mode():
        log_prob = flow.log_prob_map(to_device_of(flow, padded(image, 2 ** len(flow.levels))), labels=labels)
    return to_numpy(-log_prob[0, :H, :W].double())


def padded(image: np.ndarray, multiple: int) -> np.ndarray:
    """A batch of one, ``(1, C, H', W')`` in uint8, its last row and column repeated up to a `multiple`."""
    H, W = image.shape[1:]
    return np.pad(image[None], ((0, 0), (0, 0), (0, -H % multiple), (0, -W % multiple)), mode="edge")


def window_sums(values: np.ndarray, window: int) -> np.ndarray:
    """Sum of each `window` x `window` part, by its first corner: ``(H, W)`` to ``(H - window + 1, W - window + 1)``."""
    total = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    w = window
    return total[w:, w:] - total[:-w, w:] - total[w:, :-w] + total[:-w, :-w]


def random_patches(images: Sequence[np.ndarray], n: int, patch: int, seed: int) -> np.ndarray:
    """`n` patches at random places of the images ``(C, H, W)``, each image as often as its number of pixels asks."""
    return labelled_patches(images, np.zeros(len(images), dtype=np.int64), n, patch, seed)[0]


def labelled_patches(
    images: Sequence[np.ndarray], labels: np.ndarray, n: int, patch: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """`random_patches`, and the label of the image that each was cut from, ``(n,)``."""
    rng = np.random.default_rng(seed)
    area = np.array([image.shape[1] * image.shape[2] for image in images], dtype=float)
    chosen = rng.choice(len(images), n, p=area / area.sum())
    out = np.empty((n, len(images[0]), patch, patch), dtype=np.uint8)
    for place, index in zip(out, chosen, strict=True):
        image = images[index]
        row, column = (rng.integers(side - patch + 1) for side in image.shape[1:])
        place[:] = image[:, row : row + patch, column : column + patch]
    return out, labels[chosen]
