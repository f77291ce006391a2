"""Text files that appear whole or not at all, and tables on disk whose rows belong to sources."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

Rows = list[dict[str, Any]]


def write_text(path: Path, text: str) -> None:
    """Replace a file's text at once, so that no reader ever finds half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_rows(path: Path, types: Mapping[str, str], source: str) -> dict[str, Rows]:
    """The rows of a CSV file by what stands in its column `source`; none when there is no file yet.

    Raises ValueError or KeyError when the file has not the columns and `types` that `write_rows` wrote.
    """
    if not path.exists():
        return {}
    empty = {name: [""] for name, kind in types.items() if kind != "str"}
    table = pd.read_csv(path, keep_default_na=False, na_values=empty, dtype=types)[list(types)]
    return {str(name): rows.to_dict("records") for name, rows in table.groupby(source, sort=False)}


def check_inside(names: Iterable[str]) -> None:
    """ValueError where a path from a file that may be anyone's leads out of its folder."""
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"it names {name}, which is not in its folder")


def write_rows(path: Path, types: Mapping[str, str], rows: Mapping[str, Rows], sources: Iterable[str]) -> pd.DataFrame:
    """Write all rows there are, in the order of the sources; returns them as a table of `types`."""
    listed = [row for source in sources for row in rows.get(source, [])]
    table = pd.DataFrame(listed, columns=list(types)).astype(types)
    write_text(path, table.to_csv(index=False))
    return table


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when all is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    yield temporary
    temporary.replace(path)
