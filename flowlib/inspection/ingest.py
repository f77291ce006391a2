"""From a folder of videos and images to a folder of cropped frames, with a manifest of what came from where.

The thesis (section 5) takes 300 frames at a constant rate from each video, trains on every tenth, and crops them "with
the size depending on the aspect ratio of the video and also to get rid of the unnecessary markings present on the
frames in all four corners".
"""

import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from flowlib.inspection.cropping import Box, crop_box
from flowlib.inspection.layouts import layout, left_out, natural
from flowlib.inspection.media import Frame, MediaError, is_video
from flowlib.inspection.pictures import read_image, read_mask, read_picture
from flowlib.inspection.videos import video_frames
from flowlib.runtime import parallel
from flowlib.runtime.files import Rows, check_inside, is_of_name, read_rows, readable, resuming, write_rows

TYPES = {"file": "str", "source": "str", "frame": "Int64", "seconds": "Float64", "width": "Int64", "height": "Int64"}
EMPTY = np.empty(0, dtype=np.uint8)
TYPES |= dict.fromkeys(("x0", "y0", "x1", "y1"), "Int64") | dict.fromkeys(("status", "message", "fingerprint"), "str")


class IngestError(ValueError):
    """Nothing can be ingested as asked; the message names the folder or argument and says what to do."""


class Job(NamedTuple):
    """A source, its path inside the source folder, its label files by the suffix of their kind, whether its folder
    says that it shows a defect, and why it is refused if it is known beforehand."""

    path: Path
    inside: Path
    labels: dict[str, Path]
    defect: bool
    fault: str = ""


def ingest(
    source: Path, out: Path, frames: int = 300, every: int = 10, crop: str | Box = "auto", grey: bool = False
) -> pd.DataFrame:
    """Turn the videos and images of a folder into cropped PNG files in the same folders below `out`.

    Arguments
    ---------
    source: a folder, in the layout of MVTec AD or not (`flowlib.inspection.layouts.layout`).
    out: a folder outside of `source`. Run again, it goes on: sources that are in its manifest, and neither changed nor
        refused, are not read again; frames of sources that have changed or vanished are deleted.
    frames, every: of each video, `frames` evenly spread ones, or all of a shorter video, and of these each `every`-th,
        beginning with the first: 300 and 10 give 30 images a video.
    crop: "auto" leaves images as they are and cuts off the rows of videos that hold markings
        (`flowlib.inspection.cropping.unmarked_rows`), or 10 % of the height at the top and the bottom where that cannot
        be told. "none", or a box in pixels, "x0,y0,x1,y1" (x1 and y1 excluded), goes for images and videos alike.
    grey: write grey images also where the source is of colour.

    Writes
    ------
    FOLDER/STEM_f000120.png for frame 120 of the video FOLDER/STEM.*, FOLDER/STEM.png for an image.
    ground_truth/DEFECT/..._mask.png: the frame's mask, 0 or 255, from the mask ground_truth/DEFECT/STEM_mask.*, an
        image or a grey video frame for frame, cropped alike. A frame of a defect whose mask is empty within the crop
        shows no defect and is left out.
    regions/LABEL/....png: likewise from regions/LABEL/STEM.* or STEM_regions.*, grey videos of labels.
    manifest.csv: the returned table; settings.json: what it was made of and with.

    Returns
    -------
    a row for each image written, and for what was not: file and source (in `out` and `source`), frame, seconds, width
    and height of the source, the box x0, y0, x1, y1 of it that was kept, status, message, fingerprint of the source.
    Status: "ok", "no defect" (left out, as above), "damaged" (of the video only the frames in the rows above could be
    read) or "refused" (of the source nothing was taken). `file` is empty unless the status is "ok".

    Raises
    ------
    IngestError: an argument is wrong, `out` lies in `source`, was made of another source or with other settings, is in
        use or cannot be written, or nothing at all could be read.
    MediaError: `source` is not a folder, or a file of its ``test`` has no label.
    """
    source, out = Path(source), Path(out)
    for name, number in (("frames", frames), ("every", every)):
        if number < 1:
            raise IngestError(f"{name} is {number}, it must be at least 1")
    settings = {
        "source": str(source.resolve()),
        "frames": frames,
        "every": every,
        "crop": parse_crop(crop),
        "grey": grey,
    }
    jobs = jobs_in(source)
    if not jobs:
        others = "".join(f" ({line})" for line in left_out(source))
        raise IngestError(
            f"{source} holds no image or video{others}: name a folder of PNG, JPEG, TIFF, MP4, AVI, ... files"
        )
    if out.resolve().is_relative_to(source.resolve()):
        raise IngestError(f"out {out} lies in the source {source}: name a folder outside of it")

    def conflict(noted: dict[str, Any]) -> str:
        other = f"{out} was made of another source or with other settings, see {out / 'settings.json'}"
        return "" if noted == settings else f"{other}: name another folder"

    with resuming(out, settings, conflict, IngestError):
        manifest = run(jobs, out, settings)
    if not (manifest["status"] == "ok").any():
        first = manifest["message"].iloc[0]
        raise IngestError(f"nothing in {source} could be used, see {out / 'manifest.csv'}; the first reason: {first}")
    return manifest


def parse_crop(crop: str | Box) -> str | list[int]:
    """The argument `crop`, a box as a list of its four numbers."""
    if isinstance(crop, str) and crop in ("auto", "none"):
        return crop
    try:
        x0, y0, x1, y1 = (int(number) for number in (crop.split(",") if isinstance(crop, str) else crop))
    except (ValueError, TypeError):
        raise IngestError(f'crop is {crop!r}, it must be "auto", "none" or "x0,y0,x1,y1" in pixels') from None
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise IngestError(f"crop is {x0},{y0},{x1},{y1}: x1 must be above x0, y1 above y0, and none below 0")
    return [x0, y0, x1, y1]


def jobs_in(source: Path) -> list[Job]:
    """The sources in their order, with what belongs to each, and those that must be refused."""
    found = layout(source)
    defects = {path for label, path in found.test if label != "good"}
    regions = {
        path.relative_to(source / "regions").with_name(path.stem.removesuffix("_regions")): path
        for path in sorted((source / "regions").rglob("*"))
        if is_video(path)
    }
    jobs = [Job(path, path.relative_to(source), {}, False, f"{path} {why}") for path, why in found.refused]
    for path in found.media:
        inside = path.relative_to(source)
        labels = {"_mask": found.masks[path]} if path in found.masks else {}
        if is_video(path) and (beside := regions.get(label_folder(inside) / path.stem)):
            labels["_regions"] = beside
        jobs.append(Job(path, inside, labels, path in defects))
    return sorted(jobs, key=lambda job: natural(job.inside))


def run(jobs: list[Job], out: Path, settings: dict[str, Any]) -> pd.DataFrame:
    """Ingest what is not in `out` yet; the manifest is written anew after each source."""
    folds = (out / ".LOCK").exists()  # a disk to which names that differ by case are the same
    first: dict[tuple[bool, str], Job] = {}  # whoever has a name first gives the frames of that name
    for job in jobs:
        if not job.fault:
            first.setdefault(frames_name(job, folds), job)
    takers = {job.inside.as_posix() for job in first.values()}
    rows = read_manifest(out)
    for gone in [source for source in rows if source not in takers]:
        remove(rows.pop(gone), out)
    for job in tqdm(jobs, desc="ingest", unit="file", disable=not parallel.watched()):
        source, mark = readable(job.inside.as_posix()), fingerprint(job)
        if is_current(rows.get(source, []), mark, out):
            continue
        if job.fault:
            new: Rows = [{"message": job.fault}]
        elif source in takers:
            remove(rows.get(source, []), out)
            with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=out) as stage:
                new = take(job, out, Path(stage), settings)
        else:
            other = first[frames_name(job, folds)].path
            new = [{"message": f"{job.path} would replace the frames of {other}: rename it"}]
        blank = {"file": "", "source": source, "status": "refused", "message": "", "fingerprint": mark}
        rows[source] = [blank | row for row in new]
        write_manifest(out, rows, jobs)
    return write_manifest(out, rows, jobs)


def frames_name(job: Job, folds: bool) -> tuple[bool, str]:
    """Equal for sources whose frames would have the same names."""
    name = str(job.inside.with_suffix(""))
    return is_video(job.path), unicodedata.normalize("NFC", name).casefold() if folds else name


def take(job: Job, out: Path, stage: Path, settings: dict[str, Any]) -> Rows:
    """Read one source into `stage`, crop it from there into `out`, and return its rows of the manifest.

    The stage holds the frames on disk: how to crop is known when all have been seen, and no video fits in memory.
    """
    kept: list[tuple[str, Frame]] = []  # name of each frame, and all of it but the image
    width = height = 0
    fault = ""
    try:
        for frame, labels in pictures(job, settings):
            height, width = frame.image.shape[1:]
            for suffix, values in {"": frame.image, **labels}.items():
                save(values, stage / f"{len(kept)}{suffix}.png", settings["grey"])
            name = f"{job.path.stem}_f{frame.index:06}.png" if is_video(job.path) else f"{job.path.stem}.png"
            kept.append((name, frame._replace(image=EMPTY)))
    except MediaError as error:
        fault = str(error)
    if not kept:
        return [{"message": fault}]
    images = (read_image(stage / f"{number}.png") for number in range(len(kept)))
    box, note = crop_box(settings["crop"], width, height, images if is_video(job.path) else None)
    if box is None:
        return [{"message": f"{job.path} {note}"}]
    place = {"width": width, "height": height, "x0": box[0], "y0": box[1], "x1": box[2], "y1": box[3]}
    rows: Rows = []
    for number, (name, frame) in enumerate(kept):
        rows.append({"frame": frame.index, "seconds": frame.seconds, **place})
        if job.defect and "_mask" in job.labels and not cut(stage / f"{number}_mask.png", box).getbbox():
            rows[-1] |= {"status": "no defect", "message": "the mask is empty within the crop"}
            continue
        file = job.inside.parent / name
        rows[-1] |= {"file": file.as_posix(), "status": "ok", "message": note or frame.note}
        try:
            for suffix in ("", *job.labels):
                publish(stage / f"{number}{suffix}.png", box, out / targets(file)[suffix])
        except OSError as error:
            if not is_of_name(error):
                raise
            remove(rows, out)
            message = f"{job.path}: its frames cannot be written under its name ({error.strerror}): rename it"
            return [{"message": message}]
    return [*rows, {"status": "damaged", "message": fault}] if fault else rows


def pictures(job: Job, settings: dict[str, Any]) -> Iterator[tuple[Frame, dict[str, np.ndarray]]]:
    """The frames to keep of a source, each with its labels uint8 (1, H, W). MediaError when these do not fit it."""
    labels: dict[str, np.ndarray]
    if not is_video(job.path):
        frame = read_picture(job.path)
        labels = {suffix: 255 * read_mask(path, frame.image.shape[1:])[None] for suffix, path in job.labels.items()}
        yield frame, labels
        return
    streams = {suffix: video_frames(path) for suffix, path in job.labels.items()}
    shape = None
    for frame in islice(video_frames(job.path, settings["frames"]), 0, None, settings["every"]):
        shape = shape or frame.image.shape
        if frame.image.shape != shape:
            raise MediaError(f"{job.path} changes its size or colour at frame {frame.index}: cut it in two there")
        labels = {}
        for suffix, stream in streams.items():
            label = next((label.image for label in stream if label.index == frame.index), None)
            if label is None or label.shape != (1, *shape[1:]):
                raise MediaError(
                    f"{job.labels[suffix]} is not {job.path} frame for frame, of its size and in grey: make it anew"
                )
            labels[suffix] = 255 * (label > 0) if suffix == "_mask" else label
        yield frame, labels


def save(values: np.ndarray, path: Path, grey: bool) -> None:
    """Write uint8 (1 or 3, H, W) as PNG; masks may come as any integers."""
    pixels = values.astype(np.uint8, copy=False)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    (picture.convert("L") if grey else picture).save(path, compress_level=1)


def cut(path: Path, box: Box) -> Image.Image:
    with Image.open(path) as image:
        return image.crop(box)


def publish(staged: Path, box: Box, path: Path) -> None:
    """Crop a PNG file and move it to where it belongs, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(staged) as image:
        whole = box == (0, 0, *image.size)
    if not whole:
        cut(staged, box).save(staged, compress_level=1)
    staged.replace(path)


def fingerprint(job: Job) -> str:
    """Sizes and times of change of a source and its labels: whether it is still what was read."""
    try:
        stats = [path.stat() for path in (job.path, *job.labels.values())]
    except OSError:  # told when it is read
        return ""
    return " ".join(f"{stat.st_size}@{stat.st_mtime_ns}" for stat in stats)


def is_current(rows: Rows, mark: str, out: Path) -> bool:
    """Whether a source needs no reading: its rows are of its present state, and their files are there."""
    return bool(rows and mark) and all(
        row["fingerprint"] == mark and row["status"] != "refused" and (not row["file"] or (out / row["file"]).exists())
        for row in rows
    )


def remove(rows: Rows, out: Path) -> None:
    """Delete what was made of a source that has vanished or changed."""
    for row in rows:
        for target in targets(Path(row["file"])).values() if row["file"] else []:
            with suppress(OSError):  # a name that is too long was never written
                (out / target).unlink(missing_ok=True)


def targets(file: Path) -> dict[str, Path]:
    """Where a frame and its labels lie in the folder that is made, by the suffix of their kind."""
    folder = label_folder(file)
    mask = Path("ground_truth", folder, f"{file.stem}_mask.png")
    return {"": file, "_mask": mask, "_regions": Path("regions", folder, file.name)}


def label_folder(inside: Path) -> Path:
    """Where in ``ground_truth`` and ``regions`` the labels of a file lie: its folder without ``train`` or ``test``."""
    parts = inside.parent.parts
    return Path(*parts[1:]) if parts and parts[0].casefold() in ("train", "test") else inside.parent


def read_manifest(out: Path) -> dict[str, Rows]:
    """The rows of each source, none when there is no manifest yet."""
    path = out / "manifest.csv"
    try:
        found = read_rows(path, TYPES, "source")
        check_inside(row["file"] for rows in found.values() for row in rows)
        return found
    except (ValueError, KeyError) as error:
        raise IngestError(f"{path} is damaged ({error}): delete it, all will be read again") from error


def write_manifest(out: Path, rows: dict[str, Rows], jobs: list[Job]) -> pd.DataFrame:
    """All rows there are, in the order of the sources."""
    return write_rows(out / "manifest.csv", TYPES, rows, [readable(job.inside.as_posix()) for job in jobs])
