"""The three failures, on frames where it is known which can show them and what a map says of them."""

import numpy as np
import pytest
from experiments.borescope.made import frame

from flowlib.experiments.borescope import failures
from flowlib.experiments.borescope.frames import Shot, blades
from flowlib.simulator.dataset import REFLECTION, SHADOW


def with_regions(one: Shot, value: int, rows: slice, columns: slice) -> Shot:
    regions = one.regions.copy()
    regions[rows, columns] = value
    return one._replace(regions=regions)


def shots() -> list[Shot]:
    """Normal without and with a glint; a defect in a glint; small inside a patch, across a border; black, in part."""
    five = slice(0, 5)
    missing = frame("missing_piece", 6, (40, 60, 40, 90))
    return [
        frame(blade=0),
        with_regions(frame(blade=1), REFLECTION, five, slice(0, 6)),  # 30 pixels
        with_regions(frame(blade=2), REFLECTION, five, slice(0, 5)),  # 25: too few
        with_regions(frame("crack", 3, (2, 10, 2, 10)), REFLECTION, slice(0, 9), slice(0, 9)),
        frame("scratch", 4, (28, 36, 2, 10)),
        with_regions(missing, SHADOW, slice(0, 41), slice(0, 50)),  # 10 of its black pixels are of the defect
        with_regions(missing, SHADOW, slice(0, 41), slice(0, 49)),  # 9: too few
    ]


def test_reflections_are_of_normal_frames_with_enough_of_one():
    found = failures.reflections(shots())
    assert found.places == [1]
    assert found.inside[0].sum() == 30
    assert (found.inside[0] ^ found.outside[0]).all()
    dark = with_regions(shots()[1], SHADOW, slice(50, 60), slice(0, 96))
    (metal,) = failures.reflections([dark]).outside
    assert metal.sum() == 64 * 96 - 30 - 960  # what shows black between blades is no metal


def test_black_shadow_is_of_missing_metal_against_what_is_whole():
    given = shots()
    found = failures.black_shadows(given)
    assert found.places == [5]
    assert found.inside[0].sum() == 10
    assert np.array_equal(found.outside[0], ~given[5].mask)  # neither the rest of the defect
    assert failures.black_shadows([given[5]._replace(label="nick")]).places == []  # only of missing pieces


def test_recall_counts_the_black_pixels_above_what_a_rate_of_the_others_exceed():
    given = shots()
    black = failures.black_shadows(given)
    blind = [np.random.default_rng(0).normal(size=one.mask.shape) for one in given]
    high = [10.0 * (one.regions == SHADOW) * one.mask for one in given]
    half = [values.copy() for values in high]
    rows, columns = np.nonzero(black.inside[0])
    half[5][rows[:5], columns[:5]] = 0
    found = failures.recall_within(black, [high, half, [-values for values in high], blind])
    assert found[:3].tolist() == [[1.0], [0.5], [0.0]]
    assert failures.recall_within(black, [blind], 1.0)[0, 0] > 0.8  # any pixel is above the lowest


def test_the_measure_of_a_subset_is_the_mean_auroc_of_its_frames():
    """A map that is high in the glint has 1, one that is low there 0, one that is blind one half."""
    given = shots()
    found = failures.reflections(given)
    high, low, blind = ([sign * (one.regions == REFLECTION) for one in given] for sign in (1.0, -1.0, 0.0))
    values = failures.within(found, [high, low, blind])
    np.testing.assert_array_equal(values, [[1.0], [0.0], [0.5]])
    twice = [*given, given[1]._replace(blade=8)]
    both = failures.reflections(twice)
    assert both.places == [1, 7]
    assert failures.mean_within(both, np.array([[1.0, 0.5], [0.5, 0.0]]), twice).value == 0.5


def test_more_data_is_compared_frame_by_frame():
    """A flow of all blades that ranks glints low, one of a tenth that ranks them high: the difference is negative."""
    given = [with_regions(frame(blade=blade), REFLECTION, slice(0, 5), slice(0, 6)) for blade in range(5)]
    low, high = ([sign * (one.regions == REFLECTION) for one in given] for sign in (-1.0, 1.0))
    found = failures.with_more_data([low, low], [high, high], given)
    assert {name: interval.value for name, interval in found.items()} == {
        "all blades": 0.0,
        "a tenth": 1.0,
        "all less a tenth": -1.0,
    }


def test_small_defects_are_told_by_the_border():
    inside, across = failures.small_defects(shots())
    assert inside.tolist() == [3]
    assert across.tolist() == [4]  # the missing pieces are too large for a patch, the rest normal


def small(inside: int, across: int) -> list[Shot]:
    """Normal frames among defects of as many blades, the inner first."""
    boxes = [(2, 10, 2, 10)] * inside + [(28, 36, 2, 10)] * across
    return [frame(blade=99), *(frame("crack", i, box) for i, box in enumerate(boxes)), frame(blade=98)]


def test_texture_is_the_tenth_of_the_metal_that_varies_most():
    """Stripes on the left third of a blade, whose border and whose reflections are not asked about."""
    plain = frame()
    image = np.full((1, 96, 160), 100, np.uint8)
    image[0, :, :40:2] = 160
    regions = np.full((96, 160), failures.METAL)
    regions[:, 120:] = REFLECTION
    striped = plain._replace(image=image, mask=np.zeros((96, 160), bool), regions=regions)
    bright = with_regions(plain, REFLECTION, slice(0, 64), slice(0, 60))  # but for a strip
    found = failures.textures([bright, striped, striped._replace(label="crack")])
    assert found.places == [1]
    inside, outside = found.inside[0], found.outside[0]
    rows, columns = np.nonzero(inside | outside)
    assert (rows.min(), columns.min()) >= (15, 15)
    assert columns.max() < 120 - 15
    assert inside.sum() == pytest.approx(0.1 * (inside | outside).sum(), rel=0.35)
    assert np.nonzero(inside)[1].max() < 40 < np.nonzero(outside)[1].max()


def test_the_border_gap_is_of_the_small_defects():
    """0.8 inside and 0.5 across, but for a blade each; what normal frames hold counts for nothing."""
    given = small(12, 10)
    overlaps = np.array([0.0, *[0.8] * 11, 0.2, *[0.5] * 9, 0.9, 1.0])
    gap = failures.border_gap(overlaps[None], given)
    assert gap is not None
    assert gap.value == pytest.approx((11 * 0.8 + 0.2) / 12 - (9 * 0.5 + 0.9) / 10)
    assert gap.low < gap.value < gap.high
    swapped = failures.border_gap(-overlaps[None], given)
    assert swapped is not None
    assert swapped.value == pytest.approx(-gap.value)


def test_the_gap_is_at_equal_size():
    """Overlap grows with size alone, and what lies across a border is larger: no gap is left."""
    boxes = [(2, 4 + i % 5, 2, 10) for i in range(12)] + [(28, 34 + i % 5, 2, 20) for i in range(12)]
    given = [frame("crack", i, box) for i, box in enumerate(boxes)]
    size = np.log([one.mask.sum() for one in given])
    overlaps = 0.1 * size
    assert overlaps[:12].mean() < overlaps[12:].mean() - 0.05
    gap = failures.border_gap(overlaps[None], given)
    assert gap == pytest.approx((0, 0, 0), abs=1e-9)
    assert failures.border_gap(overlaps[None] + 0.3 * (np.arange(24) < 12), given).value == pytest.approx(0.3)


@pytest.mark.parametrize(("inside", "across"), [(5, 0), (0, 5), (0, 0)])
def test_there_is_no_gap_without_both_kinds(inside, across):
    given = small(inside, across)
    assert failures.border_gap(np.ones((1, len(given))), given) is None


def test_the_gap_is_over_blades():
    """Frames of one blade that say the same add nothing."""
    rng = np.random.default_rng(0)
    given = small(10, 10)
    overlaps = rng.uniform(size=len(given))
    one = failures.border_gap(overlaps[None], given)
    ten = failures.border_gap(overlaps.repeat(10)[None], [each for each in given for _ in range(10)])
    assert one is not None
    assert ten is not None
    assert ten == pytest.approx(one, abs=0.05)


def test_the_gap_is_over_seeds():
    """The mean of the seeds' gaps, and the less sure the more they differ."""
    given = small(10, 10)
    rise = 0.3 * (np.arange(len(given)) < 11)
    alike, apart = (failures.border_gap(np.outer(sizes, rise), given) for sizes in ((1, 1, 1), (0, 1, 2)))
    assert alike is not None
    assert apart is not None
    assert apart.value == pytest.approx(alike.value)
    assert apart.low < alike.low < alike.high < apart.high


def test_the_table_leaves_out_what_no_frame_shows():
    given = shots()
    maps = {"blind": [[0.0 * one.mask for one in given]], "sees": [[1.0 * one.mask for one in given]]}
    table = failures.table(maps, given)
    assert table.columns.tolist() == ["AUROC within the frame", "blind", "sees"]
    assert [text[:4] for text in table["blind"]] == ["0.50", "0.50"]
    assert [text[:4] for text in table["sees"]] == ["0.50", "1.00"]
    few = given[2:]
    assert failures.table({"blind": [[0.0 * one.mask for one in few]]}, few).iloc[:, 0].tolist() == [
        "black shadow of missing pieces"
    ]


def test_examples_are_the_worst_of_each():
    """The highest of two glints, the least found of two defects on a border, the least seen of two black ones."""
    given = [*shots(), *shots()]
    n = len(shots())
    maps = [0.0 * one.mask for one in given]
    maps[n + 1] = 1.0 * (given[n + 1].regions == REFLECTION)
    maps[5] = -1.0 * given[5].mask
    overlaps = np.zeros(2 * n)
    overlaps[4] = 0.5
    at_stride = [values + 7 for values in maps]
    examples = failures.worst_examples(maps, at_stride, overlaps, given)
    assert [(title, place) for title, place, _ in examples] == [
        ("reflection: AUROC 1.00", n + 1),
        ("scratch across a border", n + 4),
        ("black shadow: AUROC 0.00", 5),
    ]
    assert all(
        shown is source
        for (_, _, shown), source in zip(examples, (maps[n + 1], at_stride[n + 4], maps[5]), strict=True)
    )
    assert failures.worst_examples(maps[:1], at_stride[:1], overlaps[:1], given[:1]) == []
    assert len(set(blades(given))) == 7 - 1
