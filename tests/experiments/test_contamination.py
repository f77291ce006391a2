"""Table 1's arithmetic, contaminated draws, and what moves with the number of eights, by hand."""

import numpy as np
import pytest

from flowlib.experiments.contamination import (
    by_case,
    case_jobs,
    contaminated,
    contamination_cases,
    drift,
    evidence,
    like_table_1,
    separated,
    separation,
    slope_of_eights,
    table_1_off,
)
from flowlib.study import claims
from flowlib.study.criteria import verdict
from flowlib.training import Recipe


def test_table_1():
    """The thesis's column divides by the ones and prints 0.1, 1, 10, 20, 40 and 86.78 %."""
    cases = contamination_cases()
    assert cases["case"].tolist() == [1, 2, 3, 4, 5, 6]
    assert set(cases["ones"]) == {6742}
    assert cases["eights"].tolist() == [7, 67, 674, 1348, 2696, 5851]
    of_ones = [0.10, 0.99, 10.00, 19.99, 39.99, 86.78]
    assert cases["percent_of_ones"].round(2).tolist() == of_ones
    assert cases["percent_of_training_set"].round(1).tolist() == [0.1, 1.0, 9.1, 16.7, 28.6, 46.5]


def numbered(n: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + n, dtype=np.uint8)[:, None, None, None]


def test_contaminated_draws():
    normal, anomalous = numbered(5), numbered(50, start=100)
    drawn = contaminated(normal, anomalous, 20, seed=1)
    assert drawn.shape == (25, 1, 1, 1)
    assert np.array_equal(drawn[:5], normal)
    chosen = drawn[5:].ravel()
    assert len(set(chosen)) == 20  # without replacement
    assert chosen.min() >= 100
    assert np.array_equal(contaminated(normal, anomalous, 20, seed=1), drawn)
    assert not np.array_equal(contaminated(normal, anomalous, 20, seed=2), drawn)
    assert sorted(contaminated(normal, anomalous, 50, seed=1)[5:].ravel()) == list(range(100, 150))
    assert np.array_equal(contaminated(normal, anomalous, 0, seed=1), normal)
    with pytest.raises(ValueError, match="51 anomalous images asked for, there are 50"):
        contaminated(normal, anomalous, 51, seed=1)


def test_drift_is_in_units_of_the_first_distance():
    rng = np.random.default_rng(0)
    ones = 100 + rng.normal(size=(1, 2, 30)) + np.array([0.0, 5.0, -10.0])[:, None, None]
    eights = np.broadcast_to(ones[:1] + 20, (3, 2, 30))
    found = drift(ones, eights)
    assert list(found) == ["case 2", "case 3"]
    np.testing.assert_allclose(found["case 2"], 0.25)
    np.testing.assert_allclose(found["case 3"], -0.5)


def test_slope_of_eights_is_per_decade_and_resamples_images():
    of_image = np.random.default_rng(0).normal(0, 50, (1, 2, 20))  # moves all cases of an image alike
    nll = of_image - 7.0 * np.array([0.0, 1.0, 2.0])[:, None, None]
    np.testing.assert_allclose(slope_of_eights(nll, np.array([10, 100, 1000])), -7.0)


def test_table_1_is_off_in_its_shares_alone():
    off = table_1_off(6742, 5851)
    assert [off[name] for name in ("ones", "eights")] == [(0, 0, 0), (0, 0, 0)]
    assert [round(off[f"case {case}"].value, 1) for case in range(1, 7)] == [0, 0, 0.9, 3.3, 11.4, 40.3]
    assert table_1_off(6740, 5851)["ones"].value == 2


def test_another_pair_is_contaminated_in_the_shares_of_table_1():
    ones, eights = np.zeros((6742, 1, 1, 1), np.uint8), np.ones((5851, 1, 1, 1), np.uint8)
    assert [like_table_1(ones, eights, case, 0).sum() for case in range(1, 7)] == [7, 67, 674, 1348, 2696, 5851]
    assert np.array_equal(like_table_1(ones, eights, 2, 1), contaminated(ones, eights, 67, 1))
    assert like_table_1(ones[:1000], eights, 6, 0).shape[0] == 1868
    with pytest.raises(ValueError, match="anomalous images asked for"):
        like_table_1(ones, eights[:5000], 6, 0)


def test_separation_is_a_row_a_model_and_the_cases_are_named_by_their_pair():
    rng = np.random.default_rng(0)
    normal, anomalous = rng.normal(size=(2, 50)), rng.normal(3, 1, size=(2, 40))
    both = {"none": (normal, anomalous), "1": (normal, anomalous + 1), "nothing else": (anomalous, normal)}
    table = separation({("8 in 1", "plain"): both, ("6 in 3", "plain"): both, ("8 in 1", "trimmed"): both})
    assert len(table) == 9
    first = table.iloc[1]
    assert first[["pair", "training", "case"]].tolist() == ["8 in 1", "plain", "1"]
    assert first["distance"] == pytest.approx(anomalous.mean() + 1 - normal.mean())
    assert first["distance_low"] < first["distance"] < first["distance_high"]
    found = separated(table, "8 in 1")
    assert list(found) == ["case 1", "6 in 3, case 1"]  # neither the ends nor the trimmed training
    assert found["case 1"] == tuple(first[["auroc", "low", "high"]])


def test_evidence_is_what_the_claims_ask_for(tmp_path):
    rng = np.random.default_rng(0)
    ones, eights, threes = rng.normal(0, 1, (3, 6, 2, 40))
    falling = eights + np.array([30.0, 20, 15, 10, 8, 5])[:, None, None]
    found = evidence((ones, falling), (threes, threes + 0.01), (eights[0] + 9, ones[0]))
    judged = {claim: verdict(claims.find(claim), of_claim) for claim, of_claim in found.items()}
    assert judged == {
        "1.1": "reproduced",
        "1.2": "reproduced",
        "1.3": "partly",  # eights are found among ones, sixes among threes are open
        "1.4": "partly",
        "1.5": "reproduced",
    }
    assert list(found["1.3"]) == [f"{pair}case {case}" for pair in ("", "6 in 3, ") for case in (1, 2, 3)]


def test_scores_come_back_by_case_and_seed():
    normal, anomalous = numbered(20), numbered(20, start=100)
    jobs = case_jobs(normal, anomalous, Recipe(steps=3), [4, 5], {"test": normal})
    assert [recipe.seed for _, recipe, _ in jobs] == [4, 5] * 6
    assert [len(images) for images, *_ in jobs[::2]] == [20, 20, 22, 24, 28, 37]
    results = [{"test": np.full(7, 10 * len(images) + recipe.seed)} for images, recipe, _ in jobs]
    found = by_case(results, "test")
    assert found.shape == (6, 2, 7)
    assert found[:, :, 0].tolist() == [[10 * n + 4, 10 * n + 5] for n in (20, 20, 22, 24, 28, 37)]
