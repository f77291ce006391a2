"""Whether patches of different viewpoints are alike where whole frames are not (thesis section 5, why patches)."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from flowlib.detector.model import PATCH
from flowlib.detector.patches import cut
from flowlib.experiments.borescope.frames import Shot
from flowlib.experiments.borescope.measures import grey, shares
from flowlib.metrics import Interval

NEIGHBOURS = 5  # whose vote tells a viewpoint, by the distance of grey pixels


def told(training: Sequence[Shot], tested: Sequence[Shot]) -> dict[str, Interval]:
    """How often the nearest training pictures tell the viewpoint of the tested frames, with intervals over blades.

    From whole frames, reduced to the size of a patch; and from patches, side by side, each by itself, the share of a
    frame's that tell it. Raises ValueError for fewer than five training frames.
    """
    ways = {"whole frames": whole, "patches": patches}
    return {name: shares(told_right(training, tested, way)[None], tested) for name, way in ways.items()}


def told_right(training: Sequence[Shot], tested: Sequence[Shot], pictures: Callable[[Shot], np.ndarray]) -> np.ndarray:
    """Of each tested shot the share of its `pictures`, ``(n, pixels)``, whose neighbours are mostly of its view."""
    seen, asked = ([pictures(one) for one in shots] for shots in (training, tested))
    views = np.repeat([one.view for one in training], [len(of_shot) for of_shot in seen])
    neighbours = KNeighborsClassifier(NEIGHBOURS, algorithm="brute").fit(np.concatenate(seen), views)
    return np.array([(neighbours.predict(a) == one.view).mean() for a, one in zip(asked, tested, strict=True)])


def whole(one: Shot) -> np.ndarray:
    """The shot as one picture of the size of a patch, ``(1, PATCH * PATCH)``."""
    picture = Image.fromarray(grey(one)[0, 0]).resize((PATCH, PATCH), Image.Resampling.BOX)
    return np.asarray(picture, dtype=np.float32).reshape(1, -1)


def patches(one: Shot) -> np.ndarray:
    """The shot's patches side by side, ``(n, PATCH * PATCH)``."""
    tiles = cut(grey(one)[0], PATCH, PATCH)
    return tiles.reshape(len(tiles), -1).astype(np.float32)
