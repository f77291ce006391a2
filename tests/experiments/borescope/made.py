"""Frames made up for tests: small, of known blades, kinds, masks and regions."""

import numpy as np

from flowlib.experiments.borescope.frames import Parts, Shot

H, W = 64, 96


def frame(label: str = "good", blade: int = 0, box: tuple[int, int, int, int] | None = None, view: int = 0) -> Shot:
    """A grey frame; the defect fills the `box` of rows and columns, ends excluded."""
    image = np.random.default_rng(blade).integers(90, 110, (1, H, W), dtype=np.uint8)
    mask = np.zeros((H, W), dtype=bool)
    if box is not None:
        mask[box[0] : box[1], box[2] : box[3]] = True
    return Shot(label, blade, view, image, mask, np.zeros((H, W), np.uint8))


def some_parts(blades: int = 6) -> Parts:
    """Two frames of each normal and of each damaged blade; cracks are small, dents large."""
    held = [frame(blade=blade) for blade in range(2)]
    normal = [frame(blade=10 + blade) for blade in range(blades) for _ in range(2)]
    boxes = {"crack": (3, 9, 4, 12), "dent": (20, 60, 30, 80)}
    defective = [
        frame(kind, 30 + blade, boxes[kind]) for blade in range(blades) for kind in [["crack", "dent"][blade % 2]] * 2
    ]
    return Parts(held, held, normal, defective)


def perfect(shots: list[Shot], seed: int = 0) -> list[np.ndarray]:
    """Maps that mark every defect, and differ a little elsewhere."""
    rng = np.random.default_rng(seed)
    return [one.mask + rng.uniform(0, 0.5, one.mask.shape) for one in shots]
