"""What section 4.3 of the thesis leaves open, and what its claims come to under each choice (notebook 04).

The choices are the same in every profile. It was known from trials that the fully connected autoencoder after 400
steps, the convolutional one at 64 pixels or at a rate of 0.001, and Glow without a logit after 160 steps come near the
thesis's figures, which is why these are among them; the others were listed before they were run.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flowlib import datasets
from flowlib.experiments.frequencies import (
    frequency_scores,
    frequency_slope,
    intensity_correlation,
    intensity_slope,
    intensity_slopes,
    relative,
    relative_gap,
    split,
    stands_out,
)
from flowlib.experiments.specifications import LOGITS, rows_of
from flowlib.figures.frequencies import MODELS
from flowlib.metrics import Interval
from flowlib.study.criteria import Evidence
from flowlib.training import Recipe

FULLY_CONNECTED, CONVOLUTIONAL, GLOW = MODELS
OF_TWO = (CONVOLUTIONAL, GLOW)  # of which 4.5 and 4.6 speak
BATCH = 16  # images a step, of 600
APART = (14, 15)  # cycles, of which 4.3 and 4.4 speak


class Choice(NamedTuple):
    """One way to do what the thesis leaves open: of which model, in words, its recipe, the gratings' side in pixels."""

    model: str
    words: str
    recipe: Recipe
    pixels: int


def choices(share: float = 1.0) -> list[Choice]:
    """Every specification; `share` of the steps, for a run that only shows that all of it runs."""
    found = []

    def recipe(model: str, options: dict[str, Any], steps: int, rate: float) -> Recipe:
        return Recipe(model, options, max(1, round(share * steps)), BATCH, rate)

    for rate, middle, steps in product((5e-4, 2e-3), (16, 32), (100, 400, 1500)):
        dense = recipe("FullyConnectedAutoencoder", {"hidden": (256, 64, middle)}, steps, rate)
        found.append(Choice(FULLY_CONNECTED, f"rate {rate:g}, {middle} in the middle, {steps} steps", dense, 32))
    for (pixels, rate), steps in product(((32, 1e-3), (32, 1e-2), (64, 1e-2)), (250, 1000)):
        convolutional = recipe("ConvAutoencoder", {}, steps, rate)
        found.append(Choice(CONVOLUTIONAL, f"{pixels} pixels, rate {rate:g}, {steps} steps", convolutional, pixels))
    for depth, (alpha, squash), steps in product((8, 16), LOGITS.items(), (160, 640)):
        flow = recipe("Glow", {"levels": 2, "steps": depth, "hidden_channels": 32, "alpha": alpha}, steps, 1e-2)
        found.append(Choice(GLOW, f"K = {depth}, {squash}, {steps} steps", flow, 32))
    return found


def score_choices(listed: Sequence[Choice], seeds: Sequence[int], executor: Executor) -> list[np.ndarray]:
    """Train each with each seed; scores of the test images, ``(seeds, images)``, a choice each."""
    found: dict[str, np.ndarray] = {}
    for pixels in sorted({choice.pixels for choice in listed}):
        images, table = datasets.frequencies(size=pixels)
        of_size = {str(i): choice for i, choice in enumerate(listed) if choice.pixels == pixels}
        recipes = {name: choice.recipe for name, choice in of_size.items()}
        scores, _ = frequency_scores(images, table, recipes, ["all"], seeds, executor, f"choices, {pixels} pixels")
        found |= {name: scores[name, "all"] for name in of_size}
    return [found[str(i)] for i in range(len(listed))]


def evidence(model: str, table: pd.DataFrame, scores: np.ndarray) -> dict[str, Evidence]:
    """What a model trained on all frequencies says of the claims of section 4.3 that speak of it, by claim.

    scores: ``(S, N)`` of the images of `table`.
    """
    if model == FULLY_CONNECTED:
        high = (table["group"] == "high").to_numpy()
        slopes = intensity_slopes(table, scores).itertuples()
        return {
            "4.1": {"high against low": relative_gap(scores[:, high], scores[:, ~high])},
            "4.2": {str(int(row.frequency)): Interval(row.value, row.low, row.high) for row in slopes},
        }
    apart = {str(f): stands_out(table, scores, f, APART, errors=model != GLOW) for f in APART}
    shares = relative(scores)
    of_intensity = {
        f"{model}, rank": intensity_correlation(table, scores),
        f"{model}, slope": intensity_slope(table, shares),
    }
    return {
        "4.4" if model == GLOW else "4.3": apart,
        "4.5": {model: frequency_slope(table, shares)},
        "4.6": of_intensity,
    }


def short(claim: str, found: Evidence) -> str:
    """A claim's numbers without their intervals, for a cell of the picture."""
    if claim == "4.1":
        return f"{found['high against low'].value:+.0%}"
    if claim == "4.2":
        return f"{sum(interval.low > 0 for interval in found.values())} of {len(found)}"
    if claim == "4.3":
        return ", ".join(f"{interval.value:+.0%}" for interval in found.values())
    if claim == "4.4":
        return ", ".join(f"{interval.value:+.0f}" for interval in found.values())
    if claim == "4.5":
        return ", ".join(f"{interval.value:+.1%}" for interval in found.values())
    rank, slope = found.values()
    return f"{rank.value:+.2f}, {slope.value:+.0%}"


def specification_table(listed: Sequence[Choice], scores: Sequence[np.ndarray]) -> pd.DataFrame:
    """`specifications.rows_of` each choice. Of a claim on two models each is judged alone."""
    tables = {pixels: table_of_test(pixels) for pixels in {choice.pixels for choice in listed}}
    rows = []
    for choice, of_choice in zip(listed, scores, strict=True):
        for claim, found in evidence(choice.model, tables[choice.pixels], of_choice).items():
            alone = {name.replace(choice.model, model): each for model in OF_TWO for name, each in found.items()}
            rows += rows_of(choice.model, choice.words, claim, found, short(claim, found), found | alone)
    return pd.DataFrame(rows)


def table_of_test(pixels: int) -> pd.DataFrame:
    """The description of the test images of a size."""
    _, table = datasets.frequencies(size=pixels)
    return table.iloc[split(table)[1]].reset_index(drop=True)
