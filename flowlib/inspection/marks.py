"""Marks that an inspector saved from the page: false alarms, which can be added to the normals of a next fit."""

from pathlib import Path

import pandas as pd

from flowlib.inspection.ingest import read_manifest

COLUMNS = ("file", "mark", "folder")  # those read here; the page writes state, score, note and time, too
FALSE_ALARM = "false alarm"


class MarksError(ValueError):
    """Marks cannot be used; the message names the file and says what to do."""


def false_alarms(path: Path) -> dict[Path, str]:
    """The images and videos marked as false alarms in the CSV file that the page saves, and the source that each is of.

    Of a video that was ingested these are its frames. Raises MarksError when the table cannot be read, has not the
    page's columns, or names a file that is not there.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # of pandas, too
        raise MarksError(f"{path} cannot be read ({error}): save the marks from the page again") from error
    if missing := [name for name in COLUMNS if name not in table]:
        raise MarksError(f"{path} has no column {missing[0]}: name the marks.csv that the page saves")
    found: dict[Path, str] = {}
    for row in table[table["mark"] == FALSE_ALARM].to_dict("records"):
        files = marked(Path(row["folder"]), row["file"])
        if absent := [file for file in files if not file.is_file()]:
            raise MarksError(f"{path} marks {absent[0]}, which is not there: put it back, or take the row out")
        found |= dict.fromkeys(files, str(Path(row["folder"], row["file"])))
    return found


def marked(folder: Path, file: str) -> list[Path]:
    """The files of a row: itself, or the frames of a video that was ingested; `folder` may be that file itself."""
    if folder.is_file():
        return [folder]
    if (folder / file).is_file() or not (folder / "manifest.csv").is_file():
        return [folder / file]
    rows = read_manifest(folder).get(file, [])
    return [folder / row["file"] for row in rows if row["file"]] or [folder / file]
