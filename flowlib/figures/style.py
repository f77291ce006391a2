"""The figures of the report: each drawn from a table, saved beside it, legible at half size and without colour vision.

Colours are Okabe & Ito's (2008); what a colour says, a marker or a label says too. Scores carry their unit.
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from IPython import get_ipython
from IPython.display import Image, display
from matplotlib import rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowlib.runtime.files import write_text
from flowlib.runtime.paths import report_folder

BLUE, ORANGE, GREEN, SKY, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#777777"
AUROC_COLOURS = "PuOr"  # diverging about one half: orange fails, purple behaves
SHOWN_PIXELS_AN_INCH = 80  # in a notebook; the file has more
# Matplotlib's own values, and not those of someone's matplotlibrc, which a figure of the study does not hang on.
DEFAULTS = {name: value for name, value in rcParamsDefault.items() if name not in ("backend", "interactive")}
STYLE: dict[Any, Any] = DEFAULTS | {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 13,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.markersize": 5,
}


def save(figure: Figure, report_dir: str | Path, stem: str, table: pd.DataFrame, caption: str) -> None:
    """Write ``figures/<stem>.png``, its caption ``.txt`` and ``tables/<stem>.csv`` into a report folder.

    In a notebook the picture is shown, too, and it is the file's: what pyplot would show hangs on its backend and on
    whether a figure was begun inside an ``rc_context``.
    """
    folder = report_folder(report_dir)
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    temporary = folder / "figures" / f".{stem}.png"
    with plt.rc_context(STYLE):
        figure.savefig(temporary, format="png", metadata={"Software": None})
    plt.close(figure)
    temporary.replace(folder / "figures" / f"{stem}.png")
    write_text(folder / "figures" / f"{stem}.txt", caption.strip() + "\n")
    write_text(folder / "tables" / f"{stem}.csv", table.to_csv(index=False))
    if get_ipython() is not None:
        width = round(SHOWN_PIXELS_AN_INCH * figure.get_figwidth())
        display(Image(filename=folder / "figures" / f"{stem}.png", width=width, alt=caption.strip()))


def chance(axes: Axes) -> None:
    axes.axhline(0.5, color=GREY, lw=1.2, ls="--", zorder=0)
    place = ("axes fraction", "data")
    axes.annotate("chance", (1, 0.5), (4, 0), place, "offset points", color=GREY, fontsize=11, va="center")
