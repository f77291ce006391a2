"""Film a blade through a borescope: a drifting camera with a light beside its lens, sensor noise, corner markings.

The clean and the damaged blade go through the same camera, light and noise: the mask is what the damage changes in the
picture, not a drawing. Shading is a simple model of brushed metal: light that falls off with distance, scattered by the
surface's tilt (Lambert), and a mirror-like part that is wide across the machining marks and narrow along them (Ward
1992, "Measuring and modeling anisotropic reflection").
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flowlib.simulator.blades import MARGIN, SCALE, VIEWPOINTS, Surface, paint
from flowlib.simulator.defects import DEFECTS

FRAME_RATE = 10  # frames a second
MARKED = 16  # pixels: the clock, logo and cursor in the corners lie so near to the border
NOTICEABLE = 4.0  # grey levels: a pixel that the damage changes by as much in one of its colours belongs to the mask
REFLECTION, SHADOW = 1, 2  # values of Frame.regions
BRIGHT, DARK = 185, 26  # grey levels: a reflection is brighter, the black behind a blade is darker
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
VISIBLE = 3  # pixels of a mask, at least, in a video's first frame
ATTEMPTS = 100

Box = tuple[int, int, int, int]


class SimulatorError(ValueError):
    """A simulation cannot be made as asked; the message names the argument and says what to do."""


class Frame(NamedTuple):
    image: np.ndarray  # uint8 (3, H, W), RGB
    mask: np.ndarray  # bool (H, W): what the damage changes by `NOTICEABLE` grey levels or more
    regions: np.ndarray  # uint8 (H, W): 0 nothing, 1 specular reflection, 2 black shadow beside or behind the blade


class Canvas(NamedTuple):
    """A blade's surface made ready to be looked up: all layers of a point beside each other."""

    points: np.ndarray  # float32 (h, w, 8): colour (3), tilt (2), gloss, light from behind, cover
    brush: float
    roughness: float


class View(NamedTuple):
    """What the camera sees in one frame, over the picture or a window of it: float32 (H, W)."""

    row: np.ndarray  # where a pixel looks at the canvas, in canvas pixels
    column: np.ndarray
    x: np.ndarray  # the pixel's place in the picture, from its centre
    y: np.ndarray
    light: tuple[float, float]  # place of the light in the picture
    reach: float  # pixels over which the light falls off
    brightness: float


class Shaded(NamedTuple):
    picture: np.ndarray  # float32 (3, H, W), 0 to 255, without noise
    shine: np.ndarray  # (H, W) mirror-like share of the light
    cover: np.ndarray  # (H, W) 1 on the blade, 0 beside it


def render(blade_seed: int | Sequence[int], viewpoint: str, defect: str, frames: int) -> Iterator[Frame]:
    """The video of one blade, frame by frame.

    Arguments
    ---------
    blade_seed: decides blade, damage, camera, light and noise. The same seed with defect "good" gives the same video
        without the damage: in each frame the two agree, outside of the mask, to less than `NOTICEABLE` grey levels
        before rounding.
    viewpoint: a key of `flowlib.simulator.blades.VIEWPOINTS`, which holds its width and height in pixels.
    defect: "good" or a key of `flowlib.simulator.defects.DEFECTS`. Place and size are random (lengths log-uniform, from
        a few pixels to a large part of the picture). It is visible in the first frame; when it drifts out of view, or
        into the dark, the mask is empty.
    frames: how many, at least 1; the first ones do not depend on it.

    Raises SimulatorError when an argument is wrong.
    """
    for name, value, known in (("viewpoint", viewpoint, [*VIEWPOINTS]), ("defect", defect, ["good", *DEFECTS])):
        if value not in known:
            raise SimulatorError(f"{name} is {value!r}, it must be one of {', '.join(known)}")
    if frames < 1:
        raise SimulatorError(f"frames is {frames}, it must be at least 1")
    return film(np.atleast_1d(blade_seed).tolist(), viewpoint, defect, frames)


def film(blade_seed: list[int], viewpoint: str, defect: str, frames: int) -> Iterator[Frame]:
    """`render`, its arguments checked."""
    sequence = np.random.SeedSequence([*blade_seed, list(VIEWPOINTS).index(viewpoint)])
    of_blade, of_camera, of_damage, of_noise = (np.random.default_rng(child) for child in sequence.spawn(4))
    width, height = VIEWPOINTS[viewpoint].width, VIEWPOINTS[viewpoint].height
    surface = paint(viewpoint, of_blade)
    look = camera(width, height, of_camera)
    marks = markings(width, height, of_camera)
    clean = canvas(surface)
    damaged = clean if defect == "good" else damage(surface, clean, defect, look(0), of_damage)
    box = changed_box(clean, damaged)
    for number in range(frames):
        view = look(number)
        seen = shade(clean, view)
        mask = np.zeros((height, width), dtype=bool)
        if window := sees(view, box):
            with_damage = shade(damaged, cropped(view, window))
            mask[window] = differs(seen.picture[:, *window], with_damage.picture)
            for layer, new in zip(seen, with_damage, strict=True):
                layer[..., *window] = new
        ink = marks(number)
        noisy = seen.picture + sensor_noise(seen.picture, of_noise)
        image = np.rint(noisy + ink * (235 - noisy)).clip(0, 255).astype(np.uint8)
        yield Frame(image, mask & (ink < 0.5), regions(seen) * (ink < 0.5))


def damage(surface: Surface, clean: Canvas, defect: str, view: View, rng: np.random.Generator) -> Canvas:
    """The blade with a defect that shows in `view`: drawn anew while it lies in the dark or beneath a marking."""
    size = view.x.shape[::-1]
    before = shade(clean, view).picture
    for _ in range(ATTEMPTS):
        damaged = canvas(DEFECTS[defect](surface, size, rng))
        if differs(before, shade(damaged, view).picture)[MARKED:-MARKED, MARKED:-MARKED].sum() >= VISIBLE:
            return damaged
    raise RuntimeError(f"no visible {defect} in {ATTEMPTS} attempts")


def differs(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mask (H, W) of where two pictures (3, H, W) differ noticeably in a colour."""
    return (np.abs(after - before) >= NOTICEABLE).any(axis=0)


def regions(seen: Shaded) -> np.ndarray:
    """Labels (H, W) of reflections and of black shadow."""
    grey = np.tensordot(LUMA, seen.picture, 1)
    labels = np.zeros(grey.shape, dtype=np.uint8)
    labels[(seen.shine > 0.5) & (grey > BRIGHT)] = REFLECTION
    labels[(seen.cover < 0.5) & (grey < DARK)] = SHADOW
    return labels


def camera(width: int, height: int, rng: np.random.Generator) -> Callable[[int], View]:
    """A camera held by hand through a guide tube: the view of a frame, by its number."""
    x = np.arange(width, dtype=np.float32)[None] - (width - 1) / 2 + np.zeros((height, 1), dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2 + np.zeros((1, width), dtype=np.float32)
    diagonal = float(np.hypot(width, height))
    barrel = 1 + rng.uniform(0.15, 0.3) * (x**2 + y**2) / diagonal**2  # a wide lens shows more towards its corners
    shift = wander(rng, 16), wander(rng, 16)
    turn, zoom = wander(rng, 0.035), wander(rng, 0.035)
    offset = rng.normal(0, 0.07 * diagonal, 2)
    light = wander(rng, 10), wander(rng, 10)
    flicker = wander(rng, 0.03)
    reach, brightness = diagonal * rng.uniform(0.32, 0.46), rng.uniform(1.6, 2.6)
    centre = np.array([height / 2 + MARGIN, width / 2 + MARGIN]) * SCALE - 0.5

    def look(number: int) -> View:
        scale = SCALE * (1 - zoom(number))
        cos, sin = scale * np.cos(turn(number)), scale * np.sin(turn(number))
        return View(
            row=(x * sin + y * cos) * barrel + np.float32(centre[0] + SCALE * shift[0](number)),
            column=(x * cos - y * sin) * barrel + np.float32(centre[1] + SCALE * shift[1](number)),
            x=x,
            y=y,
            light=(offset[0] + light[0](number), offset[1] + light[1](number)),
            reach=reach,
            brightness=brightness * (1 + flicker(number)),
        )

    return look


def wander(rng: np.random.Generator, size: float) -> Callable[[int], float]:
    """A smooth random motion of about `size`: three sines of 2 to 14 seconds, by the frame's number."""
    periods = FRAME_RATE * np.exp(rng.uniform(np.log(2), np.log(14), 3))
    phases, sizes = rng.uniform(0, 2 * np.pi, 3), size * rng.dirichlet([2, 2, 2]) * 1.5
    return lambda number: float(sizes @ np.sin(2 * np.pi * number / periods + phases))


def canvas(surface: Surface) -> Canvas:
    cover = surface.cover
    layers = [*(surface.colour * cover), *surface.tilt, surface.gloss * cover, surface.behind * (1 - cover), cover]
    points = np.empty((*cover.shape, len(layers)), dtype=np.float32)
    for number, layer in enumerate(layers):
        points[..., number] = layer
    return Canvas(points, surface.brush, surface.roughness)


def look_up(points: np.ndarray, view: View) -> np.ndarray:
    """What lies at the view's places on a canvas (h, w, 8), as (8, H, W), by bilinear interpolation."""
    h, w, layers = points.shape
    points = points.reshape(h * w, layers)
    row, column = view.row.clip(0, h - 1.01).ravel(), view.column.clip(0, w - 1.01).ravel()
    top, left = row.astype(np.intp), column.astype(np.intp)
    down, right = (row - top.astype(np.float32))[:, None], (column - left.astype(np.float32))[:, None]
    seen = np.zeros((len(top), layers), dtype=np.float32)
    for step, weight in (
        (0, (1 - down) * (1 - right)),
        (1, (1 - down) * right),
        (w, down * (1 - right)),
        (w + 1, down * right),
    ):
        corner = points.take(top * w + left + step, axis=0, mode="clip")  # "clip" is the fast mode
        corner *= weight
        seen += corner
    return np.ascontiguousarray(seen.T).reshape(layers, *view.row.shape)


def shade(canvas: Canvas, view: View) -> Shaded:
    """The picture of a canvas under the view's light."""
    red, green, blue, tilt_x, tilt_y, gloss, behind, cover = look_up(canvas.points, view)
    nz = np.sqrt(np.maximum(1 - tilt_x**2 - tilt_y**2, 0.04))
    to_x, to_y = view.light[0] - view.x, view.light[1] - view.y
    far = 1 / np.sqrt(to_x**2 + to_y**2 + view.reach**2)
    facing = np.maximum((tilt_x * to_x + tilt_y * to_y + nz * view.reach) * far, 0.02)
    strength = view.brightness * (view.reach * far) ** 3
    eye = 1 / np.sqrt(view.x**2 + view.y**2 + view.reach**2)
    half_z = view.reach * (far + eye)
    slope_x = (to_x * far - view.x * eye) / half_z - tilt_x / nz  # of the facet that would mirror the light
    slope_y = (to_y * far - view.y * eye) / half_z - tilt_y / nz
    cos, sin = np.cos(canvas.brush), np.sin(canvas.brush)
    along, across = slope_x * cos + slope_y * sin, slope_y * cos - slope_x * sin
    mirrored = gloss * np.exp(-((along / (0.35 * canvas.roughness)) ** 2) - (across / canvas.roughness) ** 2)
    picture = np.empty((3, *cover.shape), dtype=np.float32)
    for channel, (colour, cold, warm) in enumerate(((red, 0.94, 1.05), (green, 1.0, 1.0), (blue, 1.07, 0.93))):
        light = strength * (colour * facing + cold * mirrored + warm * behind) + 0.0015
        picture[channel] = 255 * np.sqrt(1 - np.exp(-light))  # the film's shoulder, and a gamma of 2
    return Shaded(picture, mirrored / (mirrored + green * facing + 1e-3), cover)


def changed_box(before: Canvas, after: Canvas) -> Box | None:
    """First and last row and column of where two canvases differ, or None where they do not."""
    different = (np.abs(after.points - before.points) > 1e-3).any(axis=2)
    rows, columns = np.flatnonzero(different.any(axis=1)), np.flatnonzero(different.any(axis=0))
    return (rows[0], rows[-1], columns[0], columns[-1]) if len(rows) else None


def sees(view: View, box: Box | None) -> tuple[slice, slice] | None:
    """The window of the picture that sees a box of the canvas, or None when it is out of view."""
    if box is None:
        return None
    within = (view.row > box[0] - 1) & (view.row < box[1] + 1) & (view.column > box[2] - 1) & (view.column < box[3] + 1)
    rows, columns = np.flatnonzero(within.any(axis=1)), np.flatnonzero(within.any(axis=0))
    return np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else None


def cropped(view: View, window: tuple[slice, slice]) -> View:
    row, column, x, y = (layer[window] for layer in (view.row, view.column, view.x, view.y))
    return view._replace(row=row, column=column, x=x, y=y)


def sensor_noise(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise (3, H, W) in grey levels: of the light itself, stronger in the middle tones, and of colour, coarser."""
    _, h, w = picture.shape
    grain = rng.standard_normal((h, w), dtype=np.float32)
    grain[1:] += 0.5 * grain[:-1]
    grain *= 1.6 + 0.012 * np.minimum(picture[1], 255 - picture[1])
    colour = 1.2 * rng.standard_normal((3, (h + 1) // 2, (w + 1) // 2), dtype=np.float32)
    return grain + colour.repeat(2, axis=1).repeat(2, axis=2)[:, :h, :w]


def markings(width: int, height: int, rng: np.random.Generator) -> Callable[[int], np.ndarray]:
    """What the recorder writes over the corners: opacity (H, W) of a frame, by its number.

    There are two kinds of recorder, one for the wide pictures and one for the square ones; each has its places.
    """
    font, wide = ImageFont.load_default(10), width > height
    start, day, unit = int(rng.integers(86400)), int(rng.integers(1, 29)), int(rng.integers(1, 9))
    drawn: dict[int, np.ndarray] = {}

    def marks(number: int) -> np.ndarray:
        second = start + number // FRAME_RATE
        if second not in drawn:
            drawn.clear()
            drawn[second] = draw(second)
        return drawn[second]

    def draw(second: int) -> np.ndarray:
        image = Image.new("L", (width, height))
        pen = ImageDraw.Draw(image)
        right, bottom = width - 4, height - 3
        clock = f"{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}"
        pen.text((4, bottom) if wide else (4, 3), f"{clock}  {day:02}.03.17", 230, font, "ls" if wide else "lt")
        logo = (right - 34, 3) if wide else (4, height - 14)
        pen.rectangle((*logo, logo[0] + 33, logo[1] + 10), outline=230)
        pen.text((logo[0] + 17, logo[1] + 5), f"BSI-{unit}", 230, font, "mm")
        cross = (10, 8) if wide else (right - 6, height - 9)
        pen.line((cross[0] - 5, cross[1], cross[0] + 5, cross[1]), 230)
        pen.line((cross[0], cross[1] - 5, cross[0], cross[1] + 5), 230)
        pen.text((right, bottom) if wide else (right, 3), f"x{1 + unit / 10:.1f}", 200, font, "rs" if wide else "rt")
        return np.asarray(image, dtype=np.float32) / 255

    return marks
