"""The ledger: a claim's evidence recorded by its notebook, and every claim with its verdict."""

import json
from pathlib import Path

import pandas as pd
from IPython import get_ipython
from IPython.display import display

from flowlib.metrics import Interval
from flowlib.runtime.files import write_text
from flowlib.runtime.paths import report_folder
from flowlib.study.criteria import VERDICTS, Claim, Evidence, verdict
from flowlib.study.pages import render
from flowlib.study.thesis import CLAIMS

COLUMNS = ["id", "place", "claim", "criterion", "thesis", "measured", "verdict", "figure", "note"]


def record(
    report_dir: str | Path, claim: str, evidence: Evidence, measured: str, figure: str = "", note: str = ""
) -> None:
    """Write the evidence of one claim into a report folder; in a notebook the verdict is shown, too.

    Raises ValueError for an unknown claim, and KeyError when the evidence lacks a name that the criterion asks for.
    """
    entry = find(claim)
    judged = verdict(entry, evidence)
    path = report_folder(report_dir) / "claims" / f"{entry.notebook}.{claim}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"evidence": evidence, "measured": measured, "figure": figure, "note": note}
    write_text(path, json.dumps(row, indent=1) + "\n")
    if get_ipython() is not None:
        page = render("verdict.html", claim=entry, verdict=judged, sign=VERDICTS[judged], measured=measured, note=note)
        display({"text/html": page, "text/plain": f"claim {claim}: {judged}"}, raw=True)


def ledger(report_dir: str | Path) -> pd.DataFrame:
    """One row a claim, text columns id, place, claim, criterion, thesis, measured, verdict, figure, note."""
    rows = []
    for claim in CLAIMS:
        path = report_folder(report_dir) / "claims" / f"{claim.notebook}.{claim.id}.json"
        row = {"measured": "", "figure": "", "note": ""}
        judged = "not run in this profile"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            judged = verdict(claim, {name: Interval(*values) for name, values in found["evidence"].items()})
            row = {name: found[name] for name in row}
        rows.append(
            {
                "id": claim.id,
                "place": claim.place,
                "claim": claim.words,
                "criterion": claim.criterion,
                "thesis": claim.thesis,
                **row,
                "verdict": judged,
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def find(claim: str) -> Claim:
    for entry in CLAIMS:
        if entry.id == claim:
            return entry
    raise ValueError(f"claim is {claim!r}, it must be one of {', '.join(entry.id for entry in CLAIMS)}")


def show(interval: Interval, digits: int = 2) -> str:
    """``0.83 [0.81, 0.85]``: a value and its 95 % interval."""
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
