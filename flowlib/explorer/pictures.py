"""The pictures that the explorer looks at: simulated shots, or read from a folder, a video or an image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from flowlib.detector import model
from flowlib.detector.model import working
from flowlib.experiments.borescope.frames import VIEWS, Shot
from flowlib.explorer.background import Tick
from flowlib.inspection.layouts import layout
from flowlib.inspection.media import MediaError, is_video
from flowlib.inspection.pictures import read_image, read_mask
from flowlib.inspection.videos import video_frames
from flowlib.runtime import artifacts

VIDEO_FRAMES = 30  # evenly spread ones of a video
MOST_FILES = 500  # of a folder


class ExplorerError(ValueError):
    """The explorer cannot show or read what was asked for; the message says what and what to do."""


@dataclass(frozen=True)
class Picture:
    """A picture: uint8 ``(C, h, w)``, its label ("good", a defect or None), mask ``(h, w)`` or None, place in `VIEWS`
    or None."""

    name: str
    image: np.ndarray
    label: str | None = None
    mask: np.ndarray | None = None
    view: int | None = None

    @cached_property
    def key(self) -> str:
        return f"{artifacts.array_hash(self.image)[:24]} {self.view}"


def of_shots(shots: Sequence[Shot]) -> list[Picture]:
    """Simulated frames as pictures, numbered within their blade."""
    numbers = [sum(other.blade == one.blade for other in shots[: index + 1]) for index, one in enumerate(shots)]
    return [
        Picture(
            f"blade {one.blade}, frame {number}, {VIEWS[one.view].replace('_', ' ')}",
            one.image,
            one.label,
            one.mask if one.mask.any() else None,
            one.view,
        )
        for number, one in zip(numbers, shots, strict=True)
    ]


def read_pictures(path: str | Path, size: int, channels: int, tick: Tick = lambda *_: None) -> list[Picture]:
    """The images of a folder (of one with ``test`` those, with their labels and masks), or the frames of a video.

    They are reduced to `size` pixels on the longest side and get `channels` channels. Of a folder, videos give their
    middle frame and files that cannot be read are left out.

    Raises ExplorerError when there is nothing to see, and MediaError for a single file that cannot be read.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        return list(read_file(path, size, channels, VIDEO_FRAMES))
    found = layout(path)
    files: list[tuple[str | None, Path]] = [*found.test] or [(None, file) for file in found.media]
    out: list[Picture] = []
    for number, (label, file) in enumerate(files[:MOST_FILES]):
        tick(number, min(len(files), MOST_FILES), "reading")
        try:
            for one in read_file(file, size, channels, 1):
                mask = read_mask(found.masks[file], None) if file in found.masks else None
                if mask is not None:
                    mask = model.resized(mask.astype(np.float32), one.image.shape[1:]) >= 0.5
                out.append(replace(one, name=file.relative_to(path).as_posix(), label=label, mask=mask))
        except (MediaError, model.DetectorError):
            continue
    if not out:
        raise ExplorerError(f"{path} holds no image or video that can be read: name a folder of PNG or MP4 files")
    return out


def read_file(path: Path, size: int, channels: int, frames: int) -> Iterator[Picture]:
    if not is_video(path):
        yield Picture(path.name, working(read_image(path), size, channels))
        return
    for frame in video_frames(path, frames):
        yield Picture(f"{path.name}, {frame.seconds:.2f} s", working(frame.image, size, channels))
