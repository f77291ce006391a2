"""The figures of notebook 08: pixels and features beside each other, one colour and marker each."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from flowlib.figures.shared import intervals
from flowlib.figures.style import BLUE, GREY, ORANGE, RED, STYLE

PIXELS = "pixels"
LOOKS = {True: (ORANGE, "s", "pixels"), False: (BLUE, "o", "features")}  # by whether a row is of pixels


def methods(table: pd.DataFrame, way: str, rate: float) -> Figure:
    """A row of panels a set, a line a method: image AUROC, pixel AUROC and AUPRO, anomalies found and false alarms.

    Columns: set, features, method, `way` (the image AUROC shown), low, high, found, alarms (shares), and, NaN or
    missing where a set has no masks, pixel AUROC and AUPRO. `rate` is the nominal false-alarm rate.
    """
    sets = list(table["set"].unique())
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            len(sets), 3, figsize=(15, 0.9 + 3.9 * len(sets)), squeeze=False, width_ratios=(1.15, 1, 1)
        )
        for panels, name in zip(grid, sets, strict=True):
            rows = table[table["set"] == name].reset_index(drop=True)
            y = np.arange(len(rows))
            for of_pixels, (colour, marker, kind) in LOOKS.items():
                some = rows[(rows["features"] == PIXELS) == of_pixels]
                look: dict[str, Any] = {"color": colour, "ls": "", "label": f"on {kind}", "ms": 8}
                intervals(panels[0], some, way, y=some.index, marker=marker, capsize=4, **look)
                panels[2].plot(100 * some["found"], some.index, marker=marker, **look)
                if "AUPRO" in some:
                    panels[1].plot(some["pixel AUROC"], some.index, marker=marker, **look)
                    panels[1].plot(some["AUPRO"], some.index, marker=marker, **look | {"mfc": "white"})
            panels[2].plot(100 * rows["alarms"], y, ls="", marker="x", ms=8, mew=2, color=RED, label="false alarms")
            panels[2].axvline(100 * rate, color=RED, ls=":", lw=1.5, zorder=0)
            panels[0].set(title=f"{name}: image AUROC", xlim=(0, 1.02))
            panels[1].set(title="pixel AUROC (filled), AUPRO (open)", xlim=(0, 1.02))
            panels[2].set(title=f"found (%), at a nominal rate of {rate:.0%}", xlim=(-2, 102))
            for axes in panels:
                axes.set(yticks=y, yticklabels=rows["method"] if axes is panels[0] else [])
                axes.set_ylim(len(rows) - 0.5, -0.5)
            for axes in panels[:2]:
                axes.axvline(0.5, color=GREY, ls="--", lw=1.2, zorder=0)
            if "AUPRO" not in rows or rows["AUPRO"].isna().all():
                panels[1].clear()
                panels[1].set_axis_off()
                panels[1].annotate("no masks", (0.5, 0.5), (0, 0), "axes fraction", "offset points", ha="center")
        handles, labels = grid[0, 2].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def pairs(table: pd.DataFrame, ways: dict[str, str], apart: str) -> Figure:
    """AUROC of each pair on pixels (across) and on features (up), a panel a way, with its title.

    Columns: way, normal, anomaly, pixels, features. The pair whose normal set is `apart` is drawn apart and named.
    """
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(ways), figsize=(6.9 * len(ways), 6.4), squeeze=False)
        for axes, (way, title) in zip(grid[0], ways.items(), strict=True):
            rows = table[table["way"] == way]
            of_classes, whole = rows[rows["normal"] != apart], rows[rows["normal"] == apart]
            axes.plot([0, 1], [0, 1], color=GREY, lw=1.2, zorder=0)
            axes.axhline(0.5, color=GREY, ls="--", lw=1.2, zorder=0)
            axes.axvline(0.5, color=GREY, ls="--", lw=1.2, zorder=0)
            look = {"ls": "", "color": BLUE, "marker": "o", "alpha": 0.7}
            axes.plot(of_classes["pixels"], of_classes["features"], label=f"{len(of_classes)} pairs of classes", **look)
            for row in whole.itertuples():
                name = f"{row.normal} → {row.anomaly}"
                axes.plot(row.pixels, row.features, ls="", marker="D", ms=10, color=RED, label=name)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", title=f"{title}\n{quarters(of_classes)}")
            axes.set(xlabel="AUROC of the flow on pixels", ylabel="AUROC of the flow on features")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def quarters(rows: pd.DataFrame) -> str:
    """How many pairs lie in the quarters about chance in which something fails, in words."""
    pixels, features = rows["pixels"] < 0.5, rows["features"] < 0.5
    mended, both, spoilt = ((a & b).sum() for a, b in ((pixels, ~features), (pixels, features), (~pixels, features)))
    return f"below 0.5: {mended} on pixels alone, {both} on both, {spoilt} on features alone"
