"""The tables of notebook 05, on scores and maps whose rows are known."""

import numpy as np
import pytest
from experiments.borescope.made import frame, perfect, some_parts
from scipy.stats import beta

from flowlib.detector.map_metrics import pixel_auroc
from flowlib.experiments.borescope import tables
from flowlib.experiments.borescope.frames import blades
from flowlib.experiments.borescope.measures import Scored
from flowlib.metrics import Interval, auroc, average_precision, conformal_threshold

PARTS = some_parts()
N, M = len(PARTS.normal), len(PARTS.defective)


def noise(seeds: int, shift: float) -> Scored:
    rng = np.random.default_rng(0)
    return Scored(rng.normal(size=(seeds, N)), rng.normal(shift, 1, (seeds, M)), [])


def test_every_defective_frame_is_described():
    table = tables.described(PARTS.defective[:3])
    assert table.to_dict("list") == {
        "defect": ["crack", "crack", "dent"],
        "blade": [30, 30, 31],
        "view": [PARTS.defective[0].viewpoint] * 3,
        "pixels": [48, 48, 2000],
    }


def test_methods_have_a_row_each_and_no_map_no_pixels():
    plain, sees = noise(3, 1.0), noise(1, 50)._replace(maps=[perfect(PARTS.tested)])
    table = tables.methods({"plain": plain, "sees": sees}, PARTS).set_index("method")
    assert table.loc["plain", "image"] == pytest.approx(
        np.mean([auroc(a, b) for a, b in zip(plain.normal, plain.defective, strict=True)])
    )
    assert table.loc["plain", "AP"] == pytest.approx(
        np.mean([average_precision(a, b) for a, b in zip(plain.normal, plain.defective, strict=True)])
    )
    assert table.loc["plain", "image low"] < table.loc["plain", "image"] < table.loc["plain", "image high"]
    assert table.loc["plain", ["pixel", "AUPRO 0.3", "AUPRO 0.05"]].isna().all()
    assert table.loc["sees", ["image", "AP", "pixel", "AUPRO 0.3", "AUPRO 0.05"]].tolist() == pytest.approx([1] * 5)
    measured = tables.measure(table.reset_index(), "plain", "image")
    assert measured == Interval(*table.loc["plain", ["image", "image low", "image high"]])


def test_pixels_of_seeds_are_averaged():
    one, two = perfect(PARTS.tested), [np.random.default_rng(i).normal(size=(64, 96)) for i in range(N + M)]
    masks = [each.mask for each in PARTS.tested]
    table = tables.methods({"both": noise(2, 1.0)._replace(maps=[one, two])}, PARTS)
    assert table["pixel"][0] == pytest.approx(np.mean([1, pixel_auroc(two, masks)]), abs=0.01)


def test_groups_are_kinds_and_sizes():
    """Cracks, which are small, score above every normal frame; dents, which are large, below."""
    cracks = np.array([one.label == "crack" for one in PARTS.defective])
    found = Scored(np.zeros((2, N)), np.where(cracks, 1.0, -1.0)[None].repeat(2, 0), [])
    table = tables.groups({"m": found}, PARTS)
    assert table["group"].tolist() == ["crack", "dent", "under 100 pixels", "1000 up pixels"]
    assert table["auroc"].tolist() == [1, 0, 1, 0]
    assert tables.lowest_kind(table, "m", ["crack", "dent"]) == (
        "dent",
        Interval(*table.loc[1, ["auroc", "low", "high"]]),
    )
    assert tables.lowest_kind(table, "m", ["crack"])[0] == "crack"
    of_sizes = tables.of_groups(table, "m", ["under 100 pixels", "100 to 999 pixels"])
    assert of_sizes == {"under 100 pixels": Interval(*table.loc[2, ["auroc", "low", "high"]])}  # of those there are


def test_strides_tell_cost_quality_and_agreement():
    shots = PARTS.tested
    rng = np.random.default_rng(0)
    few = [rng.normal(size=(64, 96)) for _ in range(2)]
    of_few = {"32": ([-values for values in few], 0.1), "4": (few, 6.0), "dense": ([3 * v for v in few], 0.05)}
    table = tables.strides(shots, {"32": [[0.0 * one.mask for one in shots]], "dense": [perfect(shots)]}, of_few)
    assert table["stride"].tolist() == ["32", "4", "dense"]
    assert table["seconds"].tolist() == [0.1, 6.0, 0.05]
    assert table["agreement"].tolist() == pytest.approx([-1, 1, 1])
    assert table["overlap"].tolist() == pytest.approx([0.15, np.nan, 1], nan_ok=True)  # a constant map: limit / 2


def test_overlaps_count_frames_with_a_defect_alone():
    overlaps = tables.overlaps_of([perfect(PARTS.tested)], PARTS.tested)
    assert overlaps[0].tolist() == pytest.approx([0] * N + [1] * M)
    some = [N, N + 2]
    assert tables.overlap_gain(overlaps, 0.25 * overlaps, PARTS.tested, some).value == pytest.approx(0.75)
    changed = overlaps.copy()
    changed[:, N + 1] = 0.0  # of none of the places
    assert tables.overlap_gain(changed, 0.25 * overlaps, PARTS.tested, some).value == pytest.approx(0.75)
    assert tables.has_defect([frame(), frame("crack", 1, (0, 2, 0, 2))]).tolist() == [0, 1]


def test_calibration_counts_alarms_above_the_conformal_threshold():
    held = np.arange(39.0)
    normal = np.full((1, N), -1.0)
    normal[0, :3] = 100  # both frames of the first blade and one of the second
    found = Scored(normal, np.linspace(30, 60, M)[None], [])
    table = tables.calibration(held, found, PARTS)
    assert table["nominal"].tolist() == list(tables.RATES)
    assert table["threshold"].tolist() == [conformal_threshold(held, rate) for rate in tables.RATES]
    assert table["actual"].tolist() == pytest.approx([0, 3 / N, 3 / N])  # 39 scores cannot promise 1 %
    assert table["found"].tolist() == pytest.approx(
        [0, *((found.defective[0] > t).mean() for t in table["threshold"][1:])]
    )
    assert table.loc[2, ["expected low", "expected high"]].tolist() == pytest.approx(beta.ppf([0.025, 0.975], 4, 36))
    assert table.loc[0, ["expected low", "expected high"]].tolist() == [0, 0]
    assert (table["low"] <= table["actual"]).all()
    assert (table["actual"] <= table["high"]).all()


def test_gain_is_the_difference_of_aurocs():
    second, first = noise(2, 0.0), noise(2, 1.0)
    gain = tables.auroc_gain(first, second, PARTS)
    of_first, of_second = (
        np.mean([auroc(a, b) for a, b in zip(x.normal, x.defective, strict=True)]) for x in (first, second)
    )
    assert gain.value == pytest.approx(of_first - of_second)
    assert gain.low < gain.value < gain.high
    assert tables.auroc_gain(first, first, PARTS).value == 0
    assert len(set(blades(PARTS.defective))) == 6
