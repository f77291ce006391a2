"""Pictures of a verdict: the heat map, the image under it with its worst region boxed, and a video's score over time.

Colours mean the same in every picture of a detector: they run from 0, what is usual on normal images, to twice the
level that one in 200 pixels of normal images exceeds. Below half that level an image is shown as it is.
"""

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from flowlib.detector.model import Region
from flowlib.figures import heat
from flowlib.figures.style import BLUE, RED, STYLE

OPACITY = 0.45  # of the heat map where it is highest
DIMMED = 0.4  # brightness of what was not inspected
SIDES = (
    480,
    1920,
)  # pixels: the longer side of a smaller image is enlarged, by a whole factor, of a larger one reduced
MARGIN = 3  # pixels between the worst region and its box
STRIP = 34  # pixels: height of the text under an image
NARROWEST = 560  # pixels: width of that text and its colour bar
BAR = 120, 10  # pixels: the colour bar
BOX, OUTLINE = "#56B4E9", "black"


def heat_map(values: np.ndarray, level: float) -> Image.Image:
    """A map ``(H, W)`` in colours, a pixel each: dark for 0 and less, light for twice `level` and more."""
    return Image.fromarray(heat.heat(heat.shares(values, 0, 2 * level)))


def overlay(
    image: np.ndarray,
    values: np.ndarray,
    level: float,
    region: Region,
    score: float,
    threshold: float,
    note: str = "",
    rows: slice = slice(None),
) -> Image.Image:
    """A uint8 image ``(C, H, W)`` under its map ``(H, W)``, boxed if anomalous; verdict, note and colour bar below.

    What is not of `rows`, which alone were inspected, is dimmed.
    """
    light = np.full((len(values), 1, 1), DIMMED)
    light[rows] = 1
    grounds = light * np.broadcast_to(image.transpose(1, 2, 0), (*values.shape, 3))
    picture, factor = fitted(Image.fromarray(heat.overlay(grounds, heat.shares(values, 0, 2 * level), OPACITY)))
    if score > threshold:
        draw = ImageDraw.Draw(picture)
        x0, y0, x1, y1 = (round(factor * side) for side in region)
        for grown, colour, width in ((MARGIN + 3, OUTLINE, 4), (MARGIN + 2, BOX, 2)):
            draw.rectangle((x0 - grown, y0 - grown, x1 - 1 + grown, y1 - 1 + grown), outline=colour, width=width)
    canvas = Image.new("RGB", (max(picture.width, NARROWEST), picture.height + STRIP), "black")
    canvas.paste(picture)
    verdict = "ANOMALOUS" if score > threshold else "normal"
    parts = [verdict, f"score {score:.3g}", f"threshold {threshold:.3g}", *([note] if note else [])]
    write_strip(ImageDraw.Draw(canvas), canvas, "   ".join(parts), level)
    return canvas


def fitted(picture: Image.Image) -> tuple[Image.Image, float]:
    """A picture with its longer side between `SIDES`, and the factor it was enlarged by."""
    longer = max(picture.size)
    factor = -(-SIDES[0] // longer) if longer < SIDES[0] else min(1.0, SIDES[1] / longer)
    if factor == 1:
        return picture, factor
    size = tuple(max(1, round(factor * side)) for side in picture.size)
    return picture.resize(size, Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX), factor  # type: ignore[arg-type]


def write_strip(draw: ImageDraw.ImageDraw, canvas: Image.Image, text: str, level: float) -> None:
    """Text on the left, the colour bar with 0, the level and twice the level on the right."""
    top, font, small = canvas.height - STRIP, ImageFont.load_default(14), ImageFont.load_default(10)
    draw.text((8, top + 8), text, fill="white", font=font)
    left = canvas.width - BAR[0] - 24
    bar = np.tile(heat.HEAT[np.linspace(0, 255, BAR[0]).astype(int)], (BAR[1], 1, 1))
    canvas.paste(Image.fromarray(bar), (left, top + 6))
    draw.rectangle((left - 1, top + 5, left + BAR[0], top + 6 + BAR[1]), outline="#777777")
    for share, value in enumerate(("0", f"{level:.3g}", f"{2 * level:.3g}+")):
        x = left + share * BAR[0] // 2
        draw.line((x, top + 6 + BAR[1], x, top + 9 + BAR[1]), fill="white")
        draw.text((x, top + 9 + BAR[1]), value, fill="white", font=small, anchor="ma")


def track(rows: pd.DataFrame, threshold: float, title: str) -> Figure:
    """The frames of a video (columns seconds, frame and score) over time, the threshold, and the worst one marked."""
    above = rows["score"] > threshold
    worst = rows.loc[rows["score"].idxmax()]
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 4.2))
        axes = figure.subplots()
        axes.plot(rows["seconds"], rows["score"], color=BLUE, lw=1.5, zorder=1)
        for label, some, marker, colour in (("normal", rows[~above], "o", BLUE), ("anomalous", rows[above], "s", RED)):
            axes.plot(some["seconds"], some["score"], marker, color=colour, label=label)
        axes.axhline(threshold, color="black", ls="--", lw=1.5, label=f"threshold {threshold:.3g}")
        axes.annotate(
            f"worst: frame {worst['frame']:.0f}, {worst['seconds']:.2f} s",
            (worst["seconds"], worst["score"]),
            (0, 14),
            textcoords="offset points",
            ha="center",
            arrowprops={"arrowstyle": "->"},
        )
        axes.margins(y=0.18)
        axes.set(xlabel="time (s)", ylabel="score (standardised, no unit)")
        axes.set_title(title, parse_math=False)  # names of files may hold dollars
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
