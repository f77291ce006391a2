"""What the explorer saves: the picture, the view, and settings for ``flowlib score``."""

import re
from dataclasses import asdict, fields
from pathlib import Path

import yaml

from flowlib.explorer.pictures import ExplorerError
from flowlib.explorer.state import Explorer, View
from flowlib.runtime import artifacts


def settings_yaml(view: View, rate: float | None = None) -> str:
    """What ``python -m flowlib score MODEL_DIR INPUT --settings FILE`` reads: the false-alarm rate.

    `rate` is the one that a threshold set by hand keeps.
    """
    rate = view.false_alarm_rate if view.threshold is None or rate is None else rate
    return yaml.safe_dump({"false_alarm_rate": round(rate, 6)})


def view_yaml(view: View) -> str:
    """All of a view, to be read by `read_view`."""
    return yaml.safe_dump(asdict(view), sort_keys=False)


def read_view(path: Path) -> View:
    """A view that was saved. Raises ExplorerError when the file is missing or holds something else."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        known = {field.name for field in fields(View)}
        if unknown := set(values) - known:
            raise ExplorerError(f"{path} has {', '.join(sorted(unknown))}: the keys are {', '.join(sorted(known))}")
        return View(**values)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        raise ExplorerError(f"{path} is no view ({' '.join(str(error).split())}): save one in the explorer") from None


def save(folder: Path, stem: str, picture: bytes, explorer: Explorer) -> list[Path]:
    """Write the picture, the view and, of a detector, the settings for ``flowlib score``; nothing is overwritten."""
    folder = Path(folder)
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("_")
    files = {".png": picture, ".yaml": view_yaml(explorer.view).encode()}
    if explorer.method.detector is not None:
        files[".score.yaml"] = settings_yaml(explorer.view, explorer.false_alarm_rate()).encode()
    with artifacts.clear_error(folder / stem):
        folder.mkdir(parents=True, exist_ok=True)
        number = 1
        while (folder / f"{number:03}_{stem}.png").exists():
            number += 1
        paths = []
        for suffix, content in files.items():
            paths.append(folder / f"{number:03}_{stem}{suffix}")
            paths[-1].write_bytes(content)
    return paths
