"""What a claim is, and the rule by which measured intervals come to a verdict.

A condition is in one of three states. It *holds* where the whole interval lies on its side of the bound; it is
*contradicted* where nothing of the interval does; it is *open* where the interval straddles the bound, or is not a
number. The bound itself is not on the claimed side, since a criterion says "above", "below" or "between": an exact
count, whose interval has no width, never leaves a condition open, and contradicts it where it equals the bound.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from flowlib.metrics import Interval

State = Literal["holds", "contradicted", "open"]
Evidence = dict[str, Interval]
Conditions = Callable[[Evidence], list[State]]
NOT_RUN = "not run"
# A sign beside each verdict, so that none is told by colour alone.
VERDICTS = {"reproduced": "●", "partly": "◐", "not reproduced": "○", "undecided": "?", NOT_RUN: "–"}
SIMULATED = ", on simulation only"  # is said after a verdict that no real data carries
ENOUGH_EPOCHS = 5  # of training, for a verdict to speak of a trained model


@dataclass(frozen=True)
class Amendment:
    """What a criterion was before it was changed, when (ISO date), and why."""

    first: str
    date: str
    reason: str


@dataclass(frozen=True)
class Claim:
    """`notebook` measures the evidence that `conditions` are asked of; `criterion` is `conditions` in words.

    `simulated`: no real data carries the row. `epochs`: of training that its models must have seen for the row to say
    what it asks. `amended`: the criterion's first form, where it was changed.
    """

    id: str
    place: str
    words: str
    thesis: str
    criterion: str
    notebook: str
    conditions: Conditions
    simulated: bool = False
    epochs: float = ENOUGH_EPOCHS
    amended: Amendment | None = None


def verdict(claim: Claim, evidence: Evidence) -> str:
    """A key of `VERDICTS`, by the rule that `flowlib.study.thesis` states.

    Raises ValueError when the criterion asks nothing.
    """
    states = asked(claim, evidence)
    if "holds" in states:
        return "partly" if set(states) > {"holds"} else "reproduced"
    return "not reproduced" if "contradicted" in states else "undecided"


def verdict_of_two_states(claim: Claim, evidence: Evidence) -> str:
    """The verdict by the rule until 2026-11-26, which took an open condition for one that fails."""
    held = [state == "holds" for state in asked(claim, evidence)]
    return "reproduced" if all(held) else "partly" if any(held) else "not reproduced"


def asked(claim: Claim, evidence: Evidence) -> list[State]:
    states = claim.conditions(evidence)
    if not states:
        raise ValueError(f"claim {claim.id}: its criterion came to no condition, the evidence is empty")
    return states


def spoken(claim: Claim, verdict: str) -> str:
    """A verdict as it is shown: ``not reproduced, on simulation only``."""
    return verdict + (SIMULATED if claim.simulated and verdict != NOT_RUN else "")


def verdict_in(shown: str) -> str:
    """The key of `VERDICTS` in a verdict as it is shown."""
    return shown.removesuffix(SIMULATED)


# --- conditions: on the intervals of these names, of all evidence when none is named -------------------------------


def above(bound: float, *names: str) -> Conditions:
    return lambda evidence: [is_above(evidence[name], bound) for name in names or evidence]


def below(bound: float, *names: str) -> Conditions:
    return lambda evidence: [is_below(evidence[name], bound) for name in names or evidence]


def within(low: float, high: float, *names: str) -> Conditions:
    """Between `low` and `high`: contradicted where the interval lies wholly outside, on either side."""

    def state(interval: Interval) -> State:
        sides = is_above(interval, low), is_below(interval, high)
        return "contradicted" if "contradicted" in sides else "open" if "open" in sides else "holds"

    return lambda evidence: [state(evidence[name]) for name in names or evidence]


def beyond(bound: float, *names: str) -> Conditions:
    """Farther than `bound` from 0, on either side; contradicted where the interval lies wholly nearer."""

    def state(interval: Interval) -> State:
        sides = is_above(interval, bound), is_below(interval, -bound)
        return "holds" if "holds" in sides else "contradicted" if set(sides) == {"contradicted"} else "open"

    return lambda evidence: [state(evidence[name]) for name in names or evidence]


def both(*conditions: Conditions) -> Conditions:
    return lambda evidence: [state for condition in conditions for state in condition(evidence)]


def is_above(interval: Interval, bound: float) -> State:
    return "holds" if interval.low > bound else "contradicted" if interval.high <= bound else "open"


def is_below(interval: Interval, bound: float) -> State:
    return "holds" if interval.high < bound else "contradicted" if interval.low >= bound else "open"
