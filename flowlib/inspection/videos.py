"""Reading the frames of a video, one at a time; what is damaged or missing is told after the last good frame."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

from flowlib.inspection.media import MAX_PIXELS, Frame, MediaError, check_file, reason

MISSING_SECONDS = 0.5  # a video that ends earlier than it says, by more than this, is truncated
FROM_ZERO = ("asf", "matroska,webm", "nut")  # containers whose duration counts from 0, whenever the pictures begin


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


@contextmanager
def _video(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """An open video and its first stream of pictures that is not a cover."""
    check_file(path)
    try:
        # `file:` keeps FFmpeg from reading a protocol out of the name, the list from following a playlist elsewhere.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{path} is not a video that FFmpeg can read, or is truncated ({reason(error)}): convert or replace it"
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
        begin = 0.0 if start is None or container.format.name in FROM_ZERO else start
        missing = 0.0 if start is None else _declared_seconds(container, stream) - (end - begin)
    return total, missing if missing > MISSING_SECONDS else 0.0


def _declared_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """How long the pictures last by the file's own word: of the stream, Matroska's tag, or the whole; 0.0 if none.

    Where the container is one of `FROM_ZERO` this is when they end."""
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
