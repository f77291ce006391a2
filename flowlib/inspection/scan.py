"""A detector put to work: a folder, video or image in; a table of verdicts, overlays, heat maps and tracks out.

A file that cannot be read gets a row with the reason, and the rest goes on.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, as_completed
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tifffile
import yaml
from tqdm.auto import tqdm

from flowlib.detector.model import Detector, DetectorError, resized, worst_region
from flowlib.detector.storage import load
from flowlib.inspection import overlays
from flowlib.inspection.calibration import FRAMES
from flowlib.inspection.layouts import is_utf8, layout, left_out, natural, top
from flowlib.inspection.media import MediaError, is_video
from flowlib.inspection.normals import RATE, frames_at, named, unmarked
from flowlib.inspection.results import Small, publish, small_pictures, write_small
from flowlib.inspection.verdicts import Rows, picture_paths, read_table, remove, write_table
from flowlib.runtime import artifacts, parallel
from flowlib.runtime.code import code_hash
from flowlib.runtime.files import is_of_name, readable, replacing, resuming
from flowlib.training import computed_with

BETWEEN = 2.0  # seconds, at least, from one writing of the table to the next: of thousands of rows it takes its time
PROCESSES_FROM = 12  # pictures: fewer are scored before other processes would have started
SETTINGS = ("false_alarm_rate",)


class InspectionError(ValueError):
    """Nothing can be scored as asked; the message names the folder or argument and says what to do."""


class Job(NamedTuple):
    """A file, its path in the folder that is scored, its label, the path of its pictures without a suffix, and why it
    is refused if it is known beforehand."""

    path: Path
    file: str
    label: str
    name: str
    fault: str = ""


class Run(NamedTuple):
    """What all files of a run have in common; `key` changes with whatever changes a score or a picture."""

    model: Path
    out: Path
    source: str
    rate: float
    frames: int
    every: int | None
    maps: bool
    key: str


def scan(
    model: Path,
    source: Path,
    out: Path,
    settings: Mapping[str, Any] | None = None,
    frames: int = FRAMES,
    maps: bool = False,
    executor: Executor | None = None,
    every: int | None = None,
) -> pd.DataFrame:
    """Score an image, a video, or every image and video of a folder with the detector that `detector.save` wrote.

    Arguments
    ---------
    model: folder of the detector.
    source: a file or a folder; of a folder with ``train`` and ``test`` (MVTec AD), the files of ``test``.
    out: a folder, not in `source`. Run again, it goes on: files that are in its scores.csv, and neither changed nor
        refused, are left as they are if detector and settings are the same. A file's results appear together.
    settings: "false_alarm_rate", in place of 0.05.
    frames: evenly spread ones of each video are scored, or all of a shorter one. Rows with markings in the corners are
        left out (`normals.unmarked`): they are dimmed in overlays and 0 in maps.
    maps: write the maps, too.
    executor: runs a job a file; by default this process for a few images, else processes on this machine.
    every: of each video each so-manieth frame, to its end, in place of `frames`.

    Writes
    ------
    scores.csv: the returned table.
    overlays/FOLDER/STEM.png, heatmaps/FOLDER/STEM.png: pictures (`flowlib.inspection.overlays`), STEM_f000120 for frame
        120 of a video. Files of a folder that differ by suffix only keep it: STEM.png.png.
    tracks/FOLDER/STEM.png: a video's score over time.
    maps/FOLDER/STEM.tiff: float32, of the image's own size, higher is more anomalous; for a file of ``test``
        maps/OBJECT/test/DEFECT/STEM.tiff, where OBJECT is the name of `source`, as the evaluation of MVTec AD has it.
    thumbnails/FOLDER/STEM.jpg, plain/FOLDER/STEM.jpg: small, and without the map; of videos only the evidence.
    decisions.csv: a row a file, its state first (`flowlib.inspection.decisions`).
    index.html: all of it on a page to work through (`flowlib.inspection.page`).
    settings.json: what it was made of and with.

    Returns
    -------
    a row an image or scored frame: file (path in `source`), score, threshold, anomalous (score above threshold), x0,
    y0, x1, y1 (the box of the worst region in the image's own pixels, x1 and y1 excluded), frame (of videos), width and
    height of the image, seconds (of videos), label (the folder in ``test``), status, message, overlay (path in `out`),
    fingerprint. Status: "ok"; or, in a row without a score, "refused" (the file could not be read) or "damaged" (of the
    video only the frames in the rows above could be).

    Raises
    ------
    InspectionError: an argument is wrong, `out` lies in `source`, is of another source, in use or not writable, or no
        file could be read.
    DetectorError: there is no detector.
    MediaError: a file of ``test`` has no label.
    """
    model, source, out = Path(model), Path(source), Path(out)
    run = new_run(model, source, out, settings or {}, frames, every, maps)
    jobs = jobs_in(source)
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise InspectionError(f"out {out} lies in {source}, which is scored: name a folder outside of it")

    def conflict(noted: dict[str, Any]) -> str:
        other = noted.get("source", facts["source"])
        return (
            ""
            if other == facts["source"]
            else f"{out} holds the scores of {other}: name another folder for those of {source}"
        )

    facts: dict[str, Any] = {"source": str(source.resolve()), "model": str(model), "false_alarm_rate": run.rate}
    facts |= {"frames": run.frames, "every": run.every, "maps": run.maps, "key": run.key}
    try:
        with resuming(out, facts, conflict, InspectionError):
            table = score_jobs(jobs, run, executor)
            publish(table, source, run)
    except BrokenExecutor as error:
        raise InspectionError(
            f"a process that scored {source} was ended, perhaps for want of memory: run again, it goes on where it was"
        ) from error
    if not (table["status"] == "ok").any():
        first = table["message"].iloc[0]
        raise InspectionError(
            f"nothing in {source} could be scored, see {out / 'scores.csv'}; the first reason: {first}"
        )
    return table


def new_run(
    model: Path, source: Path, out: Path, settings: Mapping[str, Any], frames: int, every: int | None, maps: bool
) -> Run:
    """Check what was asked for before anything is written."""
    if unknown := [str(name) for name in settings if name not in SETTINGS]:
        raise InspectionError(f"settings have {', '.join(unknown)}: the keys are {', '.join(SETTINGS)}")
    rate = settings.get("false_alarm_rate", RATE)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1:
        raise InspectionError(f"false_alarm_rate is {rate!r}, it must lie between 0 and 1, such as 0.05")
    for name, number in (("frames", frames), ("every", every)):
        if number is not None and number < 1:
            raise InspectionError(f"{name} is {number}, it must be at least 1")
    load(model)  # raises where there is no detector
    parts = {
        "detector": hashlib.sha256((model / "detector.safetensors").read_bytes()).hexdigest(),
        "code": code_hash(__name__),
        **computed_with(),
        "settings": [rate, frames, every, maps],
    }
    return Run(model, out, source.resolve().name, rate, frames, every, maps, artifacts.key(parts)[:16])


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file. Raises InspectionError when it is missing or holds anything but keys and values."""
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InspectionError(f"settings {path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise InspectionError(f"settings {path} must hold lines such as false_alarm_rate: 0.05")
    return found


def jobs_in(source: Path) -> list[Job]:
    """The files to score, and those that must be refused, in their order."""
    if not source.exists():
        raise InspectionError(f"{source} is missing: name a folder, a video or an image")
    if not source.is_dir():
        fault = "" if is_utf8(source.name) else f"{source} has a name that is not UTF-8: rename it"
        return [Job(source, readable(source.name), "", source.stem, fault)]
    found = layout(source)
    files = found.test or [("", path) for path in found.media]
    refused = [(path, why) for path, why in found.refused if not found.test or top(path, source) == "test"]
    if not files and not refused:
        others = "".join(f" ({line})" for line in left_out(source))
        raise InspectionError(
            f"{source} holds no image or video{others}: name a folder of PNG, JPEG, TIFF, MP4, AVI, ... files"
        )
    names = picture_names([path.relative_to(source) for _, path in files])
    jobs = [
        Job(path, file, label, names[file]) for label, path in files for file in [path.relative_to(source).as_posix()]
    ]
    jobs += [Job(path, readable(path.relative_to(source).as_posix()), "", "", f"{path} {why}") for path, why in refused]
    return sorted(jobs, key=lambda job: natural(Path(job.file)))


def picture_names(files: list[Path]) -> dict[str, str]:
    """What the pictures of each file are named after: the file without its suffix, with it where others have that name,
    and with a mark beside where this is not enough. Names that differ by case or by how an accent is composed are one
    name to some disks, and an image may be named as a frame of a video."""
    videos = {file.with_suffix("") for file in files if is_video(file)}

    def alike(name: Path) -> str:
        stem = Path(re.sub(r"_f\d+$", "", str(name)))
        return unicodedata.normalize("NFC", str(stem if stem in videos else name)).casefold()

    def unique(names: dict[Path, Path]) -> set[Path]:
        count = Counter(alike(name) for name in names.values())
        return {file for file, name in names.items() if count[alike(name)] == 1}

    names = {file: file.with_suffix("") for file in files}
    for longer in (lambda file: file, lambda file: file.with_name(f"{file.name}~{digest(file)}")):
        alone = unique(names)
        names = {file: name if file in alone else longer(file) for file, name in names.items()}
    return {file.as_posix(): name.as_posix() for file, name in names.items()}


def digest(file: Path) -> str:
    return hashlib.sha256(file.name.encode()).hexdigest()[:6]


def score_jobs(jobs: list[Job], run: Run, executor: Executor | None) -> pd.DataFrame:
    """Score what is not in scores.csv yet; the table is written anew as files are done, and whatever ends the run."""
    rows, files = read_table(run.out), [job.file for job in jobs]
    for gone in rows.keys() - set(files):
        remove(rows.pop(gone), [], run.out, run.source, run.maps)
    todo = [job for job in jobs if not is_current(rows.get(job.file, []), job, run)]
    write_table(run.out, rows, files)
    pictures = sum(run.frames if is_video(job.path) else 1 for job in todo)
    with ExitStack() as stack:
        if executor is None and len(todo) > 1 and pictures >= PROCESSES_FROM:
            executor = stack.enter_context(parallel.processes())
        done = results(todo, run, executor)
        written = monotonic()
        try:
            for job, new in tqdm(done, total=len(todo), desc="scoring", unit="file", disable=None):
                remove(rows.get(job.file, []), new, run.out, run.source, run.maps)
                rows[job.file] = new
                if monotonic() - written > BETWEEN:
                    write_table(run.out, rows, files)
                    written = monotonic()
        finally:
            table = write_table(run.out, rows, files)
    return table


def results(jobs: list[Job], run: Run, executor: Executor | None) -> Iterator[tuple[Job, Rows]]:
    if executor is None:
        yield from ((job, inspect(job, run, bar=True)) for job in jobs)
        return
    futures = {executor.submit(inspect, job, run): job for job in jobs}
    for future in as_completed(futures):
        yield futures[future], future.result()


def inspect(job: Job, run: Run, bar: bool = False) -> Rows:
    """Score one file, a frame at a time, write its pictures and return its rows of scores.csv."""
    detector = opened(run.model, run.key)
    threshold = round(detector.threshold(run.rate), 6)
    blank = {"file": job.file, "label": job.label, "status": "ok", "message": "", "overlay": ""}
    blank["fingerprint"] = fingerprint(job, run)
    rows: Rows = []
    small: list[Small] = []  # of each row
    try:
        if job.fault:
            raise MediaError(job.fault)
        inspected, frames = unmarked(job.path), frames_at(job.path, run.frames, run.every)
        for frame in tqdm(frames, desc=job.path.name, unit="frame", leave=False, disable=None if bar else True):
            place = job.name if not is_video(job.path) else f"{job.name}_f{frame.index:06}"
            row = blank | {"threshold": threshold, "overlay": f"overlays/{place}.png", "message": frame.note}
            if is_video(job.path):
                row |= {"frame": frame.index, "seconds": frame.seconds}
            found, pictures = judge(detector, threshold, frame.image, inspected, row, run)
            rows.append(row | found)
            small.append(pictures)
    except (MediaError, DetectorError) as error:
        status = "damaged" if any(row["status"] == "ok" for row in rows) else "refused"
        rows.append(blank | {"status": status, "message": named(error, job.path)})
    except OSError as error:
        if not is_of_name(error):
            raise
        message = f"{job.path}: its pictures cannot be written under its name ({error.strerror}): rename it"
        rows = [blank | {"status": "refused", "message": message}]
    scored = [row for row in rows if row["status"] == "ok"]
    write_small(scored, small, run)
    if is_video(job.path) and scored:
        figure = overlays.track(pd.DataFrame(scored), threshold, job.file)
        with replacing(run.out / "tracks" / f"{job.name}.png") as path:
            figure.savefig(path, format="png", metadata={"Software": None})
    return rows


def judge(
    detector: Detector, threshold: float, image: np.ndarray, inspected: slice, row: dict[str, Any], run: Run
) -> tuple[dict[str, Any], Small]:
    """Score the inspected rows of an image and write its pictures: the columns of scores.csv that this gives, and the
    small pictures, which not every frame of a video needs."""
    part, level = image[:, inspected], detector.level
    worked = detector.working_map(part)
    score = round(detector.score(worked), 6)
    values = np.zeros(image.shape[1:], dtype=np.float32)  # 0, what is usual, where nothing was inspected
    values[inspected] = resized(worked, part.shape[1:])
    top, region = inspected.start or 0, worst_region(values[inspected], level)
    region = region._replace(y0=region.y0 + top, y1=region.y1 + top)
    paths = picture_paths(row, run.out, run.source)
    note = f"{row['seconds']:.2f} s, frame {row['frame']}" if "frame" in row else ""
    overlay = overlays.overlay(image, values, level, region, score, threshold, note, inspected)
    for path, picture in (
        (paths["overlay"], overlay),
        (paths["heatmap"], overlays.heat_map(values, level)),
    ):
        with replacing(path) as temporary:
            picture.save(temporary, "PNG", compress_level=1)
    if run.maps:
        with replacing(paths["map"]) as temporary:
            tifffile.imwrite(temporary, values)
    height, width = image.shape[1:]
    found = {"score": score, "anomalous": score > threshold, **region._asdict(), "width": width, "height": height}
    return found, small_pictures(image, overlay)


@lru_cache(maxsize=2)
def opened(model: Path, key: str) -> Detector:
    """A detector, read once by each process; `key` tells when it has changed."""
    return load(model)


def fingerprint(job: Job, run: Run) -> str:
    """Whether a row is still true: size and time of change of its file, and the key of the run."""
    try:
        stat = job.path.stat()
    except OSError:
        return run.key
    return f"{stat.st_size}@{stat.st_mtime_ns} {run.key}"


def is_current(rows: Rows, job: Job, run: Run) -> bool:
    mark = fingerprint(job, run)
    return bool(rows) and all(
        row["fingerprint"] == mark
        and row["status"] != "refused"
        and (not row["overlay"] or (is_of(row["overlay"], job) and (run.out / row["overlay"]).exists()))
        for row in rows
    )


def is_of(overlay: str, job: Job) -> bool:
    """Whether a picture has the name that those of a file have now."""
    return re.sub(r"_f\d{6,}$", "", overlay.removesuffix(".png")) == re.sub(r"_f\d{6,}$", "", f"overlays/{job.name}")
