"""Rates of whole videos, on made-up tracks."""

import numpy as np
import pytest

from flowlib.experiments.borescope.videos import CALIBRATING, rates, thinned, verdicts


def tracks(rng: np.random.Generator, n: int, height: float = 0.0, seen: int = 0, flicker: float = 0.0) -> dict:
    scores = rng.normal(0, 0.3, (n, 30)) + rng.normal(0, 1, (n, 1))
    scores[:, 10 : 10 + seen] += height
    scores[np.arange(n), rng.integers(0, 30, n)] += flicker * rng.random(n)
    return {f"v{i}.mp4": track for i, track in enumerate(scores)}


def test_the_actual_rate_is_the_nominal_one_or_lower_and_what_is_found_is_counted_by_kind() -> None:
    rng = np.random.default_rng(0)
    found = rates(
        {"good": tracks(rng, 200), "crack": tracks(rng, 30, 20, 8), "dent": tracks(rng, 10)}, (0.05, 0.2)
    ).set_index(["score", "nominal"])
    for name in ("three of five frames", "highest frame"):
        for nominal in (0.05, 0.2):
            row = found.loc[name, nominal]
            assert nominal - 0.05 < row["actual"] < nominal + 0.02
            assert row["crack"] == 1
            assert row["dent"] < nominal + 0.3
            assert row["found"] == pytest.approx((30 * row["crack"] + 10 * row["dent"]) / 40)
            assert 0 <= row["low"] <= row["found"] <= row["high"] <= 1


def test_flickers_cost_the_highest_frame_what_stays_does_not_mind() -> None:
    rng = np.random.default_rng(1)
    found = rates({"good": tracks(rng, 100, flicker=30), "crack": tracks(rng, 50, 8, 8, 30)}, (0.05,), every=(1, 2, 5))
    found = found.set_index(["score", "every"])["found"]
    assert found["three of five frames", 1] > 0.9
    assert found["highest frame", 1] < 0.5
    assert found["three of five frames", 5] < 0.2, "in view for two of the frames that are scored"


def test_thinning_and_too_few_good_videos() -> None:
    rng = np.random.default_rng(2)
    assert [len(track) for track in thinned(tracks(rng, 2), 7).values()] == [5, 5]
    with pytest.raises(ValueError, match=f"19 good videos: more than {CALIBRATING}"):
        verdicts(tracks(rng, 19), tracks(rng, 3), 0.05)


def test_more_calibrating_videos_find_more_at_the_same_rate() -> None:
    """Of 19 the highest alone can stand for 5 %, which hangs on one video; of 79 the fourth highest does."""
    rng = np.random.default_rng(3)
    found = {n: rates({"good": tracks(rng, 400), "crack": tracks(rng, 100, 2, 30)}, (0.05,), calibrating=n)
             for n in (CALIBRATING, 79)}  # fmt: skip
    few, many = (table.set_index("score").loc["three of five frames"] for table in found.values())
    assert few["actual"] == pytest.approx(many["actual"], abs=0.02)
    assert many["found"] > few["found"]
