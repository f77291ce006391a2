"""A detector on disk: one safetensors file, checked as a whole when it is read."""

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from flowlib.detector import maps
from flowlib.detector.choice import CHOICE_COLUMNS
from flowlib.detector.fitting import CROP
from flowlib.detector.local_ratio import LocalRatio
from flowlib.detector.model import FLOW, LARGEST_SHARES, PATCH, SMALLEST, Detector, DetectorError, Settings
from flowlib.glow import Glow
from flowlib.runtime import artifacts
from flowlib.runtime.artifacts import Arrays, Artifact
from flowlib.training import load_parameters, to_numpy

LARGEST_FILE = 2**28  # bytes; a detector has about a hundredth


def save(detector: Detector, folder: Path) -> Path:
    """Write ``detector.safetensors`` and, to be read by people, ``choice.csv``; returns the first's path."""
    folder = Path(folder)
    with artifacts.clear_error(folder / "detector.safetensors"):
        folder.mkdir(parents=True, exist_ok=True)
    arrays: Arrays = {"calibration": detector.calibration}
    for prefix, model in (("flow", detector.flow), ("ratio", detector.ratio)):
        arrays |= {f"{prefix}.{name}": to_numpy(value) for name, value in model.state_dict().items()}
    arrays |= {f"known.{name}": value for name, value in detector.known.items()}
    notes = {
        "settings": asdict(detector.settings),
        "channels": detector.channels,
        "choice": detector.choice.to_dict("list"),
        "levels": detector.levels,
        "map": detector.map_name,
        "way": detector.way,
        "facts": detector.facts,
    }
    path = folder / "detector.safetensors"
    artifacts.write(path, Artifact(arrays, notes))
    detector.choice.sort_values("found", ascending=False).to_csv(
        folder / "choice.csv", index=False, float_format="%.4f"
    )
    return path


def load(folder: Path) -> Detector:
    """Read what `save` wrote. Raises DetectorError when it is missing, damaged, or not what a detector can be."""
    path = Path(folder) / "detector.safetensors"
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"its {path.stat().st_size / 1e6:.0f} MB are more than a detector has")
        arrays, notes = artifacts.read(path)
        channels = notes["channels"]
        if channels not in (1, 3):
            raise ValueError(f"channels is {channels!r}, not 1 or 3")
        flow, ratio = Glow((channels, PATCH, PATCH), **FLOW), LocalRatio((channels, CROP, CROP))
        for prefix, model in (("flow", flow), ("ratio", ratio)):
            own = {
                f"model{name.removeprefix(prefix)}": a for name, a in arrays.items() if name.startswith(f"{prefix}.")
            }
            load_parameters(model, Artifact(own, {}))  # type: ignore[arg-type]
        known = {name.removeprefix("known."): a for name, a in arrays.items() if name.startswith("known.")}
        settings, choice = Settings(**notes["settings"]), pd.DataFrame(notes["choice"], columns=list(CHOICE_COLUMNS))
        found = Detector(settings, channels, flow.eval(), ratio.eval(), known, choice, arrays["calibration"],
                         notes["levels"], notes["map"], notes["way"], notes["facts"])  # fmt: skip
        check(found, arrays)
        return found
    except FileNotFoundError:
        raise DetectorError(f"{path} is not there: fit a detector first, flowlib fit FOLDER --out {folder}") from None
    except (ArithmeticError, AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).removeprefix(f"{path} ").split(": delete it")[0].split())
        raise DetectorError(f"{path} is no detector of this version ({reason}): fit it anew") from error


def check(found: Detector, arrays: Arrays) -> None:
    """Refuse what was read but cannot be used: ValueError or TypeError, or whatever a first small map raises."""
    for name, array in arrays.items():
        if array.dtype.kind not in "fi" or not np.isfinite(array).all():
            raise ValueError(f"{name} holds what is no finite number")
    for model, prefix in ((found.flow, "flow"), (found.ratio, "ratio")):
        for name, value in model.state_dict().items():
            if arrays[f"{prefix}.{name}"].dtype != to_numpy(value).dtype:
                raise ValueError(f"{prefix}.{name} is {arrays[f'{prefix}.{name}'].dtype}, not {to_numpy(value).dtype}")
    rows = [(name, way) for name in maps.NAMES for way in LARGEST_SHARES]
    if list(zip(found.choice["map"], found.choice["way"], strict=True)) != rows or found.choice.isna().any(axis=None):
        raise ValueError("its choice is not of these maps and ways")
    if found.calibration.shape != (len(rows), max(1, found.calibration.shape[-1])):
        raise ValueError(f"calibration has shape {found.calibration.shape}, its choice {len(rows)} rows")
    numbers = [
        *found.levels.values(),
        *asdict(found.settings).values(),
        *found.choice[list(CHOICE_COLUMNS[2:])].to_numpy().flat,
    ]
    counts = [*found.facts["images"], *found.facts["sources"]]
    if set(found.levels) != set(maps.NAMES) or not all(math.isfinite(number) for number in numbers):
        raise ValueError("its levels, settings and choice are not finite numbers, one a map")
    if len(counts) != 6 or not all(type(n) is int for n in counts) or type(found.facts["shared"]) is not bool:
        raise ValueError("its facts are not the numbers of images and sources")
    found.row  # noqa: B018 - DetectorError where there is no such map or way
    with np.errstate(all="ignore"):
        tried = found.all_maps(np.zeros((found.channels, SMALLEST, SMALLEST), np.uint8))
    if not all(np.isfinite(values).all() for values in tried.values()):
        raise ValueError("its maps of a black image are not finite")
