"""MNIST and Fashion-MNIST as arrays, and the pixel operations of thesis 4.1.1 and its controls.

Images are uint8 ``(N, C, H, W)`` throughout: the operations here are applied before any model sees the images, and keep
them 8-bit, so that likelihoods stay comparable.
"""

import numpy as np
from PIL import Image

from flowlib.download import ensure, idx_files, read_idx

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


def load(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one split, fetched and verified first where need be (`flowlib.download.ensure`).

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


def check_images(images: np.ndarray) -> None:
    """ValueError unless `images` is uint8 ``(N, C, H, W)``."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images are {images.dtype} {images.shape}, they must be uint8 (N, C, H, W)")
