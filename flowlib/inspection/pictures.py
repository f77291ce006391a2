"""Reading images and masks: what a file states about its numbers is used, and what cannot be known is said.

Sixteen bits become eight, transparency and palettes go, and the image is turned as its camera noted.
"""

import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from flowlib.inspection.media import MAX_PIXELS, Frame, MediaError, check_file, reason

# of the formats that Pillow reads, those that begin with a mark of their own and whose reader runs no other programs
Image.init()
IMAGE_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
PHOTOMETRIC, BITS, LARGEST, LARGEST_FLOAT = 262, 258, 281, 341  # tags of TIFF
REDUCED, RAW = 254, (50706, 33422)  # tags of TIFF: is this a preview; what only files of raw sensor data have
SUSPECT_BITS = 14  # of 16: an image that fills no more may be of a camera that has no more


def read_image(path: Path) -> np.ndarray:
    """Read an image: uint8 (C, H, W), C = 1 where the file is grey, else 3. See `read_picture`."""
    return read_picture(path).image


def read_picture(path: Path) -> Frame:
    """Read a BMP, JPEG, PNG, TIFF, WebP, GIF, PPM, JPEG 2000 or AVIF image, as a frame with what is doubtful.

    The rotation that a camera notes in EXIF is applied. Transparent parts become black; where all is transparent the
    transparency is taken for a mistake and dropped. CMYK and palettes become RGB, one bit becomes 0 and 255. Of numbers
    with more than eight bits the upper eight stay, counted from what the file states: the bits a sample, or a largest
    value of 2^n - 1. Where sixteen bits are stated but fewer are filled, as by a camera of 12, the image comes out
    dark, and the note of the frame says so. Floating-point and 32-bit numbers are read where a TIFF states the largest.

    Raises MediaError when the file is missing, empty, truncated or no image, holds several pages, a preview of raw
    data, more than `MAX_PIXELS` pixels (refused before they are decoded), or numbers without a known full scale.
    """
    image, kind, stated = _decoded(Path(path))
    pixels = np.asarray(image)  # (H, W) or (H, W, 3)
    note = ""
    if pixels.dtype != np.uint8:
        full = _full_scale(image.mode, kind, stated, Path(path))
        if image.mode.startswith("I;16") and full == 65536:
            note = _unfilled(int(pixels.max()), 16)
        pixels = pixels * (256 / full) if image.mode == "F" else pixels >> int(full).bit_length() - 9
        pixels = np.clip(pixels, 0, 255).astype(np.uint8)
        if stated.get("photometric") == 0:  # white is zero: Pillow turns round eight bits only
            pixels = 255 - pixels
    elif stated.get("deep"):
        note = _unfilled(int(pixels.max()), 8)
    return Frame(0, 0.0, np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1)), note)


def read_mask(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read a mask: bool (H, W), True where any channel is not zero; of a folder, where it is so in any file.

    Arguments
    ---------
    shape: (H, W) that the mask must have, that of its image.

    Raises MediaError as `read_image`, and for another shape, or a JPEG file, whose compression smears zeros.
    """
    path = Path(path)
    if path.is_dir() and (files := sorted(file for file in path.iterdir() if file.suffix.lower() == ".png")):
        return np.logical_or.reduce([read_mask(file, shape) for file in files])
    image, kind, _ = _decoded(path)
    if kind in ("JPEG", "MPO"):
        raise MediaError(f"{path} is a JPEG, in which no zero is safe: save the mask as PNG")
    mask = np.any(np.atleast_3d(np.asarray(image)), axis=2)
    if shape is not None and mask.shape != tuple(shape):
        raise MediaError(
            f"{path} is a mask of {_size(mask.shape)} for an image of {_size(shape)}: make them the same size"
        )
    return mask


def _decoded(path: Path) -> tuple[Image.Image, str, dict[str, Any]]:
    """The upright image, flattened to mode L, RGB, I;16, I or F, the name of its file format, and what it states."""
    check_file(path)
    too_large = f"{path} has more than {MAX_PIXELS:,} pixels: save it smaller, or cut it up"
    try:
        # an open file, since Pillow given a name maps TIFF files into memory, and then turns them wrongly
        with path.open("rb") as file, _opened(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise MediaError(too_large)
            kind, pages = str(image.format), getattr(image, "n_frames", 1)
            if pages > 1 and kind != "MPO":  # MPO: a JPEG with a preview behind it
                raise MediaError(f"{path} holds {pages} pages: save each as a file of its own")
            stated = _stated(image, path)
            image.load()
            return _flattened(ImageOps.exif_transpose(image), path), kind, stated
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(too_large) from error
    except UnidentifiedImageError as error:
        raise MediaError(
            f"{path} is not a BMP, JPEG, PNG, TIFF, WebP, GIF, PPM, JPEG 2000 or AVIF image, or is damaged: "
            "convert or replace it"
        ) from error
    except Exception as error:  # decoders raise many kinds for damaged files: OSError, SyntaxError, struct.error ...
        raise MediaError(f"{path} is damaged or truncated ({reason(error)}): replace it by an intact copy") from error


def _opened(file: BinaryIO) -> ImageFile.ImageFile:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # at a smaller size than ours
        return Image.open(file, formats=[name for name in IMAGE_FORMATS if name in Image.OPEN])


def _stated(image: ImageFile.ImageFile, path: Path) -> dict[str, Any]:
    """What a file states about its numbers: of TIFF the bits, the largest and the photometric tag; deep where they are
    colours of 16 bits, of which Pillow keeps eight. MediaError where they are of a preview only."""
    if image.format == "PNG":
        return {"deep": not image.mode.startswith("I") and str(image.tile[0].args).endswith(";16B")}
    tags = getattr(image, "tag_v2", {})
    if tags.get(REDUCED, 0) & 1 or any(tag in tags for tag in RAW):
        raise MediaError(f"{path} holds raw data of a camera, or a preview of it: develop it to TIFF or PNG")
    unstated = 16 if image.mode.startswith("I;16") else 8  # of JPEG 2000, which Pillow stretches to its mode
    bits, largest = max(tags.get(BITS, (unstated,))), tags.get(LARGEST_FLOAT) or tags.get(LARGEST)
    largest = max(largest) if isinstance(largest, tuple) else largest
    colours = image.mode not in ("F", "I") and not image.mode.startswith("I;16")
    if bits > 8 and colours and largest and _is_full(largest) and largest < 2**bits - 1:
        raise MediaError(f"{path} states colours up to {largest:.0f} in {bits} bits: save it with 8 bits a colour")
    return {"deep": bits > 8 and colours, "largest": largest, "bits": bits, "photometric": tags.get(PHOTOMETRIC)}


def _full_scale(mode: str, kind: str, stated: dict[str, Any], path: Path) -> float:
    """What would become 256 in eight bits, a power of 2 unless it is of floating-point numbers. MediaError where no one
    can know."""
    largest, bits = stated.get("largest"), stated.get("bits", 16)
    if mode == "F" and largest and largest > 0:
        return largest * 256 / 255
    if mode == "I" and largest and _is_full(largest):
        return largest + 1
    if mode == "I" and kind == "PPM":  # whose largest value Pillow has scaled to this
        return 65536
    if not mode.startswith("I;16"):
        raise MediaError(
            f"{path} holds floating-point, signed or 32-bit numbers and does not state the largest: save it with 8 or "
            "16 unsigned bits"
        )
    return largest + 1 if largest and _is_full(largest) else 2**bits


def _is_full(largest: float) -> bool:
    """Whether a stated largest value is that of a number of bits; some programs state the brightest pixel's."""
    return largest >= 255 and largest == int(largest) and not int(largest) & (int(largest) + 1)


def _unfilled(largest: int, bits: int) -> str:
    """A note on an image of 16 bits of which the upper `bits` are seen, where it leaves two and more of them empty."""
    filled = largest.bit_length() + 16 - bits
    if largest and filled <= SUSPECT_BITS:
        return f"fills only {filled} of its 16 bits and was taken as dark: state its largest value, or stretch it to 16"
    return ""


def _flattened(image: Image.Image, path: Path) -> Image.Image:
    if image.has_transparency_data and not image.mode.startswith("I"):
        grey = image.mode in ("L", "LA", "La")
        full = image.convert("RGBA")
        if np.asarray(full.getchannel("A")).max() > 1:  # of 255
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            return Image.alpha_composite(black, full).convert("L" if grey else "RGB")
        if len(full.convert("RGB").convert("L").getcolors() or []) == 1:
            raise MediaError(f"{path} is wholly transparent: save it without transparency")
        return full.convert("L" if grey else "RGB")
    if image.mode in ("L", "RGB", "I", "F") or image.mode.startswith("I;16"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"
