"""The design of notebook 02 (thesis 4.1.1): black pixels, the crop and its controls, what predicts failure."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import binary_fill_holes
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flowlib.datasets import check_images
from flowlib.experiments.pairs import class_bootstrap, pair_matrix
from flowlib.metrics import Interval, auroc_difference, auroc_interval, difference_interval
from flowlib.study.criteria import Evidence

Box = tuple[slice, slice]
TROUSER, COAT, SANDAL, SHIRT, SNEAKER, BOOT = 1, 4, 5, 6, 7, 9
TABLE_2 = (  # of the thesis: normal and anomalous class of each case
    (SANDAL, SNEAKER), (SNEAKER, SANDAL), (COAT, SHIRT), (SHIRT, COAT), (SANDAL, BOOT), (SNEAKER, BOOT),
    (BOOT, SANDAL), (BOOT, SNEAKER), (TROUSER, SNEAKER), (SNEAKER, TROUSER), (SANDAL, COAT), (COAT, SANDAL),
)  # fmt: skip
FAILED = (4, 7, 8, 12)  # cases of it, in the thesis
MEANS = {SANDAL: 532, SNEAKER: 519, COAT: 312, SHIRT: 290, BOOT: 403, TROUSER: 510}  # black pixels, in the thesis


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
    return resized(images, threshold, lambda channel, box, frame: stretched(channel[box], frame))


def resample(images: np.ndarray, threshold: int = 0) -> np.ndarray:
    """The control of `crop_to_object`: the same filter without a crop.

    Each image is enlarged by the factors by which its object would be, and reduced to its size again: it is smoothed
    and keeps its surround.
    """

    def there_and_back(channel: np.ndarray, box: Box, frame: tuple[int, int]) -> Image.Image:
        sides = [round(side * side / (part.stop - part.start)) for side, part in zip(frame, box, strict=True)]
        return stretched(np.asarray(stretched(channel, (sides[0], sides[1]))), frame)

    return resized(images, threshold, there_and_back)


def resized(
    images: np.ndarray, threshold: int, way: Callable[[np.ndarray, Box, tuple[int, int]], Image.Image]
) -> np.ndarray:
    """Images in which each channel is replaced by what a `way` makes of it, of its object's box, and of its size."""
    check_images(images)
    changed = images.copy()
    for image in changed:
        rows, columns = np.nonzero((image > threshold).any(axis=0))
        if len(rows) == 0:
            continue
        box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        for channel in image:
            channel[:] = way(channel, box, channel.shape)
    return changed


def stretched(channel: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A channel enlarged or reduced to ``(H, W)`` by Pillow's bilinear filter."""
    return Image.fromarray(channel).resize(size[::-1], Image.Resampling.BILINEAR)


def surround(images: np.ndarray) -> np.ndarray:
    """The black around each object, bool ``(N, H, W)``: all but the filled silhouette of the pixels above 0."""
    check_images(images)
    return np.stack([~binary_fill_holes((image > 0).any(axis=0)) for image in images])


def with_surround(images: np.ndarray, filled: int | str, seed: int = 0) -> np.ndarray:
    """Images whose `surround` is filled with a grey level, or where `filled` is "noise" with uniform noise, 0 to 255.

    Black objects keep their black. Takes and returns uint8 ``(N, C, H, W)``.
    """
    around = np.broadcast_to(surround(images)[:, None], images.shape)
    rng = np.random.default_rng((seed, int(images.sum())))  # other noise for every set of images
    noise = rng.integers(0, 256, images.shape, dtype=np.uint8)
    return np.where(around, noise if filled == "noise" else np.uint8(filled), images)


def with_surrounds_of(images: Sequence[np.ndarray], seed: int = 0) -> list[np.ndarray]:
    """Images by class, each black also where the `surround` of an image of another class, drawn at random, is black.

    An object loses what lies outside of the other's silhouette; numbers of black pixels become more alike.
    """
    rng = np.random.default_rng(seed)
    around = [surround(of_class) for of_class in images]
    changed = []
    for number, of_class in enumerate(images):
        others = [c for c in range(len(images)) if c != number]
        chosen = [around[c][rng.integers(len(around[c]))] for c in rng.choice(others, size=len(of_class))]
        changed.append(np.where(np.stack(chosen)[:, None], np.uint8(0), of_class))
    return changed


def invert(images: np.ndarray) -> np.ndarray:
    """Black for white, ``255 - images``, uint8: a control for the black-pixel hypothesis of thesis 4.1.1."""
    check_images(images)
    return 255 - images


def each(way: Callable[[np.ndarray], np.ndarray]) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    return lambda classes: [way(images) for images in classes]


# What is done to the images of all classes, training and test images alike. Every one but the first takes the black
# surround away or changes it; inversion does so by a change of sign under the logit, which a flow can undo.
TREATMENTS: dict[str, Callable[[Sequence[np.ndarray]], list[np.ndarray]]] = {
    "as they are": each(lambda images: images),
    "cropped": each(crop_to_object),
    "grey surround": each(lambda images: with_surround(images, 128)),
    "white surround": each(lambda images: with_surround(images, 255)),
    "noise surround": each(lambda images: with_surround(images, "noise")),
    "other class's surround": with_surrounds_of,
    "inverted": each(invert),
}


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


def table_2_off(black: np.ndarray, names: Sequence[str]) -> Evidence:
    """By how many pixels the means of Table 2 are off those of the classes, truncated. Exact, intervals without width.

    `black` and `names` are by class, ``(10,)``: mean numbers of black pixels of the training images.
    """
    off = {names[c]: float(int(black[c]) - mean) for c, mean in MEANS.items()}
    return {name: Interval(pixels, pixels, pixels) for name, pixels in off.items()}


Scores = tuple[np.ndarray, np.ndarray]  # NLL of the normal and of the anomalous class, (S, N) each


def case_table(
    of_pair: Callable[[int, int], Scores], train: Sequence[np.ndarray], names: Sequence[str]
) -> pd.DataFrame:
    """The twelve cases of Table 2, a row each: case, normal, anomaly, black_normal, black_anomaly (mean numbers of
    black pixels of training images), black_difference, nll_normal, nll_anomaly, auroc, low, high, thesis_failed.

    `of_pair` gives the scores of a normal and an anomalous class; `train` and `names` are by class.
    """
    black = {c: black_pixels(train[c]).mean() for c in MEANS}
    rows = []
    for case, (normal, anomaly) in enumerate(TABLE_2, start=1):
        scores = of_pair(normal, anomaly)
        row = {"case": case, "normal": names[normal], "anomaly": names[anomaly]}
        row |= {"black_normal": black[normal], "black_anomaly": black[anomaly]}
        row |= {"black_difference": black[anomaly] - black[normal]}
        row |= {"nll_normal": scores[0].mean(), "nll_anomaly": scores[1].mean()}
        row |= dict(zip(("auroc", "low", "high"), auroc_interval(*scores), strict=True))
        rows.append(row | {"thesis_failed": case in FAILED})
    return pd.DataFrame(rows)


def evidence(
    cases: pd.DataFrame, train: Sequence[np.ndarray], crop: Scores, back: Scores, resampled: Scores
) -> dict[str, Evidence]:
    """What the claims 2.2 to 2.5 are judged by; 2.3 is left out where no case of `case_table` surely fails.

    The scores are of shirts and coats cropped, under flows of cropped shirts (`crop`) and of cropped coats (`back`, the
    coats normal), and of both resampled without a crop.
    """
    numbers = {c: black_pixels(train[c]) for c in MEANS}
    more = {}
    for case in cases.loc[cases["high"] < 0.5, "case"]:
        normal, anomaly = TABLE_2[case - 1]
        more[f"case {case}"] = difference_interval(numbers[anomaly], numbers[normal])
    found: dict[str, Evidence] = {
        "2.2": {f"case {row.case}": Interval(row.auroc, row.low, row.high) for row in cases.itertuples()},
        "2.3": more,
        "2.4": {"failing cases": case_counts(cases)},
        "2.5": {
            "case 4, cropped": auroc_interval(*crop),
            "case 3, cropped": auroc_interval(*back),
            "crop less resampling": auroc_difference(crop, resampled),
        },
    }
    return {claim: of_claim for claim, of_claim in found.items() if of_claim}


def gain_where_it_fails(fails: np.ndarray, plain: np.ndarray, treated: np.ndarray) -> Interval:
    """Mean change of AUROC over the pairs that fail, bool ``(classes, classes)``, classes resampled for the interval.

    `plain` and `treated` are `pair_matrix` of the same seeds.
    """
    return class_bootstrap(np.where(fails, treated - plain, np.nan))


def case_counts(cases: pd.DataFrame) -> Interval:
    """How many cases fail: by value, surely (whole interval below one half), possibly (interval reaching below).

    Columns: auroc, low, high.
    """
    return Interval(*(float((cases[column] < 0.5).sum()) for column in ("auroc", "high", "low")))


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
