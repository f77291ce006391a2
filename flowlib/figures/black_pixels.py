"""The figures of notebook 02 (thesis 4.1.1, Fig. 5); style and `save` are those of `figures.style`."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from flowlib.figures.shared import intervals
from flowlib.figures.style import BLUE, GREY, RED, STYLE, chance


def twelve_cases(table: pd.DataFrame) -> Figure:
    """Thesis Fig. 5. Columns: case, normal, anomaly, black_difference, auroc, low, high, thesis_failed."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(11, 5.8))
        for failed, colour, marker, label in (
            (False, BLUE, "o", "thesis: behaves as expected"),
            (True, RED, "s", "thesis: fails"),
        ):
            rows = table[table["thesis_failed"] == failed]
            drawn: dict[str, Any] = {"ls": "", "color": colour, "marker": marker, "ms": 9, "capsize": 4, "label": label}
            intervals(axes, rows, "auroc", x=rows["black_difference"], **drawn)
        for row in table.itertuples():
            leftwards = row.black_difference > 100 or -60 < row.black_difference < 0
            axes.annotate(
                f"{row.case}: {row.normal} → {row.anomaly}",
                (row.black_difference, row.auroc),
                (-10 if leftwards else 10, 0),
                textcoords="offset points",
                fontsize=11,
                ha="right" if leftwards else "left",
                va="center",
            )
        chance(axes)
        axes.axvline(0, color=GREY, lw=1, ls=":")
        axes.set(ylim=(-0.05, 1.08), xlabel="black pixels of the anomalous class less those of the normal class")
        axes.set_ylabel("AUROC of the anomalous class")
        axes.legend(loc="lower left")
    return figure


def treatments(table: pd.DataFrame) -> Figure:
    """AUROC of all pairs under each treatment of the pixels, a line a pair. Columns: treatment, pair, auroc."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(11, 5))
        names = list(table["treatment"].unique())
        wide = table.pivot(index="pair", columns="treatment", values="auroc")[names]
        for _, row in wide.iterrows():
            fails = row[names[0]] < 0.5
            axes.plot(names, row, color=RED if fails else BLUE, alpha=0.3, lw=1, marker="s" if fails else "o", ms=4)
        for fails, colour, label in ((True, RED, "pairs that fail as they are"), (False, BLUE, "the other pairs")):
            rows = wide[(wide[names[0]] < 0.5) == fails]
            axes.plot(
                names, rows.mean(), color=colour, lw=4, marker="s" if fails else "o", ms=9, label=f"mean of {label}"
            )
        chance(axes)
        axes.set(ylabel="AUROC of the anomalous class", ylim=(-0.03, 1.03))
        axes.set_xticks(range(len(names)), [name.replace(" ", "\n", 1) for name in names])
        axes.margins(x=0.06)
        axes.legend(fontsize=11, loc="lower center", ncols=2, bbox_to_anchor=(0.5, 1.0))
    return figure


def ranking(table: pd.DataFrame, always: float, xlabel: str) -> Figure:
    """How well each property predicts, best first. Columns: name, kind, value, low, high.

    `always` is what the better of the two constant predictions reaches.
    """
    with plt.rc_context(STYLE):
        names = table.groupby("name")["value"].max().sort_values().index
        figure, axes = plt.subplots(figsize=(10, 1.8 + 0.55 * len(names)))
        for number, (kind, rows) in enumerate(table.groupby("kind", sort=False)):
            colour, marker = ((BLUE, "o"), (RED, "s"))[number]
            y = [names.get_loc(name) + (0.13, -0.13)[number] for name in rows["name"]]
            intervals(axes, rows, "value", y=y, ls="", color=colour, marker=marker, ms=8, capsize=3, label=kind)
        axes.axvline(always, color=GREY, ls="--", lw=1.2)
        axes.annotate(
            "always the same answer", (always, -0.85), (4, 0), textcoords="offset points", color=GREY, fontsize=11
        )
        axes.set_yticks(range(len(names)), names)
        axes.set(xlim=(0.2, 1.01), ylim=(-1.0, len(names) - 0.5), xlabel=xlabel)
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
    return figure
