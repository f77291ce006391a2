"""Reading images, masks and video frames, and finding them: what cannot be read is refused by name.

Pixels leave here as uint8 (C, H, W), C = 1 for grey and 3 for colour, upright, exactly as many as the file holds.
Whether an image is grey is told by its file, never by its pixels, so that all files of one camera come out alike.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv"}
    | {".ts", ".vob", ".webm", ".wmv"}
)
MAX_PIXELS = 100_000_000  # of an image or a frame: more is taken for an attack on the memory
LABELS = ("ground_truth", "regions")  # folders of masks
IMAGE_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")  # no format whose reader runs other programs
MISSING_SECONDS = 0.5  # a video that ends earlier than it says, by more than this, is truncated


class MediaError(ValueError):
    """A file cannot be read as what it should be; the message names it, says what is wrong and what to do."""


class Frame(NamedTuple):
    """One frame of a video: its number in the order of showing, seconds since frame 0, and its image (C, H, W)."""

    index: int  # type: ignore[assignment]  # not the method of tuples
    seconds: float
    image: np.ndarray


class Layout(NamedTuple):
    """The files of a data set: those of good parts, the labelled ones to test, and the masks of the latter."""

    normal: list[Path]
    test: list[tuple[str, Path]]  # (label, file), where label "good" is normal and any other is a defect's name
    masks: dict[Path, Path]  # test file -> its mask file


def read_image(path: Path) -> np.ndarray:
    """Read a BMP, JPEG, PNG, TIFF or WebP image: uint8 (C, H, W), C = 1 where the file is grey, else 3.

    The rotation that a camera notes in EXIF is applied. Transparent parts become black. CMYK and palettes become RGB,
    one bit becomes 0 and 255. Of sixteen bits the upper eight stay, so that 65535 becomes 255 (the files of a camera
    that fills only 12 of the 16 come out dark: stretch them before).

    Raises MediaError when the file is missing, empty, truncated or no image, holds several pages, more than
    `MAX_PIXELS` pixels (refused before they are decoded), or numbers without a known full scale.
    """
    image, _ = _decoded(Path(path))
    if image.mode in ("F", "I"):
        raise MediaError(f"{path} holds floating-point, signed or 32-bit numbers: save it with 8 or 16 unsigned bits")
    pixels = np.asarray(image)  # (H, W) or (H, W, 3)
    if pixels.dtype != np.uint8:
        pixels = (pixels >> 8).astype(np.uint8)  # as Pillow has already done if they are of colour
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))


def read_mask(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read a mask: bool (H, W), True where any channel is not zero.

    Arguments
    ---------
    shape: (H, W) that the mask must have, that of its image.

    Raises MediaError as `read_image`, and for another shape, or a JPEG file, whose compression smears zeros.
    """
    image, kind = _decoded(Path(path))
    if kind in ("JPEG", "MPO"):
        raise MediaError(f"{path} is a JPEG, in which no zero is safe: save the mask as PNG")
    mask = np.any(np.atleast_3d(np.asarray(image)), axis=2)
    if shape is not None and mask.shape != tuple(shape):
        raise MediaError(
            f"{path} is a mask of {_size(mask.shape)} for an image of {_size(shape)}: make them the same size"
        )
    return mask


def video_frames(path: Path, count: int | None = None) -> Iterator[Frame]:
    """Frames of a video, in any container and codec that FFmpeg knows, decoded one at a time.

    Of N frames those at floor(i N / count) come, i = 0 ... count - 1, or all when `count` is None or not below N; so
    the frames of a count are among those of its multiples. N is counted by reading the file once without decoding.
    Grey formats give C = 1, all others RGB; rotation by right angles that a camera notes is applied. Pixels are taken
    for square. The colour matrix and range are those that the file states.

    Raises
    ------
    MediaError: at once when the file is missing, empty or no video, has frames of more than `MAX_PIXELS`, or none that
        can be decoded; and after the last good frame when frames before it were damaged or the video ends earlier than
        it says. Damaged frames are left out, and so are those after them up to the next key frame, which build on
        them; what came can be kept. (A damage that the decoder does not notice stays unnoticed.)
    """
    path = Path(path)
    if count is not None and count < 1:
        raise MediaError(f"count is {count}: ask for at least 1 frame of {path}")
    total, missing = _survey(path)
    wanted = None if count is None or count >= total else {i * total // count for i in range(count)}
    last = max(wanted) if wanted else None
    good = damaged = 0
    start = 0.0
    with _video(path) as (container, stream):
        for index, frame in enumerate(_decoded_frames(container, stream)):
            if frame is None:
                damaged += 1
                continue
            if not good:  # what comes before the first key frame is no damage
                damaged, start = 0, frame.time or 0.0
            good += 1
            if wanted is None or index in wanted:
                seconds = index / float(stream.average_rate or 25) if frame.time is None else frame.time - start
                yield Frame(index, round(seconds, 6), _pixels(frame))
            if index == last:
                break
    if not good:
        raise MediaError(f"{path} holds no frame that can be decoded: record or copy it again")
    if damaged or missing:
        raise MediaError(
            f"{path} is damaged or cut off: {good} good frames, {damaged} damaged, {missing:.1f} s missing at its end; "
            "copy or record it again"
        )


def media_files(folder: Path) -> list[Path]:
    """All images and videos in a folder and below, by suffix, in natural order (2 before 10).

    Hidden files and folders are left out, and so are the folders ``ground_truth`` and ``regions``, which hold masks.

    Raises MediaError when `folder` is not a folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MediaError(f"{folder} is {'not a folder' if folder.exists() else 'missing'}: name a folder of files")
    return [
        path
        for path in _files(folder)
        if not any(part.startswith(".") or part in LABELS for part in path.relative_to(folder).parts)
    ]


def natural(path: Path) -> tuple[tuple[tuple[str, int], ...], ...]:
    """A key that sorts paths folder by folder and numbers in names by value."""
    return tuple(
        tuple((text, int(digits or -1)) for text, digits in re.findall(r"(\D*)(\d*)", part)) for part in path.parts
    )


def layout(folder: Path) -> Layout:
    """Find the files of a data set in the layout of MVTec AD, or of a plain folder of good parts.

    With a folder ``train``: the normal files are those of ``train/good``, or of ``train`` where it has no ``good``; the
    test files are ``test/<label>/...``, their masks ``ground_truth/<label>/..._mask`` with any image or video suffix.
    Without one, every file below is normal.

    Raises MediaError when `folder` is not a folder, or a file in ``test`` lies in no folder that would label it.
    """
    folder = Path(folder)
    if not (folder / "train").is_dir():
        return Layout(media_files(folder), [], {})
    good = folder / "train" / "good"
    normal = media_files(good if good.is_dir() else folder / "train")
    known = {mask.relative_to(folder).with_suffix(""): mask for mask in _files(folder / "ground_truth")}
    test: list[tuple[str, Path]] = []
    masks: dict[Path, Path] = {}
    for path in media_files(folder / "test") if (folder / "test").is_dir() else []:
        inside = path.relative_to(folder / "test")
        if len(inside.parts) == 1:
            raise MediaError(f"{path} has no label: move it to test/good or to test/<name of its defect>")
        test.append((inside.parts[0], path))
        if mask := known.get(Path("ground_truth", inside.parent, f"{path.stem}_mask")):
            masks[path] = mask
    return Layout(normal, test, masks)


def _files(folder: Path) -> list[Path]:
    """Images and videos in a folder and below, in natural order."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES]
    return sorted(filter(Path.is_file, found), key=lambda path: natural(path.relative_to(folder)))


def _check_file(path: Path) -> None:
    """A MediaError for what is no readable file with something in it."""
    if path.is_dir():
        raise MediaError(f"{path} is a folder: name a file in it")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        raise MediaError(f"{path} is missing: check its name") from error
    except OSError as error:
        raise MediaError(f"{path} cannot be opened ({error.strerror}): check its permissions") from error
    if empty:
        raise MediaError(f"{path} is empty (0 bytes): copy or record it again")


def _decoded(path: Path) -> tuple[Image.Image, str]:
    """The upright image, flattened to mode L, RGB, I;16, I or F, and the name of its file format."""
    _check_file(path)
    too_large = f"{path} has more than {MAX_PIXELS:,} pixels: save it smaller, or cut it up"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # at a smaller size than ours
            image = Image.open(path, formats=IMAGE_FORMATS)
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise MediaError(too_large)
            kind, pages = str(image.format), getattr(image, "n_frames", 1)
            if pages > 1 and kind != "MPO":  # MPO: a JPEG with a preview behind it
                raise MediaError(f"{path} holds {pages} pages: save each as a file of its own")
            image.load()
            return _flattened(ImageOps.exif_transpose(image)), kind
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(too_large) from error
    except UnidentifiedImageError as error:
        raise MediaError(
            f"{path} is not a BMP, JPEG, PNG, TIFF or WebP image, or is damaged: convert or replace it"
        ) from error
    except Exception as error:  # decoders raise many kinds for damaged files: OSError, SyntaxError, struct.error ...
        raise MediaError(f"{path} is damaged or truncated ({_reason(error)}): replace it by an intact copy") from error


def _flattened(image: Image.Image) -> Image.Image:
    if image.has_transparency_data and not image.mode.startswith("I"):
        grey = image.mode in ("L", "LA", "La")
        opaque = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert("L" if grey else "RGB")
    if image.mode in ("L", "RGB", "I", "F") or image.mode.startswith("I;16"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


@contextmanager
def _video(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """An open video and its first stream of pictures that is not a cover."""
    _check_file(path)
    try:
        # `file:` keeps FFmpeg from reading a protocol out of the name, the list from following a playlist elsewhere.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{path} is not a video that FFmpeg can read, or is truncated ({_reason(error)}): convert or replace it"
        ) from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise MediaError(f"{path} holds no pictures, only {_kinds(container)}: name a video")
        stream = streams[0]
        codec = stream.codec_context
        if codec is None:
            raise MediaError(f"{path} is coded in a way that FFmpeg cannot decode: convert it to H.264")
        if codec.width * codec.height > MAX_PIXELS:
            raise MediaError(f"{path} has frames of more than {MAX_PIXELS:,} pixels: convert it to a smaller size")
        codec.thread_count = 1  # with more, what comes of a damaged file depends on their number
        yield container, stream


def _survey(path: Path) -> tuple[int, float]:
    """The number of frames in the file, and the seconds missing at its end or 0.0, without decoding."""
    total, start, end = 0, None, 0.0
    with _video(path) as (container, stream):
        try:
            for packet in container.demux(stream):
                total += packet.size > 0 and not packet.is_discard
                if packet.pts is not None and packet.time_base:
                    begin = float(packet.pts * packet.time_base)
                    start = begin if start is None else min(start, begin)
                    end = max(end, begin + float((packet.duration or 0) * packet.time_base))
        except av.FFmpegError:
            pass  # decoding meets it again
        missing = 0.0 if start is None else _declared_seconds(container, stream) - (end - start)
    return total, missing if missing > MISSING_SECONDS else 0.0


def _declared_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """How long the pictures last by the file's own word: of the stream, Matroska's tag, or the whole; 0.0 if none."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    alone = len(container.streams) == 1  # sound may well last longer than the pictures
    return container.duration / av.time_base if alone and container.duration else 0.0


def _decoded_frames(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame | None]:
    """The frames in the order of showing; None for each that is damaged, or built on a damaged one."""
    damaged = False
    try:
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    damaged = frame.is_corrupt or packet.is_corrupt or (damaged and not frame.key_frame)
                    yield None if damaged else frame
            except av.FFmpegError:
                damaged = True
                yield None
    except av.FFmpegError:
        yield None


def _pixels(frame: av.VideoFrame) -> np.ndarray:
    grey = len(frame.format.components) == 1 and not frame.format.name.startswith("pal")
    pixels = np.atleast_3d(frame.to_ndarray(format="gray" if grey else "rgb24")).transpose(2, 0, 1)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90), axes=(1, 2)))


def _kinds(container: av.container.InputContainer) -> str:
    return " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"


def _reason(error: Exception) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error)).split()) or type(error).__name__


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES
