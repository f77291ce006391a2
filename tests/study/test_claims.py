"""The ledger of claims: verdicts by rule on evidence made by hand, and what is recorded is what is read."""

import re
from pathlib import Path

import numpy as np
import pytest

from flowlib.metrics import Interval
from flowlib.runtime.paths import ROOT
from flowlib.study import published
from flowlib.study.claims import (
    COLUMNS,
    amendment,
    evidence_table,
    few_epochs,
    find,
    footnote,
    ledger,
    open_conditions,
    record,
    recorded_claims,
    show,
    training_epochs,
)
from flowlib.study.criteria import (
    SIMULATED,
    VERDICTS,
    Amendment,
    Claim,
    Condition,
    Conditions,
    Evidence,
    above,
    below,
    beyond,
    both,
    spoken,
    times_as_many,
    verdict,
    verdict_in,
    verdict_of_two_states,
    within,
)
from flowlib.study.digits_and_garments import as_in_figure_5
from flowlib.study.report import rule_changes, verdict_count
from flowlib.study.thesis import CLAIMS
from flowlib.training import Recipe

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


def states(conditions: list[Condition]) -> list[str]:
    return [condition.state for condition in conditions]


def claim(conditions: Conditions) -> Claim:
    return Claim("9.9", "9", "words", "thesis", "criterion", "01_contamination", conditions)


def test_claims_are_complete():
    assert len({entry.id for entry in CLAIMS}) == len(CLAIMS)
    for entry in CLAIMS:
        assert re.fullmatch(r"\d\.\d{1,2}", entry.id)
        assert entry.notebook in PLANNED
        assert entry.notebook.startswith(ELSEWHERE.get(entry.id, f"0{entry.id[0]}_"))  # claim 2.x is of notebook 02
        assert entry.place
        assert entry.thesis
        assert entry.words.endswith(".")
        assert entry.criterion.endswith(".")
    present = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert present <= set(PLANNED)


def exactly(value: float) -> Interval:
    return Interval(value, value, value)


NOT_A_NUMBER = exactly(float("nan"))


@pytest.mark.parametrize(
    ("conditions", "evidence", "expected", "by_two_states"),
    [
        (above(0.5), {"a": HIGH}, "reproduced", "reproduced"),
        (above(0.5), {"a": LOW}, "not reproduced", "not reproduced"),
        (above(0.5), {"a": STRADDLES}, "undecided", "not reproduced"),  # its value is above, its interval is not
        (above(0.5), {"a": HIGH, "b": STRADDLES}, "partly", "partly"),
        (above(0.5), {"a": HIGH, "b": LOW}, "partly", "partly"),
        (above(0.5), {"a": LOW, "b": STRADDLES}, "not reproduced", "not reproduced"),
        (above(0.5, "a"), {"a": HIGH, "b": LOW}, "reproduced", "reproduced"),
        (above(0.7), {"a": HIGH}, "undecided", "not reproduced"),  # touching is not beyond
        (above(0.9), {"a": HIGH}, "not reproduced", "not reproduced"),  # nothing of it is beyond
        (below(0.5), {"a": LOW}, "reproduced", "reproduced"),
        (below(0.5), {"a": Interval(0.4, 0.2, 0.6)}, "undecided", "not reproduced"),
        (below(0.5), {"a": HIGH}, "not reproduced", "not reproduced"),
        (below(0.3), {"a": LOW}, "undecided", "not reproduced"),
        (below(0.1), {"a": LOW}, "not reproduced", "not reproduced"),
        (within(0.0, 0.5), {"a": LOW}, "reproduced", "reproduced"),
        (within(0.2, 0.5), {"a": LOW}, "undecided", "not reproduced"),
        (within(0.0, 0.2), {"a": LOW}, "undecided", "not reproduced"),
        (within(0.15, 0.25), {"a": LOW}, "undecided", "not reproduced"),  # over both bounds
        (within(0.4, 0.6), {"a": LOW}, "not reproduced", "not reproduced"),  # wholly below
        (within(0.4, 0.6), {"a": HIGH}, "not reproduced", "not reproduced"),  # wholly above
        (within(0.0, 0.5, "b"), {"a": LOW, "b": HIGH}, "not reproduced", "not reproduced"),
        (both(above(0.5, "a"), below(0.5, "b")), {"a": HIGH, "b": LOW}, "reproduced", "reproduced"),
        (both(above(0.5, "a"), below(0.5, "b")), {"a": HIGH, "b": HIGH}, "partly", "partly"),
        (both(above(0.5, "a"), below(0.5, "b")), {"a": STRADDLES, "b": HIGH}, "not reproduced", "not reproduced"),
        (beyond(0.25), {"a": HIGH}, "reproduced", "reproduced"),
        (beyond(0.05), {"a": Interval(-0.2, -0.3, -0.1)}, "reproduced", "reproduced"),
        (beyond(0.35), {"a": LOW}, "not reproduced", "not reproduced"),
        (beyond(0.25), {"a": Interval(0.2, -0.1, 0.3)}, "undecided", "not reproduced"),
        (beyond(0.25), {"a": Interval(0.0, -0.3, 0.3)}, "undecided", "not reproduced"),
        (above(0.5), {"a": NOT_A_NUMBER}, "undecided", "not reproduced"),
        (within(0.0, 0.5), {"a": NOT_A_NUMBER}, "undecided", "not reproduced"),
        (within(0.0, 0.5), {"a": Interval(0.2, float("-inf"), float("inf"))}, "undecided", "not reproduced"),
    ],
)
def test_verdict_is_by_rule(conditions: Conditions, evidence: Evidence, expected: str, by_two_states: str):
    assert verdict(claim(conditions), evidence) == expected
    assert verdict_of_two_states(claim(conditions), evidence) == by_two_states


@pytest.mark.parametrize(
    ("conditions", "holds", "fails"),
    [(above(2), 2.01, 1.99), (below(2), 1.99, 2.01), (within(2, 3), 2.5, 1.9), (within(2, 3), 2.9, 3.1)],
)
def test_an_exact_count_is_never_open_and_the_bound_is_not_on_the_claimed_side(conditions, holds, fails):
    assert states(conditions({"a": exactly(holds)})) == ["holds"]
    assert states(conditions({"a": exactly(fails)})) == ["contradicted"]
    assert states(conditions({"a": exactly(2)})) == ["contradicted"]


@pytest.mark.parametrize(
    ("conditions", "interval", "times"),
    [
        (above(0.5), Interval(0.6, 0.4, 0.8), 4),  # half as wide, it would end at one half
        (below(0.5), Interval(0.6, 0.4, 0.9), 4),  # the end that faces the bound counts
        (above(0.5), Interval(0.4, 0.3, 0.6), 4),
        (within(0.0, 0.4), Interval(0.3, -0.6, 0.5), 9),  # both are in the way, the lower one more
        (within(0.0, 0.4), Interval(0.5, -0.1, 0.6), 36),  # outside, the nearer one
        (beyond(0.1), Interval(0.0, -0.3, 0.2), 9),
        (beyond(0.1), Interval(0.2, -0.3, 0.3), 25),
        (above(0.5), HIGH, 1),
        (above(0.5), LOW, 1),
        (above(0.5), Interval(0.5, 0.4, 0.6), np.inf),
        (above(0.5), Interval(0.6, -np.inf, np.inf), np.inf),
        (above(0.5), NOT_A_NUMBER, np.inf),
        (within(0.0, 0.5), NOT_A_NUMBER, np.inf),
    ],
)
def test_how_many_times_as_many_would_decide(conditions: Conditions, interval: Interval, times: float):
    (condition,) = conditions({"a": interval})
    assert times_as_many(condition) == pytest.approx(times)
    if np.isfinite(times):  # with as many, and no fewer, it is decided
        for share, decided in ((1.01, True), (0.99, False)):
            shrunk = [interval.value + (end - interval.value) / (share * times) ** 0.5 for end in interval]
            (again,) = conditions({"a": Interval(*shrunk)})
            assert (again.state != "open") == (decided or condition.state != "open")


def test_what_is_undecided_says_what_would_decide(tmp_path: Path):
    record(tmp_path, "1.9", {"rule": Interval(0.85, 0.7, 0.9)}, "")
    record(tmp_path, "5.8", {"under 100 pixels": Interval(0.7, 0.4, 0.9), "1000 up pixels": Interval(0.8, 0, 1)}, "")
    record(tmp_path, "2.5", {"case 4, cropped": HIGH, "case 3, cropped": STRADDLES, "crop less resampling": HIGH}, "")
    notes = ledger(tmp_path).set_index("id")["note"]
    ten = "classes (there are ten: of another data set)"
    assert notes["1.9"] == f"would be decided by 9.0 times as many {ten}, its value staying"
    assert notes["5.8"] == "would be decided by 4.0 times as many seeds and blades, its value staying"
    assert notes["2.5"] == ""  # partly
    table = open_conditions(recorded_claims(tmp_path))
    assert table.to_numpy().tolist() == [
        ["1.9", "undecided", "rule", "0.85 [0.7, 0.9]", "above 0.8", "9.0", ten],
        ["2.5", "partly", "case 3, cropped", "0.6 [0.4, 0.8]", "above 0.5", "4.0", "seeds and test images"],
        ["5.8", "undecided, on simulation only", "under 100 pixels", "0.7 [0.4, 0.9]", "above 0.8", "4.0",
         "seeds and blades"],
        ["5.8", "undecided, on simulation only", "1000 up pixels", "0.8 [0, 1]", "below 0.8", "over 100",
         "seeds and blades"],
    ]  # fmt: skip


def test_what_rests_on_simulation_says_so_and_keeps_its_verdict():
    simulated, real = find("5.1"), find("5.7")
    for word in ("reproduced", "partly", "not reproduced", "undecided"):
        assert spoken(simulated, word) == f"{word}, on simulation only"
        assert spoken(real, word) == word
        assert verdict_in(spoken(simulated, word)) == verdict_in(word) == word
    assert spoken(simulated, "not run") == "not run"
    assert {entry.id for entry in CLAIMS if entry.simulated} >= {f"5.{n}" for n in range(1, 7)}
    assert all(entry.notebook == "05_borescope" for entry in CLAIMS if entry.simulated)


def test_no_evidence_is_no_verdict():
    with pytest.raises(ValueError, match=r"claim 9\.9: its criterion came to no condition"):
        verdict(claim(above(0.5)), {})
    with pytest.raises(KeyError, match="'a'"):
        verdict(claim(above(0.5, "a")), {"b": HIGH})


def test_rule_of_figure_5():
    """Cases 4, 7, 8 and 12 fail, the other eight behave, and neither where the interval straddles one half."""
    thesis = {f"case {n}": LOW if n in (4, 7, 8, 12) else HIGH for n in range(1, 13)}
    assert states(as_in_figure_5(thesis)) == ["holds"] * 12
    assert (
        states(as_in_figure_5({name: LOW if i is HIGH else HIGH for name, i in thesis.items()}))
        == ["contradicted"] * 12
    )
    fails = [n in (4, 7, 8, 12) for n in range(1, 13)]
    assert states(as_in_figure_5(dict.fromkeys(thesis, HIGH))) == [
        "contradicted" if case else "holds" for case in fails
    ]
    assert states(as_in_figure_5(dict.fromkeys(thesis, STRADDLES))) == ["open"] * 12
    assert verdict(find("2.2"), thesis) == "reproduced"
    assert verdict(find("2.2"), thesis | {"case 1": LOW}) == "partly"


def test_criteria_in_words_are_the_conditions():
    """A few claims whose words give a number, with evidence on both sides of it."""
    few = {"case 1": 0.91, "case 2": 0.95, "case 3": 0.99} | {f"6 in 3, case {case}": 0.6 for case in (1, 2, 3)}
    many = {"case 4": 0.1, "6 in 3, case 4": 0.1}
    assert verdict(find("1.3"), {name: exactly(v) for name, v in (few | many).items()}) == "reproduced"
    assert verdict(find("1.3"), {name: exactly(0.6) for name in few}) == "partly"
    assert verdict(find("1.4"), {name: exactly(v) for name, v in (few | many).items()}) == "partly"
    assert verdict(find("1.2"), {"slope": Interval(-1, -2, -0.1), "case 6 - case 1": LOW}) == "partly"
    assert verdict(find("1.5"), {"8 -> 1": LOW}) == "reproduced"
    assert verdict(find("1.6"), {"other failing pairs": exactly(1)}) == "not reproduced"
    assert verdict(find("1.6"), {"other failing pairs": exactly(2)}) == "reproduced"
    assert verdict(find("2.4"), {"failing cases": Interval(1, 0, 2)}) == "undecided"
    surrounds = dict.fromkeys(("cropped", "grey surround", "white surround", "noise surround"), LOW)
    gains = {"rule": Interval(0.8, 0.76, 0.9), **surrounds}
    assert verdict(find("2.6"), gains) == "reproduced"
    assert verdict(find("2.6"), gains | {"grey surround": Interval(0.0, -0.1, 0.1)}) == "partly"
    models = ("convolutional autoencoder", "Glow")
    flat = {f"{model}, {measure}": Interval(0, -0.2, 0.2) for model in models for measure in ("rank", "slope")}
    assert verdict(find("4.6"), flat) == "reproduced"
    assert verdict(find("4.6"), flat | {"Glow, slope": Interval(0.3, 0.27, 0.33)}) == "partly"
    assert verdict(find("5.8"), {"under 100 pixels": HIGH, "1000 up pixels": LOW}) == "partly"


def test_ledger_without_evidence(tmp_path: Path):
    table = ledger(tmp_path)
    assert list(table.columns) == COLUMNS
    assert list(table["id"]) == [entry.id for entry in CLAIMS]
    assert set(table["verdict"]) == {"not run"}
    for column in ("measured", "epochs", "until 2026-11-26"):
        assert set(table[column]) == {""}


def test_what_is_recorded_is_in_the_ledger(tmp_path: Path):
    record(tmp_path, "1.5", {"8 -> 1": LOW}, show(LOW), "01_fig4.png", "3 seeds")
    record(tmp_path, "2.4", {"failing cases": STRADDLES}, show(STRADDLES))
    table = ledger(tmp_path).set_index("id")
    row = table.loc["1.5"]
    assert (row["verdict"], row["measured"], row["figure"]) == ("reproduced", "0.20 [0.10, 0.30]", "01_fig4.png")
    assert row["note"] == "3 seeds"
    assert row["claim"] == find("1.5").words
    assert table.loc["2.4", ["verdict", "until 2026-11-26"]].tolist() == ["undecided", "not reproduced"]
    assert table.loc["1.5", "until 2026-11-26"] == ""  # the same by both rules
    assert (table["verdict"] != "not run").sum() == 2
    record(tmp_path, "1.5", {"8 -> 1": HIGH}, show(HIGH))  # the last run counts
    row = ledger(tmp_path).set_index("id").loc["1.5"]
    assert (row["verdict"], row["measured"]) == ("not reproduced", "0.80 [0.70, 0.90]")
    names = sorted(path.name for path in (tmp_path / "claims").iterdir())
    assert names == ["01_contamination.1.5.json", "02_black_pixel_cropping.2.4.json"]


def test_every_verdict_is_shown_in_a_notebook_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shown: list[dict[str, str]] = []
    record(tmp_path, "1.5", {"8 -> 1": LOW}, "outside of a notebook")
    monkeypatch.setattr("flowlib.study.claims.get_ipython", lambda: "a shell")
    monkeypatch.setattr("flowlib.study.claims.display", lambda data, raw: shown.append(data))
    for id, name, epochs in (("1.5", "8 -> 1", 0.4), ("2.4", "failing cases", None), ("5.2", "reflections", 20.0)):
        record_one = record(tmp_path, id, {name: LOW}, "<b>0.2</b>", epochs=epochs)
        assert record_one is None  # which a cell would show as text
    said = ["claim 1.5: reproduced", "claim 2.4: not reproduced", "claim 5.2: not reproduced, on simulation only"]
    assert [data["text/plain"] for data in shown] == said
    assert "● Claim 1.5: reproduced" in shown[0]["text/html"]
    assert "&lt;b&gt;0.2&lt;/b&gt;" in shown[0]["text/html"]
    assert find("2.4").criterion in shown[1]["text/html"]
    assert "saw: 0.4, fewer than 5: says little" in shown[0]["text/html"]
    assert "Epochs" not in shown[1]["text/html"]
    assert "saw: 20." in shown[2]["text/html"]


def test_epochs_are_steps_times_batch_by_images_and_the_fewest_of_several_sets():
    recipe = Recipe("Glow", {}, steps=300, batch_size=20)
    assert training_epochs(recipe, 6000) == 1
    assert training_epochs(recipe, [6000, 1500, 600]) == 1
    assert training_epochs(recipe, 600) == 10


def test_rows_state_their_epochs_and_few_are_marked(tmp_path: Path):
    for name, epochs in (("1.5", 0.3797), ("1.6", 12.3), ("1.7", 5.0), ("1.8", 12.0), ("2.1", None)):
        entry = find(name)
        record(tmp_path, name, dict.fromkeys(EVIDENCE.get(name, ["a"]), HIGH), "", epochs=epochs)
        assert few_epochs(entry, epochs) == (name in ("1.5", "1.8"))
    table = ledger(tmp_path).set_index("id")
    assert table.loc[["1.5", "1.6", "1.7", "1.8", "2.1"], "epochs"].tolist() == ["0.38 †", "12", "5", "12 †", ""]
    assert footnote() == "† fewer than 5 epochs (1.8: 20, 3.4: 20): says little of a trained model"
    kept = evidence_table(recorded_claims(tmp_path)).set_index("claim")
    assert kept.loc["1.5"].tolist() == ["a", *HIGH, 0.3797]
    assert list(kept.index) == ["1.5", "1.6", "1.7", "1.8", "2.1"]


EVIDENCE = {"1.6": ["other failing pairs"], "1.7": ["one-way pairs"]}


def test_no_published_row_rests_on_too_few_epochs():
    """Of each claim that a trained model carries, the largest profile that recorded it."""
    ledger = published.best_ledger(published.read(ROOT / "reports"), CLAIMS)
    assert not ledger["epochs"].str.contains("†").any()
    assert "not run" not in set(ledger["verdict"])


def test_an_amended_criterion_keeps_its_first_form():
    changed = claim(above(0.5))
    assert amendment(changed) == ""
    first = Amendment("AUROC above 0.4.", "2026-11-26", "chance is 0.5.")
    changed = Claim(**{**vars(changed), "amended": first})
    assert amendment(changed) == "Until 2026-11-26: AUROC above 0.4. Changed because chance is 0.5."
    for entry in CLAIMS:
        if entry.amended:
            assert re.fullmatch(r"2026-\d\d-\d\d", entry.amended.date)
            assert entry.amended.first.endswith(".")
            assert entry.amended.reason.endswith(".")
            assert entry.amended.first != entry.criterion


def test_the_count_and_the_change_of_rule(tmp_path: Path):
    record(tmp_path, "1.5", {"8 -> 1": LOW}, "")
    record(tmp_path, "2.4", {"failing cases": STRADDLES}, "")
    record(tmp_path, "5.1", {"image": HIGH, "pixel": HIGH}, "")  # about 0.8
    table = ledger(tmp_path)
    n = len(CLAIMS)
    assert verdict_count(table) == (
        f"Of {n} claims of the thesis: 1 reproduced, 0 partly, 0 not reproduced, 2 undecided, {n - 3} not run; "
        "1 of the verdicts are on simulation only."
    )
    changed = rule_changes(table)
    assert list(changed["id"]) == ["2.4", "5.1"]
    assert set(changed["until 2026-11-26"]) == {"not reproduced"}
    assert list(changed["verdict"]) == ["undecided", f"undecided{SIMULATED}"]


def test_every_verdict_has_a_sign_of_its_own():
    assert len(set(VERDICTS.values())) == len(VERDICTS) == 5


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
