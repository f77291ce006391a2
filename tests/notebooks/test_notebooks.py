"""The real notebooks, run by papermill at the smoke profile on the real data, in a copy of the project's layout."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from conftest import copy_of_project

from flowlib.runtime.paths import ROOT
from flowlib.study import claims, parameters, runner, thesis
from flowlib.study.criteria import NOT_RUN, VERDICTS, verdict_in
from flowlib.study.report import read_manifest

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
CONDITIONAL = {"2.3", "5.7", "5.8"}  # recorded where there are cases that fail, solar cells, defects of every size
MEASURED = {
    "05_strides.csv": ["seconds"],
    "08_methods.csv": ["fit, s", "image, ms"],
}  # columns that a clock fills, by table
TIMED = {"05_borescope.5.5.json", "05_borescope.5.10.json"}  # claims of seconds


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """The root of a copy and the statuses of a first run, artifacts kept to the copy."""
    root = copy_of_project(tmp_path_factory.mktemp("copy"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWLIB_DATA", str(root / "data"))
        yield root, runner.run("smoke", jobs=2, root=root)


def test_every_notebook_runs(smoke: tuple[Path, dict[str, str]]):
    root, statuses = smoke
    assert NAMES
    assert statuses == dict.fromkeys(NAMES, "ok")
    entries = read_manifest(root / "reports" / "smoke")["notebooks"]
    for name in NAMES:
        kinds = {Path(output).parent.name for output in entries[name]["outputs"]}
        own = {claim.id for claim in thesis.CLAIMS if claim.notebook == name}
        claimed = {"claims"} if own - CONDITIONAL else set()
        assert {"figures", "tables"} | claimed <= kinds, f"{name} wrote {', '.join(sorted(kinds))} only"
    assert list((root / "data" / "artifacts" / "model").glob("*.safetensors"))  # here, and not in the user's cache


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_seen_where_it_is_made(name: str, smoke: tuple[Path, dict[str, str]]):
    """As many pictures as figures saved, in the executed notebook and on its page."""
    report_dir = smoke[0] / "reports" / "smoke"
    outputs = read_manifest(report_dir)["notebooks"][name]["outputs"]
    saved = [file for file in outputs if file.startswith("figures/") and file.endswith(".png")]
    cells = nbformat.read(report_dir / f"{name}.ipynb", as_version=4).cells
    shown = [output for cell in cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    page = (report_dir / f"{name}.html").read_text(encoding="utf-8")
    assert len(saved) == len(shown) == page.count("<img ")
    assert {output.output_type for output in shown} == {"display_data"}
    for text in (page.replace("&lt;", "<"), (report_dir / f"{name}.ipynb").read_text(encoding="utf-8")):
        assert "<Figure" not in text


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_of_a_notebook_is_in_the_ledger(name: str, smoke: tuple[Path, dict[str, str]]):
    report_dir = smoke[0] / "reports" / "smoke"
    ledger = claims.ledger(report_dir).set_index("id")
    code = "\n".join(
        text for kind, text, _ in parameters.read_cells(ROOT / "notebooks" / f"{name}.ipynb") if kind == "code"
    )
    own = [claim.id for claim in thesis.CLAIMS if claim.notebook == name]
    for claim in own:
        assert f'"{claim}"' in code
        if claim not in CONDITIONAL:
            row = ledger.loc[claim]
            assert verdict_in(row["verdict"]) in set(VERDICTS) - {NOT_RUN}, claim
            assert row["measured"], claim
            assert not row["figure"] or (report_dir / "figures" / row["figure"]).exists(), f"{claim}: {row['figure']}"
    for claim in re.findall(r'claims\.record\(\s*report_dir,\s*"([^"]+)"', code):
        assert claim in own


def test_a_second_run_is_up_to_date(smoke: tuple[Path, dict[str, str]]):
    root, _ = smoke
    before = (root / "reports" / "smoke" / "manifest.json").read_bytes()
    assert runner.run("smoke", root=root) == dict.fromkeys(NAMES, "up to date")
    assert (root / "reports" / "smoke" / "manifest.json").read_bytes() == before


@pytest.fixture(scope="module")
def again(smoke: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a second copy, in which everything is trained once more."""
    root = copy_of_project(tmp_path_factory.mktemp("again"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWLIB_DATA", str(root / "data"))
        assert runner.run("smoke", jobs=2, root=root) == dict.fromkeys(NAMES, "ok")
    return root / "reports" / "smoke"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seeds_give_the_same_tables_to_the_bit(name: str, smoke: tuple[Path, dict[str, str]], again: Path):
    """Only what a clock measured may differ."""
    first = smoke[0] / "reports" / "smoke"
    files = sorted(path.relative_to(first) for path in first.glob(f"tables/{name[:2]}_*.csv"))
    assert files
    assert sorted(path.relative_to(again) for path in again.glob(f"tables/{name[:2]}_*.csv")) == files
    claimed = [path.relative_to(first) for path in first.glob(f"claims/{name[:2]}_*.json") if path.name not in TIMED]
    differ = [
        path.name for path in [*files, *claimed] if without_seconds(first / path) != without_seconds(again / path)
    ]
    assert differ == []


def without_seconds(path: Path) -> bytes:
    """A file's bytes, without the columns that a clock filled."""
    columns = MEASURED.get(path.name)
    if columns is None:
        return path.read_bytes()
    found = pd.read_csv(path, dtype=str)
    return found.drop(columns=columns).to_csv(index=False).encode()  # KeyError where there is no such column


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_notebook_opens_with_its_question_and_what_the_thesis_found(path: Path):
    kind, text, _ = parameters.read_cells(path)[0]
    assert kind == "markdown"
    assert text.startswith(f"# {path.stem[:2]} ")
    assert "Question" in text
    assert "thesis" in text


@pytest.mark.parametrize("profile", ["smoke", "quick", "thesis", "paper"])
def test_every_profile_fits_the_notebooks(profile: str):
    lines = (ROOT / "notebooks" / "profiles" / f"{profile}.yaml").read_text().splitlines()
    keys = [line.split(":")[0] for line in lines if line and not line.startswith(("#", " "))]
    assert len(keys) == len(set(keys))  # YAML would take the last of two without a word
    planned = parameters.plan(profile)
    assert [notebook.name for notebook in planned] == NAMES
    assert all(notebook.given["report_dir"] == f"reports/{profile}" for notebook in planned)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_defaults_are_those_of_quick(path: Path):
    """A notebook opened after `make report` finds its models: a parameter that quick does not set, no profile sets."""
    profiles = {
        file.stem: parameters.read_profile(file, file.name) for file in (ROOT / "notebooks" / "profiles").glob("*.yaml")
    }
    declared = parameters.declared_parameters(path)
    for name in ("report_dir", "live"):  # where, and for whom; neither is part of a model
        declared.pop(name, None)
    quick = profiles["quick"]
    assert {name: value for name, value in declared.items() if name in quick} == {
        name: quick[name] for name in declared if name in quick
    }
    set_elsewhere = {name for profile in profiles.values() for name in profile} - set(quick)
    assert set(declared) & set_elsewhere == set()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_notebook_is_short(path: Path):
    """What decides a result is a tested function in `flowlib.experiments`; a cell calls it."""
    code = [text.count("\n") + 1 for kind, text, _ in parameters.read_cells(path) if kind == "code"]
    assert sum(code) <= 250
    assert max(code) <= 40
