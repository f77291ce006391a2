"""Choices of notebooks 01 and 02: each is another one, and is judged as the notebook's own run is."""

from pathlib import Path

import numpy as np
import pytest
from experiments.test_frequencies import Inline

from flowlib.experiments import class_choices
from flowlib.experiments.black_pixels import TABLE_2
from flowlib.experiments.specifications import counts
from flowlib.metrics import Interval
from flowlib.study import claims
from flowlib.training import build

CHOICES = class_choices.choices((1, 2), 8)
RNG = np.random.default_rng(0)


def ten_classes(n: int) -> list[np.ndarray]:
    """Images with black around them, brighter by class."""
    inside = [RNG.integers(1, 40 + 20 * c, (n, 1, 20, 20), dtype=np.uint8) for c in range(10)]
    return [np.pad(images, ((0, 0), (0, 0), (4, 4), (4, 4))) for images in inside]


def test_choices_differ_and_can_be_built() -> None:
    assert len({choice.words for choice in CHOICES}) == len(CHOICES) == 8
    assert len({(repr(choice.recipe), choice.pixels) for choice in CHOICES}) == len(CHOICES)
    for choice in CHOICES:
        build(choice.recipe, (1, choice.pixels, choice.pixels))
        assert f"{choice.recipe.steps} steps" in choice.words


def test_padding_is_black_and_even() -> None:
    images = np.full((2, 1, 28, 28), 9, np.uint8)
    found = class_choices.padded(images, 32)
    assert found.shape == (2, 1, 32, 32)
    assert (found[..., 2:30, 2:30] == 9).all()
    assert found.sum() == images.sum()
    assert np.array_equal(class_choices.padded(images, 28), images)


def test_every_claim_is_judged_under_a_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = CHOICES[-1]  # of padded images
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    train, test = ten_classes(12), ten_classes(6)
    digits = class_choices.of_contamination([choice], train, test, [0, 1], Inline())
    names = [str(c) for c in range(10)]
    garments = class_choices.of_black_pixels([choice], train, test, names, [0, 1], Inline())
    assert list(digits[choice.words]) == ["1.1", "1.2", "1.3", "1.4", "1.5"]
    assert set(garments[choice.words]) - {"2.3"} == {"2.2", "2.4", "2.5"}
    assert len(garments[choice.words]["2.2"]) == len(TABLE_2)
    for claim, of_claim in (digits[choice.words] | garments[choice.words]).items():
        claims.record(tmp_path, claim, of_claim, "")
    table = class_choices.specification_table("Glow", digits)
    assert set(table["choice"]) == {choice.words}
    assert counts(table).drop(columns=["claim", "model"]).to_numpy().sum() == 5


@pytest.mark.parametrize(
    ("claim", "values", "said"),
    [
        ("1.1", {"case 2": 0.04, "case 3": -0.11}, "-11%"),
        ("1.2", {"slope": -41.3, "case 6 - case 1": -90.0}, "-41"),
        ("1.4", {"case 1": 0.99, "case 2": 0.97, "6 in 3, case 1": 0.6, "6 in 3, case 2": 0.4}, "0.97, 0.40"),
        ("1.5", {"8 -> 1": 0.003}, "0.00"),
        ("2.2", {"case 4": 0.4, "case 5": 0.9, "case 12": 0.1}, "4 12"),
        ("2.2", {"case 4": 0.6}, "none"),
        ("2.3", {"case 4": 20.0, "case 5": -3.0}, "1 of 2"),
        ("2.4", {"failing cases": 3.0}, "3"),
        ("2.5", {"case 4, cropped": 0.61, "case 3, cropped": 0.55, "crop less resampling": -0.02}, "0.61, 0.55, -0.02"),
    ],
)
def test_numbers_of_a_cell(claim: str, values: dict[str, float], said: str) -> None:
    assert class_choices.short(claim, {name: Interval(v, v, v) for name, v in values.items()}) == said
