"""Figures that more than one notebook draws."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowlib.figures.style import AUROC_COLOURS, GREEN, STYLE

SHADES = {"reproduced": "#9fd8c3", "partly": "#c7e4f5", "not reproduced": "#f3c3a2", "undecided": "#e4e4e4"}
AUROC_LABEL = "AUROC (below 0.5: anomalies score as more normal)"


def intervals(
    axes: Axes,
    rows: pd.DataFrame,
    value: str,
    *,
    x: Any = None,
    y: Any = None,
    low: str = "low",
    high: str = "high",
    **drawn: Any,
) -> None:
    """Points with their intervals, from the columns `value`, `low` and `high` of `rows`.

    The values stand along y, at the places `x`; or along x, at the places `y`: the other of the two is None.
    """
    errors = np.stack([rows[value] - rows[low], rows[high] - rows[value]])
    if y is None:
        axes.errorbar(x, rows[value], yerr=errors, **drawn)
    else:
        axes.errorbar(rows[value], y, xerr=errors, **drawn)


def auroc_cells(axes: Axes, values: np.ndarray, **drawn: Any) -> None:
    """A heat map of AUROCs with the numbers in its cells, on one scale; NaN stays empty."""
    cells = {"annot": True, "fmt": ".2f", "annot_kws": {"fontsize": 11}} | drawn
    sns.heatmap(values, cmap=AUROC_COLOURS, vmin=0, vmax=1, cbar=False, ax=axes, **cells)


def matrix(values: np.ndarray, names: Sequence[str], title: str = "") -> Figure:
    """AUROC of each ordered pair, trained class down and anomalous class across; NaN on the diagonal."""
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(figsize=(9, 7.6))
        auroc_cells(axes, values, xticklabels=names, yticklabels=names, square=True)
        axes.set_xticks(axes.get_xticks(), names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(axes.get_yticks(), names, rotation=0)
        axes.set(xlabel="anomalous class", ylabel="normal class (trained on)", title=title)
        figure.colorbar(axes.collections[0], shrink=0.8, label=AUROC_LABEL)
    return figure


def samples(
    rows: Sequence[tuple[str, np.ndarray]], count: int = 10, outlined: Mapping[str, np.ndarray] | None = None
) -> Figure:
    """Rows of uint8 images ``(N, C, H, W)``, each with its label; one fixed grey scale.

    `outlined`: by label, a mask of each image, bool ``(N, H, W)``, framed.
    """
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, grid = plt.subplots(len(rows), count, figsize=(count * 0.95, len(rows) * 1.02), squeeze=False)
        for axes_row, (label, images) in zip(grid, rows, strict=True):
            for number, (axes, image) in enumerate(zip(axes_row, images[:count], strict=False)):
                axes.imshow(image[0], cmap="gray", vmin=0, vmax=255)
                if outlined and label in outlined:
                    outline(axes, outlined[label][number])
            for axes in axes_row:
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            axes_row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11)
    return figure


def outline(axes: Axes, mask: np.ndarray) -> None:
    """Frame a square one pixel outside of it."""
    rows, columns = np.nonzero(mask)
    corner = (columns.min() - 1.5, rows.min() - 1.5)
    width, height = float(np.ptp(columns)) + 3, float(np.ptp(rows)) + 3
    axes.add_patch(plt.Rectangle(corner, width, height, fill=False, color=GREEN, lw=1.6))


def specifications(table: pd.DataFrame, names: dict[str, str]) -> Figure:
    """What each claim comes to under each choice, a panel a model: a row a choice, a column a claim.

    Columns: model, choice, claim, verdict, sign, short. `names`: by claim, what its cells say.
    """
    models = list(dict.fromkeys(table["model"]))
    heights = [table.loc[table["model"] == model, "choice"].nunique() for model in models]
    widest = max(table.loc[table["model"] == model, "claim"].nunique() for model in models)
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, panels = plt.subplots(
            len(models),
            1,
            figsize=(11.5, 0.36 * sum(heights) + 3.4),
            height_ratios=[n + 1.2 for n in heights],
            squeeze=False,
        )
        for axes, model in zip(panels[:, 0], models, strict=True):
            of_model = table[table["model"] == model].drop_duplicates(["choice", "claim"])
            choices, claims = (list(dict.fromkeys(of_model[column])) for column in ("choice", "claim"))
            for row in of_model.itertuples():
                x, y = claims.index(row.claim), choices.index(row.choice)
                axes.add_patch(plt.Rectangle((x, y), 0.97, 0.9, color=SHADES[row.verdict]))
                axes.text(x + 0.485, y + 0.45, f"{row.sign}  {row.short}", ha="center", va="center", fontsize=11)
            axes.set(xlim=(0, widest), ylim=(len(choices), 0))
            axes.set_xticks([i + 0.485 for i in range(len(claims))], [f"{c}: {names[c]}" for c in claims], fontsize=11)
            axes.xaxis.tick_top()
            axes.set_yticks([i + 0.45 for i in range(len(choices))], choices, fontsize=11)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            axes.set_title(model, loc="left")
        signs = dict(zip(table["verdict"], table["sign"], strict=True))
        there = [verdict for verdict in SHADES if verdict in signs]
        shown = [plt.Rectangle((0, 0), 1, 1, color=SHADES[verdict]) for verdict in there]
        labels = [f"{signs[verdict]} {verdict}" for verdict in there]
        figure.legend(shown, labels, loc="outside lower center", ncols=len(there))
    return figure
