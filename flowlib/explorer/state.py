"""What the explorer of notebook 07 knows, computes and keeps; `flowlib.explorer.borescope_tab` only shows it.

A map is made once for each picture, model, score, stride and window, in a thread that works in small pieces and stops
at the next change. Threshold, opacity and colours are read off what is kept. Every model has one colour scale: 0 is the
middle of the pixels of held-out normal pictures, 1 is what one in 200 of them exceeds.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowlib.detector.model import OWN_WAY, PATCH, WAYS, Region, Settings, image_score, resized, worst_region
from flowlib.detector.patches import corners, patch_map, stitch, window_sums
from flowlib.explorer.background import Background, Tick
from flowlib.explorer.models import Method
from flowlib.explorer.pictures import ExplorerError, Picture, read_pictures
from flowlib.metrics import conformal_threshold

DENSE = 0  # in place of a stride: one pass over the whole picture, windows every 4 pixels
STRIDES = (8, 16, 32, DENSE)  # pixels
WINDOWS = (16, 24, 32, 48, 64)  # pixels
KEPT_MAPS, KEPT_PIXELS = 64, 400


@dataclass(frozen=True)
class View:
    """What is looked at, and how: what the sliders and drop-downs hold.

    stride: pixels, 0 for dense; window: pixels. threshold: a score, or None for the one of false_alarm_rate. low and
    high: where colours begin and end, on the scale of normal pixels (0 their middle, 1 what one in 200 exceeds).
    """

    model: str
    map: str
    way: str = OWN_WAY
    stride: int = DENSE
    window: int = PATCH
    false_alarm_rate: float = 0.1
    threshold: float | None = None
    opacity: float = 0.65
    low: float = 0.0
    high: float = 2.0


class Key(NamedTuple):
    """What determines a map."""

    model: str
    map: str
    stride: int
    window: int
    picture: str


class Made(NamedTuple):
    """A map, float32 ``(h, w)``, the number of patches or windows it is made of, the seconds it took, and the score of
    its picture where it has its own."""

    values: np.ndarray
    patches: int
    seconds: float
    scores: dict[str, float] | None = None


class Explorer:
    """The state of the explorer; what it returns is read off the caches, None where it is not known yet.

    methods: by name. normals: held-out normal pictures, which set scales and thresholds. pictures: those looked at.
    """

    def __init__(self, methods: Mapping[str, Method], normals: Sequence[Picture], pictures: Sequence[Picture]) -> None:
        if not (methods and normals and pictures):
            raise ExplorerError("the explorer needs at least one model, one normal picture and one picture to look at")
        self.methods, self.normals = dict(methods), list(normals)
        self.simulated = self.pictures = list(pictures)
        self.index, self.reading = 0, None  # type: tuple[int, str | None]
        first = next(iter(self.methods))
        self.view = View(first, self.methods[first].scores[0])
        self._maps: dict[Key, Made] = {}
        self._pixels: dict[tuple[str, str], np.ndarray] = {}
        self._scores: dict[Key, dict[str, float]] = {}  # by way
        self._scales: dict[tuple[str, str, int], tuple[float, float]] = {}
        self.changed: Callable[[], None] = lambda: None
        self.background = Background(self.work, lambda: self.changed())

    # --- state ------------------------------------------------------------------------------------------------------

    @property
    def picture(self) -> Picture:
        return self.pictures[self.index]

    @property
    def method(self) -> Method:
        return self.methods[self.view.model]

    def set(self, **changes: Any) -> bool:
        """Change the view, or `index`, the picture; returns whether there is something to compute (`start`).

        A new model brings its own first map. A rate and a threshold replace each other. A window is at least a stride
        long. Raises ExplorerError for what there is not.
        """
        index = changes.pop("index", self.index)
        if not 0 <= index < len(self.pictures):
            raise ExplorerError(f"picture {index} is not there: choose one from 0 to {len(self.pictures) - 1}")
        if changes.get("model", self.view.model) != self.view.model or "map" in changes or "way" in changes:
            changes.setdefault("threshold", None)  # the old one is of another score
        if changes.get("model", self.view.model) != self.view.model:
            changes = self.defaults(changes["model"]) | changes
        if "false_alarm_rate" in changes:
            changes.setdefault("threshold", None)
        view = replace(self.view, **changes)
        view = replace(view, window=max(view.window, view.stride))
        self.check(view)
        if (view.stride, view.window) != (self.view.stride, self.view.window):
            view = replace(view, threshold=None)
        before = self.key(), self.index
        self.view, self.index = view, index
        return (self.key(), self.index) != before

    def defaults(self, model: str) -> dict[str, str]:
        """The map that a model begins with, and the way to a score, that of a detector for all."""
        if model not in self.methods:
            raise ExplorerError(f"model is {model!r}: choose one of {', '.join(self.methods)}")
        return {"map": self.methods[model].scores[0], "way": OWN_WAY}

    def ways(self, model: str) -> tuple[str, ...]:
        """From a map to a picture's score; a detector has its own."""
        return tuple(WAYS) if self.methods[model].detector is None else (OWN_WAY,)

    def check(self, view: View) -> None:
        """Raise ExplorerError where a view asks for what there is not."""
        self.defaults(view.model)
        for name, value, choices in (
            ("map", view.map, self.methods[view.model].scores),
            ("way", view.way, self.ways(view.model)),
            ("stride", view.stride, STRIDES),
            ("window", view.window, WINDOWS),
        ):
            if value not in choices:
                raise ExplorerError(f"{name} is {value!r}: choose one of {', '.join(map(str, choices))}")
        if not (0 < view.false_alarm_rate < 1 and 0 <= view.opacity <= 1 and view.low < view.high):
            raise ExplorerError(f"the rate must lie between 0 and 1, opacity in [0, 1], low below high: {view}")

    def key(self, picture: Picture | None = None, view: View | None = None) -> Key:
        view, picture = view or self.view, picture or self.picture
        own = self.methods[view.model].detector is not None
        return Key(view.model, view.map, DENSE if own else view.stride, PATCH if own else view.window, picture.key)

    def show(self, pictures: Sequence[Picture]) -> None:
        """Look at other pictures."""
        self.index, self.pictures = 0, list(pictures)

    def open(self, path: str | Path | None) -> None:
        """Look at the pictures of a folder or video, which `start` reads, or with None at the simulated ones."""
        self.reading = None if path is None else str(path)
        if path is None:
            self.show(self.simulated)

    # --- what is read off the caches --------------------------------------------------------------------------------

    def map(self) -> Made | None:
        return self._maps.get(self.key())

    def scale(self) -> tuple[float, float] | None:
        """The middle of normal pixels, and what one in 200 exceeds."""
        if self.method.detector is not None:
            return 0.0, self.method.detector.level
        return self._scales.get((self.view.model, self.view.map, self.view.window))

    def colours(self) -> tuple[float, float] | None:
        """The values at which the colours begin and end."""
        if (scale := self.scale()) is None:
            return None
        middle, level = scale
        return middle + self.view.low * (level - middle), middle + self.view.high * (level - middle)

    def normal_scores(self) -> np.ndarray | None:
        """Scores of all held-out normal pictures."""
        if self.method.detector is not None:
            return self.method.detector.calibration
        found = [self._scores.get(self.key(picture)) for picture in self.normals]
        return None if None in found else np.array([each[self.view.way] for each in found if each is not None])

    def threshold(self) -> float | None:
        """The threshold set, or that of the false-alarm rate: the highest normal score where the rate is too low."""
        if self.view.threshold is not None or (scores := self.normal_scores()) is None:
            return self.view.threshold
        return min(conformal_threshold(scores, self.view.false_alarm_rate), float(scores.max()))

    def false_alarm_rate(self) -> float | None:
        """The rate that the threshold keeps: above it lie at most these many of new normal pictures, on average."""
        scores, threshold = self.normal_scores(), self.threshold()
        if scores is None or threshold is None:
            return None
        return float(((scores > threshold).sum() + 1) / (len(scores) + 1))

    def score(self) -> float | None:
        found = self._scores.get(self.key())
        return None if found is None else found[self.view.way]

    def anomalous(self) -> bool | None:
        score, threshold = self.score(), self.threshold()
        return None if score is None or threshold is None else score > threshold

    def region(self) -> Region | None:
        """The box of the worst region, in the picture's pixels."""
        made, scale = self.map(), self.scale()
        return None if made is None or scale is None else worst_region(made.values, scale[1])

    def counts(self) -> dict[str, int] | None:
        """Of the labelled pictures scored so far: hit, missed, false alarm, correct normal; None where none has a
        label."""
        threshold = self.threshold()
        labelled = [one for one in self.pictures if one.label is not None]
        if threshold is None or not labelled:
            return None
        out = dict.fromkeys(("hit", "missed", "false alarm", "correct normal"), 0) | {"of": len(labelled)}
        for one in labelled:
            if (found := self._scores.get(self.key(one))) is not None:
                above = found[self.view.way] > threshold
                names = ("false alarm", "correct normal") if one.label == "good" else ("hit", "missed")
                out[names[0] if above else names[1]] += 1
        return out

    # --- work -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Compute what the view wants, in the background; `changed` is called after every small piece."""
        self.background.start()

    def work(self, tick: Tick) -> None:
        """The map looked at, then scale and threshold from normal pictures, then scores of the labelled ones."""
        if self.reading is not None:
            path, self.reading = self.reading, None
            size, channels = max(max(one.image.shape) for one in self.normals), len(self.normals[0].image)
            self.show(read_pictures(path, max(size, Settings.size), channels, tick))
        view, picture, pictures = self.view, self.picture, self.pictures
        own = self.methods[view.model].detector is not None
        if not own and (view.model, view.map, view.window) not in self._scales:
            self._scales[view.model, view.map, view.window] = self._scale(view, tick)
        self._score(view, picture, tick, keep=True)
        labelled = [one for one in pictures if one.label is not None]
        for what, some in (("normal pictures", [] if own else self.normals), ("labelled pictures", labelled)):
            for number, one in enumerate(some):
                self._score(view, one, lambda *_, n=number, w=what, some=some: tick(n, len(some), w))
        tick(1, 1, "")

    def _scale(self, view: View, tick: Tick) -> tuple[float, float]:
        values = []
        for number, one in enumerate(self.normals):
            tick(number, len(self.normals), "colours from normal pictures")
            values.append(self._made(replace(view, stride=DENSE), one, lambda *_: None)[view.map].values[::4, ::4])
        middle, level = np.quantile(np.concatenate([each.ravel() for each in values]), [0.5, 0.995])
        return float(middle), max(float(level), float(middle) + 1e-9)

    def _score(self, view: View, picture: Picture, tick: Tick, keep: bool = False) -> None:
        """Score a picture, and of the one looked at keep the map, unless that is done."""
        key = self.key(picture, view)
        if key in self._scores and (not keep or key in self._maps):
            return
        tick(0, 1, "map")
        for name, made in self._made(view, picture, tick).items():
            own = key._replace(map=name)
            self._scores[own] = made.scores or {way: image_score(made.values, share) for way, share in WAYS.items()}
            if keep:
                self._maps[own] = made
        trim(self._maps, KEPT_MAPS)

    def _made(self, view: View, picture: Picture, tick: Tick) -> dict[str, Made]:
        """The map that a view wants of a picture."""
        began = time.perf_counter()
        method = self.methods[view.model]
        h, w = picture.image.shape[1:]
        if method.detector is not None:
            worked = method.detector.working_map(picture.image)
            scores = {OWN_WAY: method.detector.score(worked)}
            seconds = time.perf_counter() - began
            return {view.map: Made(resized(worked, (h, w)), h * w, seconds, scores)}
        assert method.pixels is not None
        assert method.patches is not None
        window = min(view.window, h // 8 * 8, w // 8 * 8)
        if view.stride == DENSE:
            place = view.model, picture.key
            if place not in self._pixels:
                self._pixels[place] = method.pixels(picture).astype(np.float32)
                trim(self._pixels, KEPT_PIXELS)
            step = 4
            values = windowed(self._pixels[place].astype(np.float64), window, step, method.sums)
        else:
            step, done = view.stride, 0
            total = int(np.prod([len(corners(side, window, step)) for side in (h, w)]))

            def score(some: np.ndarray) -> np.ndarray:
                nonlocal done
                tick(done, total, "patches")
                done += len(some)
                return method.patches(picture, some)  # type: ignore[misc]

            values = patch_map(score, picture.image, window, step)
        n = int(np.prod([len(corners(side, window, step)) for side in (h, w)]))
        return {view.map: Made(values.astype(np.float32), n, time.perf_counter() - began)}


def windowed(pixels: np.ndarray, window: int, stride: int, sums: bool) -> np.ndarray:
    """What windows of a dense map sum or average to, each pixel's mean over those that cover it: ``(h, w)`` as given.

    For a flow's pixels the same as `patches.dense_map`.
    """
    rows, columns = (corners(side, window, stride) for side in pixels.shape)
    table = window_sums(pixels, window)[np.ix_(rows, columns)] / (1 if sums else window**2)
    return stitch(table.ravel(), pixels.shape, window, stride)


def trim(kept: dict[Any, Any], most: int) -> None:
    """Drop the oldest entries."""
    for key in list(kept)[: max(0, len(kept) - most)]:
        del kept[key]
