"""What a claim is, and the rule by which measured intervals come to a verdict.

A condition is in one of three states. It *holds* where the whole interval lies on its side of the bound; it is
*contradicted* where nothing of the interval does; it is *open* where the interval straddles the bound, or is not a
number. The bound itself is not on the claimed side, since a criterion says "above", "below" or "between": an exact
count, whose interval has no width, never leaves a condition open, and contradicts it where it equals the bound.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple

from flowlib.metrics import Interval

State = Literal["holds", "contradicted", "open"]
Evidence = dict[str, Interval]


class Condition(NamedTuple):
    """What became of a condition: the interval of this name, what was asked of it in words, and by which bounds."""

    name: str
    interval: Interval
    asked: str
    bounds: tuple[float, ...]
    state: State


Conditions = Callable[[Evidence], list[Condition]]
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
    what it asks. `units`: what its intervals are over, so that more of them make these narrower. `amended`: the
    criterion's first form, where it was changed.
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
    units: str = "seeds and test images"
    amended: Amendment | None = None


def verdict(claim: Claim, evidence: Evidence) -> str:
    """A key of `VERDICTS`, by the rule that `flowlib.study.thesis` states.

    Raises ValueError when the criterion asks nothing.
    """
    states = [condition.state for condition in asked(claim, evidence)]
    if "holds" in states:
        return "partly" if set(states) > {"holds"} else "reproduced"
    return "not reproduced" if "contradicted" in states else "undecided"


def verdict_of_two_states(claim: Claim, evidence: Evidence) -> str:
    """The verdict by the rule until 2026-11-26, which took an open condition for one that fails."""
    held = [condition.state == "holds" for condition in asked(claim, evidence)]
    return "reproduced" if all(held) else "partly" if any(held) else "not reproduced"


def asked(claim: Claim, evidence: Evidence) -> list[Condition]:
    """Each condition of a claim. Raises ValueError when the criterion asks nothing."""
    conditions = claim.conditions(evidence)
    if not conditions:
        raise ValueError(f"claim {claim.id}: its criterion came to no condition, the evidence is empty")
    return conditions


def times_as_many(condition: Condition) -> float:
    """How many times as many units would decide an open condition, if its value stayed where it is.

    An interval's width falls as the root of the number of units; those are needed with which it would reach no bound
    any more. 1 for a condition that is decided, inf where the value is a bound or is not a number.
    """
    value, low, high = condition.interval
    if condition.state != "open":
        return 1.0
    if value in condition.bounds or value != value:
        return inf
    shares = [(value - low) / (value - bound) for bound in condition.bounds if low <= bound < value]
    shares += [(high - value) / (bound - value) for bound in condition.bounds if value < bound <= high]
    return max(shares, default=inf) ** 2


def spoken(claim: Claim, verdict: str) -> str:
    """A verdict as it is shown: ``not reproduced, on simulation only``."""
    return verdict + (SIMULATED if claim.simulated and verdict != NOT_RUN else "")


def verdict_in(shown: str) -> str:
    """The key of `VERDICTS` in a verdict as it is shown."""
    return shown.removesuffix(SIMULATED)


# --- conditions: on the intervals of these names, of all evidence when none is named -------------------------------


def above(bound: float, *names: str) -> Conditions:
    return lambda evidence: [is_above(name, evidence[name], bound) for name in names or evidence]


def below(bound: float, *names: str) -> Conditions:
    return lambda evidence: [is_below(name, evidence[name], bound) for name in names or evidence]


def within(low: float, high: float, *names: str) -> Conditions:
    """Between `low` and `high`: contradicted where the interval lies wholly outside, on either side."""

    def condition(name: str, interval: Interval) -> Condition:
        sides = is_above(name, interval, low).state, is_below(name, interval, high).state
        state: State = "contradicted" if "contradicted" in sides else "open" if "open" in sides else "holds"
        return Condition(name, interval, f"between {low:g} and {high:g}", (low, high), state)

    return lambda evidence: [condition(name, evidence[name]) for name in names or evidence]


def beyond(bound: float, *names: str) -> Conditions:
    """Farther than `bound` from 0, on either side; contradicted where the interval lies wholly nearer."""

    def condition(name: str, interval: Interval) -> Condition:
        sides = is_above(name, interval, bound).state, is_below(name, interval, -bound).state
        state: State = "holds" if "holds" in sides else "contradicted" if set(sides) == {"contradicted"} else "open"
        return Condition(name, interval, f"farther than {bound:g} from 0", (-bound, bound), state)

    return lambda evidence: [condition(name, evidence[name]) for name in names or evidence]


def both(*conditions: Conditions) -> Conditions:
    return lambda evidence: [found for condition in conditions for found in condition(evidence)]


def is_above(name: str, interval: Interval, bound: float) -> Condition:
    state: State = "holds" if interval.low > bound else "contradicted" if interval.high <= bound else "open"
    return Condition(name, interval, f"above {bound:g}", (bound,), state)


def is_below(name: str, interval: Interval, bound: float) -> Condition:
    state: State = "holds" if interval.high < bound else "contradicted" if interval.low >= bound else "open"
    return Condition(name, interval, f"below {bound:g}", (bound,), state)
