"""The design of notebook 02 (thesis 4.1.1): black pixels, the crop and its controls, what predicts failure."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flowlib.datasets import check_images
from flowlib.experiments.pairs import class_bootstrap, pair_matrix
from flowlib.metrics import Interval


def black_pixels(images: np.ndarray) -> np.ndarray:
    """Number of zero pixels of each image, int64 ``(N,)`` from uint8 ``(N, C, H, W)`` (thesis 4.1.1, Table 2)."""
    check_images(images)
    return np.count_nonzero(images == 0, axis=(1, 2, 3))


def crop_to_object(images: np.ndarray, threshold: int = 0) -> np.ndarray:
    """Cut each image to the bounding box of its object and enlarge that to the full frame (thesis 4.1.1).

    The box is that of the pixels above `threshold` in any channel. It is stretched to ``(H, W)`` with Pillow's bilinear
    filter, so the object's aspect ratio changes: the thesis says "resized the cropped images back to the shape of
    28*28" and leaves the filter open. Pillow's filter widens when it shrinks (antialias), which never happens here,
    since no box is larger than the frame. An image without any pixel above `threshold` stays as it is.

    Takes and returns uint8 ``(N, C, H, W)``; ValueError for anything else.
    """
    check_images(images)
    height, width = images.shape[2:]
    cropped = images.copy()
    for image in cropped:
        rows, columns = np.nonzero((image > threshold).any(axis=0))
        if len(rows) == 0:
            continue
        box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        for channel in image:
            channel[:] = Image.fromarray(channel[box]).resize((width, height), Image.Resampling.BILINEAR)
    return cropped


def invert(images: np.ndarray) -> np.ndarray:
    """Black for white, ``255 - images``, uint8: a control for the black-pixel hypothesis of thesis 4.1.1."""
    check_images(images)
    return 255 - images


def gamma(images: np.ndarray, exponent: float) -> np.ndarray:
    """``255 * (images / 255) ** exponent``, rounded: changes the contrast and keeps 0 and 255. Keeps shape, uint8.

    An `exponent` below 1 brightens, above 1 darkens (and may round dim pixels to 0). ValueError unless positive.
    """
    check_images(images)
    if not exponent > 0:
        raise ValueError(f"exponent is {exponent}, it must be positive")
    levels = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
    return levels[images]


def covariate_detectors(test: Sequence[np.ndarray], covariates: Mapping[str, Callable]) -> dict[str, np.ndarray]:
    """For each covariate the `pair_matrix` of the "detector" that calls an image anomalous where it has more of it.

    No training: this is what a pixel statistic alone says of each ordered pair, ``(classes, classes)``.
    """
    matrices = {}
    for name, measure in covariates.items():
        values = np.stack([measure(images) for images in test])  # (classes, n)
        matrices[name] = pair_matrix(np.repeat(values[None, None], len(test), axis=1))
    return matrices


def treatment_table(matrices: Mapping[str, np.ndarray], names: Sequence[str]) -> pd.DataFrame:
    """AUROC of every ordered pair under each treatment, from `pair_matrix` by treatment: treatment, pair, auroc."""
    return pd.DataFrame(
        [
            {"treatment": treatment, "pair": f"{names[a]} → {names[b]}", "auroc": matrix[a, b]}
            for treatment, matrix in matrices.items()
            for a in range(len(names))
            for b in range(len(names))
            if a != b
        ]
    )


def gain_where_it_fails(plain: np.ndarray, treated: np.ndarray) -> Interval:
    """Mean change of AUROC over the pairs that fail in `plain`, classes resampled for the interval."""
    return class_bootstrap(np.where(plain < 0.5, treated - plain, np.nan))


def left_out_accuracy(features: np.ndarray, fails: np.ndarray) -> np.ndarray:
    """Whether a logistic regression on pairs without a class predicts the outcomes of the pairs with it.

    `features` ``(classes, classes, F)`` and `fails` bool ``(classes, classes)`` of ordered pairs; the diagonal is not
    used. For each two classes, the regression is fitted on all pairs in which neither takes part and asked for the
    two orders of theirs. Returns correctness 1 or 0 ``(classes, classes)``, NaN on the diagonal.
    """
    classes = len(fails)
    right = np.full((classes, classes), np.nan)
    for a in range(classes):
        for b in range(a + 1, classes):
            others = [c for c in range(classes) if c not in (a, b)]
            fitted = [(i, j) for i in others for j in others if i != j]
            x = np.stack([features[pair] for pair in fitted])
            y = np.array([fails[pair] for pair in fitted])
            model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y) if len(set(y)) > 1 else None
            for pair in ((a, b), (b, a)):
                predicted = y[0] if model is None else model.predict(features[pair][None])[0]
                right[pair] = predicted == fails[pair]
    return right
