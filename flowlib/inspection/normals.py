"""Reading the images and videos of good parts that a detector is fitted on, and telling what the fit came to.

Videos carry markings in their corners (clock, logo, cursor) that change from video to video. Their rows are left out
here and where videos are scored, as `flowlib.inspection.ingest` does.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from flowlib.detector.model import SMALLEST, Detector, DetectorError, Settings, working
from flowlib.inspection.cropping import MARGIN, unmarked_rows
from flowlib.inspection.ingest import IngestError, read_manifest
from flowlib.inspection.layouts import check_normal, in_doubt, layout, left_out, top
from flowlib.inspection.media import Frame, MediaError, is_video
from flowlib.inspection.pictures import read_picture
from flowlib.inspection.videos import video_frames

SURVEYED = 30  # frames in which markings are looked for
SURVEY_STEP = 20  # frames from one to the next, so that of a long video only the beginning is read for it
MOST = 600  # normal images that are kept in memory
RATE = 0.05  # false alarms among normal images


class Normal(NamedTuple):
    """Normal images as a detector works on them, uint8 ``(C, H, W)``, and the file or video that each is of; the
    reasons of files that could not be read; how many images there would have been without `MOST`; and lines on what
    is doubtful."""

    images: list[np.ndarray]
    sources: list[str]
    refused: list[str]
    available: int
    notes: list[str]


def read_normal(
    folder: Path,
    video_frames_each: int = 30,
    size: int = Settings.size,
    most: int = MOST,
    also: Mapping[Path, str] | None = None,
) -> Normal:
    """Read the normal files of a folder (`flowlib.inspection.layouts.layout`): images, and evenly spread frames of
    each video.

    Arguments
    ---------
    folder: of images and videos, laid out as MVTec AD or not; or one that `flowlib.inspection.ingest` made, whose
        manifest tells which frames are of one video.
    video_frames_each: frames of a video, or all of a shorter one.
    size: longest side that images are reduced to at once, as `detector.Settings.size`.
    most: images that are kept; of more, these many are taken, evenly spread over the files.
    also: other files, and the source that each is of (`flowlib.inspection.marks.false_alarms`).

    Files that cannot be read are listed in `refused`, of a damaged video what comes before the damage is kept.

    Raises MediaError when `folder` is not a folder or its folders' names say that not all of it is normal, and
    DetectorError when an argument is wrong or nothing can be used.
    """
    folder = Path(folder)
    for name, number in (("frames", video_frames_each), ("most", most)):
        if number < 1:
            raise DetectorError(f"{name} is {number}, it must be at least 1")
    found = layout(folder)
    check_normal(folder, found.normal)
    also = also or {}
    files = [*found.normal, *also]
    videos = videos_of_frames(folder)
    places = [path for path in files for _ in range(video_frames_each if is_video(path) else 1)]
    taken = [places[i * len(places) // most] for i in range(most)] if len(places) > most else places
    images: list[np.ndarray] = []
    sources: list[str] = []
    refused = [f"{path} {why}" for path, why in found.refused if not found.test or top(path, folder) == "train"]
    doubts: list[tuple[Path, str]] = []
    for path, count in tqdm(Counter(taken).items(), desc="reading", unit="file", disable=None):
        source = also.get(path) or videos.get(path.relative_to(folder).as_posix(), str(path))
        try:
            rows = unmarked(path)
            for frame in frames_of(path, count):
                images.append(working(frame.image[:, rows], size, len(frame.image)))
                sources.append(source)
                if frame.note:
                    doubts.append((path, frame.note))
        except (MediaError, DetectorError) as error:
            refused.append(named(error, path))
    if not images:
        reason = "; ".join(["", *(f"the first reason: {why}" for why in refused[:1]), *left_out(folder)])
        raise DetectorError(
            f"{folder} holds no normal image or video that can be used: add PNG, JPEG, TIFF, MP4, AVI, ... files of "
            f"good parts, in train/good if it has a folder train{reason}"
        )
    return Normal(images, sources, refused, len(places), [*in_doubt(folder, found.normal), *by_folder(doubts)])


def videos_of_frames(folder: Path) -> dict[str, str]:
    """The video that each image of an ingested folder was taken from, by the image's path in the folder."""
    with suppress(IngestError):  # a manifest.csv of someone else's
        return {row["file"]: source for source, rows in read_manifest(folder).items() for row in rows}
    return {}


def frames_of(path: Path, count: int) -> Iterator[Frame]:
    """An image as a single frame, or `count` evenly spread ones of a video."""
    return video_frames(path, count) if is_video(path) else iter([read_picture(path)])


def frames_at(path: Path, count: int, every: int | None = None) -> Iterator[Frame]:
    """As `frames_of`, or each `every`-th frame of a video to its end."""
    return islice(video_frames(path), 0, None, every) if every and is_video(path) else frames_of(path, count)


def unmarked(path: Path) -> slice:
    """The rows of a video between the markings in its corners, or, where these cannot be told from the scene, without a
    tenth of the height at both ends, as in `flowlib.inspection.ingest`; all of an image, or of a very low video."""
    if not is_video(path):
        return slice(None)
    beginning = islice(video_frames(path), 0, SURVEYED * SURVEY_STEP, SURVEY_STEP)
    for frames in (beginning, video_frames(path, SURVEYED)):
        if rows := unmarked_rows(alike(frames)):
            return slice(*rows)
    height = next((image.shape[1] for image in alike(video_frames(path, 1))), 0)
    margin = round(MARGIN * height)
    return slice(margin, height - margin) if height - 2 * margin >= SMALLEST else slice(None)


def alike(frames: Iterable[Frame]) -> Iterator[np.ndarray]:
    """Their images, up to the first of another size or the end of what can be read."""
    shape = None
    with suppress(MediaError):  # told when the frames are read to be used
        for frame in frames:
            shape = shape or frame.image.shape
            if frame.image.shape != shape:
                return
            yield frame.image


def doubts(table: pd.DataFrame, column: str) -> list[str]:
    """What is doubtful about files that were read, by a table with the files in `column`, in lines for people."""
    read = table[(table["status"] == "ok") & (table["message"] != "")]
    return by_folder((Path(file), note) for file, note in zip(read[column], read["message"], strict=True))


def by_folder(notes: Iterable[tuple[Path, str]]) -> list[str]:
    """Notes on files, one line for all files of a folder that have the same."""
    files: dict[tuple[Path, str], list[Path]] = {}
    for path, note in dict.fromkeys(notes):
        files.setdefault((path.parent, note), []).append(path)
    return [
        f"warning: {first}: {note}{f' ({len(others)} more in its folder)' if others else ''}"
        for (_, note), (first, *others) in files.items()
    ]


def named(error: Exception, path: Path) -> str:
    return str(error) if str(path) in str(error) else f"{path}: {error}"


def described(detector: Detector, rate: float = RATE) -> list[str]:
    """What a fit came to, in lines for people."""
    train, calibrate = (
        f"{images} of {sources} file{'s' if sources > 1 else ''}"
        for images, sources in zip(detector.facts.images, detector.facts.sources, strict=True)
    )
    n, least = len(detector.calibration), detector.lowest_rate()
    lines = [
        f"images: {train} to train, {calibrate} to calibrate the threshold",
        f"map: negative log-likelihood of {detector.settings.features} under a flow, less what is usual in its context",
        f"threshold {detector.threshold(rate):.4g} at a false-alarm rate of {rate:.0%}; {n} calibration images can "
        f"guarantee {least:.1%} and more",
    ]
    return lines


def warnings(detector: Detector, rate: float = RATE) -> list[str]:
    """What the threshold cannot promise, in lines for people."""
    n, least = len(detector.calibration), detector.lowest_rate()
    needed, sources = ceil(1 / Fraction(str(rate))) - 1, detector.facts.sources[1]
    if detector.facts.shared:
        return [
            "warning: fitted on fewer than 4 normal files, so that the same images train and calibrate: the "
            "threshold guarantees nothing and will give false alarms; add normal images or videos"
        ]
    if least > rate:
        return [
            f"warning: {n} calibration images are too few for a false-alarm rate of {rate:.3g}, which takes "
            f"{needed}: the threshold stands for {least:.3g}; fit on more normal files"
        ]
    if sources < min(needed, n):
        return [
            f"warning: the {n} calibration images are of {sources} video{'s' if sources > 1 else ''} only, whose "
            f"frames are alike: in other videos the rate may differ much from {rate:.3g}; fit on more videos"
        ]
    return []
