"""The figures of notebook 06; style and `save` are those of `figures`."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from flowlib.figures.shared import AUROC_LABEL, auroc_cells, intervals
from flowlib.figures.style import BLUE, GREEN, GREY, ORANGE, RED, STYLE


def overview(values: pd.DataFrame, targets: Mapping[str, float], pixel_scores: int) -> Figure:
    """AUROC of each score (rows) on each task (columns), with what was aimed at in a row of its own at the foot.

    A value at or above its task's target is bold. A line parts the first `pixel_scores` rows from the others.
    """
    with plt.rc_context(STYLE | {"axes.grid": False}):
        rows, columns = values.shape
        figure, axes = plt.subplots(figsize=(2.6 + 1.12 * columns, 2.2 + 0.42 * (rows + 1)))
        shown = np.vstack([values.to_numpy(), [targets.get(task, np.nan) for task in values.columns]])
        # rounded down, so that what is printed is what was reached
        texts = np.vectorize(lambda value: f"{np.floor(1000 * value) / 1000:.3f}".replace("0.", "."))(shown)
        names = {"xticklabels": list(values.columns), "yticklabels": [*values.index, "target"]}
        auroc_cells(axes, shown, annot=texts, fmt="", annot_kws={"fontsize": 12}, **names)
        met = [targets.get(task, np.inf) for task in values.columns] <= values.to_numpy()
        for text in axes.texts:
            column, row = (int(place) for place in text.get_position())
            if row < rows and met[row, column]:
                text.set_fontweight("bold")
        for line in (pixel_scores, rows):
            axes.axhline(line, color="white", lw=5)
        axes.xaxis.tick_top()
        axes.set_xticks(axes.get_xticks(), values.columns, rotation=35, ha="left", rotation_mode="anchor")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        bar = figure.colorbar(axes.collections[0], location="bottom", shrink=0.6, aspect=40, pad=0.02)
        bar.set_label(AUROC_LABEL)
    return figure


def by_class(table: pd.DataFrame) -> Figure:
    """One panel a data set: AUROC of each class against the other nine. Columns: set, normal, score, auroc, low, high.

    At most five scores.
    """
    with plt.rc_context(STYLE):
        sets = list(table["set"].unique())
        figure, panels = plt.subplots(1, len(sets), figsize=(7 * len(sets), 5.4), sharey=True, squeeze=False)
        for axes, letter, name in zip(panels[0], "abc", sets, strict=False):
            of_set = table[table["set"] == name]
            classes = list(of_set["normal"].unique())
            scores = list(of_set["score"].unique())
            for shift, (score, colour, marker) in enumerate(
                zip(scores, (GREY, ORANGE, GREEN, BLUE, RED), "xs^oD", strict=False)
            ):
                rows = of_set[of_set["score"] == score].set_index("normal").loc[classes]
                x = np.arange(len(classes)) + 0.13 * (shift - (len(scores) - 1) / 2)
                intervals(axes, rows, "auroc", x=x, ls="", color=colour, marker=marker, ms=6, label=score)
            axes.axhline(0.5, color=GREY, lw=1.2, ls="--", zorder=0)
            axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
            axes.set(title=f"({letter}) {name}", xlabel="normal class", ylim=(0, 1.02))
        panels[0, 0].set_ylabel("AUROC against the other nine")
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def groups(table: pd.DataFrame) -> Figure:
    """AUROC of groups by their size, a panel a kind of typicality. Columns: task, sides, size, auroc, low, high."""
    with plt.rc_context(STYLE):
        kinds = list(table["sides"].unique())
        figure, panels = plt.subplots(1, len(kinds), figsize=(6 * len(kinds), 4.6), sharey=True, squeeze=False)
        sizes = sorted(table["size"].unique())
        for axes, letter, kind in zip(panels[0], "ab", kinds, strict=True):
            tasks = table[table["sides"] == kind].groupby("task", sort=False)
            for shift, ((task, rows), colour, marker) in enumerate(
                zip(tasks, (BLUE, ORANGE, GREEN, RED), "os^D", strict=False)
            ):
                x = rows["size"] * 1.05 ** (shift - 1.5)  # side by side
                intervals(axes, rows, "auroc", x=x, color=colour, marker=marker, capsize=3, label=task)
            axes.axhline(0.5, color=GREY, lw=1.2, ls="--", zorder=0)
            axes.set_xscale("log")
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            axes.set(title=f"({letter}) {kind}", xlabel="images in a group", ylim=(-0.03, 1.03))
        panels[0, 0].set_ylabel("AUROC of groups")
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def orders(table: pd.DataFrame) -> Figure:
    """One panel a data set, a point a class: how well the flow of it finds the others, against how well the flows of
    the others find it. Columns: set, class, finds, found. Dashed: chance."""
    with plt.rc_context(STYLE):
        sets = list(table["set"].unique())
        figure, panels = plt.subplots(
            1, len(sets), figsize=(6.4 * len(sets), 5.6), sharex=True, sharey=True, squeeze=False
        )
        for axes, letter, name in zip(panels[0], "abc", sets, strict=False):
            of_set = table[table["set"] == name]
            axes.plot(of_set["found"], of_set["finds"], "o", color=BLUE, ms=7)
            for i, row in enumerate(of_set.sort_values("found").to_dict("records")):  # on either side in turn
                place, side = (row["found"], row["finds"]), 1 - 2 * (i % 2)
                ends = {"ha": "left" if side > 0 else "right", "va": "bottom" if side > 0 else "top"}
                axes.annotate(
                    row["class"], place, (5 * side, 2 * side), textcoords="offset points", fontsize=12, **ends
                )
            axes.axvline(0.5, color=GREY, ls="--", lw=1)
            axes.axhline(0.5, color=GREY, ls="--", lw=1)
            axes.set_xlim(-0.05, 1.05)
            axes.set_ylim(-0.05, 1.05)
            axes.set_title(f"({letter}) {name}", loc="left")
            axes.set_xlabel("mean AUROC of the class under the others' flows")
        panels[0, 0].set_ylabel("mean AUROC of the others\nunder the class's flow")
    return figure
