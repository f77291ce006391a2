"""The explorer's pictures as pixels: fitted to one size, so that nothing jumps, and drawn in milliseconds."""

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from flowlib.detector.model import Region
from flowlib.figures.heat import GROUND, HEAT
from flowlib.figures.style import BLUE, GREY, ORANGE, RED

SIZE = 520, 336  # pixels of every picture, width and height
BOX, QUIET = "#56B4E9", "#BBBBBB"
LEAST = 10  # pixels: a box is drawn no smaller
HISTOGRAM = 1620, 280  # pixels, twice what it is shown at
BINS = 24
PLACES = 101  # of the threshold on its axis


def png(picture: np.ndarray | Image.Image) -> bytes:
    """Quickly compressed PNG bytes of uint8 ``(h, w, 3)`` or an image."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def placed(shape: Sequence[int], size: tuple[int, int] = SIZE) -> tuple[int, int, int, int, float]:
    """Where a picture ``(h, w)`` lies when it is fitted to `size`: left, top, width, height, factor."""
    h, w = shape
    factor = min(size[0] / w, size[1] / h)
    width, height = max(1, round(factor * w)), max(1, round(factor * h))
    return (size[0] - width) // 2, (size[1] - height) // 2, width, height, factor


def fitted(image: np.ndarray, size: tuple[int, int] = SIZE, smooth: bool = True) -> np.ndarray:
    """uint8 ``(C, h, w)`` to ``(H, W, 3)``, the ground around it dark."""
    left, top, width, height, _ = placed(image.shape[1:], size)
    pixels = np.broadcast_to(image.transpose(1, 2, 0), (*image.shape[1:], 3))
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    out = np.full((size[1], size[0], 3), GROUND, dtype=np.uint8)
    resized = Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), how)
    out[top : top + height, left : left + width] = np.asarray(resized)
    return out


def fitted_map(values: np.ndarray, size: tuple[int, int] = SIZE, smooth: bool = True) -> np.ndarray:
    """float32 ``(h, w)`` to ``(H, W)``, NaN around it."""
    left, top, width, height, _ = placed(values.shape, size)
    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    out = np.full((size[1], size[0]), np.nan, dtype=np.float32)
    out[top : top + height, left : left + width] = np.asarray(Image.fromarray(values).resize((width, height), how))
    return out


def masked(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """A fitted picture, darkened, its mask ``(h, w)`` in orange."""
    if mask is None:
        return (GROUND + 0.25 * (image.astype(np.float32) - GROUND)).astype(np.uint8)
    inside = np.nan_to_num(fitted_map(mask.astype(np.float32))) >= 0.5
    out = (0.45 * image).astype(np.uint8)
    out[inside] = tuple(int(ORANGE[i : i + 2], 16) for i in (1, 3, 5))
    return out


def boxed(picture: np.ndarray, region: Region | None, shape: Sequence[int], alarm: bool | None) -> Image.Image:
    """A fitted picture with the worst region of a map ``(h, w)`` boxed: strong where it gives an alarm."""
    image = Image.fromarray(picture)
    if region is not None:
        left, top, _, _, factor = placed(shape)
        x0, y0 = left + factor * region.x0, top + factor * region.y0
        x1, y1 = max(left + factor * region.x1, x0 + LEAST), max(top + factor * region.y1, y0 + LEAST)
        draw = ImageDraw.Draw(image)
        for grown, colour, width in ((5, "black", 5), (4, BOX if alarm else QUIET, 3 if alarm else 1)):
            if alarm or colour != "black":
                draw.rectangle((x0 - grown, y0 - grown, x1 + grown, y1 + grown), outline=colour, width=width)
    return image


@lru_cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    weight = "bold" if bold else "normal"
    return ImageFont.truetype(
        font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight)), size
    )


def histogram(
    normal: np.ndarray | None,
    threshold: float | None,
    score: float | None,
    unit: str,
    size: tuple[int, int] = HISTOGRAM,
    names: tuple[str, str] = ("this picture", "threshold"),
) -> Image.Image:
    """Scores of normal pictures ``(n,)`` in bars, the threshold's line, and this picture's score, a diamond.

    The axis depends on the normal scores alone: a score beyond it lies at its end, with an arrow.
    """
    W, H = size
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    small, base = font(22), H - 66
    if normal is None or len(normal) == 0:
        draw.text((W / 2, H / 2), "waiting for the scores of normal pictures …", fill=GREY, font=small, anchor="mm")
        return image
    begin, end = extent(normal)

    def x(value: float) -> float:
        return 30 + (W - 60) * float(np.clip((value - begin) / (end - begin), 0, 1))

    counts, edges = np.histogram(normal, BINS, (begin, end))
    for count, left, right in zip(counts, edges, edges[1:], strict=False):
        if count:
            top = base - (base - 74) * count / counts.max()
            draw.rectangle((x(left) + 1, top, x(right) - 2, base), fill="#9cc3de", outline=BLUE, width=2)
    draw.line((30, base, W - 30, base), fill="#333333", width=2)
    for value in ticks(begin, end):
        draw.line((x(value), base, x(value), base + 8), fill="#333333", width=2)
        draw.text((x(value), base + 12), short(value), fill="#333333", font=small, anchor="ma")
    draw.text((W - 30, H - 4), unit, fill=GREY, font=small, anchor="rd")
    if threshold is not None:
        at = x(threshold)
        draw.line((at, 38, at, base), fill=RED, width=5)
        label(draw, at, 6, f"{names[1]} {short(threshold)}", RED, W)
    if score is not None:
        at = x(score)
        draw.line((at, 70, at, base - 22), fill="black", width=2)
        draw.polygon([(at, base - 22), (at + 14, base - 4), (at, base + 14), (at - 14, base - 4)], fill="black")
        arrow = " →" if score > end else " ←" if score < begin else ""
        label(draw, at, 40, f"{names[0]} {short(score)}{arrow}", "black", W)
    return image


def extent(normal: np.ndarray) -> tuple[float, float]:
    """Where an axis of scores begins and ends, from those of normal pictures alone."""
    low, high = float(normal.min()), float(normal.max())
    span = max(high - low, 1e-9 * max(1.0, abs(high)))
    return low - 0.35 * span, high + 0.85 * span


def places(normal: np.ndarray) -> tuple[tuple[str, float], ...]:
    """Evenly spread values on the axis of scores, each with its name, in as many digits as tell it from the next."""
    begin, end = extent(normal)
    digits = max(0, int(np.ceil(-np.log10((end - begin) / PLACES))))
    return tuple((f"{value:z,.{digits}f}", float(value)) for value in np.linspace(begin, end, PLACES))


def label(draw: ImageDraw.ImageDraw, at: float, top: float, text: str, colour: str, width: int) -> None:
    """Text centred at a place, but within the picture, on white."""
    half = draw.textlength(text, font(22, True)) / 2
    at = min(max(at, half + 8), width - half - 8)
    draw.rectangle((at - half - 4, top, at + half + 4, top + 28), fill="white")
    draw.text((at, top), text, fill=colour, font=font(22, True), anchor="ma")


def short(value: float) -> str:
    """A number in few digits: whole from 1000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def ticks(low: float, high: float) -> np.ndarray:
    """About five round numbers."""
    step = 10 ** np.floor(np.log10((high - low) / 4))
    step *= next((factor for factor in (1, 2, 5) if (high - low) / (factor * step) <= 6), 10)
    return np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step + 0.0  # no -0


def sheet(
    pictures: Sequence[tuple[str, np.ndarray | Image.Image]],
    drawn: Image.Image,
    verdict: str,
    alarm: bool | None,
    lines: Sequence[str],
    colours: tuple[str, str] | None = None,
    across: int = 2,
) -> np.ndarray:
    """One picture of all: verdict, lines of text, captioned pictures, histogram. uint8 ``(H, W, 3)``.

    `colours`: what the ends of the colour bar are, which goes under the second picture's caption.
    """
    first = pictures[0][1]
    w, h = first.size if isinstance(first, Image.Image) else first.shape[1::-1]
    gap, caption = 14, 40
    rows = -(-len(pictures) // across)
    W = across * (w + gap) + gap
    head = 62 + 28 * len(lines)
    body = rows * (h + caption)
    factor = min(1.0, (W - 2 * gap) / drawn.width)
    drawn = drawn.resize((round(factor * drawn.width), round(factor * drawn.height)), Image.Resampling.LANCZOS)
    out = Image.new("RGB", (W, head + body + drawn.height + 2 * gap), "white")
    draw = ImageDraw.Draw(out)
    fill = GREY if alarm is None else RED if alarm else BLUE
    width = draw.textlength(verdict, font(26, True))
    draw.rounded_rectangle((gap, 12, gap + width + 32, 52), 8, fill=fill)
    draw.text((gap + 16, 32), verdict, fill="white", font=font(26, True), anchor="lm")
    for number, line in enumerate(lines):
        draw.text((gap, 62 + 28 * number), line, fill="#333333", font=font(18))
    for number, (text, picture) in enumerate(pictures):
        left, top = gap + number % across * (w + gap), head + number // across * (h + caption)
        size = next((n for n in range(18, 9, -1) if draw.textlength(text, font(n, True)) <= w), 9)
        draw.text((left, top + caption - 6), text, fill="black", font=font(size, True), anchor="ls")
        if number == 1 and colours is not None:
            bar = HEAT[np.linspace(0, 255, 120).astype(int)][None].repeat(14, 0)
            right = left + w - draw.textlength(colours[1], font(15)) - 8
            out.paste(Image.fromarray(bar), (int(right) - 120, top + caption - 21))
            draw.text((right, top + caption - 7), f" {colours[1]}", fill="black", font=font(15), anchor="ls")
            draw.text((right - 128, top + caption - 7), colours[0], fill="black", font=font(15), anchor="rs")
        out.paste(picture if isinstance(picture, Image.Image) else Image.fromarray(picture), (left, top + caption))
    out.paste(drawn, ((W - drawn.width) // 2, head + body + gap))
    return np.asarray(out)


def as_figure(pixels: np.ndarray) -> Figure:
    """A figure of just these pixels, for `figures.save`."""
    h, w = pixels.shape[:2]
    figure = Figure(figsize=(w / 100, h / 100), dpi=100)
    figure.figimage(pixels)
    return figure


def bar_css(colours: np.ndarray = HEAT) -> str:
    """A colour scale as a gradient of CSS."""
    stops: Any = colours[np.linspace(0, 255, 12).astype(int)]
    return "linear-gradient(90deg," + ",".join(f"rgb({r},{g},{b})" for r, g, b in stops) + ")"
