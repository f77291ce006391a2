"""Where things lie: our own code, the checkout it is of, data, reports, and what is kept for the user."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]  # the folder flowlib
ROOT = PACKAGE.parent  # the checkout's, or where a wheel was installed
SUFFIXES = {".py", ".cpp", ".h", ".html", ".css", ".js"}  # of source files; whatever else lies in flowlib is not ours


def sources(package: Path = PACKAGE) -> list[Path]:
    """The source files of flowlib, in its folders too, sorted: what cache keys, Dask workers and wheels are about."""
    return sorted(path for path in package.rglob("*") if path.suffix in SUFFIXES and "__pycache__" not in path.parts)


def is_checkout() -> bool:
    """Whether flowlib runs from a checkout of the study, and not from an installed wheel."""
    return (ROOT / "pyproject.toml").is_file() and (ROOT / "notebooks").is_dir()


def cache_folder() -> Path:
    """Where flowlib keeps things for a user: ``$XDG_CACHE_HOME/flowlib``, by default ``~/.cache/flowlib``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flowlib"


def data_folder() -> Path:
    """The folder of data sets, trained models and their scores.

    ``$FLOWLIB_DATA`` where it is set; else ``data`` of the checkout, or of `cache_folder` where there is no checkout.
    """
    given = os.environ.get("FLOWLIB_DATA")
    return Path(given).expanduser() if given else (ROOT if is_checkout() else cache_folder()) / "data"


def report_folder(report_dir: str | Path) -> Path:
    """The folder that a notebook writes its report into: relative to the project, also where JupyterLab, which starts
    a kernel in the notebook's own folder, runs it."""
    here = Path.cwd()
    return (here.parent if (here / "profiles").is_dir() else here) / report_dir
