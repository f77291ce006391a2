"""Made-up defects: small changes to normal images, which a local ratio learns from and scores are tried on.

None was made to resemble a data set. After Li et al. 2021, "CutPaste"; Zavrtanik et al. 2021, "DRAEM".
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from flowlib.datasets import check_images


def made_up_changes(images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One small change on the object of each image, never a filled rectangle: images and bool masks ``(N, H, W)``.

    A third each: an irregular patch, cut from anywhere in another image of `images` or shifted in grey level; a smooth
    bump, brighter or darker; a scratch. Takes uint8 ``(N, 1, H, W)`` with some pixel above 0 each; grey levels are
    clipped to [0, 255] and rounded. The mask holds where more than half of the change's full strength fell and some
    level changed.
    """
    check_images(images)
    if images.shape[1] != 1 or not (images > 0).any((1, 2, 3)).all():
        raise ValueError("made_up_changes: images must have one channel and some pixel above 0 each")
    changed, masks = images.copy(), np.zeros((len(images), *images.shape[2:]), dtype=bool)
    for index, (image,) in enumerate(images):
        while fills_a_rectangle(masks[index]):
            places = np.argwhere(image > 0)  # (n, 2)
            centre = places[rng.integers(len(places))]
            kind = rng.integers(3)
            if kind == 0:
                strength, target = irregular_patch(image, images[rng.integers(len(images)), 0], centre, rng)
            elif kind == 1:
                strength, target = bump(image, centre, rng)
            else:
                strength, target = scratch(image, centre, rng)
            new = np.rint(np.clip(image + strength * (target - image), 0, 255)).astype(np.uint8)
            changed[index, 0], masks[index] = new, (strength > 0.5) & (new != image)
    return changed, masks


def irregular_patch(
    image: np.ndarray, other: np.ndarray, centre: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Where (0 or 1) and what: a disc of radius 1 to 3 pixels with a ragged edge, and grey levels to put there."""
    noise = gaussian_filter(rng.normal(size=image.shape), rng.uniform(0.6, 1.2))
    inside = distances(image.shape, centre) / rng.uniform(1.2, 3.0) < 1 + 0.35 * noise / noise.std()
    if rng.random() < 0.5:
        return inside.astype(float), np.roll(other, rng.integers(image.shape), (0, 1)).astype(float)
    return inside.astype(float), image + 90 * rng.normal()


def bump(image: np.ndarray, centre: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian bump, standard deviation 0.6 to 1.6 pixels, 60 to 300 grey levels up or down."""
    strength = np.exp(-0.5 * (distances(image.shape, centre) / rng.uniform(0.6, 1.6)) ** 2)
    return strength, image + rng.choice([-1, 1]) * rng.uniform(60, 300)


def scratch(image: np.ndarray, centre: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A straight line, 2 to 7 pixels long and about 1 to 2 wide, in any direction and of any grey level."""
    angle, length, half_width = rng.uniform(0, np.pi), rng.uniform(2, 7), rng.uniform(0.4, 1.0)
    y, x = np.indices(image.shape) - centre[:, None, None]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    strength = np.clip(half_width + 0.5 - abs(across), 0, 1) * (abs(along) < length / 2)
    return strength, np.full(image.shape, rng.uniform(0, 255))


def distances(shape: tuple[int, ...], centre: np.ndarray) -> np.ndarray:
    return np.hypot(*(np.indices(shape) - centre[:, None, None]))


def fills_a_rectangle(mask: np.ndarray) -> bool:
    """Whether a mask is all of its bounding box (an empty one is)."""
    rows, columns = np.nonzero(mask)
    return len(rows) == 0 or len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
