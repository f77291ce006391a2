"""A detector for a user's own pictures: fitted on normal ones alone, its choices too, with a calibrated threshold.

The normal images are divided, by video and never by frame, into three parts. The first trains the flow and the local
ratio and tells what their maps look like on normal images (`flowlib.maps`). The second chooses the map and how a map
becomes an image's score: by how well made-up defects of kinds that nothing was trained on are found (`made_up.CHOICE`).
A map that knows the place must beat the best one that does not by more than a standard error, as it presumes more.
The third, which no choice has seen, sets the threshold (`metrics.conformal_threshold`).
"""

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.ndimage import label

from flowlib import artifacts, made_up, maps, parallel
from flowlib.artifacts import Arrays, Artifact
from flowlib.glow import Glow
from flowlib.metrics import auroc, conformal_threshold
from flowlib.patches import random_patches
from flowlib.ratio import LocalRatio
from flowlib.runtime.code import code_hash
from flowlib.training import Model, Recipe, build, load_parameters, to_numpy, train

SMALLEST = 32  # pixels of an image's shorter side: one patch of the flow
SHARES = (0.6, 0.15, 0.25)  # of the normal images: to train, to choose, to calibrate
PATCH, CROP = 32, 96  # pixels: what the flow and the ratio are trained on
PATCHES, CROPS = 8192, 1024  # their numbers
FLOW: dict[str, Any] = {"levels": 2, "steps": 8, "hidden_channels": 32}
LARGEST_FILE = 2**28  # bytes; a detector has about a hundredth
DAMAGED = 72  # images with made-up defects in the choice
DEFECTS = 3  # made-up defects on each of them
KNOWN = 40  # training images, at most, that the maps are fitted on
CHOICE_COLUMNS = ("map", "way", "pixels", "images", "found")
LARGEST_SHARES = {"maximum": 0.0, "top 0.1 %": 0.001, "top 1 %": 0.01, "mean": 1.0}  # of a map's pixels: image scores


class DetectorError(ValueError):
    """The images or settings do not make a detector; the message says which and what to do."""


@dataclass(frozen=True)
class Settings:
    """How a detector is fitted; the defaults are meant for all.

    size: longest side in pixels that images are worked on at; larger ones are reduced to it, smaller ones left.
    flow_steps, ratio_steps: gradient steps of the two models.
    seed: of the division, the training and the made-up defects.
    """

    size: int = 512
    flow_steps: int = 400
    ratio_steps: int = 800
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < SMALLEST or min(self.flow_steps, self.ratio_steps) < 1:
            raise DetectorError(f"size must be at least {SMALLEST}, flow_steps and ratio_steps at least 1: {self}")


class Region(NamedTuple):
    """A box of pixels, ends excluded."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Detector:
    """What `fit` makes and `load` reads.

    channels: 1 or 3. known: of `maps.fit`. choice: a row a map and way to an image's score, with how well made-up
    defects were found. calibration: for each of these rows, the scores of the calibration images, ``(rows, n)``;
    levels: for each map, the value that one of 200 of their pixels exceeds. map_name, way: what is used.
    """

    settings: Settings
    channels: int
    flow: Glow
    ratio: LocalRatio
    known: Arrays
    choice: pd.DataFrame
    calibration: np.ndarray
    levels: dict[str, float]
    map_name: str
    way: str
    facts: dict[str, Any]

    @cached_property
    def row(self) -> int:
        chosen = (self.choice["map"] == self.map_name) & (self.choice["way"] == self.way)
        if not chosen.any():
            raise DetectorError(
                f"map is {self.map_name!r} and way {self.way!r}: choose one of {', '.join(maps.NAMES)}, and one of "
                f"{', '.join(LARGEST_SHARES)}"
            )
        return int(np.flatnonzero(chosen)[0])

    @property
    def level(self) -> float:
        """Pixels of the chosen map above this are marked."""
        return self.levels[self.map_name]

    def lowest_rate(self) -> float:
        """The lowest false-alarm rate that the number of calibration images can guarantee."""
        return 1 / (self.calibration.shape[1] + 1)

    def threshold(self, false_alarm_rate: float = 0.05) -> float:
        """Normal images score above it with at most `false_alarm_rate`, or `lowest_rate()` where that is higher."""
        scores = self.calibration[self.row]
        return min(conformal_threshold(scores, false_alarm_rate), float(scores.max()))

    def map(self, image: np.ndarray) -> np.ndarray:
        """The chosen map of a uint8 image ``(C, H, W)`` of any size, float32 ``(H, W)`` of the image's own."""
        return resized(self.working_map(image), image.shape[1:])

    def working_map(self, image: np.ndarray) -> np.ndarray:
        """The chosen map at the size the image is worked on, float32 ``(h, w)``: `score` and thresholds are of it."""
        worked = working(image, self.settings.size, self.channels)
        return maps.maps(self.known, self.flow, self.ratio, worked)[self.map_name]

    def all_maps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Every map of `maps.NAMES`, float32 ``(H, W)`` of the image's own size."""
        found = maps.maps(self.known, self.flow, self.ratio, working(image, self.settings.size, self.channels))
        return {name: resized(values, image.shape[1:]) for name, values in found.items()}

    def score(self, values: np.ndarray) -> float:
        """An image's score from its `working_map`: the mean of the map's highest pixels, higher is more anomalous."""
        return image_score(values, LARGEST_SHARES[self.way])

    def score_samples(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Scores ``(N,)`` of uint8 images ``(C, H, W)``, higher is more anomalous."""
        return np.array([self.score(self.working_map(image)) for image in images])

    def predict(self, images: Sequence[np.ndarray], false_alarm_rate: float = 0.05) -> np.ndarray:
        """Whether each image is anomalous, bool ``(N,)``."""
        return self.score_samples(images) > self.threshold(false_alarm_rate)


# --- fitting ---------------------------------------------------------------------------------------------------------


def fit(
    images: Sequence[np.ndarray],
    sources: Sequence[Any] | None = None,
    settings: Settings | None = None,
    executor: Executor | None = None,
) -> Detector:
    """Fit on normal images, uint8 ``(C, H, W)`` each, of any sizes from 32x32 pixels on, grey and colour mixed.

    `sources` says what each image came from, such as its video: a source is never divided. `executor` runs the
    training; by default `flowlib.parallel.workers`. A fit that was interrupted goes on where it was.

    Raises DetectorError without an image, where one is smaller than 32x32, or without a source for each.
    """
    settings = settings or Settings()
    if len(images) == 0:
        raise DetectorError("there is no normal image to fit on: add images or videos of good parts")
    if sources is not None and len(sources) != len(images):
        raise DetectorError(f"there are {len(sources)} sources for {len(images)} images: give one for each")
    channels = max(len(image) for image in images)
    worked = [working(image, settings.size, channels) for image in images]
    names = list(range(len(images))) if sources is None else list(sources)
    if executor is None:
        with parallel.workers() as pool:
            return _fit(worked, names, channels, settings, pool)
    return _fit(worked, names, channels, settings, executor)


def _fit(
    images: list[np.ndarray], sources: list[Any], channels: int, settings: Settings, executor: Executor
) -> Detector:
    parts = divided(sources, settings.seed)
    training, choosing, calibrating = ([images[i] for i in part] for part in parts)
    side = min(CROP, *(8 * (min(image.shape[1:]) // 8) for image in images))
    seed = settings.seed
    ratio_recipe = Recipe("LocalRatio", {}, settings.ratio_steps, 8, learning_rate=3e-3, seed=seed)
    flow_recipe = Recipe("Glow", FLOW, settings.flow_steps, 16, seed=seed)
    jobs = [(training, CROPS, side, ratio_recipe), (training, PATCHES, PATCH, flow_recipe)]
    ratio, flow = (
        restored(found, recipe, (channels, size, size))
        for found, (_, _, size, recipe) in zip(parallel.run(trained, jobs, executor, "training"), jobs, strict=True)
    )
    few = min(KNOWN, len(training))
    known = maps.fit(flow, ratio, [training[i * len(training) // few] for i in range(few)], seed)  # of all sources
    models = (known, flow.state_dict(), ratio.state_dict(), channels, side)
    rng = np.random.default_rng(seed)
    copied = [i * max(1, len(choosing) // DAMAGED) % len(choosing) for i in range(DAMAGED)]  # of all sources
    damaged = [damaged_image(choosing[i], choosing, rng) for i in copied]
    nothing = [np.zeros(image.shape[1:], dtype=bool) for image in (*choosing, *calibrating)]
    work = [*zip((*choosing, *calibrating), nothing, strict=True), *damaged]
    chunks = [(*models, work[i : i + 8]) for i in range(0, len(work), 8)]
    read = [row for chunk in parallel.run(readings, chunks, executor, "choosing and calibrating") for row in chunk]
    normal, held, changed = np.split(np.arange(len(work)), [len(choosing), len(choosing) + len(calibrating)])
    choice = choice_table([read[i] for i in normal], [read[i] for i in changed])
    of_damaged = [sources[parts[1][i]] for i in copied]
    best = choice.loc[chosen(choice, [read[i] for i in normal], [read[i] for i in changed], of_damaged)]
    calibration = np.stack([read[i].scores.ravel() for i in held], axis=1)  # (maps * ways, n)
    levels = {
        name: float(np.quantile(np.concatenate([read[i].background[m] for i in held]), 0.995))
        for m, name in enumerate(maps.NAMES)
    }
    facts = {
        "images": [len(training), len(choosing), len(calibrating)],
        "sources": [len({sources[i] for i in part}) for part in parts],
        "shared": len(set(map(tuple, parts))) == 1,
    }
    return Detector(
        settings, channels, flow, ratio, known, choice, calibration, levels, best["map"], best["way"], facts
    )


def divided(sources: Sequence[Any], seed: int) -> list[np.ndarray]:
    """Indices of the images to train, choose and calibrate on; all, thrice, where there are under four sources."""
    names = list(dict.fromkeys(sources))
    if len(names) < 4:
        return [np.arange(len(sources))] * 3
    order = np.random.default_rng(seed).permutation(len(names))
    sizes = [max(1, round(share * len(names))) for share in SHARES]
    groups = np.split(order, [len(names) - sizes[1] - sizes[2], len(names) - sizes[2]])
    of_source = {name: group for group, members in enumerate(groups) for name in (names[i] for i in members)}
    group = np.array([of_source[source] for source in sources])
    return [np.flatnonzero(group == g) for g in range(3)]


def trained(images: list[np.ndarray], n: int, side: int, recipe: Recipe) -> Arrays:
    """One job: the parameters of a model trained on `n` random patches of the images."""
    patches = random_patches(images, n, side, recipe.seed)

    def make(checkpoint: Path) -> Artifact:
        model, _ = train(patches, recipe, checkpoint)
        return Artifact({f"model.{name}": to_numpy(value) for name, value in model.state_dict().items()}, {})

    parts = {
        "patches": artifacts.array_hash(patches),
        "recipe": asdict(recipe),
        "code": code_hash(__name__),
        "torch": torch.__version__,
    }
    return artifacts.cached("detector", parts, make).arrays


def restored(found: Arrays, recipe: Recipe, shape: tuple[int, int, int]) -> Any:
    model: Model = build(recipe, shape)
    load_parameters(model, Artifact(found, {}))
    return model.eval()


def damaged_image(
    image: np.ndarray, others: list[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """An image with made-up defects of the kinds that are for choosing, and their mask."""
    alike = [other for other in others if other.shape == image.shape]
    mask = np.zeros(image.shape[1:], dtype=bool)
    for _ in range(DEFECTS):
        image, changed = made_up.damage(image, alike[rng.integers(len(alike))], made_up.CHOICE, rng)
        mask |= changed
    return image, mask


class Reading(NamedTuple):
    """Of one image: scores ``(maps, ways)``, and every fifth pixel of each map, unchanged and changed ones."""

    scores: np.ndarray
    background: np.ndarray
    changed: np.ndarray


def readings(
    known: Arrays,
    flow_state: Any,
    ratio_state: Any,
    channels: int,
    side: int,
    work: list[tuple[np.ndarray, np.ndarray]],
) -> list[Reading]:
    """One job: what the choice and the calibration need of some images and the masks of their made-up defects."""
    flow = Glow((channels, PATCH, PATCH), **FLOW)
    flow.load_state_dict(flow_state)
    ratio = LocalRatio((channels, side, side))
    ratio.load_state_dict(ratio_state)
    ratio.eval()
    out = []
    for image, mask in work:
        found = np.stack(list(maps.maps(known, flow, ratio, image).values()))  # (maps, H, W)
        scores = np.array([[image_score(values, share) for share in LARGEST_SHARES.values()] for values in found])
        pixels, inside = found.reshape(len(found), -1)[:, ::5], mask.ravel()[::5]
        out.append(Reading(scores, pixels[:, ~inside], pixels[:, inside]))
    return out


def choice_table(normal: list[Reading], damaged: list[Reading]) -> pd.DataFrame:
    """How well each map, and each way from a map to a score, finds the made-up defects: AUROC of pixels and images."""
    rows = []
    for m, name in enumerate(maps.NAMES):
        inside = np.concatenate([reading.changed[m] for reading in damaged])
        outside = np.concatenate([reading.background[m] for reading in (*normal, *damaged)])
        pixels = auroc(outside, inside)
        for w, way in enumerate(LARGEST_SHARES):
            images = auroc(*(np.array([reading.scores[m, w] for reading in group]) for group in (normal, damaged)))
            rows.append((name, way, pixels, images, (pixels + images) / 2))
    return pd.DataFrame(rows, columns=list(CHOICE_COLUMNS))


def chosen(choice: pd.DataFrame, normal: list[Reading], damaged: list[Reading], sources: Sequence[Any]) -> int:
    """The row of `choice` to use: the best, unless it knows the place and does not earn it.

    It earns it where, over the `sources` of the damaged images, the mean of what it finds more than the best row
    without the place is above its standard error (the rule of one standard error, Breiman et al. 1984, section 3.4).
    """
    by_place = choice["map"].str.contains(maps.BY_PLACE, regex=False)
    best, plain = int(choice["found"].idxmax()), int(choice.loc[~by_place, "found"].idxmax())
    if best == plain:
        return best
    gain = pd.Series(found_in_each(best, normal, damaged) - found_in_each(plain, normal, damaged))
    of_source = gain.groupby(pd.Series([str(source) for source in sources])).mean()
    return best if len(of_source) > 1 and of_source.mean() > of_source.sem() else plain


def found_in_each(row: int, normal: list[Reading], damaged: list[Reading]) -> np.ndarray:
    """Of each damaged image, ``(D,)``: mean of its own pixels' AUROC and of the share of normal images it outscores."""
    m, w = divmod(row, len(LARGEST_SHARES))
    scores = np.array([reading.scores[m, w] for reading in normal])
    pixels = [auroc(r.background[m], r.changed[m]) if r.changed[m].size else 0.5 for r in damaged]
    images = [auroc(scores, reading.scores[m, w : w + 1]) for reading in damaged]
    return (np.array(pixels) + np.array(images)) / 2


# --- images and maps -------------------------------------------------------------------------------------------------


def working(image: np.ndarray, size: int, channels: int) -> np.ndarray:
    """The image as it is worked on: reduced by area to `size` pixels on its longest side, with 1 or 3 channels.

    The shorter side stays at 32 pixels or more. Raises DetectorError for an image smaller than that.
    """
    given, H, W = image.shape
    if min(H, W) < SMALLEST:
        raise DetectorError(f"the image has {W}x{H} pixels, it must have at least {SMALLEST}x{SMALLEST}")
    if given < channels:
        image = np.repeat(image, 3, 0)
    elif given > channels:
        image = np.asarray(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).convert("L"))[None]
    factor = min(1.0, max(size / max(H, W), SMALLEST / min(H, W)))
    if factor == 1:
        return image
    shape = (max(SMALLEST, round(factor * W)), max(SMALLEST, round(factor * H)))
    return np.stack([np.asarray(Image.fromarray(c).resize(shape, Image.Resampling.BOX)) for c in image])


def resized(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A map at an image's own size, linear in between: ``(h, w)`` to ``(H, W)``."""
    if values.shape == tuple(shape):
        return values
    return np.asarray(Image.fromarray(values).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def image_score(values: np.ndarray, share: float) -> float:
    """The mean of the highest `share` of a map's pixels, of one at least."""
    n = max(1, round(share * values.size))
    return float(np.partition(values, -n, axis=None)[-n:].mean(dtype=np.float64))


def worst_region(values: np.ndarray, level: float) -> Region:
    """The box of the connected pixels above `level` around a map's highest one; where none is, of its top tenth."""
    top = np.unravel_index(values.argmax(), values.shape)
    low = np.median(values)
    above = values >= min(level, low + 0.9 * (values[top] - low))
    parts, _ = label(above, np.ones((3, 3)))
    rows, columns = np.nonzero(parts == parts[top])
    return Region(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)


# --- on disk ---------------------------------------------------------------------------------------------------------


def save(detector: Detector, folder: Path) -> Path:
    """Write ``detector.safetensors`` and, to be read by people, ``choice.csv``; returns the first's path."""
    folder = Path(folder)
    with artifacts.clear_error(folder / "detector.safetensors"):
        folder.mkdir(parents=True, exist_ok=True)
    arrays: Arrays = {"calibration": detector.calibration}
    for prefix, model in (("flow", detector.flow), ("ratio", detector.ratio)):
        arrays |= {f"{prefix}.{name}": to_numpy(value) for name, value in model.state_dict().items()}
    arrays |= {f"known.{name}": value for name, value in detector.known.items()}
    notes = {
        "settings": asdict(detector.settings),
        "channels": detector.channels,
        "choice": detector.choice.to_dict("list"),
        "levels": detector.levels,
        "map": detector.map_name,
        "way": detector.way,
        "facts": detector.facts,
    }
    path = folder / "detector.safetensors"
    artifacts.write(path, Artifact(arrays, notes))
    detector.choice.sort_values("found", ascending=False).to_csv(
        folder / "choice.csv", index=False, float_format="%.4f"
    )
    return path


def load(folder: Path) -> Detector:
    """Read what `save` wrote. Raises DetectorError when it is missing, damaged, or not what a detector can be."""
    path = Path(folder) / "detector.safetensors"
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"its {path.stat().st_size / 1e6:.0f} MB are more than a detector has")
        arrays, notes = artifacts.read(path)
        channels = notes["channels"]
        if channels not in (1, 3):
            raise ValueError(f"channels is {channels!r}, not 1 or 3")
        flow, ratio = Glow((channels, PATCH, PATCH), **FLOW), LocalRatio((channels, CROP, CROP))
        for prefix, model in (("flow", flow), ("ratio", ratio)):
            own = {
                f"model{name.removeprefix(prefix)}": a for name, a in arrays.items() if name.startswith(f"{prefix}.")
            }
            load_parameters(model, Artifact(own, {}))  # type: ignore[arg-type]
        known = {name.removeprefix("known."): a for name, a in arrays.items() if name.startswith("known.")}
        settings, choice = Settings(**notes["settings"]), pd.DataFrame(notes["choice"], columns=list(CHOICE_COLUMNS))
        found = Detector(settings, channels, flow.eval(), ratio.eval(), known, choice, arrays["calibration"],
                         notes["levels"], notes["map"], notes["way"], notes["facts"])  # fmt: skip
        check(found, arrays)
        return found
    except FileNotFoundError:
        raise DetectorError(f"{path} is not there: fit a detector first, flowlib fit FOLDER --out {folder}") from None
    except (ArithmeticError, AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).removeprefix(f"{path} ").split(": delete it")[0].split())
        raise DetectorError(f"{path} is no detector of this version ({reason}): fit it anew") from error


def check(found: Detector, arrays: Arrays) -> None:
    """Refuse what was read but cannot be used: ValueError or TypeError, or whatever a first small map raises."""
    for name, array in arrays.items():
        if array.dtype.kind not in "fi" or not np.isfinite(array).all():
            raise ValueError(f"{name} holds what is no finite number")
    for model, prefix in ((found.flow, "flow"), (found.ratio, "ratio")):
        for name, value in model.state_dict().items():
            if arrays[f"{prefix}.{name}"].dtype != to_numpy(value).dtype:
                raise ValueError(f"{prefix}.{name} is {arrays[f'{prefix}.{name}'].dtype}, not {to_numpy(value).dtype}")
    rows = [(name, way) for name in maps.NAMES for way in LARGEST_SHARES]
    if list(zip(found.choice["map"], found.choice["way"], strict=True)) != rows or found.choice.isna().any(axis=None):
        raise ValueError("its choice is not of these maps and ways")
    if found.calibration.shape != (len(rows), max(1, found.calibration.shape[-1])):
        raise ValueError(f"calibration has shape {found.calibration.shape}, its choice {len(rows)} rows")
    numbers = [
        *found.levels.values(),
        *asdict(found.settings).values(),
        *found.choice[list(CHOICE_COLUMNS[2:])].to_numpy().flat,
    ]
    counts = [*found.facts["images"], *found.facts["sources"]]
    if set(found.levels) != set(maps.NAMES) or not all(math.isfinite(number) for number in numbers):
        raise ValueError("its levels, settings and choice are not finite numbers, one a map")
    if len(counts) != 6 or not all(type(n) is int for n in counts) or type(found.facts["shared"]) is not bool:
        raise ValueError("its facts are not the numbers of images and sources")
    found.row  # noqa: B018 - DetectorError where there is no such map or way
    with np.errstate(all="ignore"):
        tried = found.all_maps(np.zeros((found.channels, SMALLEST, SMALLEST), np.uint8))
    if not all(np.isfinite(values).all() for values in tried.values()):
        raise ValueError("its maps of a black image are not finite")
