"""A detector that knows little but runs quickly, and videos to ask it about."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from flowlib.detector import fitting, storage
from flowlib.detector.model import Settings


def weave(seed: int, width: int = 96, height: int = 80) -> np.ndarray:
    """A grey weave with noise, uint8 (H, W)."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).normal(0, 4, (height, width))
    return np.clip(110 + 30 * np.sin(x / 3 + seed) * np.cos(y / 4) + noise, 0, 255).astype(np.uint8)


def lossless(path: Path, frames: list[np.ndarray]) -> Path:
    """A video of grey frames (H, W), each pixel of which comes back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=10)
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = "gray"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        file.mux(stream.encode(None))
    return path


def small_detector(folder: Path) -> Path:
    """The folder of a detector of pixels, fitted on 16 weaves in a few steps."""
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as executor:
        patch.setenv("FLOWLIB_DATA", str(folder))
        patch.setattr(fitting, "POSITIONS", 2000)
        settings = Settings(features="pixels", size=64, steps=20)
        fitted = fitting.fit([weave(i)[None] for i in range(16)], settings=settings, executor=executor)
    return storage.save(fitted, folder).parent
