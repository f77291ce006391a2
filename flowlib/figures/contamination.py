"""The figures of notebook 01 (thesis 4.1, Fig. 3 and 4); style and `save` are those of `figures.style`."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from flowlib.figures.shared import intervals
from flowlib.figures.style import BLUE, RED, STYLE


def nll_of_contamination(scores: pd.DataFrame, summary: pd.DataFrame, shown: Sequence[int] = (1, 4, 6)) -> Figure:
    """Thesis Fig. 3, beside what it summarises.

    `scores`: a row a test image: case, digit, image, nll (mean over seeds). `summary`: a row a case and digit: case,
    eights, digit, nll, low, high.
    """
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), width_ratios=(1.5, 1))
        eights = summary.drop_duplicates("case").set_index("case")["eights"]
        blues, reds = plt.get_cmap("Blues"), plt.get_cmap("Oranges")
        for digit, colours in ((8, reds), (1, blues)):
            for shade, case in zip((0.45, 0.65, 0.95), shown, strict=True):
                rows = scores[(scores["case"] == case) & (scores["digit"] == digit)]
                left.plot(rows["image"], rows["nll"], ".", ms=2.5, color=colours(shade), alpha=0.45)
                slope, start = np.polyfit(rows["image"], rows["nll"], 1)
                label = f"{digit}s, {eights[case]:.0f} eights in training"
                left.plot(rows["image"], start + slope * rows["image"], color=colours(shade), lw=2.5, label=label)
        left.set(xlabel="test image", ylabel="negative log-likelihood (nats)", title="(a) each test image, as Fig. 3")
        low, high = np.quantile(scores["nll"], [0, 0.995])
        left.set_ylim(low - 20, high + 0.35 * (high - low))
        left.legend(ncols=2, fontsize=10, loc="upper center")
        for digit, colour, marker in ((1, BLUE, "o"), (8, RED, "s")):
            rows = summary[summary["digit"] == digit]
            intervals(right, rows, "nll", x=rows["eights"], color=colour, marker=marker, capsize=3, label=f"{digit}s")
        right.set(xscale="log", xlabel="eights in training (with 6742 ones)", title="(b) mean and 95 % interval")
        right.set_ylabel("negative log-likelihood (nats)")
        right.legend()
    return figure


def separation_of_contamination(table: pd.DataFrame) -> Figure:
    """How far apart ones and eights are in each case, a line a way of training.

    Columns: training, eights, distance, distance_low, distance_high (nats), auroc, low, high.
    """
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8))
        columns = {left: ("distance", "distance_low", "distance_high"), right: ("auroc", "low", "high")}
        for axes, (value, low, high) in columns.items():
            for number, (training, rows) in enumerate(table.groupby("training", sort=False)):
                x = rows["eights"] * 1.12**number  # side by side
                colour, marker = (BLUE, "o") if number == 0 else (RED, "s")
                drawn: dict[str, Any] = {"color": colour, "marker": marker, "capsize": 3, "label": training}
                intervals(axes, rows, value, x=x, low=low, high=high, **drawn)
            axes.set(xscale="log", xlabel="eights in training (with 6742 ones)")
        left.set(ylabel="mean NLL of eights less ones (nats)", title="(a) distance of the means", ylim=(0, None))
        right.set(ylabel="AUROC of eights against ones", title="(b) AUROC (axis ends at the lowest interval)")
        left.legend(loc="lower left")
    return figure


def two_classes(scores: pd.DataFrame, normal: str, anomaly: str) -> Figure:
    """Thesis Fig. 4: NLL of each test image of two classes and their distributions. Columns: group, image, nll."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), width_ratios=(2, 1), sharey=True)
        low, high = np.quantile(scores["nll"], [0, 0.995]) + np.array([-20, 20])
        for group, colour, marker in ((normal, BLUE, "o"), (anomaly, RED, "s")):
            rows = scores[scores["group"] == group]
            left.plot(rows["image"], rows["nll"], marker, ms=3, color=colour, alpha=0.6, label=group)
            bins = np.linspace(low, high, 50)
            sns.histplot(
                y=rows["nll"].to_numpy(), bins=bins, stat="density", color=colour, alpha=0.6, linewidth=0, ax=right
            )
        left.set(xlabel="test image", ylabel="negative log-likelihood (nats)", ylim=(low, high))
        right.set(xlabel="density (1 / nats)")
        right.locator_params(axis="x", nbins=4)
        left.legend(markerscale=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure
