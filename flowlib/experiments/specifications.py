"""A specification curve: what claims come to under each choice of what the thesis leaves open (Simonsohn, Simmons &
Nelson, Nature Human Behaviour 4, 2020).

Which choices there are, `flowlib.experiments.class_choices` (sections 4.1, 4.1.1) and
`flowlib.experiments.grating_choices` (4.3) say.
"""

from typing import Any

import pandas as pd

from flowlib.study import claims
from flowlib.study.criteria import VERDICTS, Evidence, verdict

# How the logit of Dinh et al. (2017, section 4.1) squashes pixels: alpha + (1 - 2 alpha) x. At 0.49 all lie so near one
# half that the logit is a straight line, which the flow's first step takes back: no logit, in effect.
LOGITS = {1e-6: "logit", 0.49: "no logit"}


def rows_of(
    model: str, choice: str, claim: str, found: Evidence, short: str, judged: Evidence | None = None
) -> list[dict[str, Any]]:
    """Every condition of a claim under a choice, a row each: model, choice, claim, verdict (of the claim, by its own
    criterion), sign, short (its numbers, for a cell), condition, value, low, high.

    `judged` is what the criterion is asked of, where that is more than `found`.
    """
    of_claim = verdict(claims.find(claim), judged or found)
    same = {"model": model, "choice": choice, "claim": claim, "verdict": of_claim}
    same |= {"sign": VERDICTS[of_claim], "short": short}
    return [{**same, "condition": name, **interval._asdict()} for name, interval in found.items()]


def counts(specifications: pd.DataFrame) -> pd.DataFrame:
    """Under how many choices each claim came to each verdict: a row a claim and model."""
    once = specifications.drop_duplicates(["model", "choice", "claim"])
    table = once.groupby(["claim", "model"])["verdict"].value_counts().unstack(fill_value=0)
    return table.reindex(columns=[name for name in VERDICTS if name in table.columns]).reset_index()
