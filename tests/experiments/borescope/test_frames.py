"""The borescope study's frames: divided by blade, shown, refused by name."""

from pathlib import Path

import pytest
from experiments.borescope.made import frame

from flowlib.experiments.borescope import frames


def test_a_frame_of_another_name_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"photo\.png is no frame"):
        frames.shot("good", tmp_path / "photo.png", None, tmp_path)


def test_parts_share_no_blade():
    shots = [frame(blade=blade) for blade in range(20) for _ in range(3)]
    test = [frame(blade=30), frame("crack", 31, (2, 9, 3, 8)), frame("burn", 31)]
    parts = frames.divided(shots, test)
    found = [set(frames.blades(part)) for part in (parts.training, parts.held)]
    assert set.union(*found) == set(range(20))
    assert sum(map(len, found)) == 20
    assert [one.label for one in parts.tested] == ["good", "crack"]  # the burn lies out of the picture


def test_fewer_shots_are_all_of_some_blades():
    shots = [frame(blade=blade) for blade in range(20, 40) for _ in range(3)]
    some = frames.fewer(shots, 0.1)
    assert frames.blades(some).tolist() == [20] * 3 + [30] * 3
    assert frames.fewer(shots, 1.0) == shots
    assert len(frames.fewer(shots[:9], 0.1)) == 3  # one blade at least


def test_pictures_are_of_each_view_and_kind():
    views = [frame(blade=blade, view=view) for blade, view in enumerate((2, 0, 2, 1))]
    assert frames.blades(frames.of_each_view(views)).tolist() == [1, 3, 0]
    boxes = {0: (0, 5, 0, 5), 1: (0, 60, 0, 50), 2: (0, 60, 0, 90), 3: (0, 9, 0, 9)}
    shots = [frame("crack" if blade in (0, 3) else "burn", blade, box) for blade, box in boxes.items()]
    assert frames.blades(frames.of_each_kind(shots)).tolist() == [1, 3]  # 3000 pixels are enough
    assert frames.blades(frames.of_each_kind(shots, enough=9999)).tolist() == [2, 3]
