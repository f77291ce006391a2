"""Choices of what the thesis leaves open: each is another one, and is judged as the ledger judges."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiments.test_frequencies import Inline

from flowlib.experiments.grating_choices import (
    CONVOLUTIONAL,
    FULLY_CONNECTED,
    GLOW,
    choices,
    evidence,
    score_choices,
    short,
    specification_table,
    table_of_test,
)
from flowlib.experiments.specifications import counts
from flowlib.metrics import Interval
from flowlib.study import claims
from flowlib.training import build

CHOICES = choices()
TABLE = table_of_test(32)
OF_MODEL = {FULLY_CONNECTED: ("4.1", "4.2"), CONVOLUTIONAL: ("4.3", "4.5", "4.6"), GLOW: ("4.4", "4.5", "4.6")}


def flat(seeds: int = 3) -> np.ndarray:
    return 100 + np.random.default_rng(0).normal(0, 1, (seeds, len(TABLE)))


def test_choices_differ_and_can_be_built() -> None:
    assert len({(choice.model, choice.words) for choice in CHOICES}) == len(CHOICES)
    assert len({(repr(choice.recipe), choice.pixels) for choice in CHOICES}) == len(CHOICES)
    for choice in CHOICES:
        build(choice.recipe, (1, choice.pixels, choice.pixels))
        assert f"{choice.recipe.steps} steps" in choice.words
    assert {choice.recipe.steps for choice in choices(0.001)} == {1, 2}


@pytest.mark.parametrize("model", OF_MODEL)
def test_evidence_is_what_the_ledger_asks_for(model: str, tmp_path: Path) -> None:
    found = evidence(model, TABLE, flat())
    assert tuple(found) == OF_MODEL[model]
    for claim, intervals in found.items():
        if claim != "4.6":  # of two models
            claims.record(tmp_path, claim, intervals, "")
        assert short(claim, intervals)
    both = evidence(CONVOLUTIONAL, TABLE, flat())["4.6"] | evidence(GLOW, TABLE, flat())["4.6"]
    claims.record(tmp_path, "4.6", both, "")


def test_a_claim_is_judged_by_its_criterion_and_of_two_models_each_alone() -> None:
    frequency, intensity = TABLE["frequency"].to_numpy(), TABLE["intensity"].to_numpy(float)
    of_model = {choice.model: choice for choice in CHOICES}
    listed = [of_model[CONVOLUTIONAL], of_model[GLOW], of_model[FULLY_CONNECTED]]
    scores = [
        flat() + 50 * np.isin(frequency, (14, 15)),  # stand out, and so rise
        flat() - 5 * frequency + intensity,  # fall, and hang on intensity
        flat() + 0.1 * intensity,
    ]
    table = specification_table(listed, scores)
    judged = table.drop_duplicates(["model", "claim"]).set_index(["model", "claim"])["verdict"]
    assert judged[CONVOLUTIONAL, "4.3"] == judged[CONVOLUTIONAL, "4.6"] == "reproduced"
    assert judged[GLOW, "4.4"] == judged[GLOW, "4.5"] == judged[GLOW, "4.6"] == "not reproduced"
    assert judged[FULLY_CONNECTED, "4.1"] == judged[FULLY_CONNECTED, "4.2"] == "reproduced"
    assert set(table.loc[table["claim"] == "4.2", "condition"]) == {str(f) for f in np.unique(frequency)}
    assert (table["low"] <= table["value"]).all()
    counted = counts(table).set_index(["claim", "model"])
    assert counted.loc[("4.6", GLOW)].to_dict() == {"reproduced": 0, "not reproduced": 1} | {
        name: 0 for name in counted.columns if name not in ("reproduced", "not reproduced")
    }


@pytest.mark.parametrize(
    ("claim", "intervals", "said"),
    [
        ("4.1", {"high against low": (0.49, 0.1, 1)}, "+49%"),
        ("4.2", {"1": (1, 0.5, 2), "2": (1, -0.5, 2)}, "1 of 2"),
        ("4.3", {"14": (-0.5, -1, 0), "15": (0.2, 0, 1)}, "-50%, +20%"),
        ("4.4", {"14": (125.4, 7, 249), "15": (-3, -4, 0)}, "+125, -3"),
        ("4.5", {"Glow": (0.0152, 0, 1)}, "+1.5%"),
        ("4.6", {"Glow, rank": (0.94, 0, 1), "Glow, slope": (0.15, 0, 1)}, "+0.94, +15%"),
    ],
)
def test_numbers_of_a_cell(claim: str, intervals: dict[str, tuple], said: str) -> None:
    assert short(claim, {name: Interval(*ends) for name, ends in intervals.items()}) == said


def test_scores_are_in_the_order_of_the_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    short_ones = choices(0.001)
    listed = [short_ones[16], short_ones[0], short_ones[12]]  # 64 pixels, 32, 32
    scores = score_choices(listed, [0, 1], Inline())
    assert [found.shape for found in scores] == [(2, 600)] * 3
    alone = score_choices(listed[:1], [0, 1], Inline())
    assert (alone[0] == scores[0]).all()
    assert isinstance(specification_table(listed, scores), pd.DataFrame)
