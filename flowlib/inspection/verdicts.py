"""The table of verdicts, scores.csv, and the pictures that belong to its rows, as they lie in a folder."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from flowlib.runtime.files import Rows, check_inside, read_rows, write_rows

TYPES = {"file": "str", "score": "Float64", "threshold": "Float64", "anomalous": "boolean"}
TYPES |= dict.fromkeys(("x0", "y0", "x1", "y1", "frame", "width", "height"), "Int64") | {"seconds": "Float64"}
TYPES |= dict.fromkeys(("label", "status", "message", "overlay", "fingerprint"), "str")


class VerdictsError(ValueError):
    """The table cannot be read; the message names the file and says what to do."""


def read_table(out: Path) -> dict[str, Rows]:
    """The rows of each file, none where there is no scores.csv yet."""
    path = out / "scores.csv"
    try:
        found = read_rows(path, TYPES, "file")
        check_inside(row["overlay"] for rows in found.values() for row in rows)
        return found
    except (ValueError, KeyError) as error:
        raise VerdictsError(f"{path} is damaged or not ours ({error}): move it away, or name another folder") from error


def write_table(out: Path, rows: Mapping[str, Rows], files: Iterable[str]) -> pd.DataFrame:
    """All rows there are, in the order of the files."""
    return write_rows(out / "scores.csv", TYPES, rows, files)


def picture_paths(row: Mapping[str, Any], out: Path, source: str) -> dict[str, Path]:
    """The pictures that belong to a row of scores.csv, of a folder named `source`; the last, of a frame only, is of its
    video."""
    name = row["overlay"].removeprefix("overlays/").removesuffix(".png")
    place = f"{source}/test/{name.partition('/')[2]}" if row["label"] else name  # as MVTec AD's evaluation has it
    paths = {
        "overlay": out / row["overlay"],
        "heatmap": out / "heatmaps" / f"{name}.png",
        "thumbnail": out / "thumbnails" / f"{name}.jpg",
        "plain": out / "plain" / f"{name}.jpg",
        "map": out / "maps" / f"{place}.tiff",
    }
    video = {"track": out / "tracks" / re.sub(r"_f\d+$", ".png", name)} if pd.notna(row.get("frame")) else {}
    return paths | video


def remove(old: Rows, new: Rows, out: Path, source: str, maps: bool) -> None:
    """Delete the pictures of rows that are no more, except those that have been made anew."""
    kept = {path for row in new if row["overlay"] for name, path in picture_paths(row, out, source).items()
            if name != "map" or maps}  # fmt: skip
    for row in old:
        for path in set(picture_paths(row, out, source).values()) - kept if row["overlay"] else ():
            path.unlink(missing_ok=True)


def summary(table: pd.DataFrame, out: Path) -> list[str]:
    """What a run found, in lines for people."""
    scored = table[table["status"] == "ok"]
    rows = scored.loc[scored["anomalous"].astype(bool)]
    lines = [
        f"{len(rows)} of {len(scored)} images and frames anomalous (score above {scored['threshold'].iloc[0]:.4g})"
    ]
    for file, frames in scored[scored["frame"].notna()].groupby("file", sort=False):
        worst = frames.loc[frames["score"].idxmax()]
        lines.append(
            f"{file}: {frames['anomalous'].sum()} of {len(frames)} frames anomalous, worst at {worst['seconds']:.2f} s"
        )
    return [*lines, str(out / "scores.csv")]
