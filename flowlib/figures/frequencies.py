"""The figures of notebook 04 (thesis Fig. 9 to 11 and what lies behind them), in the style of `flowlib.figures`.

One colour a model throughout; a marker or a panel says the same. Frequencies are in cycles across the image.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowlib.figures.shared import intervals
from flowlib.figures.style import BLUE, GREEN, GREY, RED, STYLE

MODELS = {"fully connected autoencoder": (BLUE, "o"), "convolutional autoencoder": (GREEN, "^"), "Glow": (RED, "s")}
STRIPES = {False: ("|", "vertical stripes"), True: ("_", "horizontal stripes (rotated)")}  # by the column "rotated"
UNITS = dict.fromkeys(MODELS, "mean squared error, pixels in [0, 1]") | {"Glow": "negative log-likelihood (nats)"}


def gratings(images: np.ndarray, table: pd.DataFrame) -> Figure:
    """Thesis Fig. 9 with all ten frequencies: the brightest upright picture and the faintest rotated one of each.

    `images` are uint8 ``(N, 1, H, W)`` and `table` their description (`flowlib.datasets.frequencies`).
    """
    frequencies = table["frequency"].unique()
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, grid = plt.subplots(4, len(frequencies) // 2, figsize=(9, 8.2))
        for place, frequency in enumerate(frequencies):
            rows = table[table["frequency"] == frequency].sort_values("intensity")
            brightest = rows[~rows["rotated"]].iloc[-1]
            faintest = rows[rows["rotated"]].iloc[0]
            high, column = divmod(place, grid.shape[1])
            for axes, shown in zip(grid[2 * high : 2 * high + 2, column], (brightest, faintest), strict=True):
                axes.imshow(images[shown.name, 0], cmap="gray", vmin=0, vmax=255)
                axes.set(xticks=[], yticks=[])
                cycles = f"{frequency} cycle{'s' if frequency > 1 else ''}"
                axes.set_title(f"{cycles}, {shown['intensity']}", fontsize=12, loc="center")
                axes.spines[:].set(visible=True, color=GREY)  # else a white stripe at the border joins the page
    return figure


def score_by_frequency(table: pd.DataFrame, scores: dict[str, np.ndarray], means: pd.DataFrame) -> Figure:
    """Thesis Fig. 10: every test image against its frequency, a panel a model, with means and intervals.

    `scores` ``(S, N)`` by model, of the images of `table`; `means`: model, frequency, value, low, high. Errors stand on
    a log axis. The two orientations of the stripes have markers of their own.
    """
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(scores), figsize=(14.5, 5.2))
        for axes, letter, (model, of_model) in zip(panels, "abc", scores.items(), strict=True):
            colour, marker = MODELS[model]
            jitter = within(table, table["intensity"]) * 0.7 - 0.35
            oriented(axes, table, table["frequency"] + jitter, of_model.mean(0), np.full(len(table), colour))
            rows = means[means["model"] == model]
            drawn: dict[str, Any] = {"ls": "", "color": "black", "marker": marker, "ms": 6, "capsize": 4, "zorder": 5}
            intervals(axes, rows, "value", x=rows["frequency"], **drawn)
            axes.axvspan(5.5, 10.5, color="#f2f2f2", zorder=0)
            axes.annotate("not made", (8, 0.5), xycoords=("data", "axes fraction"), rotation=90, color=GREY,
                          ha="center", va="center")  # fmt: skip
            scale = "" if model == "Glow" else " (log scale)"
            axes.set(xlabel="frequency (cycles)", ylabel=UNITS[model] + scale, title=f"({letter}) {model}")
            axes.set_xticks(sorted(table["frequency"].unique()))
            axes.tick_params(axis="x", labelsize=11)
            if model != "Glow":
                axes.set_yscale("log")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def oriented(axes: Axes, table: pd.DataFrame, x: pd.Series, y: np.ndarray, colours: np.ndarray) -> None:
    """A marker an image, one for each orientation of its stripes, which look like them."""
    for rotated, (marker, label) in STRIPES.items():
        some = (table["rotated"] == rotated).to_numpy()
        axes.scatter(x[some], y[some], s=22, marker=marker, lw=1, color=colours[some], alpha=0.6, label=label)


def error_in_order_of_intensity(table: pd.DataFrame, scores: np.ndarray, slopes: pd.DataFrame, model: str) -> Figure:
    """Thesis Fig. 11: an autoencoder's error of every test image in order of intensity; below, the slopes.

    `scores` ``(S, N)`` of the images of `table`; `slopes`: frequency, value, low, high, per 100 grey levels.
    """
    with plt.rc_context(STYLE):
        figure, (above, below) = plt.subplots(2, 1, figsize=(11, 7.6), height_ratios=(1.6, 1))
        names = slopes["frequency"]
        place = table["frequency"].map({frequency: number for number, frequency in enumerate(names)})
        colours = np.array([BLUE, RED])[place % 2]
        x = place + 0.06 + 0.88 * (table["intensity"] - 75) / (256 - 75)
        oriented(above, table, x, scores.mean(0), colours)
        for number in range(len(names)):
            row, colour = slopes.iloc[[number]], (BLUE, RED)[number % 2]
            intervals(below, row, "value", x=[number + 0.5], color=colour, marker=MODELS[model][1], capsize=4)
        for axes in (above, below):
            axes.set_xticks(np.arange(len(names)) + 0.5, [str(f) for f in names])
            axes.set_xlim(0, len(names))
            axes.grid(axis="x", visible=False)
            for edge in range(1, len(names)):
                axes.axvline(edge, color="#e4e4e4", lw=1)
        above.set(ylabel="mean squared error,\npixels in [0, 1] (log scale)", yscale="log")
        above.set_title(f"{model}: within each column, intensity 75 (left) to 256 (right)")
        figure.legend(*above.get_legend_handles_labels(), loc="outside upper center", ncols=2)
        zero_line(below)
        below.set(xlabel="frequency (cycles)", ylabel="slope\n(squared error per 100 levels)")
    return figure


def slopes(table: pd.DataFrame) -> Figure:
    """Slopes with intervals. Columns: model, trained_on, against ("frequency" or "intensity"), value, low, high.

    Each is a share of the model's own mean score, drawn in percent.
    """
    per = {"frequency": "cycle", "intensity": "100 levels"}
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, len(MODELS), figsize=(13, 7.2), sharey="row")
        for axes_row, against in zip(grid, per, strict=True):
            for axes, (model, (colour, marker)) in zip(axes_row, MODELS.items(), strict=True):
                rows = table[(table["model"] == model) & (table["against"] == against)]
                rows = rows.assign(**{name: 100 * rows[name] for name in ("value", "low", "high")})
                drawn: dict[str, Any] = {"ls": "", "color": colour, "marker": marker, "ms": 8, "capsize": 5}
                intervals(axes, rows, "value", x=rows["trained_on"], **drawn)
                zero_line(axes)
                axes.set_title(f"{model}\nagainst {against}")
                axes.margins(x=0.25)
            axes_row[0].set_ylabel(f"% of the mean score per {per[against]}")
        for axes in grid[1]:
            axes.set_xlabel("frequencies trained on")
    return figure


def within(table: pd.DataFrame, values: pd.Series) -> pd.Series:
    """Rank of each value among those of its frequency, from 0 to 1."""
    return values.groupby(table["frequency"]).rank(pct=True)


def zero_line(axes: Axes) -> None:
    axes.axhline(0, color=GREY, lw=1.2, ls="--", zorder=0)
