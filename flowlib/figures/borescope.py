"""The figures of notebook 05 (thesis section 5, Fig. 12 to 14); style and `save` are those of `figures`."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowlib.figures.style import BLUE, GREEN, GREY, ORANGE, RED, SKY, STYLE


class Shown(Protocol):
    """A frame to draw: what it shows ("good" or a defect), from where, uint8 ``(C, H, W)``, and its mask ``(H, W)``."""

    @property
    def label(self) -> str: ...
    @property
    def viewpoint(self) -> str: ...
    @property
    def image(self) -> np.ndarray: ...
    @property
    def mask(self) -> np.ndarray: ...


def gallery(rows: Sequence[tuple[str, Sequence[Shown]]]) -> Figure:
    """Thesis Fig. 12: frames in rows, each with its title, its view, and its defect outlined."""
    across = max(len(shots) for _, shots in rows)
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, grid = plt.subplots(len(rows), across, figsize=(3.1 * across, 2.75 * len(rows)), squeeze=False)
        for panels, (title, shots) in zip(grid, rows, strict=True):
            for axes in panels:
                axes.set_axis_off()
            for axes, one in zip(panels, shots, strict=False):
                picture(axes, one)
                axes.set_title(f"{one.label.replace('_', ' ')}, {one.viewpoint.replace('_', ' ')}", loc="center")
            panels[0].set_title(f"{title}: {panels[0].get_title('center')}", loc="center")
    return figure


def heat_maps(
    rows: Sequence[tuple[str, Shown, Mapping[str, np.ndarray]]], scales: Mapping[str, tuple[float, float, str]]
) -> Figure:
    """Thesis Fig. 13 and 14: frame and maps side by side. Every map's column has one scale: low, high and unit."""
    with plt.rc_context(STYLE | {"axes.grid": False}):
        across = 1 + len(scales)
        figure, grid = plt.subplots(len(rows), across, figsize=(4.1 * across, 2.7 * len(rows) + 0.8), squeeze=False)
        for number, (panels, (title, one, maps)) in enumerate(zip(grid, rows, strict=True)):
            picture(panels[0], one)
            panels[0].set_title(title, loc="center")
            for column, (name, (low, high, _)) in enumerate(scales.items(), start=1):
                axes = panels[column]
                image = axes.imshow(maps[name], cmap="inferno", vmin=low, vmax=high)
                contour(axes, one.mask)
                axes.set_title(name if number == 0 else "", loc="center")
                if number == len(rows) - 1:
                    bar = figure.colorbar(image, ax=grid[:, column], location="bottom", shrink=0.9, pad=0.03)
                    bar.set_label(scales[name][2])
            for axes in panels:
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
    return figure


def picture(axes: Axes, one: Shown) -> None:
    axes.imshow(one.image.transpose(1, 2, 0) if len(one.image) == 3 else one.image[0], cmap="gray", vmin=0, vmax=255)
    contour(axes, one.mask)


def contour(axes: Axes, mask: np.ndarray) -> None:
    """Outline a defect just outside of it."""
    if mask.any():
        axes.contour(np.pad(mask, 2)[1:-3, 1:-3] | mask, levels=[0.5], colors=GREEN, linewidths=1.6)


def strides(table: pd.DataFrame) -> Figure:
    """The trade-off and its end. Columns: stride (text; "dense" last), seconds, overlap, low, high, agreement."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.8))
        patches, dense = table[table["stride"] != "dense"], table[table["stride"] == "dense"]
        for rows, colour, marker in ((patches, BLUE, "o"), (dense, RED, "D")):
            errors = [rows["overlap"] - rows["low"], rows["high"] - rows["overlap"]]
            left.errorbar(
                rows["seconds"], rows["overlap"], yerr=errors, color=colour, marker=marker, ms=9, lw=1.5, capsize=4
            )
            for row in rows.itertuples():
                name = "dense" if row.stride == "dense" else f"stride {row.stride}"
                left.annotate(name, (row.seconds, row.overlap), (8, 8), textcoords="offset points")
        left.set(
            xscale="log", xlabel="seconds an image, one thread (log scale)", ylabel="mean region overlap (AUPRO at 0.3)"
        )
        ticks = [t for t in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if t < 2 * table["seconds"].max()]
        left.set_xticks(ticks, [f"{t:g}" for t in ticks])
        left.minorticks_off()
        left.set_xlim(0.6 * table["seconds"].min(), 2.2 * table.dropna()["seconds"].max())
        left.set_title("(a) what a smaller stride costs and finds")
        right.bar(table["stride"], table["agreement"], color=[RED if s == "dense" else BLUE for s in table["stride"]])
        right.set(ylim=(0, 1.02), xlabel="patch stride (pixels)", ylabel="Spearman correlation of pixels")
        right.set_title("(b) agreement with patches at stride 4")
        for x, value in enumerate(table["agreement"]):
            right.annotate(f"{value:.2f}", (x, value), (0, -16), textcoords="offset points", ha="center", color="white")
    return figure


def forest(table: pd.DataFrame, panels: Mapping[str, str]) -> Figure:
    """A row a method, a panel a measure, with its title. Columns: method, and of each panel NAME, low and high."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 1.4 + 0.36 * len(table)), sharey=True)
        y = np.arange(len(table))
        for axes, (name, title) in zip(grid, panels.items(), strict=True):
            errors = [table[name] - table[f"{name} low"], table[f"{name} high"] - table[name]]
            axes.errorbar(table[name], y, xerr=errors, ls="", marker="o", ms=7, color=BLUE, capsize=3)
            if "AUROC" in title:  # of chance
                axes.axvline(0.5, color=GREY, ls="--", lw=1.2, zorder=0)
            axes.set(title=title, xlim=(0, 1.02))
            axes.set_yticks(y, table["method"])
        grid[0].set_ylim(len(table) - 0.4, -0.6)
    return figure


def by_defect(table: pd.DataFrame, methods: Sequence[str], value: str, xlabel: str) -> Figure:
    """A row a kind of defect or size, a marker a method. Columns: method, group, and `value`, low and high."""
    with plt.rc_context(STYLE):
        groups = list(table["group"].unique())
        figure, axes = plt.subplots(figsize=(10, 1.6 + 0.5 * len(groups)))
        looks = zip(methods, (BLUE, ORANGE, RED, GREEN, GREY), "osD^v", strict=False)
        for place, (method, colour, marker) in enumerate(looks):
            rows = table[table["method"] == method].set_index("group").loc[groups]
            y = np.arange(len(groups)) + 0.16 * (place - (len(methods) - 1) / 2)
            errors = [rows[value] - rows["low"], rows["high"] - rows[value]]
            axes.errorbar(
                rows[value], y, xerr=errors, ls="", marker=marker, ms=7, color=colour, label=method, elinewidth=1.2
            )
        axes.axvline(0.5, color=GREY, ls="--", lw=1.2, zorder=0)
        axes.set(xlim=(-0.02, 1.02), xlabel=xlabel, ylim=(len(groups) - 0.4, -0.6))
        axes.set_yticks(range(len(groups)), [group.replace("_", " ") for group in groups])
        figure.legend(loc="outside upper right", ncols=len(methods))
    return figure


def videos(table: pd.DataFrame, kinds: Sequence[str]) -> Figure:
    """Whole videos flagged: (a) good and damaged ones against the nominal rate, (b) of each kind of damage.

    Columns: score, nominal, actual, found, low, high, and a column a kind.
    """
    marks = {"three of five frames": (GREEN, "D", -0.06), "highest frame": (SKY, "^", 0.06)}
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.8), layout="constrained")
        rates = sorted(table["nominal"].unique())
        for name, (colour, marker, shift) in marks.items():
            rows = table[table["score"] == name].sort_values("nominal")
            x = np.arange(len(rows)) + shift
            errors = [100 * (rows["found"] - rows["low"]), 100 * (rows["high"] - rows["found"])]
            left.errorbar(x, 100 * rows["found"], yerr=errors, ls="", marker=marker, ms=8, color=colour, capsize=5,
                          label=f"damaged, {name}")  # fmt: skip
            left.plot(
                x, 100 * rows["actual"], ls="", marker=marker, ms=8, mfc="white", color=colour, label=f"good, {name}"
            )
            lowest = rows.iloc[0]
            y = np.arange(len(kinds)) + 2.5 * shift
            right.plot(100 * lowest[list(kinds)].astype(float), y, ls="", marker=marker, ms=9, color=colour, label=name)
        left.plot(range(len(rates)), [100 * rate for rate in rates], ls="", marker="_", ms=40, mew=2.5, color=RED,
                  label="nominal")  # fmt: skip
        left.set_xticks(range(len(rates)), [f"{rate:.0%}" for rate in rates])
        left.set(xlabel="nominal rate of good videos flagged", ylabel="videos flagged (%)", ylim=(-3, 103), title="(a)")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=11)
        right.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
        right.set(xlabel=f"videos flagged at {rates[0]:.0%} (%)", xlim=(-3, 103), title="(b)")
        right.invert_yaxis()
    return figure


def calibration(table: pd.DataFrame) -> Figure:
    """Nominal against actual false alarms, and what is found at that price. Columns: nominal, actual, low, high,
    expected low, expected high, and found, the share of defective frames."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 4.8))
        x = np.arange(len(table))
        bounds = table["expected high"] - table["expected low"]
        axes.bar(x, 100 * bounds, bottom=100 * table["expected low"], width=0.6, color="#d9e6f2",
                 label="where 95 % lie, frames being independent")  # fmt: skip
        errors = [100 * (table["actual"] - table["low"]), 100 * (table["high"] - table["actual"])]
        axes.errorbar(x, 100 * table["actual"], yerr=errors, ls="", marker="o", ms=8, color=BLUE, capsize=5,
                      label="actual, unseen blades (95 % interval over blades)")  # fmt: skip
        axes.plot(x, 100 * table["nominal"], ls="", marker="_", ms=36, mew=2.5, color=RED, label="nominal")
        axes.plot(x, 100 * table["found"], ls="", marker="D", ms=8, color=GREEN, label="defective frames found")
        axes.set_xticks(x, [f"{value:.0%}" for value in table["nominal"]])
        axes.set(xlabel="nominal false-alarm rate", ylabel="frames flagged (%)", ylim=(0, 100))
        axes.legend(loc="upper left")
    return figure
