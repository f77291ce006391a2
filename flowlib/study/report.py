"""The index of a report, and the facts of the run that made it.

A report folder holds ``manifest.json``, ``NN_name.ipynb`` and ``.html``, ``figures/NN_x.png`` with an optional caption
``figures/NN_x.txt``, ``tables/NN_x.csv`` (the same stem as its figure) and ``claims/NN_name.json``.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from flowlib.runtime.files import write_text
from flowlib.study import claims, environment
from flowlib.study.criteria import NOT_RUN, SIMULATED, VERDICTS, Claim, verdict_in
from flowlib.study.pages import render
from flowlib.study.thesis import CLAIMS

CLAIM_COLUMNS = ("id", "place", "claim", "criterion", "thesis", "measured", "epochs", "verdict")
TABLE_ROWS = 30
RULE_CHANGE = (
    "Until 2026-11-26 a condition whose interval straddles its bound counted as one that fails. Now it is open, and a "
    "claim of which no condition holds and none is contradicted is undecided. By the earlier rule these verdicts, of "
    "the same numbers, were others:"
)
OPEN_CONDITIONS = (
    "These conditions are open: the interval straddles the bound. Its width falls as the root of the number of what it "
    "is over, so that with so many times as many it would straddle no more, were the value to stay where it is."
)


class Exhibit(NamedTuple):
    """A figure, its table, or both: paths in the report folder, "" for what there is none of."""

    stem: str
    figure: str
    caption: str
    table: str


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


def write_index(report_dir: Path, known: Sequence[Claim] = CLAIMS) -> Path:
    """Write ``index.html`` of a report folder: verdicts, claims ledger, then each notebook's figures and tables.

    Raises
    ------
    ReportError: the folder holds no manifest.
    """
    manifest = finished_run(report_dir)
    recorded = claims.recorded_claims(report_dir, known)
    ledger = with_figures_made(claims.ledger_of(recorded, known), manifest["notebooks"].values())
    page = render(
        "index.html",
        profile=manifest["profile"],
        summary=verdict_count(ledger),
        warnings=failures(manifest),
        columns=CLAIM_COLUMNS,
        claims=ledger.to_dict("records"),
        rule_change=RULE_CHANGE,
        changed=rule_changes(ledger).to_dict("records"),
        footnote=claims.footnote(),
        open_conditions=OPEN_CONDITIONS,
        still_open=claims.open_conditions(recorded, known).to_dict("records"),
        signs=VERDICTS,
        verdict_in=verdict_in,
        notebooks=[section(report_dir, name, entry) for name, entry in manifest["notebooks"].items()],
        facts=facts(manifest),
        is_number=is_number,
    )
    write_text(report_dir / "index.html", page)
    return report_dir / "index.html"


def section(report_dir: Path, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the index shows of one notebook: its page, its time, its exhibits with the first rows of their tables."""
    shown = [
        exhibit._asdict() | (first_rows(report_dir / exhibit.table) if exhibit.table else {})
        for exhibit in exhibits(entry["outputs"], captions(report_dir, entry["outputs"]))
    ]
    link = f"{name}.html" if entry["status"] == "ok" else f"{name}.failed.ipynb"
    return {"name": name, "title": title(name), "link": link, "time": duration(entry["seconds"]), "exhibits": shown}


def finished_run(report_dir: Path) -> dict[str, Any]:
    manifest = read_manifest(report_dir)
    if not manifest:
        profile = report_dir.name
        raise ReportError(f"reports/{profile} holds no run: python -m flowlib run --profile {profile}")
    return manifest


def with_figures_made(ledger: pd.DataFrame, entries: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A ledger that names no figure that the notebooks have not made."""
    made = {Path(file).name for entry in entries for file in entry["outputs"]}
    return ledger.assign(figure=ledger["figure"].where(ledger["figure"].isin(made), ""))


def verdict_count(ledger: pd.DataFrame) -> str:
    """One sentence: how many claims, how many of each verdict, and how many verdicts no real data carries."""
    made = ledger["verdict"].map(verdict_in)
    counts = [f"{(made == verdict).sum()} {verdict}" for verdict in VERDICTS]
    simulated = ledger["verdict"].str.endswith(SIMULATED).sum()
    counts[-1] += f"; {simulated} of the verdicts are on simulation only" if simulated else ""
    return f"Of {len(ledger)} claims of the thesis: {', '.join(counts)}."


def rule_changes(ledger: pd.DataFrame) -> pd.DataFrame:
    """The rows whose verdict by the rule until 2026-11-26 was another: id, claim, until 2026-11-26, verdict."""
    changed = (ledger["verdict"] != NOT_RUN) & (ledger["until 2026-11-26"] != "")
    return ledger.loc[changed, ["id", "claim", "until 2026-11-26", "verdict"]]


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
    devices = by_notebook(entries, lambda entry: device_of(entry.get("device", manifest["device"])))
    versions = by_notebook(entries, lambda entry: versions_of(entry.get("versions", manifest["versions"])))
    found = sorted({name for entry in entries.values() for name in environment.chosen(entry.get("environment", {}))})
    times = ", ".join(f"{name} {duration(entry['seconds'])}" for name, entry in entries.items())
    return [
        f"Profile: {manifest['profile']}; {'; '.join(sorted(seeds)) or 'no seed'}",
        f"Git commit: {'; '.join(sorted(commits))}",
        *(f"Device{which}: {device}" for device, which in devices.items()),
        *(f"Versions{which}: {packages}" for packages, which in versions.items()),
        *([f"Set in the environment (values in manifest.json): {', '.join(found)}"] if found else []),
        f"Last run: started {manifest['started']}, wall time {duration(manifest['wall_seconds'])}",
        f"Time of each notebook: {times}",
    ]


def by_notebook(entries: Mapping[str, dict[str, Any]], words: Callable[[dict[str, Any]], str]) -> dict[str, str]:
    """Each of the different words of the entries, and of which notebooks they are: nothing where all say the same."""
    found: dict[str, list[str]] = {}
    for name, entry in entries.items():
        found.setdefault(words(entry), []).append(name.partition("_")[0])
    return {said: f" of {', '.join(names)}" if len(found) > 1 else "" for said, names in found.items()}


def device_of(device: Mapping[str, Any]) -> str:
    return f"{device['gpu'] + ', ' if device['gpu'] else ''}{device['cpu']}, {device['cores']} cores"


def versions_of(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{package} {version}" for package, version in versions.items())


def exhibits(outputs: Iterable[str], captions: Mapping[str, str]) -> list[Exhibit]:
    """All figures and tables among a notebook's outputs, sorted by stem."""
    files = set(outputs)
    found = []
    for stem in sorted({Path(file).stem for file in files if file.startswith(("figures/", "tables/"))}):
        figure, table = f"figures/{stem}.png", f"tables/{stem}.csv"
        caption = captions.get(stem, title(stem))
        found.append(Exhibit(stem, figure if figure in files else "", caption, table if table in files else ""))
    return found


def captions(report_dir: Path, outputs: Iterable[str]) -> dict[str, str]:
    """The captions that a notebook wrote beside its figures, by stem."""
    notes = [report_dir / file for file in outputs if file.startswith("figures/") and file.endswith(".txt")]
    return {note.stem: note.read_text(encoding="utf-8").strip() for note in notes}


def first_rows(table: Path) -> dict[str, Any]:
    """``header``, the first ``rows`` and the ``length`` of a CSV file, numbers to four digits."""
    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    rows = frame.head(TABLE_ROWS).map(four_digits).values.tolist()
    return {"header": list(frame.columns), "rows": rows, "length": len(frame)}


def four_digits(text: str) -> str:
    """A number with a decimal point or an exponent to four significant digits; whole numbers and words as they are."""
    return f"{float(f'{float(text):.4g}'):g}" if is_number(text) and not text.lstrip("-").isdigit() else text


def is_number(text: str) -> bool:
    return re.fullmatch(r"-?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", text) is not None


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
