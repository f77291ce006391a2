"""What sections 4.1 and 4.1.1 of the thesis leave open, and what their claims come to under each choice (notebooks 01
and 02): the logit, the length of the training, the depth of the flow, and images padded to 32 pixels, the next size
that a flow can halve five times, as many implementations of Glow do.

The choices were listed before any of them was run.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from flowlib.experiments import black_pixels as garments
from flowlib.experiments import contamination as digits
from flowlib.experiments.black_pixels import COAT, SHIRT, TABLE_2
from flowlib.experiments.jobs import Job, train_and_score_all
from flowlib.experiments.specifications import LOGITS, rows_of
from flowlib.study.criteria import Evidence
from flowlib.training import Recipe

RATE = 5e-3  # the highest learning rate of all choices
SIDE, PADDED = 28, 32  # pixels
Images = Sequence[np.ndarray]  # by class, uint8 (N, 1, 28, 28)


class Choice(NamedTuple):
    """One way to do what the thesis leaves open: in words, its recipe, the images' side in pixels."""

    words: str
    recipe: Recipe
    pixels: int


def choices(steps: Sequence[int], batch_size: int) -> list[Choice]:
    """Every specification, for a short and a long training: `steps` are the gradient steps of both."""
    short, long = steps
    found = []
    ways = ((8, SIDE, short), (8, SIDE, long), (16, SIDE, long), (8, PADDED, long))
    for (depth, pixels, length), (alpha, squash) in product(ways, LOGITS.items()):
        options = {"levels": 2, "steps": depth, "hidden_channels": 32, "alpha": alpha}
        words = f"K = {depth}, {squash}, {length} steps" + (f", padded to {PADDED} pixels" if pixels == PADDED else "")
        found.append(Choice(words, Recipe("Glow", options, length, batch_size, RATE), pixels))
    return found


def of_contamination(
    listed: Sequence[Choice], train: Images, test: Images, seeds: Sequence[int], executor: Executor
) -> dict[str, dict[str, Evidence]]:
    """By choice in words, what the claims 1.1 to 1.5 are judged by; images of all ten digits."""

    def jobs(choice: Choice) -> list[Job]:
        ones, threes, sixes, eights = (padded(train[digit], choice.pixels) for digit in (1, 3, 6, 8))
        tests = {str(digit): padded(test[digit], choice.pixels) for digit in (1, 3, 6, 8)}
        pair, other = ({name: tests[name] for name in names} for names in ("18", "36"))
        alone = [(eights, replace(choice.recipe, seed=seed), pair) for seed in seeds]
        return [
            *digits.case_jobs(ones, eights, choice.recipe, seeds, pair),
            *digits.case_jobs(threes, sixes, choice.recipe, seeds, other),
            *alone,
        ]

    def found(results: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Evidence]:
        n = 6 * len(seeds)
        first, second, alone = results[:n], results[n : 2 * n], results[2 * n :]
        return digits.evidence(
            (digits.by_case(first, "1"), digits.by_case(first, "8")),
            (digits.by_case(second, "3"), digits.by_case(second, "6")),
            (together(alone, "8"), together(alone, "1")),
        )

    return {choice.words: found(train_and_score_all(jobs(choice), executor, choice.words)) for choice in listed}


def of_black_pixels(
    listed: Sequence[Choice],
    train: Images,
    test: Images,
    names: Sequence[str],
    seeds: Sequence[int],
    executor: Executor,
) -> dict[str, dict[str, Evidence]]:
    """By choice in words, what the claims 2.2 to 2.5 are judged by; images of all ten classes of garments."""
    normal_classes = sorted({normal for normal, _ in TABLE_2})

    def sets(pixels: int) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """What is trained on and tested: each normal class, then shirts and coats cropped, and shirts resampled."""
        learnt, asked = ([padded(images, pixels) for images in of_all] for of_all in (train, test))
        plain = [(learnt[c], {str(other): asked[other] for other in tested(c)}) for c in normal_classes]
        treated = [(garments.crop_to_object, SHIRT), (garments.crop_to_object, COAT), (garments.resample, SHIRT)]
        return plain + [(way(learnt[c]), {str(k): way(asked[k]) for k in (SHIRT, COAT)}) for way, c in treated]

    of_size = {pixels: sets(pixels) for pixels in {choice.pixels for choice in listed}}

    def jobs(choice: Choice) -> list[Job]:
        return [
            (images, replace(choice.recipe, seed=seed), tests)
            for images, tests in of_size[choice.pixels]
            for seed in seeds
        ]

    def found(results: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Evidence]:
        runs = [results[i : i + len(seeds)] for i in range(0, len(results), len(seeds))]
        plain = dict(zip(normal_classes, runs, strict=False))
        crop, back, resampled = runs[len(normal_classes) :]

        def of_pair(normal: int, anomaly: int) -> tuple[np.ndarray, np.ndarray]:
            return together(plain[normal], str(normal)), together(plain[normal], str(anomaly))

        shirts_first, coats_first = (str(SHIRT), str(COAT)), (str(COAT), str(SHIRT))
        treated = ((crop, shirts_first), (back, coats_first), (resampled, shirts_first))
        scores = [(together(run, normal), together(run, anomaly)) for run, (normal, anomaly) in treated]
        return garments.evidence(garments.case_table(of_pair, train, names), train, *scores)

    return {choice.words: found(train_and_score_all(jobs(choice), executor, choice.words)) for choice in listed}


def tested(normal: int) -> list[int]:
    """The classes that Table 2 tests a class against, and itself."""
    return [normal, *(anomaly for one, anomaly in TABLE_2 if one == normal)]


def together(results: Sequence[Mapping[str, np.ndarray]], name: str) -> np.ndarray:
    """Scores of a test set by seed, ``(S, N)``."""
    return np.stack([result[name] for result in results])


def padded(images: np.ndarray, side: int) -> np.ndarray:
    """Images ``(N, C, H, H)`` with black around them, ``(N, C, side, side)``."""
    before, after = (side - images.shape[-1]) // 2, (side - images.shape[-1] + 1) // 2
    return np.pad(images, ((0, 0), (0, 0), (before, after), (before, after)))


def short(claim: str, found: Evidence) -> str:
    """A claim's numbers without their intervals, for a cell of the picture."""
    values = {name: interval.value for name, interval in found.items()}
    match claim:
        case "1.1":
            return f"{max(values.values(), key=abs):+.0%}"
        case "1.2":
            return f"{values['slope']:+.0f}"
        case "1.3" | "1.4":
            other = {name for name in values if name.startswith("6 in 3")}
            return ", ".join(f"{min(values[n] for n in names):.2f}" for names in (values.keys() - other, other))
        case "2.2":
            fail = [name.removeprefix("case ") for name, value in values.items() if value < 0.5]
            return " ".join(fail) or "none"
        case "2.3":
            return f"{sum(value > 0 for value in values.values())} of {len(values)}"
        case "2.4":
            return f"{values['failing cases']:.0f}"
        case "2.5":
            first, second, gain = values.values()
            return f"{first:.2f}, {second:.2f}, {gain:+.2f}"
    return ", ".join(f"{value:.2f}" for value in values.values())


def specification_table(model: str, by_choice: Mapping[str, Mapping[str, Evidence]]) -> pd.DataFrame:
    """`specifications.rows_of` what `of_contamination` or `of_black_pixels` found."""
    return pd.DataFrame(
        [
            row
            for choice, found in by_choice.items()
            for claim, of_claim in found.items()
            for row in rows_of(model, choice, claim, of_claim, short(claim, of_claim))
        ]
    )
