"""The figures of the report: each drawn from a table, saved beside it, legible at half size and without colour vision.

Colours are Okabe & Ito's (2008); what a colour says, a marker or a label says too. Scores carry their unit.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowlib.files import write_text
from flowlib.runtime.paths import report_folder

BLUE, ORANGE, GREEN, SKY, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#777777"
AUROC_COLOURS = "PuOr"  # diverging about one half: orange fails, purple behaves
STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "savefig.dpi": 150,
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
    """Write ``figures/<stem>.png``, its caption ``.txt`` and ``tables/<stem>.csv`` into a report folder."""
    folder = report_folder(report_dir)
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    temporary = folder / "figures" / f".{stem}.png"
    figure.savefig(temporary, format="png", metadata={"Software": None})
    temporary.replace(folder / "figures" / f"{stem}.png")
    write_text(folder / "figures" / f"{stem}.txt", caption.strip() + "\n")
    write_text(folder / "tables" / f"{stem}.csv", table.to_csv(index=False))


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
            errors = [rows["nll"] - rows["low"], rows["high"] - rows["nll"]]
            right.errorbar(
                rows["eights"], rows["nll"], errors, color=colour, marker=marker, capsize=3, label=f"{digit}s"
            )
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
                errors = [rows[value] - rows[low], rows[high] - rows[value]]
                x = rows["eights"] * 1.12**number  # side by side
                colour, marker = (BLUE, "o") if number == 0 else (RED, "s")
                axes.errorbar(x, rows[value], errors, color=colour, marker=marker, capsize=3, label=training)
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
            right.hist(
                rows["nll"],
                bins=np.linspace(low, high, 50),
                density=True,
                orientation="horizontal",
                color=colour,
                alpha=0.6,
            )
        left.set(xlabel="test image", ylabel="negative log-likelihood (nats)", ylim=(low, high))
        right.set(xlabel="density (1 / nats)")
        right.locator_params(axis="x", nbins=4)
        left.legend(markerscale=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


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


def twelve_cases(table: pd.DataFrame) -> Figure:
    """Thesis Fig. 5. Columns: case, normal, anomaly, black_difference, auroc, low, high, thesis_failed."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(11, 5.8))
        for failed, colour, marker, label in (
            (False, BLUE, "o", "thesis: behaves as expected"),
            (True, RED, "s", "thesis: fails"),
        ):
            rows = table[table["thesis_failed"] == failed]
            errors = [rows["auroc"] - rows["low"], rows["high"] - rows["auroc"]]
            axes.errorbar(
                rows["black_difference"],
                rows["auroc"],
                errors,
                ls="",
                color=colour,
                marker=marker,
                ms=9,
                capsize=4,
                label=label,
            )
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
        figure, axes = plt.subplots(figsize=(9, 5))
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
            errors = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
            axes.errorbar(
                rows["value"], y, xerr=errors, ls="", color=colour, marker=marker, ms=8, capsize=3, label=kind
            )
        axes.axvline(always, color=GREY, ls="--", lw=1.2)
        axes.annotate(
            "always the same answer", (always, -0.85), (4, 0), textcoords="offset points", color=GREY, fontsize=11
        )
        axes.set_yticks(range(len(names)), names)
        axes.set(xlim=(0.2, 1.01), ylim=(-1.0, len(names) - 0.5), xlabel=xlabel)
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
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


def chance(axes: Axes) -> None:
    axes.axhline(0.5, color=GREY, lw=1.2, ls="--", zorder=0)
    place = ("axes fraction", "data")
    axes.annotate("chance", (1, 0.5), (4, 0), place, "offset points", color=GREY, fontsize=11, va="center")
