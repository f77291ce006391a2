"""What a run leaves to be read: its facts, each notebook as a page, the index of a report, and the published result.

A report folder holds ``manifest.json``, ``NN_name.ipynb`` and ``.html``, ``figures/NN_x.png`` with an optional caption
``figures/NN_x.txt``, ``tables/NN_x.csv`` (the same stem as its figure) and ``claims/NN_name.json``.
"""

import json
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from flowlib.runtime.files import write_text

# A sign beside each verdict, so that none is told by colour alone.
VERDICTS = {"reproduced": "●", "partly": "◐", "not reproduced": "○", "not run in this profile": "–"}
CLAIM_COLUMNS = ("id", "place", "claim", "criterion", "thesis", "measured", "verdict")
TABLE_ROWS = 30
CODE_TOGGLE = """<style>body:not(.code) .jp-CodeCell .jp-Cell-inputWrapper { display: none }
#code { position: fixed; top: .5rem; right: .5rem; z-index: 9 }</style>
<button id="code" onclick="document.body.classList.toggle('code')">code</button>
</body>"""
STYLE = """body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: auto; padding: 1rem; color: #222 }
img { max-width: 100%; height: auto } figure { margin: 1.5rem 0 } figcaption { color: #555 } h2 { margin-top: 2.5rem }
table { border-collapse: collapse; font-size: .85rem } th, td { border-bottom: 1px solid #ccc; padding: .3rem .5rem }
th, td { text-align: left; vertical-align: top } details { overflow-x: auto } .failed { color: #a03000 }
.reproduced { background: #d5e8f7 } .partly { background: #fbf0c9 } .not-reproduced { background: #f7d9c4 }
@media (max-width: 45rem) { .ledger thead { display: none } .ledger tr { display: block; margin-bottom: 1.5rem }
.ledger td { display: block } .ledger td::before { content: attr(data-column) ": "; color: #555 } }
[data-column=verdict] { white-space: nowrap }"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Report of profile {profile}</title><style>{style}</style></head>
<body>
{body}
</body></html>
"""


class ReportError(ValueError):
    """A report cannot be read or published; the message names the file and what to do."""


def read_manifest(report_dir: Path) -> dict[str, Any]:
    """The manifest of a report folder, {} where there is none yet."""
    path = report_dir / "manifest.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ReportError(
            f"reports/{report_dir.name}/manifest.json is damaged ({error}): delete it, run again"
        ) from None


def notebook_page(path: Path) -> str:
    """An executed notebook as HTML: images embedded, code hidden until its button is pressed."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter(embed_images=True).from_filename(str(path))
    return page.replace("</body>", CODE_TOGGLE)


def write_index(report_dir: Path, ledger: pd.DataFrame | None = None) -> Path:
    """Write ``index.html`` of a report folder: verdicts, claims ledger, then each notebook's figures and tables.

    Args:
        ledger: one row a claim, text columns id, place, claim, criterion, thesis, measured, verdict, figure, note;
            `flowlib.study.claims.ledger` of the folder when None.

    Raises:
        ReportError: the folder holds no manifest.
    """
    manifest = finished_run(report_dir)
    ledger = claims_made(report_dir, manifest, ledger)
    parts = [f"<h1>Report of profile {escape(manifest['profile'])}</h1>", f"<p>{escape(verdict_count(ledger))}</p>"]
    parts += [f"<p class='failed'>{escape(warning)}</p>" for warning in failures(manifest)]
    parts += ["<h2>Claims</h2>", ledger_html(ledger)]
    for name, entry in manifest["notebooks"].items():
        done = entry["status"] == "ok"
        link = f"{name}.html" if done else f"{name}.failed.ipynb"
        parts.append(f"<h2>{escape(title(name))}</h2><p><a href='{link}'>{link}</a>, {duration(entry['seconds'])}</p>")
        for stem, figure, caption, table in exhibits(report_dir, entry["outputs"]):
            image = f"<img src='{figure}' alt='{escape(caption, quote=True)}' loading='lazy'>" if figure else ""
            parts.append(f"<figure id='{stem}'>{image}<figcaption>{escape(caption)}</figcaption>")
            parts.append(table_html(report_dir, table) if table else "")
            parts.append("</figure>")
    parts += ["<h2>This run</h2><ul>", *(f"<li>{escape(fact)}</li>" for fact in facts(manifest)), "</ul>"]
    body = "\n".join(parts)
    write_text(report_dir / "index.html", PAGE.format(profile=escape(manifest["profile"]), style=STYLE, body=body))
    return report_dir / "index.html"


def finished_run(report_dir: Path) -> dict[str, Any]:
    manifest = read_manifest(report_dir)
    if not manifest:
        profile = report_dir.name
        raise ReportError(f"reports/{profile} holds no run: python -m flowlib run --profile {profile}")
    return manifest


def claims_made(report_dir: Path, manifest: dict[str, Any], ledger: pd.DataFrame | None) -> pd.DataFrame:
    """The ledger of a report folder unless one is given, naming no figure that the run has not made."""
    if ledger is None:
        from flowlib.study import claims

        ledger = claims.ledger(report_dir)
    made = {Path(file).name for entry in manifest["notebooks"].values() for file in entry["outputs"]}
    return ledger.assign(figure=ledger["figure"].where(ledger["figure"].isin(made), ""))


def verdict_count(ledger: pd.DataFrame) -> str:
    """One sentence: how many claims, and how many of each verdict."""
    counts = [f"{(ledger['verdict'] == verdict).sum()} {verdict}" for verdict in VERDICTS]
    return f"Of {len(ledger)} claims of the thesis: {', '.join(counts)}."


def failures(manifest: dict[str, Any]) -> list[str]:
    names = [name for name, entry in manifest["notebooks"].items() if entry["status"] != "ok"]
    return [f"{', '.join(names)} failed: claims and figures of it, if any, are from before"] if names else []


def facts(manifest: dict[str, Any]) -> list[str]:
    """What the numbers hang on, a sentence each: profile, seeds, commit, device, versions, time."""
    entries = manifest["notebooks"]
    seeds = {
        f"{parameter} {value}"
        for entry in entries.values()
        for parameter, value in entry["parameters"].items()
        if parameter in ("seed", "seeds")
    }
    commits = {(entry["commit"] or "none") + (", with changes" if entry["dirty"] else "") for entry in entries.values()}
    device = manifest["device"]
    versions = ", ".join(f"{package} {version}" for package, version in manifest["versions"].items())
    times = ", ".join(f"{name} {duration(entry['seconds'])}" for name, entry in entries.items())
    return [
        f"Profile: {manifest['profile']}; {'; '.join(sorted(seeds)) or 'no seed'}",
        f"Git commit: {'; '.join(sorted(commits))}",
        f"Device: {device['gpu'] + ', ' if device['gpu'] else ''}{device['cpu']}, {device['cores']} cores",
        f"Versions: {versions}",
        f"Last run: started {manifest['started']}, wall time {duration(manifest['wall_seconds'])}",
        f"Time of each notebook: {times}",
    ]


def exhibits(report_dir: Path, outputs: Iterable[str]) -> list[tuple[str, str, str, str]]:
    """(stem, figure, caption, table) of all that a notebook made; paths in the folder, "" for what there is none of."""
    files = set(outputs)
    found = []
    for stem in sorted({Path(file).stem for file in files if file.startswith(("figures/", "tables/"))}):
        figure, table, note = f"figures/{stem}.png", f"tables/{stem}.csv", report_dir / "figures" / f"{stem}.txt"
        caption = note.read_text(encoding="utf-8").strip() if note.exists() else title(stem)
        found.append((stem, figure if figure in files else "", caption, table if table in files else ""))
    return found


def ledger_html(ledger: pd.DataFrame) -> str:
    """The claims as a table, which on a narrow screen becomes a card a claim."""
    head = "".join(f"<th>{column}</th>" for column in CLAIM_COLUMNS)
    rows = []
    for claim in ledger.to_dict("records"):
        cells = {column: escape(claim[column]) for column in CLAIM_COLUMNS}
        cells["verdict"] = f"{VERDICTS.get(claim['verdict'], '')} {cells['verdict']}"
        cells["measured"] += f"<br>{escape(claim['note'])}" if claim["note"] else ""
        if claim["figure"]:
            cells["measured"] += f" <a href='#{escape(Path(claim['figure']).stem, quote=True)}'>figure</a>"
        kind = escape(claim["verdict"].replace(" ", "-"), quote=True)
        body = "".join(f"<td data-column='{column}'>{cell}</td>" for column, cell in cells.items())
        rows.append(f"<tr class='{kind}'>{body}</tr>")
    return f"<table class='ledger'><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def table_html(report_dir: Path, table: str) -> str:
    """A CSV file as a folded table, its first rows only where it is long, numbers to four digits."""
    frame = pd.read_csv(report_dir / table, dtype=str, keep_default_na=False)
    rows = frame.head(TABLE_ROWS).map(four_digits).to_html(index=False, border=0)
    more = f", the first {TABLE_ROWS} of {len(frame)} rows" if len(frame) > TABLE_ROWS else ""
    return f"<details><summary>Table{more}</summary>{rows}<p><a href='{table}'>{table}</a></p></details>"


def four_digits(text: str) -> str:
    return f"{float(text):.4g}" if re.fullmatch(r"-?\d*\.\d+(e[-+]?\d+)?", text) else text


def title(stem: str) -> str:
    """``02_black_pixels`` -> ``02 black pixels``."""
    return stem.replace("_", " ")


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60} h {minutes % 60} min"
        if minutes >= 60
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )
