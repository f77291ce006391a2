"""Viewpoints told by the nearest pictures: where only the frame's layout differs, patches cannot tell it."""

import numpy as np
import pytest
from experiments.borescope.made import frame

from flowlib.experiments.borescope import viewpoints
from flowlib.experiments.borescope.frames import Shot
from flowlib.metrics import Interval


def laid_out(blade: int) -> Shot:
    """A frame that is bright on one side: on the left from viewpoint 0, on the right from 1."""
    one = frame(blade=blade, view=blade % 2)
    image = one.image.copy()
    half = image.shape[2] // 2
    image[..., :half] += 100 * (one.view == 0)
    image[..., half:] += 100 * (one.view == 1)
    return one._replace(image=image)


def test_layout_is_told_by_whole_frames_and_not_by_patches():
    shots = [laid_out(blade) for blade in range(20)]
    told = viewpoints.told(shots[:10], shots[10:])
    assert told["whole frames"] == Interval(1, 1, 1)
    assert told["patches"].low < 0.6
    assert told["patches"].high < 0.9


def test_shares_are_of_the_pictures_of_each_frame():
    shots = [frame(blade=blade, view=blade % 2) for blade in range(12)]
    value = {0: 10.0, 1: 20.0}

    def pictures(one: Shot) -> np.ndarray:
        """Two of its viewpoint's value, and one of the other's for blade 11."""
        own, other = value[one.view], value[1 - one.view]
        return np.array([[own], [own], [other if one.blade == 11 else own]])

    assert viewpoints.told_right(shots[:10], shots[10:], pictures).tolist() == pytest.approx([1, 2 / 3])


def test_pictures_are_grey_and_of_one_size():
    one = frame()
    assert viewpoints.whole(one).shape == (1, 32 * 32)
    assert viewpoints.whole(one).mean() == pytest.approx(one.image.mean(), abs=0.5)
    assert viewpoints.patches(one).shape == (2 * 3, 32 * 32)  # of 64 x 96 pixels
    assert viewpoints.patches(one)[1].reshape(32, 32).tolist() == one.image[0, :32, 32:64].tolist()


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match="n_neighbors"):
        viewpoints.told([frame()] * 4, [frame()] * 2)
