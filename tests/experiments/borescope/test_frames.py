"""The borescope study's frames: read back as they were made, damaged for the choice, refused by name."""

from pathlib import Path

import numpy as np
import pytest

from flowlib.experiments.borescope import frames, maps
from flowlib.experiments.borescope.frames import Shot


def test_damaged_copies_keep_blade_and_view():
    image = np.random.default_rng(0).integers(0, 255, (3, 40, 48), dtype=np.uint8)
    shots = [Shot("good", blade, 1, image, np.zeros((40, 48), bool), np.zeros((40, 48), np.uint8)) for blade in (4, 7)]
    copies = frames.damaged(shots, 5, seed=0)
    assert [one.blade for one in copies] == [4, 7, 4, 7, 4]
    assert all(one.mask.any() and one.label == "made up" and one.view == 1 for one in copies)
    assert not shots[0].mask.any()
    assert np.array_equal(copies[0].image, frames.damaged(shots, 1, seed=0)[0].image)


def test_a_frame_of_another_name_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"photo\.png is no frame"):
        frames.shot("good", tmp_path / "photo.png", None, tmp_path)


def test_reduced_patches_are_block_means():
    patches = np.random.default_rng(0).integers(0, 255, (3, 2, 32, 32), dtype=np.uint8)
    found = maps.reduced(patches)
    assert found.shape == (3, 2, 8, 8)
    assert found[1, 1, 2, 5] == np.rint(patches[1, 1, 8:12, 20:24].mean())
