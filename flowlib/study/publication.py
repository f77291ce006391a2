"""The committed result: what is published of every profile, as figures, tables and one page of Markdown."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from flowlib.runtime.files import write_text
from flowlib.runtime.paths import ROOT
from flowlib.study import claims, published
from flowlib.study.criteria import NOT_RUN, VERDICTS, Claim, verdict_in
from flowlib.study.published import Published
from flowlib.study.report import (
    CLAIM_COLUMNS,
    OPEN_CONDITIONS,
    RULE_CHANGE,
    ReportError,
    exhibits,
    facts,
    failures,
    finished_run,
    rule_changes,
    title,
    verdict_count,
    with_figures_made,
)
from flowlib.study.thesis import CLAIMS

EVIDENCE = "claims.csv"
MARKDOWN_ESCAPES = str.maketrans({"|": r"\|", "[": r"\[", "]": r"\]", "<": "&lt;"})


def publish(profile: str, root: Path = ROOT, known: Sequence[Claim] = CLAIMS) -> Path:
    """Publish a report: its claims in ``reports/published``, its figures and tables, and ``reports/README.md`` anew.

    Each claim is shown as the largest profile has it that recorded it, and each notebook's figures and tables of the
    largest that it was run in; ``reports/tables/claims.csv`` holds the evidence of all profiles. What an earlier
    publication left of the same notebooks is replaced. No path of the machine gets into the text.

    Raises
    ------
    ReportError: the profile has not been run, or one of its notebooks failed; or a claim asks for evidence by now that
        an earlier publication lacks.
    """
    report_dir, reports = root / "reports" / profile, root / "reports"
    manifest = finished_run(report_dir)
    for warning in failures(manifest):
        raise ReportError(f"reports/{profile} is not fit to publish: {warning}")
    published.keep(reports, report_dir, manifest, known)
    found = published.read(reports)
    shown = published.largest(found)
    for name, entry in manifest["notebooks"].items():
        if shown[name] == profile:
            copy_outputs(report_dir, reports, name, entry["outputs"])
    ledger = published.best_ledger(found, known)
    ledger = with_figures_made(ledger, (found[of]["notebooks"][name] for name, of in shown.items()))
    write_text(reports / "tables" / EVIDENCE, published.evidence_table(found).to_csv(index=False))
    page = "\n".join(results(found, ledger, known, (reports / "speed" / "README.md").exists()))
    write_text(reports / "README.md", published.without_paths(page, root) + "\n")
    summarise(root / "README.md", ledger)
    return reports / "README.md"


def copy_outputs(report_dir: Path, reports: Path, notebook: str, outputs: Sequence[str]) -> None:
    """Copy a notebook's figures and tables, and delete those that it has made once and makes no more."""
    for folder in ("figures", "tables"):
        (reports / folder).mkdir(exist_ok=True)
        kept = {Path(file).name for file in outputs if file.startswith(f"{folder}/") and not file.endswith(".txt")}
        for name in kept:
            temporary = reports / folder / f".{name}"
            shutil.copyfile(report_dir / folder / name, temporary)
            temporary.replace(reports / folder / name)
        for path in (reports / folder).glob(f"{notebook.split('_')[0]}_*"):
            if path.name not in kept:
                path.unlink()


def results(found: Published, ledger: pd.DataFrame, known: Sequence[Claim], with_speed: bool) -> list[str]:
    """The lines of the page: claims, where profiles disagree, each notebook's figures, how it all was run."""
    shown = published.largest(found)
    lines = ["# Results", "", verdict_count(ledger), "", of_profiles(shown)]
    lines += ["", "## Claims", "", *ledger_markdown(ledger)]
    lines += [
        "",
        f"{claims.footnote()}. Every interval that a verdict rests on: [table](tables/{EVIDENCE}).",
        *open_markdown(claims.open_conditions(published.shown_rows(found), known)),
        *disagreement_markdown(*published.disagreements(found, known)),
        *rule_markdown(ledger),
    ]
    for name, profile in shown.items():
        entry = found[profile]["notebooks"][name]
        lines += ["", f"## {title(name)}", "", f"Profile {profile}."]
        for exhibit in exhibits(entry["outputs"], entry["captions"]):
            caption = one_line(exhibit.caption)
            lines += ["", f"![{caption}]({exhibit.figure})"] if exhibit.figure else []
            lines += ["", caption + (f" ([table]({exhibit.table}))" if exhibit.table else "")]
    if with_speed:  # of benchmarks/speed.py
        lines += ["", "## Speed", "", "Against other PyTorch Glows, and how cost grows: [speed](speed/README.md)."]
    lines += ["", "## The runs"]
    for run in found.values():
        lines += ["", *(f"- {fact}" for fact in facts(run))]
    return lines


def of_profiles(shown: dict[str, str]) -> str:
    """One sentence: which notebooks are shown of which profile."""
    numbers: dict[str, list[str]] = {}
    for name, profile in shown.items():
        numbers.setdefault(profile, []).append(name.split("_")[0])
    listed = "; ".join(f"{profile} ({', '.join(names)})" for profile, names in numbers.items())
    return f"Each notebook is shown of the largest profile that it was run in: {listed}."


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
        table_row([row["claim"], row["measured"], row["profile"], row["epochs"], signed(row["verdict"])])
        for row in judged.to_dict("records")
    ]
    head = table_head(["the thesis says", "measured here, with 95 % intervals", "profile", "epochs", "verdict"])
    rows += ["", f"{claims.footnote()}."]
    folded = ["<details><summary>Every claim, with what was measured</summary>", "", *head, *rows, "", "</details>"]
    text = "\n".join([verdict_count(ledger), "", *folded])
    write_text(readme, f"{before}{begin}{text}\n{end}{after}")


def ledger_markdown(ledger: pd.DataFrame) -> list[str]:
    """The claims as the lines of a Markdown table."""
    columns = [*CLAIM_COLUMNS, "profile"]
    lines = table_head(columns)
    for claim in ledger.to_dict("records"):
        cells = {column: one_line(claim[column]) for column in columns}
        cells["verdict"] = signed(cells["verdict"])
        cells["criterion"] += f" *{one_line(claim['amended'])}*" if claim["amended"] else ""
        cells["measured"] += f" ({one_line(claim['note'])})" if claim["note"] else ""
        cells["measured"] += f" [figure](figures/{claim['figure']})" if claim["figure"] else ""
        lines.append(f"| {' | '.join(cells.values())} |")
    return lines


def open_markdown(still_open: pd.DataFrame) -> list[str]:
    """What would decide, as the lines of a Markdown section; none where everything is decided."""
    rows = [table_row(list(row)) for row in still_open.itertuples(index=False)]
    head = ["", "### What would decide", "", OPEN_CONDITIONS, "", *table_head(list(still_open))]
    return [*head, *rows] if rows else []


def disagreement_markdown(different: pd.DataFrame, several: int) -> list[str]:
    """Where profiles disagree, as the lines of a Markdown section; none where no claim was run in several."""
    if not several:
        return []
    agree = several - different["id"].nunique()
    lines = [
        "",
        "### Where profiles disagree",
        "",
        f"{several} claims were run in several profiles, {agree} of them with one",
    ]
    lines[-1] += " verdict in all" + (". The others:" if len(different) else ".")
    cells = different.assign(verdict=different["verdict"].map(signed))
    rows = [table_row(list(row)) for row in cells.itertuples(index=False)]
    return [*lines, "", *table_head(list(different)), *rows] if rows else lines


def rule_markdown(ledger: pd.DataFrame) -> list[str]:
    """What the change of rule does, as the lines of a Markdown section; none where it does nothing."""
    changed = rule_changes(ledger)
    rows = [table_row(list(row)) for row in changed.itertuples(index=False)]
    head = ["", "### What the change of rule does", "", RULE_CHANGE, "", *table_head(list(changed))]
    return [*head, *rows] if rows else []


def table_head(columns: list[str]) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]


def table_row(cells: list[str]) -> str:
    return f"| {' | '.join(one_line(cell) for cell in cells)} |"


def signed(verdict: str) -> str:
    """A verdict as it is shown, behind its sign."""
    return f"{VERDICTS[verdict_in(verdict)]} {verdict}"


def one_line(text: str) -> str:
    """Text that cannot break a Markdown table or link, nor pass for HTML."""
    return " ".join(text.split()).translate(MARKDOWN_ESCAPES)
