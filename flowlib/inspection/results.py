"""From scores to what an inspector works with: small pictures of the evidence, decisions.csv and the page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from flowlib.detector.storage import load
from flowlib.inspection import calibration, decisions, overlays, page
from flowlib.inspection.ingest import IngestError, read_manifest
from flowlib.inspection.media import is_video
from flowlib.inspection.normals import warnings
from flowlib.inspection.tracks import Promise, evidence, promise
from flowlib.inspection.verdicts import picture_paths
from flowlib.runtime.files import Rows, readable, replacing, write_text

if TYPE_CHECKING:
    from flowlib.inspection.scan import Run

QUALITY = 85  # of JPEG


class Small(NamedTuple):
    """JPEG files: an image without its map, at the size of its overlay at most; and the overlay as a thumbnail."""

    plain: bytes
    thumbnail: bytes


def small_pictures(image: np.ndarray, overlay: Image.Image) -> Small:
    """Of a uint8 image ``(C, H, W)`` and its overlay, text below."""
    pixels = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    plain = Image.fromarray(pixels)
    plain.thumbnail((overlays.SIDES[1], overlays.SIDES[1]), Image.Resampling.BOX, reducing_gap=None)
    shown, _ = overlays.fitted(Image.new("1", (image.shape[2], image.shape[1])))
    thumbnail = overlay.crop((0, 0, *shown.size))
    thumbnail.thumbnail((page.THUMBNAIL, page.THUMBNAIL), Image.Resampling.BILINEAR)
    return Small(jpeg(plain), jpeg(thumbnail))


def jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def write_small(rows: Rows, small: list[Small], run: Run) -> None:
    """Write the pictures of an image, or of those frames of a video that speak for its score."""
    if not rows:
        return
    speaking = set(evidence(np.array([row["score"] for row in rows])))
    for number, (row, pictures) in enumerate(zip(rows, small, strict=True)):
        paths = picture_paths(row, run.out, run.source)
        for name, content in pictures._asdict().items():
            if number in speaking:
                with replacing(paths[name]) as path:
                    path.write_bytes(content)
            else:
                paths[name].unlink(missing_ok=True)  # of an earlier run


def publish(table: pd.DataFrame, source: Path, run: Run) -> pd.DataFrame:
    """Write decisions.csv and index.html beside scores.csv; returns the decisions."""
    detector, good = load(run.model), calibration.read(run.model).good
    here = calibration.sampling(run.frames, run.every)
    of_videos = good.of_videos() if good.sampling == here else []
    good_scores: dict[str, Sequence[float] | np.ndarray] = {"image": detector.calibration, "video": of_videos}
    scores = with_videos(table, source)
    found = decisions.decide(scores, good_scores["image"], good_scores["video"], run.rate)
    write_text(run.out / "decisions.csv", found.to_csv(index=False))
    kinds = sorted(set(found["kind"]), reverse=True)
    promises = {k: promise(good_scores[k], run.rate) if len(good_scores[k]) else None for k in kinds}
    doubts = warnings(detector, run.rate) if "image" in kinds else []
    if "video" in kinds:
        doubts += video_warnings(promises["video"], good.sampling, here, run.rate)
    lines = [
        ("detector", readable(f"{run.model}: likelihood of {detector.settings.features} under a flow, in context")),
        *((f"verdicts of {kind}s", decisions.described(promises[kind], kind, run.rate)) for kind in kinds),
        ("scored", f"{len(found)} files, {int(found['frames'].sum())} images and frames; of each video {here}"),
    ]
    page.write_page(
        run.out, scores, found, {"source": readable(str(source.resolve())), "lines": lines, "warnings": doubts}
    )
    return found


def video_warnings(promised: Promise | None, calibrated: str, here: str, rate: float) -> list[str]:
    """What cannot be said of whole videos, in lines for people."""
    if promised is None and calibrated in ("", here):
        return ["warning: no good video was held out, so that videos get no verdict: flowlib calibrate DETECTOR FOLDER"]
    if promised is None:
        return [
            f"warning: scored by {here} of each video, but calibrated on {calibrated}, so that videos get no verdict: "
            "score them alike, or calibrate so"
        ]
    if promised.rate > rate:
        return [
            f"warning: {promised.n} good videos can stand for no rate below {promised.rate:.3g}; {rate:.3g} takes "
            f"{promised.needed}: flowlib calibrate DETECTOR FOLDER of as many"
        ]
    return []


def with_videos(table: pd.DataFrame, source: Path) -> pd.DataFrame:
    """The scores with the frames of ingested videos told as such: `file` is the video's, with frame and seconds."""
    try:
        manifest = read_manifest(source) if source.is_dir() else {}
    except IngestError:  # a manifest.csv of someone else's
        return table
    of_frame = {row["file"]: row for rows in manifest.values() for row in rows if row["file"]}
    known = table["file"].isin([file for file, row in of_frame.items() if is_video(Path(row["source"]))])
    if not known.any():
        return table
    table = table.copy()
    for column in ("frame", "seconds"):
        table.loc[known, column] = [of_frame[file][column] for file in table.loc[known, "file"]]
    table.loc[known, "file"] = [of_frame[file]["source"] for file in table.loc[known, "file"]]
    return table


def summary(out: Path) -> list[str]:
    """What a run came to, from decisions.csv, in lines for people."""
    found = pd.read_csv(out / "decisions.csv", dtype={"label": str, "message": str}, keep_default_na=False)
    lines = []
    for kind, rows in found.groupby("kind", sort=False):
        counts = rows["state"].value_counts()
        states = ", ".join(f"{counts[state]} {page.NAMES[state]}" for state in decisions.ORDER if state in counts)
        lines.append(f"{len(rows)} {kind}{'s' if len(rows) > 1 else ''}: {states}")
    return [*lines, str(out / "index.html")]
