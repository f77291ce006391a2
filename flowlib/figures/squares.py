"""The figures of notebook 03 (thesis 4.2, Fig. 7) and what goes beyond; style and `save` are those of `figures`."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from flowlib.figures.shared import intervals, outline
from flowlib.figures.style import BLUE, GREEN, GREY, ORANGE, RED, STYLE, chance


def histograms(scores: pd.DataFrame) -> Figure:
    """Thesis Fig. 7: normalised histograms of each model's score. Columns: model (in the order of the panels), xlabel,
    group (in the order of the legend, at most three), score.
    """
    with plt.rc_context(STYLE):
        models = list(scores["model"].unique())
        figure, panels = plt.subplots(1, len(models), figsize=(6.2 * len(models), 4.4), squeeze=False)
        for axes, letter, model in zip(panels[0], "abcdef", models, strict=False):
            rows = scores[scores["model"] == model]
            low, high = np.quantile(rows["score"], [0, 0.995])
            bins = np.linspace(low, high, 45)
            for (group, values), colour, dashes in zip(
                rows.groupby("group", sort=False)["score"], (GREY, BLUE, RED), (":", "-", "--"), strict=False
            ):
                # values beyond the last bin are counted in it, so that each histogram has area 1
                shown = {
                    "x": values.clip(upper=bins[-1]).to_numpy(),
                    "bins": bins,
                    "stat": "density",
                    "color": colour,
                    "ax": axes,
                }
                sns.histplot(alpha=0.18, linewidth=0, **shown)
                sns.histplot(element="step", fill=False, lw=2, ls=dashes, label=group, **shown)
            axes.set(title=f"({letter}) {model}", xlabel=rows["xlabel"].iloc[0], ylabel="density")
        panels[0, 0].legend()
    return figure


def forest(table: pd.DataFrame) -> Figure:
    """AUROC of each score on squares of each size, black, white and both.

    Columns: score, size, colour, auroc, low, high.
    """
    with plt.rc_context(STYLE):
        names, sizes = list(table["score"].unique()), list(table["size"].unique())
        figure, panels = plt.subplots(1, len(sizes), figsize=(13.5, 1.5 + 0.44 * len(names)), sharey=True)
        for axes, size in zip(panels, sizes, strict=True):
            for colour, face, offset in (("black", "#222222", -0.26), ("both", BLUE, 0.0), ("white", "white", 0.26)):
                rows = table[(table["size"] == size) & (table["colour"] == colour)].set_index("score").loc[names]
                y = np.arange(len(names)) + offset
                drawn: dict[str, Any] = {
                    "ls": "",
                    "marker": "D" if colour == "both" else "s",
                    "ms": 5,
                    "color": BLUE if colour == "both" else "#222222",
                    "mfc": face,
                    "elinewidth": 1.2,
                }
                label = "both together" if colour == "both" else f"{colour} squares"
                intervals(axes, rows, "auroc", y=y, label=label, **drawn)
            axes.axvline(0.5, color=GREY, ls="--", lw=1.2, zorder=0)
            axes.set(title=f"{size} squares", xlim=(-0.02, 1.02), xlabel="AUROC")
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
            axes.set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.4, -0.6)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure


def by_contrast(table: pd.DataFrame, moved: pd.DataFrame, spread: float) -> Figure:
    """(a) AUROC, against the same images unmarked, by contrast of the square with its ring; (b) what the square does to
    the image's NLL.

    `table`: score, contrast (middle of the bin, grey levels), auroc, low, high. `moved`: a row a marked shirt:
    ring_contrast, change (nats), colour. `spread`: standard deviation of the NLL of normal test shirts, nats.
    """
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.8))
        names = table["score"].unique()
        for shift, (name, colour, marker) in enumerate(
            zip(names, (BLUE, GREEN, ORANGE, RED, "#222222"), "os^Dv", strict=False)
        ):
            rows = table[table["score"] == name]
            x = rows["contrast"] + 2 * (shift - len(names) / 2)
            intervals(left, rows, "auroc", x=x, color=colour, marker=marker, capsize=3, label=name)
        left.axhline(0.5, color=GREY, ls="--", lw=1.2, zorder=0)
        left.set(xlabel="contrast of the square with the ring around it (grey levels)", ylabel="AUROC", ylim=(0, 1.02))
        left.set_title("(a) detection among the same shirts unmarked")
        left.legend(fontsize=11, loc="lower center", ncols=2, bbox_to_anchor=(0.5, 0))
        for name, face in (("black", "#222222"), ("white", "white")):
            rows = moved[moved["colour"] == name]
            right.plot(
                rows["ring_contrast"], rows["change"], "s", ms=4, color="#222222", mfc=face, label=f"{name} squares"
            )
        right.axhspan(-spread, spread, color=BLUE, alpha=0.15, label="one standard deviation of normal shirts")
        right.set(xlabel="contrast of the square with the ring around it (grey levels)", ylabel="change of NLL (nats)")
        right.set_title("(b) what the square adds to its shirt's NLL")
        right.legend(fontsize=11, loc="upper left")
        limit = 1.6 * max(spread, np.abs(moved["change"]).quantile(0.99))
        right.set_ylim(-limit, limit)
    return figure


def maps(images: np.ndarray, masks: np.ndarray, columns: Mapping[str, tuple[np.ndarray, float, float, str]]) -> Figure:
    """Marked shirts ``(n, H, W)`` down, maps across; each column one scale.

    `columns`: title to maps ``(n, H, W)``, the scale's ends, and its unit. The square is outlined.
    """
    with plt.rc_context(STYLE | {"axes.grid": False}):
        n, across = len(images), len(columns) + 1
        figure, grid = plt.subplots(n, across, figsize=(2.35 * across, 2.05 * n + 0.9), squeeze=False)
        for row in range(n):
            grid[row, 0].imshow(images[row], cmap="gray", vmin=0, vmax=255)
            outline(grid[row, 0], masks[row])
        for column, (values, low, high, unit) in enumerate(columns.values(), start=1):
            colours = "RdBu_r" if low < 0 else "cividis"
            for row in range(n):
                image = grid[row, column].imshow(values[row], cmap=colours, vmin=low, vmax=high)
                outline(grid[row, column], masks[row])
            bar = figure.colorbar(image, ax=grid[:, column], location="bottom", shrink=0.9, pad=0.02)
            bar.set_label(unit, fontsize=13)
            bar.ax.tick_params(labelsize=11)
        for axes, title in zip(grid[0], ("marked shirt", *columns), strict=True):
            axes.set_title(title, fontsize=13, loc="center")
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    return figure


def examples(table: pd.DataFrame, count: int, after: int = 0) -> np.ndarray:
    """Row numbers of `count` squares of each size and colour, the largest first, those `after` the first ones of each.

    Columns: size, colour. A kind of which there are fewer gives what it has.
    """
    groups = table.reset_index(drop=True).groupby(["size", "colour"], sort=True).indices
    largest_first = [(size, colour) for size in (4, 3, 2) for colour in ("white", "black")]
    return np.concatenate([groups[kind][after : after + count] for kind in largest_first if kind in groups])


def controls(table: pd.DataFrame, bound: float) -> Figure:
    """AUROC of plain NLL under one change at a time, with the claim's `bound`. Columns: change, auroc, low, high."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(9, 1.3 + 0.4 * len(table)))
        y = np.arange(len(table))
        intervals(axes, table, "auroc", y=y, ls="", marker="o", color=BLUE, ms=7, capsize=4)
        axes.set_yticks(y, table["change"])
        axes.invert_yaxis()
        for value, label, colour in ((0.5, "chance", GREY), (bound, "the claim's criterion", RED)):
            axes.axvline(value, color=colour, ls="--", lw=1.4, zorder=0)
            where = ("data", "axes fraction")
            axes.annotate(label, (value, 1), (0, 4), where, "offset points", color=colour, ha="center")
        axes.set(xlim=(0, 1), xlabel="AUROC of NLL over all squares")
    return figure


def saved(table: pd.DataFrame) -> Figure:
    """AUROC of marked and unmarked images that were saved to files. Columns: model, images, auroc, low, high."""
    with plt.rc_context(STYLE):
        images = list(table["images"].unique())
        figure, axes = plt.subplots(figsize=(9, 1.4 + 0.5 * len(images)))
        looks = ((RED, "s"), (GREEN, "^"))
        for number, ((model, rows), (colour, marker)) in enumerate(
            zip(table.groupby("model", sort=False), looks, strict=True)
        ):
            y = rows["images"].map(images.index) + 0.24 * (number - 0.5)
            intervals(axes, rows, "auroc", y=y, ls="", marker=marker, color=colour, ms=7, capsize=4, label=model)
        axes.set_yticks(range(len(images)), images)
        axes.invert_yaxis()
        axes.axvline(0.5, color=GREY, ls="--", lw=1.2, zorder=0)
        axes.set(xlim=(0, 1.02), xlabel="AUROC against normal test shirts as they are (dashed: chance)")
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def limits(table: pd.DataFrame, wanted: float, change: float) -> Figure:
    """(a) what a square adds to the NLL, by its side, and what an AUROC of `wanted` takes; (b) AUROC, by the formula
    and measured. Columns as `flowlib.experiments.detection.detection_limits`; `change` in nats.
    """
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.6))
        drawn: dict[str, Any] = {"x": table["side"], "color": BLUE, "marker": "o", "capsize": 3}
        intervals(left, table, "change", low="change_low", high="change_high", label="mean change by a square", **drawn)
        left.axhline(table["spread"].iloc[0], color=GREY, ls=":", lw=1.6, label="standard deviation of normal shirts")
        left.axhline(change, color=RED, ls="--", lw=1.6, label=f"what an AUROC of {wanted} takes")
        left.axhline(0, color=GREY, lw=0.8)
        left.set(ylabel="negative log-likelihood (nats)", title="(a) what a square weighs")
        left.legend(fontsize=11)
        intervals(right, table, "auroc", label="measured", **drawn)
        right.plot(table["side"], table["expected"], color=GREEN, marker="^", ls="--", label="by the formula")
        right.axhline(wanted, color=RED, ls="--", lw=1.6)
        chance(right)
        right.set(ylabel="AUROC of NLL", ylim=(0, 1.02), title="(b) how well it is found")
        right.legend(fontsize=11, loc="upper center", bbox_to_anchor=(0.5, 0.88))
        for axes in (left, right):
            axes.set_xticks(table["side"])
            axes.set_xlabel("side of the square (pixels)")
    return figure
