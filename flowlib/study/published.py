"""What is published of every profile: claims, captions and circumstances of its recorded runs, notebook by notebook.

``reports/published/PROFILE.json`` is a run's manifest (`flowlib.study.runner`) whose notebooks hold, too, what they
recorded of claims and the captions of their figures. A run of some notebooks replaces those alone, so that a profile
too long for one night can be published as it comes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from flowlib.runtime.files import write_text
from flowlib.study import claims, environment
from flowlib.study.criteria import NOT_RUN, Claim
from flowlib.study.provenance import ORIGIN
from flowlib.study.report import ReportError, captions

LARGEST_FIRST = ("paper", "thesis", "quick")  # profiles by what their models saw; any other comes after
Published = dict[str, dict[str, Any]]  # by profile, the larger first


def keep(reports: Path, report_dir: Path, manifest: Mapping[str, Any], known: Sequence[Claim]) -> None:
    """Put a report's run into its profile's file, in place of earlier runs of the same notebooks."""
    found = claims.recorded_claims(report_dir, known)
    notebooks = {}
    for name, entry in manifest["notebooks"].items():
        of_notebook = {claim.id: found[claim.id] for claim in known if claim.notebook == name and claim.id in found}
        names = dict.fromkeys(environment.chosen(entry["environment"]), "")  # values are of one machine
        told = {"environment": names, "claims": of_notebook, "captions": captions(report_dir, entry["outputs"])}
        notebooks[name] = origin(manifest) | entry | told
    profile = manifest["profile"]
    earlier = read(reports).get(profile, {"notebooks": {}})
    before = {name: origin(earlier) | entry for name, entry in earlier["notebooks"].items()}
    whole = {**manifest, "notebooks": dict(sorted((before | notebooks).items()))}
    text = json.dumps(whole, indent=1, ensure_ascii=False)
    (reports / "published").mkdir(exist_ok=True)
    write_text(reports / "published" / f"{profile}.json", without_paths(text, reports.parent) + "\n")


def origin(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a notebook's entry says of where it was run, as manifests before 2026-11-27 say it of all notebooks."""
    return {what: manifest[what] for what in ORIGIN if what in manifest}


def read(reports: Path) -> Published:
    """What is published, the larger profiles first. Raises ReportError for a damaged file."""
    found = {}
    for path in sorted((reports / "published").glob("*.json"), key=lambda path: (size_order(path.stem), path.stem)):
        try:
            found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ReportError(f"reports/published/{path.name} is damaged ({error}): take it from git again") from None
    return found


def size_order(profile: str) -> int:
    return LARGEST_FIRST.index(profile) if profile in LARGEST_FIRST else len(LARGEST_FIRST)


def largest(published: Published) -> dict[str, str]:
    """Of each notebook the largest profile that it was run in, in the notebooks' order."""
    found: dict[str, str] = {}
    for profile, run in published.items():
        for notebook in run["notebooks"]:
            found.setdefault(notebook, profile)
    return dict(sorted(found.items()))


def rows(published: Published, profile: str) -> dict[str, dict[str, Any]]:
    """What a profile's notebooks recorded, by claim."""
    notebooks = published[profile]["notebooks"].values()
    return {claim: claims.row(found) for notebook in notebooks for claim, found in notebook["claims"].items()}


def recorders(published: Published) -> dict[str, str]:
    """The largest profile that recorded each claim that any did."""
    return {claim: profile for profile in reversed(published) for claim in rows(published, profile)}


def shown_rows(published: Published) -> dict[str, dict[str, Any]]:
    """What the largest profile recorded that has a claim, by claim."""
    recorded = {profile: rows(published, profile) for profile in published}
    return {claim: recorded[profile][claim] for claim, profile in recorders(published).items()}


def ledgers(published: Published, known: Sequence[Claim]) -> dict[str, pd.DataFrame]:
    """The ledger of each profile (`flowlib.study.claims.ledger`), of the claims as they are judged today.

    Raises ReportError where a claim asks for evidence that a run did not record.
    """
    found = {}
    for profile in published:
        try:
            found[profile] = claims.ledger_of(rows(published, profile), known)
        except KeyError as error:
            raise ReportError(
                f"reports/published/{profile}.json lacks the evidence {error}, which a claim asks for by now: run its "
                f"notebook in profile {profile} and publish it, or take the notebook out of the file"
            ) from None
    return found


def best_ledger(published: Published, known: Sequence[Claim]) -> pd.DataFrame:
    """One row a claim, of the largest profile that recorded it, which the column profile names."""
    chosen, of_profile = recorders(published), ledgers(published, known)
    best = claims.ledger_of({}, known).assign(profile=[chosen.get(claim.id, "") for claim in known])
    for i, profile in best["profile"].items():
        if profile:
            best.loc[i, claims.COLUMNS] = of_profile[profile].loc[i]
    return best


def disagreements(published: Published, known: Sequence[Claim]) -> tuple[pd.DataFrame, int]:
    """Claims that were run in several profiles and have several verdicts, a row each of them: id, claim, profile,
    measured, epochs, verdict; and how many claims were run in several."""
    of_profile = ledgers(published, known)
    several, different = 0, []
    for i, claim in enumerate(known):
        found = [{**ledger.iloc[i], "profile": profile} for profile, ledger in of_profile.items()]
        found = [row for row in found if row["verdict"] != NOT_RUN]
        several += len(found) > 1
        if len({row["verdict"] for row in found}) > 1:
            different += [{**row, "id": claim.id} for row in reversed(found)]
    return pd.DataFrame(different, columns=["id", "claim", "profile", "measured", "epochs", "verdict"]), several


def evidence_table(published: Published) -> pd.DataFrame:
    """All that the verdicts rest on, a row an interval: profile, claim, evidence, value, low, high, epochs."""
    tables = [
        claims.evidence_table(rows(published, profile)).assign(profile=profile)[["profile", *claims.EVIDENCE_COLUMNS]]
        for profile in published
    ]
    return pd.concat(tables, ignore_index=True)


def without_paths(text: str, root: Path) -> str:
    """Text without a path of this machine: the project's own folder is cut off, the home folder becomes ``~``."""
    return text.replace(f"{root}/", "").replace(f"{Path.home()}/", "~/")
