"""What a claim is, and the rule by which measured intervals come to a verdict."""

from collections.abc import Callable
from dataclasses import dataclass

from flowlib.metrics import Interval

Evidence = dict[str, Interval]
Conditions = Callable[[Evidence], list[bool]]
# A sign beside each verdict, so that none is told by colour alone.
VERDICTS = {"reproduced": "●", "partly": "◐", "not reproduced": "○", "not run in this profile": "–"}


@dataclass(frozen=True)
class Claim:
    """`notebook` measures the evidence that `conditions` are asked of; `criterion` is `conditions` in words."""

    id: str
    place: str
    words: str
    thesis: str
    criterion: str
    notebook: str
    conditions: Conditions


def verdict(claim: Claim, evidence: Evidence) -> str:
    """The verdict by the rule that `flowlib.study.thesis` states. Raises ValueError when the criterion asks nothing."""
    held = claim.conditions(evidence)
    if not held:
        raise ValueError(f"claim {claim.id}: its criterion came to no condition, the evidence is empty")
    return "reproduced" if all(held) else "partly" if any(held) else "not reproduced"


def above(bound: float, *names: str) -> Conditions:
    """The intervals of these names, of all evidence when none is named, lie above `bound`."""
    return lambda evidence: [evidence[name].low > bound for name in names or evidence]


def below(bound: float, *names: str) -> Conditions:
    return lambda evidence: [evidence[name].high < bound for name in names or evidence]


def within(low: float, high: float, *names: str) -> Conditions:
    return lambda evidence: [low < evidence[name].low and evidence[name].high < high for name in names or evidence]


def both(*conditions: Conditions) -> Conditions:
    return lambda evidence: [held for condition in conditions for held in condition(evidence)]
