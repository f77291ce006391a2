"""Folders that one run at a time fills and the next goes on with, files that appear whole or not at all, and tables on
disk whose rows belong to sources."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

Rows = list[dict[str, Any]]


@contextmanager
def resuming(
    folder: Path,
    settings: dict[str, Any],
    conflict: Callable[[dict[str, Any]], str],
    error: type[Exception],
    wait: bool = False,
) -> Iterator[None]:
    """Fill a folder, which is made and locked meanwhile, or go on where a run that was killed left it.

    Arguments
    ---------
    settings: what the folder is made of and with; its settings.json says so.
    conflict: from the settings that stand there ({} where they cannot be read), why these ones cannot go on with the
        folder, or "".
    error: raised with what `conflict` says, where the folder cannot be written, and where another process fills it.
    wait: for that process, in place of an error.

    What killed runs left half written, named as in `replacing`, is deleted.
    """
    path = folder / "settings.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=-1 if wait else 0):
            if path.exists():
                if reason := conflict(read_settings(path)):
                    raise error(reason)
                for leftover in list(folder.rglob(".*.partial")):
                    if leftover.is_dir():
                        shutil.rmtree(leftover)
                    else:
                        leftover.unlink(missing_ok=True)
            write_text(path, json.dumps(settings, indent=2) + "\n")
            yield
    except Timeout as cause:
        raise error(f"{folder} is being written by another run: wait for it, or name another folder") from cause
    except OSError as cause:
        raise error(f"{folder} cannot be written ({cause}): {mend(cause)}, or name another folder") from cause


def mend(error: Exception) -> str:
    """What ends the fault of writing that an error is of, in words; two where the error does not say which."""
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return "free space"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "make it writable"
    if code in (errno.EEXIST, errno.ENOTDIR):
        return "move the file away that stands in its place"
    return "free space or make it writable"


def read_settings(path: Path) -> dict[str, Any]:
    """What a file of JSON says; {} where that is not a table of names."""
    with suppress(ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def write_text(path: Path, text: str) -> None:
    """Replace a file's text at once, so that no reader ever finds half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when all is written; its name is short, however long that of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.partial")
    yield temporary
    temporary.replace(path)


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
    listed = [
        {name: readable(value) if isinstance(value, str) else value for name, value in row.items()}
        for source in sources
        for row in rows.get(source, [])
    ]
    table = pd.DataFrame(listed, columns=list(types)).astype(types)
    names = (name for column, kind in types.items() if kind == "str" for name in table[column])
    # a carriage return is quoted only where line ends have one
    ends = "\r\n" if any("\r" in name for name in names) else "\n"
    write_text(path, table.to_csv(index=False, lineterminator=ends))
    return table


def readable(name: str) -> str:
    """A file's name as it is told to people and tables: bytes that are no UTF-8 as in ``M\\xfcller``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_of_name(error: OSError) -> bool:
    """Whether a file cannot be written for its name: too long, or with what its file system does not take."""
    return error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
