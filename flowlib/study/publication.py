"""The committed result: a report copied to ``reports/``, its claims in Markdown."""

import shutil
from pathlib import Path

import pandas as pd

from flowlib.runtime.files import write_text
from flowlib.runtime.paths import ROOT
from flowlib.study import claims
from flowlib.study.criteria import NOT_RUN, VERDICTS, verdict_in
from flowlib.study.report import (
    CLAIM_COLUMNS,
    RULE_CHANGE,
    ReportError,
    claims_made,
    exhibits,
    facts,
    failures,
    finished_run,
    rule_changes,
    title,
    verdict_count,
)

EVIDENCE = "claims.csv"
MARKDOWN_ESCAPES = str.maketrans({"|": r"\|", "[": r"\[", "]": r"\]", "<": "&lt;"})


def publish(profile: str, root: Path = ROOT, ledger: pd.DataFrame | None = None) -> Path:
    """Copy a report's figures and tables to ``reports/`` and write ``reports/README.md``: the committed result.

    ``reports/tables/claims.csv`` holds the evidence of every claim. What an earlier publication left in
    ``reports/figures`` and ``reports/tables`` is replaced. No path of the machine gets into the text: the project's own
    folder is cut off, the home folder becomes ``~``.

    Raises
    ------
    ReportError: the profile has not been run, or one of its notebooks failed.
    """
    report_dir, reports = root / "reports" / profile, root / "reports"
    manifest = finished_run(report_dir)
    for warning in failures(manifest):
        raise ReportError(f"reports/{profile} is not fit to publish: {warning}")
    ledger = claims_made(report_dir, manifest, ledger)
    lines = [f"# Results: profile {profile}", "", verdict_count(ledger), "", "## Claims", "", *ledger_markdown(ledger)]
    lines += [
        "",
        f"{claims.footnote()}. Every interval that a verdict rests on: [table](tables/{EVIDENCE}).",
        *rule_markdown(ledger),
    ]
    files = [file for entry in manifest["notebooks"].values() for file in entry["outputs"]]
    for folder in ("figures", "tables"):
        (reports / folder).mkdir(exist_ok=True)
        kept = {Path(file).name for file in files if file.startswith(f"{folder}/") and not file.endswith(".txt")}
        for name in kept:
            temporary = reports / folder / f".{name}"
            shutil.copyfile(report_dir / folder / name, temporary)
            temporary.replace(reports / folder / name)
        for path in (reports / folder).iterdir():
            if path.name not in kept:
                path.unlink()
    write_text(reports / "tables" / EVIDENCE, claims.evidence_table(report_dir).to_csv(index=False))
    for name, entry in manifest["notebooks"].items():
        lines += ["", f"## {title(name)}"]
        for exhibit in exhibits(report_dir, entry["outputs"]):
            caption = one_line(exhibit.caption)
            lines += ["", f"![{caption}]({exhibit.figure})"] if exhibit.figure else []
            lines += ["", caption + (f" ([table]({exhibit.table}))" if exhibit.table else "")]
    if (reports / "speed" / "README.md").exists():  # of benchmarks/speed.py
        lines += ["", "## Speed", "", "Against other PyTorch Glows, and how cost grows: [speed](speed/README.md)."]
    lines += ["", "## This run", "", *(f"- {fact}" for fact in facts(manifest))]
    text = "\n".join(lines).replace(f"{root}/", "").replace(f"{Path.home()}/", "~/")
    write_text(reports / "README.md", text + "\n")
    summarise(root / "README.md", ledger)
    return reports / "README.md"


def summarise(readme: Path, ledger: pd.DataFrame) -> None:
    """Put the count of verdicts, and folded a row a claim that was run, between README's two ``claims`` comments."""
    if not readme.exists():
        return
    before, begin, rest = readme.read_text(encoding="utf-8").partition("<!-- claims -->\n")
    _, end, after = rest.partition("<!-- /claims -->")
    if not (begin and end):
        return
    judged = ledger[ledger["verdict"] != NOT_RUN]
    rows = [
        f"| {' | '.join([one_line(row['claim']), one_line(row['measured']), row['epochs'], signed(row['verdict'])])} |"
        for row in judged.to_dict("records")
    ]
    head = ["| the thesis says | measured here, with 95 % intervals | epochs | verdict |", "| --- | --- | --- | --- |"]
    rows += ["", f"{claims.footnote()}."]
    folded = ["<details><summary>Every claim, with what was measured</summary>", "", *head, *rows, "", "</details>"]
    text = "\n".join([verdict_count(ledger), "", *folded])
    write_text(readme, f"{before}{begin}{text}\n{end}{after}")


def ledger_markdown(ledger: pd.DataFrame) -> list[str]:
    """The claims as the lines of a Markdown table."""
    lines = [f"| {' | '.join(CLAIM_COLUMNS)} |", "|" + " --- |" * len(CLAIM_COLUMNS)]
    for claim in ledger.to_dict("records"):
        cells = {column: one_line(claim[column]) for column in CLAIM_COLUMNS}
        cells["verdict"] = signed(cells["verdict"])
        cells["criterion"] += f" *{one_line(claim['amended'])}*" if claim["amended"] else ""
        cells["measured"] += f" ({one_line(claim['note'])})" if claim["note"] else ""
        cells["measured"] += f" [figure](figures/{claim['figure']})" if claim["figure"] else ""
        lines.append(f"| {' | '.join(cells.values())} |")
    return lines


def rule_markdown(ledger: pd.DataFrame) -> list[str]:
    """What the change of rule does, as the lines of a Markdown section; none where it does nothing."""
    changed = rule_changes(ledger)
    rows = [f"| {' | '.join(one_line(cell) for cell in row)} |" for row in changed.itertuples(index=False)]
    head = [
        "",
        "### What the change of rule does",
        "",
        RULE_CHANGE,
        "",
        f"| {' | '.join(changed)} |",
        "|" + " --- |" * 4,
    ]
    return [*head, *rows] if rows else []


def signed(verdict: str) -> str:
    """A verdict as it is shown, behind its sign."""
    return f"{VERDICTS[verdict_in(verdict)]} {verdict}"


def one_line(text: str) -> str:
    """Text that cannot break a Markdown table or link, nor pass for HTML."""
    return " ".join(text.split()).translate(MARKDOWN_ESCAPES)
