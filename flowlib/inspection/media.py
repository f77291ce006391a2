"""What images and videos have in common: by which suffix they are known, when they are refused, what comes of them.

Pixels come as uint8 (C, H, W), C = 1 for grey and 3 for colour, upright, exactly as many as the file holds. Whether an
image is grey is told by its file, never by its pixels, so that all files of one camera come out alike.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".pbm", ".pgm"}
    | {".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
VIDEO_SUFFIXES = frozenset(
    {".264", ".3g2", ".3gp", ".asf", ".avi", ".dav", ".divx", ".dv", ".f4v", ".flv", ".h264", ".h265", ".hevc", ".m2ts"}
    | {".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogg"}
    | {".ogm", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv", ".y4m"}
)
MAX_PIXELS = 100_000_000  # of an image or a frame: more is taken for an attack on the memory


class MediaError(ValueError):
    """A file cannot be read as what it should be; the message names it, says what is wrong and what to do."""


class Frame(NamedTuple):
    """One frame of a video: its number in the order of showing, seconds since frame 0, and its image (C, H, W); of an
    image also what is doubtful about it."""

    index: int  # type: ignore[assignment]  # not the method of tuples
    seconds: float
    image: np.ndarray
    note: str = ""


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def check_file(path: Path) -> None:
    """A MediaError for what is no readable file with something in it."""
    if path.is_dir():
        raise MediaError(f"{path} is a folder: name a file in it")
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise MediaError(f"{path} is neither file nor folder: name a file")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        raise MediaError(f"{path} is missing: check its name") from error
    except OSError as error:
        raise MediaError(f"{path} cannot be opened ({error.strerror}): check its permissions") from error
    if empty:
        raise MediaError(f"{path} is empty (0 bytes): copy or record it again")


def reason(error: Exception) -> str:
    """What an error of another library says, on one line."""
    return " ".join((getattr(error, "strerror", None) or str(error)).split()) or type(error).__name__
