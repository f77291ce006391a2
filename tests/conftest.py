"""One thread, set before torch is imported: threads that spin on shared cores cost more than they give."""

import os
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path

from hypothesis import HealthCheck, settings

from flowlib.runtime.paths import ROOT

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
PATIENCE = 600  # seconds: what takes longer hangs, on the slowest of machines


@cache
def solar_cells_file() -> Path | None:
    """The project's own package of solar cells, fetched once; None where it cannot be had, and not asked for again."""
    from flowlib.runtime import solar_cells
    from flowlib.runtime.download import DataError

    with suppress(DataError):
        return solar_cells.ensure().resolve()
    return None


def copy_of_project(root: Path) -> Path:
    """The project's layout: verified data linked in, solar cells only where they can be had; no artifacts."""
    from flowlib.runtime.download import ensure

    for folder in ("flowlib", "notebooks"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "data").mkdir()
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copy(ROOT / "data" / "manifest.json", root / "data")
    for name in ("mnist", "fashion-mnist"):
        (root / "data" / name).symlink_to(ensure(name).resolve())
    if (cells := solar_cells_file()) is not None:
        (root / "data" / cells.parent.name).symlink_to(cells.parent)
    return root
