"""A data set of simulated borescope videos with exact masks: a stand-in for the thesis's BoroscopeV1 (section 5).

`simulate` writes H.264 videos of engine blades, laid out as MVTec AD is, one video a blade and split by blade; what is
on them is made in flowlib.simulator.camera. A killed run leaves whole videos or none, and goes on where it was.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import av
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from flowlib.runtime import parallel
from flowlib.runtime.code import code_hash
from flowlib.runtime.files import resuming, write_text
from flowlib.simulator.blades import VIEWPOINTS, Viewpoint
from flowlib.simulator.camera import FRAME_RATE
from flowlib.simulator.camera import MARKED as MARKED
from flowlib.simulator.camera import REFLECTION as REFLECTION
from flowlib.simulator.camera import SHADOW as SHADOW
from flowlib.simulator.camera import Frame as Frame
from flowlib.simulator.camera import SimulatorError as SimulatorError
from flowlib.simulator.camera import render as render
from flowlib.simulator.defects import DEFECTS

__all__ = ["MARKED", "REFLECTION", "SHADOW", "Frame", "SimulatorError", "render", "simulate"]

# x264 chooses B-frames otherwise in every run, even with one thread: without them the same frames are the same file
CODECS = {"libx264": {"crf": "18", "preset": "veryfast", "bf": "0"}, "ffv1": {"level": "3", "g": "1"}}


class Video(NamedTuple):
    """One video of the data set: a blade from a viewpoint, with a defect or "good"."""

    split: str
    defect: str
    blade: int
    viewpoint: str

    @property
    def stem(self) -> str:
        return f"blade_{self.blade:03}_{self.viewpoint}"

    @property
    def path(self) -> str:
        return f"{self.split}/{self.defect}/{self.stem}.mp4"

    @property
    def labels(self) -> dict[str, str]:
        """The lossless videos that go with it: of the mask where there is a defect, and of the regions."""
        paths = {"regions": f"regions/{self.defect}/{self.stem}_regions.mkv"}
        if self.defect != "good":
            paths["mask"] = f"ground_truth/{self.defect}/{self.stem}_mask.mkv"
        return paths


def simulate(
    folder: Path,
    normal_blades: int = 16,
    test_normal_blades: int = 8,
    defect_blades: int = 24,
    frames: int = 40,
    seed: int = 0,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Write videos of normal blades to train on, and of unseen blades, normal and damaged, to test on.

    Arguments
    ---------
    folder: of the data set; made if it is not there. Videos that it holds already are kept.
    normal_blades, test_normal_blades, defect_blades: how many of each, a video each. Viewpoints take turns, and so do
        the defects; 28 damaged blades show every defect from every viewpoint once.
    frames: a video, at 10 frames a second.
    seed: the same seed gives the same frames.
    executor: makes the videos at once (`flowlib.runtime.parallel`); without one they are made one after another.

    Writes
    ------
    train/good/blade_NNN_VIEWPOINT.mp4, test/good/..., test/DEFECT/...: H.264, colour.
    ground_truth/DEFECT/blade_NNN_VIEWPOINT_mask.mkv: the masks frame for frame, lossless FFV1, grey, 0 or 255.
    regions/good/blade_NNN_VIEWPOINT_regions.mkv, regions/DEFECT/...: in the same way for all videos, 1 specular
        reflection, 2 black shadow beside or behind the blade, 0 else.
    settings.json: what the data set was made with.
    frames.csv: the returned table, when all else is complete.

    Returns
    -------
    a row a frame: video (path in the folder), frame, split, defect, blade, viewpoint, width, height, defect_pixels,
    x0, y0, x1, y1 (the mask's bounding box, its last pixels included; missing where the mask is empty: a defect may
    drift out of view), reflection_pixels, shadow_behind (at least half of the mask is black shadow: a missing piece).

    Raises SimulatorError when an argument is wrong, or the folder holds another simulation or cannot be written.
    """
    folder = Path(folder)
    counts = {"normal_blades": normal_blades, "test_normal_blades": test_normal_blades, "defect_blades": defect_blades}
    for name, count, least in [*((name, count, 0) for name, count in counts.items()), ("frames", frames, 1)]:
        if not isinstance(count, int) or count < least:
            raise SimulatorError(f"{name} is {count!r}, it must be a whole number of at least {least}")
    if not isinstance(seed, int) or seed < 0:
        raise SimulatorError(f"seed is {seed!r}, it must be a whole number of at least 0")
    videos = list(videos_of(normal_blades, test_normal_blades, defect_blades))
    if not videos:
        raise SimulatorError("normal_blades, test_normal_blades and defect_blades are all 0: ask for some blades")
    settings = {**counts, "frames": frames, "seed": seed, "code": code_hash(__name__)}

    def conflict(noted: dict[str, Any]) -> str:
        other = f"{folder} holds another simulation (of other settings or code, see its settings.json)"
        return "" if noted == settings else f"{other}: delete it or name another"

    with resuming(folder, settings, conflict, SimulatorError, wait=True):  # another process may want the same
        jobs = [(folder, video, frames, seed) for video in videos]
        if executor:
            tables = parallel.run(make, jobs, executor, "videos")
        else:
            tables = [make(*job) for job in tqdm(jobs, desc="videos", unit="video", disable=None)]
        rows = pd.concat(tables, ignore_index=True)
        write_text(folder / "frames.csv", rows.to_csv(index=False))
    return rows


def videos_of(normal_blades: int, test_normal_blades: int, defect_blades: int) -> Iterator[Video]:
    """The videos of a data set: blades are numbered through, viewpoints and defects take turns."""
    viewpoints, defects = list(VIEWPOINTS), list(DEFECTS)
    for number in range(normal_blades):
        yield Video("train", "good", number, viewpoints[number % len(viewpoints)])
    for number in range(test_normal_blades):
        yield Video("test", "good", normal_blades + number, viewpoints[number % len(viewpoints)])
    for number in range(defect_blades):  # 4 viewpoints and 7 defects share no factor: all pairs come up
        blade = normal_blades + test_normal_blades + number
        yield Video("test", defects[number % len(defects)], blade, viewpoints[number % len(viewpoints)])


def make(folder: Path, video: Video, frames: int, seed: int) -> pd.DataFrame:
    """Write a video and its labels, unless they are there, and return its rows of frames.csv."""
    paths = [folder / path for path in (*video.labels.values(), video.path)]
    if not all(path.exists() for path in paths):
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        write(folder, video, render((seed, video.blade), video.viewpoint, video.defect, frames))
    return describe(folder, video, frames)


def write(folder: Path, video: Video, frames: Iterator[Frame]) -> None:
    """Stream frames into a video and its labels; the video gets its name last."""
    view = VIEWPOINTS[video.viewpoint]
    with ExitStack() as stack:
        film = stack.enter_context(new_video(folder / video.path, view, "libx264", "rgb24"))
        labels = {
            name: stack.enter_context(new_video(folder / path, view, "ffv1", "gray"))
            for name, path in video.labels.items()
        }
        for frame in frames:
            film(frame.image.transpose(1, 2, 0))
            labels["regions"](frame.regions)
            if "mask" in labels:
                labels["mask"](frame.mask * np.uint8(255))


@contextmanager
def new_video(path: Path, view: Viewpoint, codec: str, pixels: str) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that adds a frame, (H, W) or (H, W, 3) uint8, to a video that appears whole at the end or not at all.

    H.264 takes four chroma samples as one; FFV1 keeps every pixel.
    """
    temporary = path.with_name(f".{path.name}.partial")
    container = {".mp4": "mp4", ".mkv": "matroska"}[path.suffix]
    try:
        with av.open(str(temporary), "w", format=container, options={"fflags": "+bitexact"}) as file:
            stream = cast(av.VideoStream, file.add_stream(codec, rate=FRAME_RATE, options=CODECS[codec]))
            stream.width, stream.height = view.width, view.height
            stream.pix_fmt = "gray" if pixels == "gray" else "yuv420p"
            stream.codec_context.thread_count = 1

            def add(image: np.ndarray) -> None:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=pixels)))

            yield add
            file.mux(stream.encode())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def describe(folder: Path, video: Video, frames: int) -> pd.DataFrame:
    """The rows of frames.csv of a video, counted in its labels."""
    view = VIEWPOINTS[video.viewpoint]
    labels = {name: read_labels(folder / path, frames) for name, path in video.labels.items()}
    nothing = np.zeros((view.height, view.width), dtype=bool)
    rows = []
    for number, regions in enumerate(labels["regions"]):
        mask = next(labels["mask"]) > 0 if "mask" in labels else nothing
        columns, lines = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        box = (columns[0], lines[0], columns[-1], lines[-1]) if mask.any() else [pd.NA] * 4
        rows.append(
            {
                "video": video.path,
                "frame": number,
                **{name: getattr(video, name) for name in ("split", "defect", "blade", "viewpoint")},
                "width": view.width,
                "height": view.height,
                "defect_pixels": mask.sum(),
                **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
                "reflection_pixels": (regions == REFLECTION).sum(),
                "shadow_behind": mask.any() and (regions[mask] == SHADOW).mean() >= 0.5,
            }
        )
    return pd.DataFrame(rows).astype(
        {"x0": "Int64", "y0": "Int64", "x1": "Int64", "y1": "Int64", "shadow_behind": bool}
    )


def read_labels(path: Path, frames: int) -> Iterator[np.ndarray]:
    """The frames of a label video, uint8 (H, W). SimulatorError when it has not as many as it should."""
    number = 0
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                number += 1
                yield frame.to_ndarray()
    except av.FFmpegError as error:
        raise SimulatorError(f"{path} is damaged ({error}): delete it, it will be made anew") from error
    if number != frames:
        raise SimulatorError(f"{path} has {number} frames instead of {frames}: delete it, it will be made anew")
