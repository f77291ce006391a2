"""The ledger: a claim's evidence recorded by its notebook, and every claim with its verdict."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from IPython import get_ipython
from IPython.display import display

from flowlib.metrics import Interval
from flowlib.runtime.files import write_text
from flowlib.runtime.paths import report_folder
from flowlib.study.criteria import (
    ENOUGH_EPOCHS,
    NOT_RUN,
    VERDICTS,
    Claim,
    Evidence,
    asked,
    spoken,
    times_as_many,
    verdict,
    verdict_of_two_states,
)
from flowlib.study.pages import render
from flowlib.study.thesis import CLAIMS

COLUMNS = [
    "id", "place", "claim", "criterion", "amended", "thesis", "measured", "epochs", "verdict", "until 2026-11-26",
    "figure", "note",
]  # fmt: skip
EVIDENCE_COLUMNS = ["claim", "evidence", "value", "low", "high", "epochs"]
OPEN_COLUMNS = ["id", "verdict", "condition", "measured", "asked", "times as many", "of"]
FEW = " †"  # after the epochs of a row whose models saw too few


class Training(Protocol):
    """What `training_epochs` asks of a recipe, such as `flowlib.training.Recipe`."""

    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...


def training_epochs(recipe: Training, images: int | Iterable[int]) -> float:
    """How often a model of this recipe sees each of so many training images; of several sets, the fewest times."""
    largest = max(images) if isinstance(images, Iterable) else images
    return float(recipe.steps * recipe.batch_size / largest)


def record(
    report_dir: str | Path,
    claim: str,
    evidence: Evidence,
    measured: str,
    figure: str = "",
    note: str = "",
    epochs: float | None = None,
) -> None:
    """Write the evidence of one claim into a report folder; in a notebook the verdict is shown, too.

    `epochs`: how often the models that carry the row saw each of their training images, the fewest of them; None where
    no model does.

    Raises ValueError for an unknown claim, and KeyError when the evidence lacks a name that the criterion asks for.
    """
    entry = find(claim)
    judged = verdict(entry, evidence)
    path = report_folder(report_dir) / "claims" / f"{entry.notebook}.{claim}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"evidence": evidence, "measured": measured, "figure": figure, "note": note, "epochs": epochs}
    write_text(path, json.dumps(row, indent=1) + "\n")
    if get_ipython() is not None:
        shown = {"verdict": spoken(entry, judged), "sign": VERDICTS[judged], "few": few_epochs(entry, epochs)}
        shown |= {"note": with_need(note, entry, evidence), "epochs": show_epochs(epochs)}
        page = render("verdict.html", claim=entry, measured=measured, **shown)
        display({"text/html": page, "text/plain": f"claim {claim}: {shown['verdict']}"}, raw=True)


def ledger(report_dir: str | Path, known: Sequence[Claim] = CLAIMS) -> pd.DataFrame:
    """`ledger_of` what a report folder's notebooks recorded."""
    return ledger_of(recorded_claims(report_dir, known), known)


def ledger_of(found: Mapping[str, Mapping[str, Any]], known: Sequence[Claim] = CLAIMS) -> pd.DataFrame:
    """One row a claim, the text columns `COLUMNS`; "until 2026-11-26" is the verdict by the rule until then, where it
    was another. `found` is what was recorded (`row`), by claim."""
    rows = []
    for claim in known:
        row = dict.fromkeys(COLUMNS, "") | {
            "id": claim.id,
            "place": claim.place,
            "claim": claim.words,
            "criterion": claim.criterion,
        }
        row |= {"amended": amendment(claim), "thesis": claim.thesis, "verdict": NOT_RUN}
        if recorded := found.get(claim.id):
            judged, before = (rule(claim, recorded["evidence"]) for rule in (verdict, verdict_of_two_states))
            few = FEW if few_epochs(claim, recorded["epochs"]) else ""
            row |= {"measured": recorded["measured"], "figure": recorded["figure"]}
            row["note"] = with_need(recorded["note"], claim, recorded["evidence"])
            row |= {"epochs": show_epochs(recorded["epochs"]) + few, "verdict": spoken(claim, judged)}
            row["until 2026-11-26"] = before if before != judged else ""
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def with_need(note: str, claim: Claim, evidence: Evidence) -> str:
    """A note, and what would decide an undecided claim: how many times as many units its nearest condition takes."""
    if verdict(claim, evidence) != "undecided":
        return note
    times = min(map(times_as_many, asked(claim, evidence)))
    need = f"would be decided by {show_times(times)} times as many {claim.units}, its value staying"
    return f"{note}; {need}" if note else need


def open_conditions(found: Mapping[str, Mapping[str, Any]], known: Sequence[Claim] = CLAIMS) -> pd.DataFrame:
    """Every condition whose interval straddles its bound, a row each, the text columns `OPEN_COLUMNS`."""
    rows = [
        [
            claim.id,
            spoken(claim, verdict(claim, found[claim.id]["evidence"])),
            condition.name,
            "{:.3g} [{:.3g}, {:.3g}]".format(*condition.interval),
            condition.asked,
            show_times(times_as_many(condition)),
            claim.units,
        ]
        for claim in known
        if claim.id in found
        for condition in asked(claim, found[claim.id]["evidence"])
        if condition.state == "open"
    ]
    return pd.DataFrame(rows, columns=OPEN_COLUMNS)


def show_times(times: float) -> str:
    return "over 100" if times > 100 else f"{times:.0f}" if times >= 10 else f"{times:.1f}"


def evidence_table(found: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """All that the verdicts rest on, a row an interval: the columns `EVIDENCE_COLUMNS`."""
    rows = [
        {"claim": claim, "evidence": name, **interval._asdict(), "epochs": recorded["epochs"]}
        for claim, recorded in found.items()
        for name, interval in recorded["evidence"].items()
    ]
    return pd.DataFrame(rows, columns=EVIDENCE_COLUMNS)


def recorded_claims(report_dir: str | Path, known: Sequence[Claim] = CLAIMS) -> dict[str, dict[str, Any]]:
    """What `record` wrote into a report folder, by claim, in the order of the claims."""
    found = {}
    for claim in known:
        path = report_folder(report_dir) / "claims" / f"{claim.notebook}.{claim.id}.json"
        if path.exists():
            found[claim.id] = row(json.loads(path.read_text(encoding="utf-8")))
    return found


def row(found: Mapping[str, Any]) -> dict[str, Any]:
    """What `record` wrote, its evidence as intervals again."""
    evidence = {name: Interval(*values) for name, values in found["evidence"].items()}
    return {"epochs": None, **found, "evidence": evidence}


def few_epochs(claim: Claim, epochs: float | None) -> bool:
    return epochs is not None and epochs < claim.epochs


def footnote() -> str:
    """What the mark beside too few epochs means."""
    more = [f"{claim.id}: {claim.epochs:g}" for claim in CLAIMS if claim.epochs != ENOUGH_EPOCHS]
    asked = f" ({', '.join(more)})" if more else ""
    return f"{FEW.strip()} fewer than {ENOUGH_EPOCHS} epochs{asked}: says little of a trained model"


def show_epochs(epochs: float | None) -> str:
    return "" if epochs is None else f"{epochs:.2g}" if epochs < 10 else f"{epochs:.0f}"


def amendment(claim: Claim) -> str:
    """The first form of a criterion that was changed, in words; "" for one that was not."""
    changed = claim.amended
    return f"Until {changed.date}: {changed.first} Changed because {changed.reason}" if changed else ""


def find(claim: str) -> Claim:
    for entry in CLAIMS:
        if entry.id == claim:
            return entry
    raise ValueError(f"claim is {claim!r}, it must be one of {', '.join(entry.id for entry in CLAIMS)}")


def show(interval: Interval, digits: int = 2) -> str:
    """``0.83 [0.81, 0.85]``: a value and its 95 % interval."""
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
