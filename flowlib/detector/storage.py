"""A detector on disk: one safetensors file, checked as a whole when it is read."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, FiniteFloat, PositiveFloat

from flowlib.detector import feature_flow
from flowlib.detector.context import Expectation
from flowlib.detector.features import FeatureError
from flowlib.detector.model import SMALLEST, Detector, DetectorError, Facts, Settings
from flowlib.runtime import artifacts
from flowlib.runtime.artifacts import Arrays, Artifact

LARGEST_FILE = 2**28  # bytes; a detector has about a hundredth
WEIGHTS = "expected.weights"
FORMAT: Literal[3] = 3  # 1 had a choice of maps of pixels, 2 no context


class Notes(BaseModel):
    """What stands beside the arrays."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[3]
    settings: Settings
    channels: Literal[1, 3]
    middle: FiniteFloat
    width: PositiveFloat
    level: PositiveFloat
    bias: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    facts: Facts


def save(detector: Detector, folder: Path) -> Path:
    """Write ``detector.safetensors``; returns its path."""
    path = Path(folder) / "detector.safetensors"
    shared = ("settings", "channels", "middle", "width", "level", "facts")
    found = {name: getattr(detector, name) for name in shared}
    found |= {name: getattr(detector.expected, name) for name in ("bias", "low", "high")}
    notes = Notes(format=FORMAT, **found)
    arrays = {
        **feature_flow.parameters(detector.flow),
        WEIGHTS: detector.expected.weights,
        "calibration": detector.calibration,
    }
    with artifacts.clear_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    artifacts.write(path, Artifact(arrays, notes.model_dump(mode="json")))
    return path


def load(folder: Path) -> Detector:
    """Read what `save` wrote. Raises DetectorError when it is missing, damaged, or not what a detector can be."""
    path = Path(folder) / "detector.safetensors"
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"its {path.stat().st_size / 1e6:.0f} MB are more than a detector has")
        arrays, found = artifacts.read(path)
        if found.get("format") != FORMAT:
            raise ValueError("it was saved by another version")
        notes = Notes.model_validate_json(artifacts.canonical(found))
        check(arrays)
        flow, expected = feature_flow.restored(arrays), Expectation(arrays[WEIGHTS], notes.bias, notes.low, notes.high)
        detector = Detector(notes.settings, notes.channels, flow, expected, notes.middle, notes.width,
                            arrays["calibration"], notes.level, notes.facts)  # fmt: skip
        if not np.isfinite(detector.map(np.zeros((notes.channels, SMALLEST, SMALLEST), np.uint8))).all():
            raise ValueError("its map of a black image is not finite")
        return detector
    except (FileNotFoundError, NotADirectoryError):
        raise DetectorError(f"{path} is not there: fit a detector first, flowlib fit FOLDER --out MODEL_DIR") from None
    except FeatureError as error:
        raise DetectorError(f"{path} needs features that cannot be had: {error}") from error
    except (ArithmeticError, AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).removeprefix(f"{path} ").split(": delete it")[0].split())
        raise DetectorError(f"{path} is no detector of this version ({reason}): fit it anew") from error


def check(arrays: Arrays) -> None:
    """ValueError where an array is not of finite numbers of its type, or there are no calibration scores."""
    for name, array in arrays.items():
        expected = np.float64 if name == "calibration" else np.float32
        if array.dtype != expected or not np.isfinite(array).all():
            raise ValueError(f"{name} does not hold finite numbers of type {np.dtype(expected)}")
    if arrays["calibration"].ndim != 1 or len(arrays["calibration"]) == 0:
        raise ValueError(f"calibration has shape {arrays['calibration'].shape}")
