"""Maps of every method: each frame's own, in its group, whatever way the jobs are cut."""

from pathlib import Path

import numpy as np
import pytest
from experiments.borescope.made import some_parts
from experiments.test_frequencies import Inline

from flowlib.detector import fitting
from flowlib.detector.model import Settings
from flowlib.experiments.borescope import maps
from flowlib.training import Recipe

PARTS = some_parts(3)
GLOW = Recipe("Glow", {"levels": 1, "steps": 1, "hidden_channels": 4}, 2, 8)
RECIPES = {
    "told": Recipe("Glow", GLOW.options | {"classes": 4}, 2, 8),
    "autoencoder": Recipe("ConvAutoencoder", {}, 2, 8),
}


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))


def test_every_method_maps_every_frame_of_its_group():
    found = maps.every_method(PARTS, RECIPES, 40, [3, 4], Inline())
    assert {name: len(by_seed) for name, by_seed in found.items()} == {
        "told": 2,
        "autoencoder": 2,
        "PCA of patches": 1,
        "kNN of patches": 1,
    }
    groups = {"held": PARTS.held, "normal": PARTS.normal, "defective": PARTS.defective}
    for by_seed in found.values():
        for grouped in by_seed:
            assert {name: len(some) for name, some in grouped.items()} == {n: len(g) for n, g in groups.items()}
            assert all(values.shape == (64, 96) for some in grouped.values() for values in some)
    second = maps.flow_maps(PARTS.training, Recipe("Glow", RECIPES["told"].options, 2, 8, seed=4), 40, PARTS.normal)
    assert all(np.array_equal(a, b) for a, b in zip(second, found["told"][1]["normal"], strict=True))
    errors = maps.autoencoder_maps(PARTS.training, RECIPES["autoencoder"], 40, PARTS.defective[:1])
    assert not np.array_equal(errors[0], found["autoencoder"][0]["defective"][0])  # another seed


def test_strides_and_detector_maps_do_not_hang_on_the_cut(monkeypatch: pytest.MonkeyPatch):
    shots = PARTS.tested
    whole = maps.every_stride(PARTS.training, GLOW, 40, (16, 32), (3, 4), shots, Inline())
    detector = fitting.fit([one.image for one in PARTS.training], None, Settings("pixels", steps=1), Inline())
    scores, of_detector = maps.every_detector_map(detector, shots, Inline())
    assert np.array_equal(scores, detector.score_samples([one.image for one in shots]))
    assert np.array_equal(of_detector[3], detector.map(shots[3].image))
    monkeypatch.setattr(maps, "CHUNK", 5)
    cut = maps.every_stride(PARTS.training, GLOW, 40, (16, 32), (3, 4), shots, Inline())
    assert {stride: [len(of_seed) for of_seed in found] for stride, found in cut.items()} == dict.fromkeys(
        (16, 32), [len(shots)] * 2
    )
    of_whole, of_cut = (
        [values for s in (16, 32) for of_seed in each[s] for values in of_seed] for each in (whole, cut)
    )
    assert all(np.array_equal(a, b) for a, b in zip(of_whole, of_cut, strict=True))
    assert not np.array_equal(whole[16][0][0], whole[32][0][0])
    assert not np.array_equal(whole[16][0][0], whole[16][1][0])
    ((larger,),) = maps.every_stride(PARTS.training, GLOW, 40, (64,), (3,), shots[:1], Inline(), patch=64).values()
    assert len(np.unique(larger[0])) < len(np.unique(whole[32][0][0]))  # fewer patches
    again, of_again = maps.every_detector_map(detector, shots, Inline())
    assert np.array_equal(again, scores)
    assert all(np.array_equal(a, b) for a, b in zip(of_detector, of_again, strict=True))
    assert of_again[0].dtype == np.float32


def test_reduced_patches_are_block_means():
    patches = np.random.default_rng(0).integers(0, 255, (3, 2, 32, 32), dtype=np.uint8)
    found = maps.reduced(patches)
    assert found.shape == (3, 2, 8, 8)
    assert found[1, 1, 2, 5] == np.rint(patches[1, 1, 8:12, 20:24].mean())


def test_references_know_what_they_learnt_from():
    """What PCA was fitted on costs less than what it never saw."""
    rng = np.random.default_rng(0)
    strange = PARTS.normal[0]._replace(image=rng.integers(0, 255, (1, 64, 96), dtype=np.uint8))
    same, other = maps.reference_maps("PCA", PARTS.training, 40, 16, 0, [PARTS.training[0], strange])
    assert same.mean() < other.mean()
