"""The figures of notebook 01 (thesis 4.1, Fig. 3 and 4); style and `save` are those of `figures.style`."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from flowlib.figures.shared import intervals
from flowlib.figures.style import BLUE, GREEN, GREY, RED, STYLE, chance


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
    """How far apart the two digits are in each case, a line a pair and way of training; the AUROC of plain training
    between its two ends.

    Columns: pair, training, case, distance, distance_low, distance_high (nats), auroc, low, high.
    """
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), width_ratios=(1, 1.2))
        ticks = {
            "none": "0 %",
            "1": "0.1",
            "2": "1",
            "3": "10",
            "4": "20",
            "5": "40",
            "6": "86.8 %",
            "nothing else": "all",
        }
        place = {case: number for number, case in enumerate(ticks)}
        between = table[table["case"].str.isdigit()]
        columns = {
            left: ("distance", "distance_low", "distance_high", between),
            right: ("auroc", "low", "high", table[table["training"] == "plain"]),
        }
        looks = {"8 in 1": (BLUE, "o"), "6 in 3": (GREEN, "^")}
        for axes, (value, low, high, shown) in columns.items():
            for number, ((pair, training), rows) in enumerate(shown.groupby(["pair", "training"], sort=False)):
                colour, marker = looks[pair] if training == "plain" else (RED, "s")
                label = f"{pair[0]}s among {pair[-1]}s, {training.split(':')[0]}"
                drawn: dict[str, Any] = {"color": colour, "marker": marker, "capsize": 3, "label": label}
                intervals(
                    axes, rows, value, x=rows["case"].map(place) + 0.1 * (number - 1), low=low, high=high, **drawn
                )
            some = [case for case in ticks if case in set(shown["case"])]
            axes.set_xticks([place[case] for case in some], [ticks[case] for case in some])
            axes.set_xlabel("anomalies in training, of the number of normal images")
        left.set(ylabel="mean NLL of anomalies less normals (nats)", title="(a) distance of the means")
        left.axhline(0, color=GREY, lw=1.2, ls="--", zorder=0)
        left.legend(fontsize=11)
        right.set(ylabel="AUROC of the anomalous digit", title="(b) AUROC, between both ends", ylim=(-0.03, 1.03))
        chance(right)
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
