"""The ledger of claims: verdicts by rule on evidence made by hand, and what is recorded is what is read."""

import re
from pathlib import Path

import numpy as np
import pytest

from flowlib.metrics import Interval
from flowlib.runtime.paths import ROOT
from flowlib.study.claims import COLUMNS, find, ledger, record, show
from flowlib.study.criteria import Claim, Conditions, Evidence, above, below, both, verdict, within
from flowlib.study.thesis import CLAIMS, as_in_figure_5

PLANNED = [
    "01_contamination",
    "02_black_pixel_cropping",
    "03_small_squares",
    "04_frequencies",
    "05_borescope",
    "06_beyond_likelihood",
    "07_explorer",
    "08_features",
]
ELSEWHERE = {"5.7": "08_features"}  # of section 5, on real parts
HIGH, LOW, STRADDLES = Interval(0.8, 0.7, 0.9), Interval(0.2, 0.1, 0.3), Interval(0.6, 0.4, 0.8)


def claim(conditions: Conditions) -> Claim:
    return Claim("9.9", "9", "words", "thesis", "criterion", "01_contamination", conditions)


def test_claims_are_complete():
    assert len({entry.id for entry in CLAIMS}) == len(CLAIMS)
    for entry in CLAIMS:
        assert re.fullmatch(r"\d\.\d", entry.id)
        assert entry.notebook in PLANNED
        assert entry.notebook.startswith(ELSEWHERE.get(entry.id, f"0{entry.id[0]}_"))  # claim 2.x is of notebook 02
        assert entry.place
        assert entry.thesis
        assert entry.words.endswith(".")
        assert entry.criterion.endswith(".")
    present = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert present <= set(PLANNED)


@pytest.mark.parametrize(
    ("conditions", "evidence", "expected"),
    [
        (above(0.5), {"a": HIGH}, "reproduced"),
        (above(0.5), {"a": STRADDLES}, "not reproduced"),  # its value is above, its interval is not
        (above(0.5), {"a": HIGH, "b": STRADDLES}, "partly"),
        (above(0.5), {"a": HIGH, "b": LOW}, "partly"),
        (above(0.5), {"a": LOW, "b": STRADDLES}, "not reproduced"),
        (above(0.5, "a"), {"a": HIGH, "b": LOW}, "reproduced"),
        (above(0.7), {"a": HIGH}, "not reproduced"),  # touching is not beyond
        (below(0.5), {"a": LOW}, "reproduced"),
        (below(0.5), {"a": Interval(0.4, 0.2, 0.6)}, "not reproduced"),
        (below(0.3), {"a": LOW}, "not reproduced"),
        (within(0.0, 0.5), {"a": LOW}, "reproduced"),
        (within(0.2, 0.5), {"a": LOW}, "not reproduced"),
        (within(0.0, 0.2), {"a": LOW}, "not reproduced"),
        (within(0.0, 0.5, "b"), {"a": LOW, "b": HIGH}, "not reproduced"),
        (both(above(0.5, "a"), below(0.5, "b")), {"a": HIGH, "b": LOW}, "reproduced"),
        (both(above(0.5, "a"), below(0.5, "b")), {"a": HIGH, "b": HIGH}, "partly"),
        (above(0.5), {"a": Interval(float("nan"), float("nan"), float("nan"))}, "not reproduced"),
    ],
)
def test_verdict_is_by_rule(conditions: Conditions, evidence: Evidence, expected: str):
    assert verdict(claim(conditions), evidence) == expected


def test_no_evidence_is_no_verdict():
    with pytest.raises(ValueError, match=r"claim 9\.9: its criterion came to no condition"):
        verdict(claim(above(0.5)), {})
    with pytest.raises(KeyError, match="'a'"):
        verdict(claim(above(0.5, "a")), {"b": HIGH})


def test_rule_of_figure_5():
    """Cases 4, 7, 8 and 12 fail, the other eight behave, and neither where the interval straddles one half."""
    thesis = {f"case {n}": LOW if n in (4, 7, 8, 12) else HIGH for n in range(1, 13)}
    assert as_in_figure_5(thesis) == [True] * 12
    assert as_in_figure_5({name: LOW if i is HIGH else HIGH for name, i in thesis.items()}) == [False] * 12
    assert as_in_figure_5(dict.fromkeys(thesis, HIGH)) == [n not in (4, 7, 8, 12) for n in range(1, 13)]
    assert as_in_figure_5(dict.fromkeys(thesis, STRADDLES)) == [False] * 12
    assert verdict(find("2.2"), thesis) == "reproduced"
    assert verdict(find("2.2"), thesis | {"case 1": LOW}) == "partly"


def test_criteria_in_words_are_the_conditions():
    """A few claims whose words give a number, with evidence on both sides of it."""
    three = {"case 1": 0.91, "case 2": 0.95, "case 3": 0.99, "case 4": 0.1}
    assert verdict(find("1.3"), {name: Interval(v, v, v) for name, v in three.items()}) == "reproduced"
    assert verdict(find("1.2"), {"slope": Interval(-1, -2, -0.1), "case 6 - case 1": LOW}) == "partly"
    assert verdict(find("1.5"), {"8 -> 1": LOW}) == "reproduced"
    assert verdict(find("1.6"), {"other failing pairs": Interval(1, 1, 1)}) == "not reproduced"
    assert verdict(find("1.6"), {"other failing pairs": Interval(2, 2, 2)}) == "reproduced"
    gains = {"rule": Interval(0.8, 0.76, 0.9), "crop": LOW, "invert": Interval(0.0, -0.1, 0.1)}
    assert verdict(find("2.6"), gains) == "partly"
    assert verdict(find("2.6"), gains | {"invert": LOW}) == "reproduced"


def test_ledger_without_evidence(tmp_path: Path):
    table = ledger(tmp_path)
    assert list(table.columns) == COLUMNS
    assert list(table["id"]) == [entry.id for entry in CLAIMS]
    assert set(table["verdict"]) == {"not run in this profile"}
    assert set(table["measured"]) == {""}


def test_what_is_recorded_is_in_the_ledger(tmp_path: Path):
    record(tmp_path, "1.5", {"8 -> 1": LOW}, show(LOW), "01_fig4.png", "3 seeds")
    record(tmp_path, "2.5", {"cropped": STRADDLES}, show(STRADDLES))
    table = ledger(tmp_path).set_index("id")
    row = table.loc["1.5"]
    assert (row["verdict"], row["measured"], row["figure"]) == ("reproduced", "0.20 [0.10, 0.30]", "01_fig4.png")
    assert row["note"] == "3 seeds"
    assert row["claim"] == find("1.5").words
    assert table.loc["2.5", "verdict"] == "not reproduced"
    assert (table["verdict"] != "not run in this profile").sum() == 2
    record(tmp_path, "1.5", {"8 -> 1": HIGH}, show(HIGH))  # the last run counts
    row = ledger(tmp_path).set_index("id").loc["1.5"]
    assert (row["verdict"], row["measured"]) == ("not reproduced", "0.80 [0.70, 0.90]")
    names = sorted(path.name for path in (tmp_path / "claims").iterdir())
    assert names == ["01_contamination.1.5.json", "02_black_pixel_cropping.2.5.json"]


def test_every_verdict_is_shown_in_a_notebook_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shown: list[dict[str, str]] = []
    record(tmp_path, "1.5", {"8 -> 1": LOW}, "outside of a notebook")
    monkeypatch.setattr("flowlib.study.claims.get_ipython", lambda: "a shell")
    monkeypatch.setattr("flowlib.study.claims.display", lambda data, raw: shown.append(data))
    for id, name in (("1.5", "8 -> 1"), ("2.5", "cropped")):
        assert record(tmp_path, id, {name: LOW}, "<b>0.2</b>") is None  # which a cell would show as text
    assert [data["text/plain"] for data in shown] == ["claim 1.5: reproduced", "claim 2.5: not reproduced"]
    assert "● Claim 1.5: reproduced" in shown[0]["text/html"]
    assert "&lt;b&gt;0.2&lt;/b&gt;" in shown[0]["text/html"]
    assert find("2.5").criterion in shown[1]["text/html"]


def test_numpy_evidence_can_be_recorded(tmp_path: Path):
    record(tmp_path, "2.4", {"failing cases": Interval(np.float64(3), np.float64(2), np.float64(4))}, "3 of 12")
    assert ledger(tmp_path).set_index("id").loc["2.4", "verdict"] == "reproduced"


def test_wrong_claims_and_evidence_write_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match=r"claim is '9\.9', it must be one of 1\.1, 1\.2"):
        record(tmp_path, "9.9", {"a": HIGH}, "")
    with pytest.raises(KeyError, match="slope"):
        record(tmp_path, "1.2", {"a": HIGH}, "")
    with pytest.raises(ValueError, match="the evidence is empty"):
        record(tmp_path, "1.4", {}, "")
    assert list(tmp_path.iterdir()) == []


def test_show():
    assert show(Interval(0.12345, -0.5, 1)) == "0.12 [-0.50, 1.00]"
    assert show(Interval(0.12345, -0.5, 1), 3) == "0.123 [-0.500, 1.000]"


def test_a_notebook_run_in_its_own_folder_writes_into_the_projects_reports(tmp_path, monkeypatch):
    """JupyterLab starts the kernel in notebooks/, the runner and papermill in the project."""
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "notebooks"):
        monkeypatch.chdir(folder)
        record("reports/quick", "1.5", {"8 -> 1": Interval(0.1, 0.0, 0.2)}, folder.name)
        found = ledger("reports/quick").set_index("id").loc["1.5"]
        assert (found["measured"], found["verdict"]) == (folder.name, "reproduced")
    assert not (tmp_path / "notebooks" / "reports").exists()
    assert [path.name for path in (tmp_path / "reports/quick/claims").iterdir()] == ["01_contamination.1.5.json"]
