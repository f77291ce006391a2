"""What is read is what was written; what cannot be read is refused by name."""

import os
import re
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from imagecodecs import png_encode
from PIL import Image

from flowlib.inspection import videos
from flowlib.inspection.layouts import layout, media_files
from flowlib.inspection.media import MAX_PIXELS, Frame, MediaError
from flowlib.inspection.pictures import read_image, read_mask
from flowlib.inspection.videos import video_frames

properties = settings(derandomize=True, max_examples=25, deadline=None)
shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
colours = st.one_of(shapes, shapes.map(lambda shape: (*shape, 3)))  # grey, or RGB
RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)


def picture(width: int = 40, height: int = 30) -> np.ndarray:
    """Smooth colours (H, W, 3) that survive lossy compression nearly."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 2 % 256], axis=-1).astype(np.uint8)


def write_video(
    path: Path,
    frames: int = 30,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """A video whose frame i is uniformly of grey level 16 + 4 i (modulo 224), except for noise that takes space."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.bit_rate = 2_000_000
        for i in range(frames):
            grey = np.clip(16 + 4 * i % 224 + rng.integers(-12, 13, (size[1], size[0])), 0, 255).astype(np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.stack([grey] * 3, -1), format="rgb24")))
        file.mux(stream.encode(None))
    return path


def read_until_error(path: Path) -> tuple[list[Frame], str]:
    frames: list[Frame] = []
    try:
        frames.extend(video_frames(path))  # extends by what comes before the error
    except MediaError as error:
        return frames, str(error)
    return frames, ""


def level(image: np.ndarray) -> float:
    return (image.mean() - 16) / 4


@pytest.mark.parametrize(
    "name", ["a.png", "a.bmp", "a.tif", "a.webp", "mit Leerzeichen und Ümläuten 翼.png", "100%#?.png"]
)
def test_colour_and_grey_come_back_exactly(tmp_path: Path, name: str) -> None:
    pixels = picture()
    Image.fromarray(pixels).save(tmp_path / name, lossless=True)
    image = read_image(tmp_path / name)
    assert (image.dtype, image.shape) == (np.uint8, (3, 30, 40))
    assert (image.transpose(1, 2, 0) == pixels).all()
    if not name.endswith("webp"):  # which knows no grey
        Image.fromarray(pixels[..., 0]).save(tmp_path / name)
        assert (read_image(tmp_path / name) == pixels[None, ..., 0]).all()


def test_three_equal_channels_stay_three(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3), (7, 7, 7)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (3, 3, 4)


def test_sixteen_bits_are_scaled_by_their_upper_eight(tmp_path: Path) -> None:
    (tmp_path / "grey.png").write_bytes(png_encode(RAMP))
    (tmp_path / "colour.png").write_bytes(png_encode(np.stack([RAMP, RAMP.T, 0 * RAMP], -1)))
    tifffile.imwrite(tmp_path / "grey.tif", RAMP, byteorder=">")
    assert (read_image(tmp_path / "grey.png") == RAMP[None] >> 8).all()
    assert (read_image(tmp_path / "grey.tif") == RAMP[None] >> 8).all()
    assert (read_image(tmp_path / "colour.png") == np.stack([RAMP, RAMP.T, 0 * RAMP]) >> 8).all()


def test_palette_one_bit_and_alpha(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putdata([1, 0])
    palette.save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png")[:, 0].T.tolist() == [[200, 100, 50], [10, 20, 30]]
    bit = Image.new("1", (2, 1))
    bit.putdata([1, 0])
    bit.save(tmp_path / "bit.png")
    assert read_image(tmp_path / "bit.png").tolist() == [[[255, 0]]]
    alpha = Image.new("RGBA", (3, 1))
    alpha.putdata([(200, 100, 50, 255), (200, 100, 50, 0), (200, 100, 50, 51)])
    alpha.save(tmp_path / "alpha.png")
    assert read_image(tmp_path / "alpha.png")[:, 0].T.tolist() == [[200, 100, 50], [0, 0, 0], [40, 20, 10]]
    grey = Image.new("LA", (2, 1))
    grey.putdata([(77, 255), (77, 0)])
    grey.save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png").tolist() == [[[77, 0]]]


def test_cmyk_jpeg_is_colour(tmp_path: Path) -> None:
    Image.new("RGB", (16, 8), (200, 60, 30)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (3, 8, 16)
    np.testing.assert_allclose(image.mean(axis=(1, 2)), [200, 60, 30], atol=4)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16), dtype=np.uint8)
    pixels[:, :8] = 255  # the left half is bright
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise when shown
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (1, 16, 8)
    assert image[0, :8].min() > 250, "what was left is up"
    assert image[0, 8:].max() < 5


@pytest.mark.parametrize("side", [1, 5])
def test_tiny_images_are_read(tmp_path: Path, side: int) -> None:
    Image.fromarray(picture(side, side)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (3, side, side)


def bomb(path: Path, width: int, height: int) -> None:
    """A PNG file of a few bytes whose header claims many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + end)


@pytest.mark.parametrize("size", [(10_001, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_before_they_are_decoded(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb(tmp_path / "bomb.png", *size)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(MediaError, match=r"bomb\.png has more than 100,000,000 pixels: save it smaller"):
        read_image(tmp_path / "bomb.png")
    assert MAX_PIXELS == 100_000_000


def test_an_image_between_pillows_limit_and_ours_gives_no_warning(tmp_path: Path) -> None:
    Image.new("1", (9500, 9500)).save(tmp_path / "a.png")  # RuntimeWarning is an error here
    assert read_mask(tmp_path / "a.png").sum() == 0


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_images_are_refused_by_name(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("a.png", "a.jpg", "a.tif", "a.webp", "a.bmp"):
        path = tmp_path / name
        Image.fromarray(noise).save(path)
        content = path.read_bytes()
        for size in (len(content) // 2, 20):
            path.write_bytes(content[:size])
            with pytest.raises(MediaError, match=f"a{path.suffix} is .*(damaged|truncated).*: (convert|replace)"):
                read_image(path)
    text = tmp_path / "text.png"
    text.write_text("no image")
    with pytest.raises(MediaError, match=r"text\.png is not a BMP, JPEG, PNG"):
        read_image(text)


def test_numbers_without_full_scale_and_stacks_are_refused(tmp_path: Path) -> None:
    for kind in (np.float32, np.int32, np.int16, np.float64):
        tifffile.imwrite(tmp_path / "a.tif", RAMP.astype(kind))
        with pytest.raises(MediaError, match=r"a\.tif .*: (save it with 8 or 16 unsigned bits|convert or replace it)"):
            read_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 32, 32), np.uint8), photometric="minisblack")
    with pytest.raises(MediaError, match="holds 3 pages"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("read", [read_image, read_mask, lambda path: next(video_frames(path))])
def test_what_is_no_readable_file_is_told_apart(tmp_path: Path, read, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "locked.png").write_text("x")
    for name, message in [
        ("empty.png", r"empty\.png is empty"),
        ("folder.png", r"folder\.png is a folder"),
        ("none.png", r"none\.png is missing"),
    ]:
        with pytest.raises(MediaError, match=message):
            read(tmp_path / name)
    (tmp_path / "locked.png").chmod(0)
    if os.access(tmp_path / "locked.png", os.R_OK):  # root may read all

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MediaError, match=r"locked\.png cannot be opened \(Permission denied\): check its permissions"):
        read(tmp_path / "locked.png")


@given(colours.flatmap(lambda shape: arrays(np.uint8, shape)), st.sampled_from(["png", "bmp", "tiff"]))
@properties
def test_any_image_comes_back_from_a_lossless_file(tmp_path_factory, pixels: np.ndarray, suffix: str) -> None:
    path = tmp_path_factory.mktemp("any") / f"a.{suffix}"
    Image.fromarray(pixels).save(path)
    found = read_image(path)
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.atleast_3d(pixels).transpose(2, 0, 1))


@given(
    colours.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 1, 128, 255]))),
    st.sampled_from(["png", "bmp", "tiff"]),
)
@properties
def test_any_mask_comes_back_whatever_stands_for_a_defect(tmp_path_factory, values: np.ndarray, suffix: str) -> None:
    path = tmp_path_factory.mktemp("any") / f"a.{suffix}"
    Image.fromarray(values).save(path)
    expected = values.any(axis=2) if values.ndim == 3 else values > 0
    found = read_mask(path, expected.shape)
    assert found.dtype == np.bool_
    assert np.array_equal(found, expected)
    Image.fromarray(255 * found.astype(np.uint8)).save(path)
    assert np.array_equal(read_mask(path), found), "written again as 0 and 255"
    H, W = expected.shape
    with pytest.raises(MediaError, match=f"is a mask of {W} x {H} pixels for an image of {W} x {H + 1} pixels"):
        read_mask(path, (H + 1, W))


def test_any_nonzero_pixel_is_anomalous_and_the_shape_is_checked(tmp_path: Path) -> None:
    expected = np.zeros((6, 7), dtype=bool)
    expected[2:4, 3] = True
    Image.fromarray(expected * np.uint8(1)).save(tmp_path / "a.png")
    mask = read_mask(tmp_path / "a.png", (6, 7))
    assert mask.dtype == bool
    assert (mask == expected).all()
    (tmp_path / "deep.png").write_bytes(png_encode(expected.astype(np.uint16)))  # 1 of 65535
    assert (read_mask(tmp_path / "deep.png") == expected).all()
    Image.fromarray(np.stack([0 * expected, 0 * expected, expected], -1).astype(np.uint8)).save(tmp_path / "blue.png")
    assert (read_mask(tmp_path / "blue.png") == expected).all()
    with pytest.raises(MediaError, match=r"a\.png is a mask of 7 x 6 pixels for an image of 6 x 7 pixels"):
        read_mask(tmp_path / "a.png", (7, 6))
    Image.fromarray(expected * np.uint8(255)).save(tmp_path / "a.jpg")
    with pytest.raises(MediaError, match=r"a\.jpg is a JPEG"):
        read_mask(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a b ü.mkv", "libx264"),
        ("a:b.avi", "mpeg4"),
        ("%03d.ts", "libx264"),
        ("a.webm", "libvpx"),
    ],
)
def test_all_frames_come_in_order(tmp_path: Path, name: str, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / name, codec=codec)
    monkeypatch.chdir(tmp_path)
    frames = list(video_frames(Path(name)))  # relative: a: is no protocol
    assert [frame.index for frame in frames] == list(range(30))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(30) / 25, atol=1e-3)
    assert {(frame.image.dtype.str, frame.image.shape) for frame in frames} == {("|u1", (3, 48, 64))}
    np.testing.assert_allclose([level(frame.image) for frame in frames], np.arange(30), atol=0.5)


@pytest.mark.parametrize("options", [{"bf": "0"}, {"x264-params": "open-gop=1:keyint=10:bframes=3:b-adapt=0"}])
def test_frames_are_spread_evenly_and_are_those_of_the_whole(tmp_path: Path, options: dict[str, str]) -> None:
    path = write_video(tmp_path / "a.mp4", 31, options=options)
    every = list(video_frames(path))
    for count in (1, 7, 30, 31, 300):
        frames = list(video_frames(path, count))
        expected = list(range(31)) if count > 31 else [i * 31 // count for i in range(count)]
        assert [frame.index for frame in frames] == expected
        for frame in frames:
            assert frame.seconds == every[frame.index].seconds
            assert (frame.image == every[frame.index].image).all()
    with pytest.raises(MediaError, match="count is 0: ask for at least 1"):
        next(video_frames(path, 0))


def test_seconds_start_at_zero_in_containers_that_do_not(tmp_path: Path) -> None:
    assert next(video_frames(write_video(tmp_path / "a.mpg", codec="mpeg2video"))).seconds == 0


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx"),
        ("a.wmv", "wmv2"),
        ("a.nut", "mpeg4"),
        ("a.mp4", "libx264"),
        ("a.ts", "libx264"),
        ("a.flv", "flv"),
    ],
)
@pytest.mark.parametrize("first", [60, -1])
def test_a_video_may_begin_at_any_time(tmp_path: Path, name: str, codec: str, first: int) -> None:
    with av.open(str(tmp_path / name), "w") as file:
        stream = file.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64), 100 + i, np.uint8), format="gray")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = 1000 * first + 100 * i, Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    frames, message = read_until_error(tmp_path / name)
    assert message == ""
    assert len(frames) == 20 if (first, name) == (-1, "a.mp4") else 30  # what its edit list leaves out is not shown
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(len(frames)) / 10, atol=0.02)
    if name == "a.mkv":  # that it ends too early is seen as well
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[: int(0.9 * path.stat().st_size)])
        assert "is damaged or cut off" in read_until_error(path)[1]


def test_grey_videos_have_one_channel_and_ffv1_is_lossless(tmp_path: Path) -> None:
    labels = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64) % 3
    with av.open(str(tmp_path / "a.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        for i in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(labels, i, axis=1), format="gray")))
        file.mux(stream.encode(None))
    frames = list(video_frames(tmp_path / "a.mkv"))
    assert [(frame.image == np.roll(labels, frame.index, axis=1)[None]).all() for frame in frames] == [True] * 3


def test_rotation_of_a_telephone_is_applied(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 2)
    stored = next(video_frames(path)).image
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # of the track header, version 0
    quarter = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)  # clockwise
    assert struct.unpack_from(">9i", content, matrix) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", content, matrix, *quarter)
    path.write_bytes(content)
    shown = next(video_frames(path)).image
    assert shown.shape == (3, 64, 48)
    assert (shown == np.rot90(stored, -1, axes=(1, 2))).all()


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("a.mp4", "libx264", {"movflags": "faststart"}),
        ("a.mkv", "libx264", {}),
        ("a.avi", "mpeg4", {}),
        ("a.avi", "mjpeg", {}),
    ],
)
def test_a_truncated_video_gives_its_good_frames_and_then_an_error(
    tmp_path: Path, name: str, codec: str, container: dict[str, str]
) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(tmp_path / name, 60, codec, pix_fmt, (128, 96), container=container)
    whole = list(video_frames(path))
    content = path.read_bytes()
    path.write_bytes(content[: int(0.6 * len(content))])
    frames, message = read_until_error(path)
    assert re.search(rf"{name} is damaged or cut off: {len(frames)} good frames.*; copy or record it again", message)
    assert 5 < len(frames) < 55
    for frame in frames:
        assert (frame.image == whole[frame.index].image).all(), "no damaged frame is given"


def test_videos_without_frames_are_refused_at_once(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")  # its index is at its end
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(MediaError, match=r"a\.mp4 is not a video that FFmpeg can read, or is truncated"):
        next(video_frames(path))
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    with pytest.raises(MediaError, match=r"text\.mp4 is not a video"):
        next(video_frames(tmp_path / "text.mp4"))
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        file.mux(stream.encode(sound))
        file.mux(stream.encode(None))
    with pytest.raises(MediaError, match=r"sound\.mp4 holds no pictures, only audio"):
        next(video_frames(tmp_path / "sound.mp4"))
    playlist = f"#EXTM3U\n#EXTINF:1,\n{write_video(tmp_path / 'b.ts')}\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.mp4").write_text(playlist)
    with pytest.raises(MediaError, match=r"list\.mp4"):
        next(video_frames(tmp_path / "list.mp4"))


def test_damage_in_the_middle_does_not_end_a_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", 60, size=(128, 96), options={"g": "10", "bf": "0"})
    whole = list(video_frames(path))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(content)
    frames, message = read_until_error(path)
    assert "is damaged or cut off" in message
    assert 30 < len(frames) < 60
    assert frames[-1].index == 59
    assert all((frame.image == whole[frame.index].image).all() for frame in frames), "nor any that builds on it"


def test_frames_larger_than_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(MediaError, match=r"a\.mp4 has frames of more than 3,071 pixels"):
        next(video_frames(write_video(tmp_path / "a.mp4", 2)))


def test_media_files_are_in_natural_order_without_masks_and_hidden_ones(tmp_path: Path) -> None:
    wanted = ["a2.png", "a10.PNG", "b/1.mp4", "b/c 2/x.tiff", "b/c 10/x.tiff", "é.JPG"]
    others = [
        ".hidden.png",
        ".git/a.png",
        "ground_truth/crack/1_mask.png",
        "regions/good/1.mkv",
        "notes.txt",
        "b/a.csv",
    ]
    for name in [*wanted, *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in media_files(tmp_path)] == wanted
    with pytest.raises(MediaError, match=r"none is missing: name a folder"):
        media_files(tmp_path / "none")
    with pytest.raises(MediaError, match=r"a2\.png is not a folder"):
        media_files(tmp_path / "a2.png")


def tree(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_layout_of_mvtec(tmp_path: Path) -> None:
    tree(tmp_path, "train/good/0.png", "train/good/1.mp4", "test/good/0.png", "test/crack/0.png", "test/crack/1.mp4")
    tree(tmp_path, "test/crack/2.png", "ground_truth/crack/0_mask.PNG", "ground_truth/crack/1_mask.mkv", "readme.png")
    normal, test, masks, *_ = layout(tmp_path)
    crack, truth = tmp_path / "test" / "crack", tmp_path / "ground_truth" / "crack"
    assert normal == [tmp_path / "train" / "good" / name for name in ("0.png", "1.mp4")]
    assert test == [
        *(("crack", crack / name) for name in ("0.png", "1.mp4", "2.png")),
        ("good", tmp_path / "test" / "good" / "0.png"),
    ]
    assert masks == {crack / "0.png": truth / "0_mask.PNG", crack / "1.mp4": truth / "1_mask.mkv"}
    tree(tmp_path, "test/stray.png")
    with pytest.raises(MediaError, match=r"stray\.png has no label: move it to test/good"):
        layout(tmp_path)


def test_layout_of_plain_folders(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "2.png")
    assert layout(tmp_path)[:3] == ([tmp_path / "2.png", tmp_path / "a" / "1.png"], [], {})
    tree(tmp_path, "train/3.png")
    assert layout(tmp_path)[:3] == ([tmp_path / "train" / "3.png"], [], {})
    with pytest.raises(MediaError, match="is missing: name a folder"):
        layout(tmp_path / "none")
