"""What a file states about its numbers is used; what cannot be known is said or refused."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from flowlib.inspection.media import MediaError
from flowlib.inspection.normals import read_normal
from flowlib.inspection.pictures import read_image, read_picture

TWELVE = (np.arange(64 * 48, dtype=np.uint16) * 4 // 3).reshape(48, 64)  # 0 to 4094
EIGHT = (TWELVE >> 4).astype(np.uint8)
MAX, LARGEST_FLOAT, RAW, ORIENTATION = (281, 3, 1), (341, 11, 1), (50706, 1, 4), 274


def tiff(path: Path, pixels: np.ndarray, *tags: tuple, **options: object) -> Path:
    tifffile.imwrite(path, pixels, extratags=[(*tag, value, True) for tag, value in tags], **options)
    return path


def test_a_largest_value_that_a_file_states_is_its_white(tmp_path: Path) -> None:
    assert (read_image(tiff(tmp_path / "a.tif", TWELVE, (MAX, 4095)))[0] == EIGHT).all()
    brightest = tiff(tmp_path / "b.tif", TWELVE << 4, (MAX, 4094 << 4))  # the picture's, as some programs state
    assert (read_image(brightest)[0] == EIGHT).all()
    path = tiff(tmp_path / "f.tif", (TWELVE / 4095).astype(np.float32), (LARGEST_FLOAT, 1.0))
    np.testing.assert_allclose(read_image(path)[0], TWELVE / 4095 * 255, atol=1)
    (tmp_path / "a.pgm").write_bytes(b"P5 64 48 4095\n" + TWELVE.astype(">u2").tobytes())
    np.testing.assert_allclose(read_image(tmp_path / "a.pgm")[0], TWELVE / 4095 * 255, atol=1)
    (tmp_path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(TWELVE, bitspersample=12, level=0, reversible=True))
    np.testing.assert_allclose(read_image(tmp_path / "a.jp2")[0], TWELVE / 4095 * 255, atol=1)
    with pytest.raises(MediaError, match="states colours up to 4095 in 16 bits: save it with 8"):
        read_image(tiff(tmp_path / "c.tif", np.stack([TWELVE] * 3, -1), (MAX, 4095), photometric="rgb"))


def test_numbers_that_leave_bits_empty_are_doubted_once_a_folder(tmp_path: Path) -> None:
    note = "fills only 12 of its 16 bits and was taken as dark: state its largest value, or stretch it to 16"
    for name in ("0.tif", "1.tif"):
        assert read_picture(tiff(tmp_path / name, TWELVE)).note == note
    colours = np.stack([TWELVE] * 3, -1)
    assert read_picture(tiff(tmp_path / "2.tif", colours, photometric="rgb")).note == note
    (tmp_path / "3.png").write_bytes(imagecodecs.png_encode(colours))
    assert read_picture(tmp_path / "3.png").note == note
    assert read_normal(tmp_path).notes == [f"warning: {tmp_path / '0.tif'}: {note} (3 more in its folder)"]
    for pixels in (TWELVE << 4, TWELVE * 0, EIGHT):
        assert read_picture(tiff(tmp_path / "4.tif", pixels)).note == ""


def test_white_may_be_zero(tmp_path: Path) -> None:
    for pixels in (EIGHT, TWELVE << 4):
        path = tiff(tmp_path / "a.tif", pixels, photometric="miniswhite")
        assert (read_image(path)[0] == 255 - EIGHT).all()


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_tiff_files_are_turned_as_they_say(tmp_path: Path, turn: int, compression: str | None) -> None:
    Image.fromarray(EIGHT).save(tmp_path / "a.tif", tiffinfo={ORIENTATION: turn}, compression=compression)
    upright = {1: EIGHT, 2: EIGHT[:, ::-1], 3: EIGHT[::-1, ::-1], 4: EIGHT[::-1], 5: EIGHT.T, 6: np.rot90(EIGHT, -1),
               7: EIGHT[::-1, ::-1].T, 8: np.rot90(EIGHT)}[turn]  # fmt: skip
    assert np.array_equal(read_image(tmp_path / "a.tif")[0], upright)


@pytest.mark.parametrize("alpha", [0, 1])
def test_pictures_of_which_nothing_could_be_seen_lose_their_transparency(tmp_path: Path, alpha: int) -> None:
    clear = np.full_like(EIGHT, alpha)
    Image.fromarray(np.dstack([EIGHT] * 3 + [clear])).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == EIGHT).all()
    Image.fromarray(np.dstack([EIGHT, clear])).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png") == EIGHT[None]).all()
    Image.fromarray(np.dstack([0 * EIGHT] * 3 + [clear])).save(tmp_path / "nothing.png")
    with pytest.raises(MediaError, match=r"nothing\.png is wholly transparent"):
        read_image(tmp_path / "nothing.png")


@pytest.mark.parametrize("name", ["a.avif", "a.gif", "a.jp2", "a.pgm"])
def test_other_formats_are_read(tmp_path: Path, name: str) -> None:
    Image.fromarray(EIGHT).save(tmp_path / name, **({"quality": 100} if name == "a.avif" else {}))
    assert np.abs(read_image(tmp_path / name).mean(axis=0) - EIGHT).max() <= 2


def test_previews_and_moving_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="raw data of a camera, or a preview of it: develop it"):
        read_image(tiff(tmp_path / "a.tif", EIGHT, (RAW, (1, 4, 0, 0))))
    with pytest.raises(MediaError, match="or a preview of it"):
        read_image(tiff(tmp_path / "b.tif", EIGHT, subfiletype=1))
    frames = [Image.fromarray(EIGHT), Image.fromarray(EIGHT[::-1])]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(MediaError, match="holds 2 pages"):
        read_image(tmp_path / "a.gif")
