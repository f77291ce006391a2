"""The tables of notebook 06 take the scores they name."""

import numpy as np
import pytest

from flowlib.experiments import beyond
from flowlib.metrics import Interval, auroc_interval
from flowlib.scoring import of_groups
from flowlib.training import Recipe

RNG = np.random.default_rng(0)
JOBS = [
    {f"{score}/{test}": RNG.normal(size=20) for score in ("likelihood", "DoSE") for test in ("normal", "held", "ones")}
    for _ in range(2)
]
PIXELS = [{f"PCA/{test}": RNG.normal(size=20) for test in ("normal", "held", "ones")}]


def test_task_table_compares_a_test_with_the_normal_images():
    results = {"eights": beyond.stacked(PIXELS, JOBS)}
    assert beyond.score_names(results["eights"]) == ["PCA", "likelihood", "DoSE"]
    table = beyond.task_table(results, {"8 → 1": ("eights", "ones")})
    assert table["score"].tolist() == ["PCA", "likelihood", "DoSE"]
    of = [np.stack([job[f"DoSE/{test}"] for job in JOBS]) for test in ("normal", "ones")]
    assert tuple(table.iloc[2][["auroc", "low", "high"]]) == auroc_interval(*of, resamples=400)


def test_class_grids_put_scores_where_they_belong():
    jobs = [
        {f"score/{c}": np.full(5, 100.0 * seed + 10 * trained + c) for c in range(3)}
        for seed in range(2) for trained in range(3)
    ]  # fmt: skip
    grid = beyond.class_grids(jobs)["score"]
    assert grid.shape == (2, 3, 3, 5)
    assert grid[1, 2, 0, 0] == 120
    table = beyond.one_class_table({("set", "score"): grid}, {"set": ["a", "b", "c"]})
    assert table["auroc"].tolist() == [1, 0.5, 0]  # the others score 1 and 2, 10 and 12, 20 and 21


def test_targets_are_met_by_value():
    found = {"one": [Interval(0.95, 0.9, 1), Interval(0.2, 0.1, 0.3)], "two": [Interval(0.94, 0.9, 1)] * 2}
    assert beyond.targets_met(found, [0.95, 0.3]) == {"one": 1, "two": 1}


def test_group_table_has_the_sizes_that_leave_two_groups():
    results = {"eights": beyond.stacked(JOBS)}
    table = beyond.group_table(results, {"8 → 1": ("eights", "ones")}, (1, 10, 11))
    assert table[["sides", "size"]].to_numpy().tolist() == [
        ["one-sided", 1], ["two-sided", 1], ["one-sided", 10], ["two-sided", 10]
    ]  # fmt: skip
    of = [
        np.stack([of_groups(job[f"likelihood/{t}"], job["likelihood/held"], 10) for job in JOBS])
        for t in ("normal", "ones")
    ]
    assert tuple(table.iloc[3][["auroc", "low", "high"]]) == auroc_interval(*of, resamples=400)


def test_normal_sets_keep_held_out_images_out_of_the_tests(monkeypatch: pytest.MonkeyPatch):
    sets = {name: RNG.integers(1, 256, (60, 1, 28, 28), dtype=np.uint8) for name in ("fashion-mnist", "mnist")}
    monkeypatch.setattr(beyond, "load", lambda name, split: (sets[name], None))
    monkeypatch.setattr(beyond, "by_class", lambda name, split: [sets[name]] * 10)
    found = beyond.normal_sets(Recipe(steps=2), Recipe(steps=1), score_images=15, held_images=20)
    assert list(found) == ["Fashion-MNIST", "MNIST", "eights"]
    for one in found.values():
        held = {image.tobytes() for image in one.tests["held"]}
        assert len(held) == 20
        assert len(one.tests["normal"]) == 15
        assert not held & {image.tobytes() for image in one.tests["normal"]}
        assert set(beyond.made_up_images(one.tests["held"][:2])) <= set(one.tests)
    assert np.array_equal(found["MNIST"].tests["Fashion-MNIST"], found["Fashion-MNIST"].tests["normal"])
    assert [one.recipe.steps for one in found.values()] == [2, 2, 1]
