"""What good parts score: where the thresholds of images and of whole videos come from, at a fit or anew.

`fit` scores the videos and images that it held out as `score` would, frame for frame, and keeps the scores beside the
detector. `calibrate` does so with other good parts, of another camera, engine or lamp, without training anything, and
compares: where the new good parts score unlike those of the fit, the thresholds still keep their promise, but what they
find may be less, and it is time to fit again.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from scipy.stats import ks_2samp

from flowlib.detector import storage
from flowlib.detector.fitting import divided
from flowlib.detector.model import Detector, DetectorError
from flowlib.inspection.layouts import layout
from flowlib.inspection.media import MediaError, is_video
from flowlib.inspection.normals import frames_at, named, unmarked, videos_of_frames
from flowlib.inspection.tracks import video_score
from flowlib.runtime import parallel
from flowlib.runtime.files import write_text

FRAMES = 60  # evenly spread ones of each video, of which its score is made
UNLIKE = 0.01  # of calibrations on good parts like those of the fit that are told to fit again, at most
FILE = "good_parts.json"  # beside the detector


class Good(BaseModel):
    """Scores of good parts: of each image, and of each video's frames in the order of time, by file; and how frames of
    videos were chosen (`sampling`)."""

    model_config = ConfigDict(extra="forbid")

    images: dict[str, FiniteFloat] = {}
    videos: dict[str, list[FiniteFloat]] = {}
    sampling: str = ""

    def of_videos(self) -> list[float]:
        """What thresholds of videos are calibrated on, ``(n,)``."""
        return [float(video_score(np.array(track))) for track in self.videos.values()]

    def scores(self) -> np.ndarray:
        """Of all images and frames, what thresholds of images are calibrated on, ``(n,)``."""
        return np.array([*self.images.values(), *(score for track in self.videos.values() for score in track)])


class Kept(BaseModel):
    """What lies beside a detector: its file's SHA-256, the files that trained it, what good parts scored at its fit,
    and what they did at the last calibration."""

    model_config = ConfigDict(extra="forbid")

    detector: str
    trained: list[str]
    of_fit: Good
    good: Good


class Measured(NamedTuple):
    """Good parts, and why files could not be read."""

    good: Good
    refused: list[str]


def sampling(frames: int, every: int | None) -> str:
    """How frames of a video are chosen, in words: scores of videos can be compared where these are the same."""
    return f"each {every}th frame" if every else f"{frames} frames"


def measured(
    model: Path,
    folder: Path,
    files: Sequence[Path],
    frames: int = FRAMES,
    every: int | None = None,
    executor: Executor | None = None,
) -> Measured:
    """Score good files with a saved detector as `flowlib.inspection.scan.scan` does.

    model: folder of the detector. folder: that `files` lie in, whose manifest, where `flowlib.inspection.ingest` wrote
    one, tells which images are frames of one video. frames, every: as of `scan`.
    """
    with ExitStack() as stack:
        executor = executor or stack.enter_context(parallel.processes())
        key = digest(model)
        jobs = [(model, key, path, frames, every) for path in files]
        found = parallel.run(track_of, jobs, executor, "scoring good parts")
    videos_of = videos_of_frames(folder)
    good = Good(sampling=sampling(frames, every))
    for path, (track, _) in zip(files, found, strict=True):
        place = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
        if track and (is_video(path) or place in videos_of):  # ingested frames lie in the order of their time
            good.videos.setdefault(videos_of.get(place, place), []).extend(track)
        elif track:
            good.images[place] = track[0]
    return Measured(good, [reason for _, reason in found if reason])


def track_of(model: Path, key: str, path: Path, frames: int, every: int | None) -> tuple[list[float], str]:
    """One job: the scores of a video's frames, or of an image; and why it could not be read, or not to its end: such a
    video is left out, as its score is of less than it should be. key: `digest` of the detector."""
    detector = opened(model, key)
    try:
        rows = unmarked(path)
        images = (frame.image[:, rows] for frame in frames_at(path, frames, every))
        return [round(float(detector.score_samples([image])[0]), 6) for image in images], ""
    except (MediaError, DetectorError) as error:
        return [], named(error, path)


@lru_cache(maxsize=1)
def opened(model: Path, key: str) -> Detector:
    """A detector, read once by each process; `key` tells when it has changed."""
    return storage.load(model)


def after_fit(model: Path, folder: Path, sources: Sequence[str], seed: int, executor: Executor | None = None) -> None:
    """Note beside a detector that was just fitted and saved what the files that it held out score.

    sources: of the images that it was fitted on (`flowlib.inspection.normals.read_normal`). Where the fit held none
    out, for want of files, nothing is noted.
    """
    held: set[str] = set()
    if not storage.load(model).facts.shared:
        held = {sources[i] for i in divided(sources, seed)[-1]}
    videos_of = videos_of_frames(folder)
    places = {path: path.relative_to(folder).as_posix() for path in layout(folder).normal}
    files = [path for path, place in places.items() if videos_of.get(place, str(path)) in held]
    good = measured(model, folder, files, executor=executor).good if files else Good()
    trained = sorted(str(Path(source).resolve()) for source in set(sources) - held)
    write(model, Kept(detector=digest(model), trained=trained, of_fit=good, good=good))


def calibrate(
    model: Path, folder: Path, frames: int = FRAMES, every: int | None = None, executor: Executor | None = None
) -> tuple[Detector, list[str], list[str]]:
    """Set a saved detector's thresholds anew on the good parts of a folder, without training.

    Files that trained it are left out. Returns the detector, why it should be fitted anew (`unlike`; none is good
    news), and why files could not be read. Raises DetectorError where no good part is left.
    """
    model, folder = Path(model), Path(folder)
    detector, kept = storage.load(model), read(model)
    files = [path for path in layout(folder).normal if str(path.resolve()) not in kept.trained]
    good, refused = measured(model, folder, files, frames, every, executor)
    scores = good.scores()
    if not scores.size:
        reason = f"; the first reason: {refused[0]}" if refused else ""
        raise DetectorError(
            f"{folder} holds no good image or video that can be used and that the detector was not fitted on{reason}"
        )
    facts = replace(
        detector.facts,
        images=(detector.facts.images[0], scores.size),
        sources=(detector.facts.sources[0], len(good.images) + len(good.videos)),
        shared=False,
    )
    detector = replace(detector, calibration=scores, facts=facts)
    storage.save(detector, model)
    write(model, kept.model_copy(update={"detector": digest(model), "good": good}))
    return detector, unlike(kept.of_fit, good), refused


def unlike(old: Good, new: Good) -> list[str]:
    """Where new good parts score unlike those of the fit, in lines for people; none where no difference shows.

    Two-sample Kolmogorov-Smirnov test on the scores of whole files, as frames of one video are alike; images and videos
    each by themselves. Good parts like the old are called unlike with a probability of at most `UNLIKE` in all.
    """
    pairs = {"images": (list(old.images.values()), list(new.images.values()))}
    if old.sampling == new.sampling:
        pairs["videos"] = (old.of_videos(), new.of_videos())
    tested = {kind: pair for kind, pair in pairs.items() if all(pair)}
    lines = []
    for kind, (before, after) in tested.items():
        p = ks_2samp(before, after).pvalue
        if p > UNLIKE / len(tested):
            continue
        way = "higher" if np.median(after) > np.median(before) else "lower"
        lines.append(
            f"warning: the good {kind} score {way} than those of the fit (medians {np.median(after):.3g} and "
            f"{np.median(before):.3g} of {len(after)} and {len(before)}; Kolmogorov-Smirnov p = {p:.2g}; of good parts "
            f"like them {UNLIKE:.0%} at most are told so): the thresholds keep their promise, fit anew to find as much"
        )
    return lines


# --- on disk ---------------------------------------------------------------------------------------------------------


def write(model: Path, kept: Kept) -> None:
    write_text(Path(model) / FILE, kept.model_dump_json(indent=1))


def read(model: Path) -> Kept:
    """What lies beside a detector; nothing of good parts where there is nothing, or it is of another detector."""
    now = digest(model)
    nothing = Kept(detector=now, trained=[], of_fit=Good(), good=Good())
    path = Path(model) / FILE
    try:
        kept = Kept.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return nothing
    except (OSError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DetectorError(f"{path} is damaged ({reason}): delete it, then calibrate or fit anew") from error
    return kept if kept.detector == now else nothing


def digest(model: Path) -> str:
    return hashlib.sha256((Path(model) / "detector.safetensors").read_bytes()).hexdigest()
