"""Figures that more than one notebook draws."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from flowlib.figures.style import AUROC_COLOURS, STYLE


def matrix(values: np.ndarray, names: Sequence[str], title: str = "") -> Figure:
    """AUROC of each ordered pair, trained class down and anomalous class across; NaN on the diagonal."""
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(figsize=(9, 7.6))
        image = axes.imshow(values, cmap=AUROC_COLOURS, vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                colour = "white" if abs(value - 0.5) > 0.3 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=11)
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="anomalous class", ylabel="normal class (trained on)", title=title)
        figure.colorbar(image, shrink=0.8, label="AUROC (below 0.5: anomalies score as more normal)")
    return figure


def samples(rows: Sequence[tuple[str, np.ndarray]], count: int = 10) -> Figure:
    """Rows of uint8 images ``(N, C, H, W)``, each with its label; one fixed grey scale."""
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, grid = plt.subplots(len(rows), count, figsize=(count * 0.95, len(rows) * 1.02), squeeze=False)
        for axes_row, (label, images) in zip(grid, rows, strict=True):
            for axes, image in zip(axes_row, images[:count], strict=False):
                axes.imshow(image[0], cmap="gray", vmin=0, vmax=255)
            for axes in axes_row:
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            axes_row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11)
    return figure
