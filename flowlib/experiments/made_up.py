"""Made-up defects: what a detector that has seen normal images only may learn from, and be chosen by.

Each changes a small part of an image, its shape an irregular blob or a stroke. The kinds come in two families of
different mechanisms: `LEARNED`, to be trained on, and `CHOICE`, never trained on, for the choice among
detectors, so that one is not chosen for knowing the very kinds it was trained on. Neither was made to resemble a data
set. After Li et al. 2021, "CutPaste"; Zavrtanik et al. 2021, "DRAEM"; Schlüter et al. 2022, "NSA".
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from flowlib.datasets import check_images

NOTICEABLE = 6  # grey levels: a pixel that is changed by as much, in any channel, belongs to the mask
LARGEST = 0.2  # radius of the largest, as a share of the image's shorter side
Kind = Callable[[np.ndarray, np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]


def damage(
    image: np.ndarray, other: np.ndarray, kinds: dict[str, Kind], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One made-up defect somewhere on `image`: the changed image and its mask.

    `image` and `other`, a normal image to cut from, are uint8 ``(C, H, W)`` of one shape; the result is of that shape,
    and the mask bool ``(H, W)``, never empty. Radii are log-uniform from 1.5 pixels to `LARGEST`.
    """
    H, W = image.shape[1:]
    before = image.astype(np.float32)
    names = list(kinds)
    while True:
        centre = rng.uniform(0, (H, W))
        radius = float(np.exp(rng.uniform(np.log(1.5), np.log(max(2.0, LARGEST * min(H, W))))))
        strength = rng.uniform(0.4, 1) * (stroke if rng.random() < 0.35 else blob)((H, W), centre, radius, rng)
        after = kinds[names[rng.integers(len(names))]](before, other.astype(np.float32), strength, radius, rng)
        changed = np.rint(np.clip(before + strength * (after - before), 0, 255)).astype(np.uint8)
        mask = (abs(changed.astype(np.int16) - image) >= NOTICEABLE).any(0)
        if mask.any():
            return changed, mask


# --- shapes: strength in [0, 1], ``(H, W)`` ------------------------------------------------------------------------


def blob(shape: tuple[int, int], centre: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """An ellipse with a ragged edge, hard or soft."""
    y, x = np.indices(shape) - centre[:, None, None]
    angle, stretch = rng.uniform(0, np.pi), np.exp(0.3 * rng.normal())
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    ragged = rng.uniform(0.1, 0.5) * smooth_noise(shape, max(2.0, radius * rng.uniform(0.4, 1.2)), rng)
    return np.clip((1 - np.hypot(u * stretch, v / stretch) / radius - ragged) / rng.choice([0.05, 0.15, 0.4]), 0, 1)


def stroke(shape: tuple[int, int], centre: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """A line that wanders, two to eight radii long and a pixel or more wide."""
    length = max(4.0, radius * rng.uniform(2, 8))
    n = int(2 * length)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, rng.uniform(0, 0.15), n))
    path = np.cumsum([np.sin(heading), np.cos(heading)], axis=1) / 2
    rows, columns = np.rint(path - path.mean(1, keepdims=True) + centre[:, None]).astype(int)
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    line = np.zeros(shape)
    line[rows[inside], columns[inside]] = 1
    line = gaussian_filter(line, rng.uniform(0.5, 1.5) * max(1.0, 0.15 * radius))
    return np.clip(1.6 * line / max(line.max(), 1e-6), 0, 1)


def smooth_noise(shape: tuple[int, int], grain: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of standard deviation one whose values change over about `grain` pixels."""
    rows, columns = (int(np.ceil(side / grain)) + 3 for side in shape)
    coarse = rng.normal(size=(rows, columns))
    fine = zoom(coarse, ((shape[0] + grain) / (rows - 1), (shape[1] + grain) / (columns - 1)), order=3)
    fine = fine[: shape[0], : shape[1]]
    return fine / max(fine.std(), 1e-6)


# --- kinds: what stands where the strength is 1, ``(C, H, W)`` in grey levels ---------------------------------------


def cut_and_paste(
    image: np.ndarray, other: np.ndarray, strength: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Another image's texture, shifted and perhaps mirrored."""
    moved = np.roll(other, rng.integers(other.shape[1:]), (1, 2))
    return moved[:, :: rng.choice([-1, 1]), :: rng.choice([-1, 1])]


def grey_shift(
    image: np.ndarray, other: np.ndarray, strength: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Brighter or darker by 15 to 120 levels, about alike in all channels."""
    return image + rng.choice([-1, 1]) * rng.uniform(15, 120) * (1 + 0.3 * rng.normal(size=(len(image), 1, 1)))


def contrast(
    image: np.ndarray, other: np.ndarray, strength: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Texture smoothed away, or exaggerated."""
    mean = gaussian_filter(image, (0, radius + 1, radius + 1))
    return mean + (image - mean) * rng.choice([0, 0.3, 2.5, 4])


def one_colour(
    image: np.ndarray, other: np.ndarray, strength: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """One colour, about grey."""
    return np.broadcast_to(rng.uniform(0, 255) + 20 * rng.normal(size=(len(image), 1, 1)), image.shape)


def rough(
    image: np.ndarray, other: np.ndarray, strength: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """A new texture of random grain over the smoothed image."""
    texture = smooth_noise(image.shape[1:], rng.uniform(1.5, 6), rng)
    return gaussian_filter(image, (0, 2, 2)) + rng.uniform(10, 50) * texture


def relief(
    image: np.ndarray, other: np.ndarray, strength: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """A bump or hollow: light on one side and shade on the other."""
    down, right = np.gradient(gaussian_filter(strength, max(0.7, 0.25 * radius)))
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.sin(angle) * down + np.cos(angle) * right
    return image + rng.uniform(30, 120) * slope / max(abs(slope).max(), 1e-6)


def warped(
    image: np.ndarray, other: np.ndarray, strength: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """The image itself, pushed about by up to half a radius."""
    push = max(2.0, 0.5 * radius) * np.stack([smooth_noise(strength.shape, max(3.0, radius), rng) for _ in range(2)])
    return np.stack([map_coordinates(c, np.indices(strength.shape) + push, order=1, mode="reflect") for c in image])


def speckled(
    image: np.ndarray, other: np.ndarray, strength: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Spots of one tone, darker or brighter by 40 to 120 levels, over a fifth of the area."""
    spots = gaussian_filter(rng.normal(size=strength.shape), rng.uniform(0.8, 1.6))
    spots = spots > np.quantile(spots, 0.8)
    return image + rng.choice([-1, 1]) * rng.uniform(40, 120) * spots


def smeared(
    image: np.ndarray, other: np.ndarray, strength: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Blurred along one direction over some radii, and somewhat darker or brighter."""
    angle, steps = rng.uniform(0, np.pi), np.linspace(-1, 1, 9) * max(3.0, 1.5 * radius)
    rows, columns = np.indices(strength.shape)
    along = [
        [
            map_coordinates(c, (rows + s * np.sin(angle), columns + s * np.cos(angle)), order=1, mode="reflect")
            for c in image
        ]
        for s in steps
    ]
    return np.mean(along, 0) + rng.normal(0, 25)


def darkest_tone(
    image: np.ndarray, other: np.ndarray, strength: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """What the image has at its darkest or brightest: a hole, a missing piece, a glint."""
    tone = np.quantile(image, rng.choice([0.005, 0.995]), axis=(1, 2), keepdims=True)
    return np.broadcast_to(tone, image.shape)


LEARNED: dict[str, Kind] = {
    kind.__name__: kind for kind in (cut_and_paste, grey_shift, contrast, one_colour, rough, relief)
}
CHOICE: dict[str, Kind] = {kind.__name__: kind for kind in (warped, speckled, smeared, darkest_tone)}


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
