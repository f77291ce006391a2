"""The real sets against the numbers of the thesis, and properties of the made ones."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowlib import datasets
from flowlib.datasets import CLASS_NAMES, HIGH, LOW, add_squares, frequencies, load
from flowlib.experiments.black_pixels import black_pixels
from flowlib.runtime.download import DataError

PIXELS = st.one_of(st.just(0), st.just(255), st.integers(0, 255))
IMAGES = arrays(np.uint8, st.tuples(st.integers(0, 5), st.integers(1, 3), st.just(7), st.just(9)), elements=PIXELS)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize(("split", "count"), [("train", 60000), ("test", 10000)])
def test_real_sets_have_their_shape(name: str, split: str, count: int) -> None:
    images, labels = load(name, split)
    assert (images.dtype, images.shape) == (np.uint8, (count, 1, 28, 28))
    assert (labels.dtype, labels.shape) == (np.int64, (count,))
    assert (images.min(), images.max()) == (0, 255)
    assert set(labels.tolist()) == set(range(len(CLASS_NAMES[name])))
    images[0] = 0  # the caller's own, writable


def test_mnist_counts_are_those_of_table_1() -> None:
    _, labels = load("mnist", "train")
    assert np.bincount(labels)[[1, 8]].tolist() == [6742, 5851]


def test_black_pixel_means_are_those_of_table_2() -> None:
    images, labels = load("fashion-mnist", "train")
    assert np.bincount(labels).tolist() == [6000] * 10
    black = black_pixels(images)
    means = {label: round(black[labels == i].mean()) for i, label in enumerate(CLASS_NAMES["fashion-mnist"])}
    expected = {"Trouser": 511, "Coat": 312, "Sandal": 532, "Shirt": 291, "Sneaker": 519, "Ankle boot": 404}
    assert {label: means[label] for label in expected} == expected


def test_load_refuses_unknown_splits_and_wrong_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="split is 'val', it must be 'train' or 'test'"):
        load("mnist", "val")
    with pytest.raises(ValueError, match="name is 'cifar'"):
        load("cifar", "test")
    header = bytes((0, 0, 8, 3, 0, 0, 0x27, 0x10, 0, 0, 0, 28, 0, 0, 0, 28))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(header + bytes(1000))
    monkeypatch.setattr(datasets, "ensure", lambda name: tmp_path)  # as if it had changed since it was verified
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte is truncated: 1016 of 7840016 bytes"):
        load("mnist", "test")


def test_by_class(monkeypatch: pytest.MonkeyPatch):
    images, labels = np.arange(6, dtype=np.uint8)[:, None, None, None], np.array([2, 0, 1, 0, 2, 0])
    monkeypatch.setattr(datasets, "load", lambda name, split: (images, labels))
    assert [group.ravel().tolist() for group in datasets.by_class("mnist", "test")] == [[1, 3, 5], [2], [0, 4]]
    assert [group.ravel().tolist() for group in datasets.by_class("mnist", "test", 2)] == [[1, 3], [2], [0, 4]]


# --- the two made sets: squares on images, and gratings ---------------------------------------------------------


@given(IMAGES, st.floats(0, 1), st.integers(0, 1000))
@settings(deadline=None)
def test_squares_change_the_images_inside_their_masks_alone(images: np.ndarray, share: float, seed: int) -> None:
    before = images.copy()
    marked, masks, table = add_squares(images, share, seed=seed)
    assert (images == before).all(), "the input is not changed"
    assert (marked.dtype, marked.shape) == (np.uint8, images.shape)
    assert (masks.dtype, masks.shape) == (np.bool_, (len(images), 1, 7, 9))
    assert table["index"].tolist() == list(range(len(images)))
    assert table["anomalous"].sum() == round(share * len(images))
    for i, row in table.iterrows():
        if not row["anomalous"]:
            assert not masks[i].any()
            assert (marked[i] == images[i]).all()
            assert row.drop(["index", "anomalous"]).isna().all()
            continue
        exact = np.zeros((7, 9), dtype=bool)
        exact[row["row"] : row["row"] + row["size"], row["column"] : row["column"] + row["size"]] = True
        assert (masks[i, 0] == exact).all()
        assert exact.sum() == row["size"] ** 2, "the square lies wholly inside the frame"
        assert row["size"] in (2, 3, 4)
        assert row["level"] in (0, 255)
        assert (marked[i][:, exact] == row["level"]).all()
        assert (marked[i][:, ~exact] == images[i][:, ~exact]).all()
        assert (marked[i] != images[i]).any(), "a square always changes something"
        replaced = images[i][:, exact].astype(float)
        assert row["contrast"] == pytest.approx(np.abs(replaced - row["level"]).mean())


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_squares_lie_on_the_filled_object_where_they_fit(seed: int) -> None:
    silhouette = np.zeros((20, 20), dtype=bool)
    silhouette[3:12, 5:14] = True
    images = np.random.default_rng(seed).integers(1, 255, (100, 1, 20, 20), dtype=np.uint8) * silhouette
    images[:, :, 5:10, 7:12] = 0  # a hole
    _, masks, _ = add_squares(images, 1.0, seed=seed)
    assert not (masks & ~silhouette).any()
    assert masks[:, 0, 7, 9].any(), "the hole belongs to the object"


def test_a_square_that_fits_nowhere_overlaps_the_object_most() -> None:
    line = np.zeros((1, 1, 9, 9), dtype=np.uint8)
    line[0, 0, 4, 1:8] = 90
    for seed in range(20):
        _, masks, _ = add_squares(line, 1.0, sizes=(3,), seed=seed)
        assert (masks & (line > 0)).sum() == 3


def test_a_square_that_would_change_nothing_is_drawn_elsewhere_or_otherwise() -> None:
    image = np.full((1, 1, 6, 6), 255, dtype=np.uint8)
    image[0, 0, 5, 5] = 254
    for seed in range(20):
        _, masks, table = add_squares(image, 1.0, sizes=(2,), levels=(255,), seed=seed)
        assert masks[0, 0, 5, 5], "the only place where a white square shows"
        _, _, table = add_squares(0 * image, 1.0, seed=seed)
        assert table["level"].tolist() == [255], "black on black does not show"
    with pytest.raises(ValueError, match="image 0 cannot be marked: no square of sizes"):
        add_squares(0 * image, 1.0, levels=(0,))


def test_contrasts_by_hand() -> None:
    image = np.full((1, 1, 4, 4), 100, dtype=np.uint8)
    image[0, 0, 1:3, 1:3] = 30
    image[0, 0, 0, 0] = 40
    seen = set()
    for seed in range(40):
        _, _, table = add_squares(image, 1.0, sizes=(2,), levels=(255,), seed=seed)
        square = table.iloc[0]
        seen.add((square["row"], square["column"]))
        if (square["row"], square["column"]) == (1, 1):
            assert square["contrast"] == 225
            assert square["ring_contrast"] == pytest.approx((11 * 155 + 215) / 12)
        if (square["row"], square["column"]) == (0, 0):
            assert square["contrast"] == pytest.approx((2 * 155 + 215 + 225) / 4)
            assert square["ring_contrast"] == pytest.approx((2 * 155 + 3 * 225) / 5), "a corner has five neighbours"
    assert seen == {(row, column) for row in range(3) for column in range(3)}, "every place is drawn"


def test_every_kind_of_square_is_drawn_about_equally_often() -> None:
    images = np.random.default_rng(0).integers(1, 255, (1000, 1, 28, 28), dtype=np.uint8)
    _, masks, table = add_squares(images, 0.4)
    assert table["anomalous"].sum() == masks.any(axis=(1, 2, 3)).sum() == 400
    assert 400 < table["index"][table["anomalous"]].median() < 600, "from the whole set"
    counts = table.groupby(["size", "level"]).size()
    assert len(counts) == 6
    assert counts.between(40, 95).all()  # 400 / 6 = 67, standard deviation 7.5


def test_squares_are_deterministic_by_seed() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 28, 28), dtype=np.uint8)
    first, again, other = (add_squares(images, 0.5, seed=seed) for seed in (1, 1, 2))
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()
    pd.testing.assert_frame_equal(first[2], again[2])
    assert (first[1] != other[1]).any()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"share": 1.2}, "share is 1.2"),
        ({"sizes": (2, 29)}, r"sizes are \(2, 29\), each must lie in \[1, 28\]"),
        ({"sizes": ()}, r"sizes are \(\)"),
        ({"levels": (0, 256)}, r"levels are \(0, 256\), each must lie in \[0, 255\]"),
        ({"images": np.zeros((3, 28, 28), np.uint8)}, r"images are uint8 \(3, 28, 28\)"),
    ],
)
def test_squares_refuse_bad_arguments(arguments: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        add_squares(**{"images": np.ones((3, 1, 28, 28), np.uint8), "share": 0.5} | arguments)


@given(st.integers(0, 10_000), st.integers(31, 48))
@settings(max_examples=10, deadline=None)
def test_gratings_have_their_frequency_intensity_and_rotation(seed: int, size: int) -> None:
    images, table = frequencies(seed, size)
    assert (images.dtype, images.shape) == (np.uint8, (1200, 1, size, size))
    assert table.groupby("frequency").size().to_dict() == dict.fromkeys(LOW + HIGH, 120)
    assert table.groupby("group").size().to_dict() == {"low": 600, "high": 600}
    assert (table["group"] == np.where(table["frequency"] <= 5, "low", "high")).all()
    assert (table.groupby("frequency")["rotated"].sum() == 60).all()
    assert table["intensity"].between(75, 256).all()
    assert not table.duplicated(["frequency", "intensity"]).any()
    assert table.equals(table.sort_values(["frequency", "intensity"], ignore_index=True)), "ascending intensity"
    assert (images.max(axis=(1, 2, 3)) == table["intensity"].clip(upper=255)).all()

    upright = np.where(table["rotated"].to_numpy()[:, None, None], images[:, 0].transpose(0, 2, 1), images[:, 0])
    assert (upright == upright[:, :1]).all(), "vertical stripes; horizontal ones where rotated"
    spectrum = np.abs(np.fft.rfft(upright[:, 0].astype(float), axis=1))[:, 1:]  # without the mean
    assert (1 + spectrum.argmax(axis=1) == table["frequency"]).all()
    share = spectrum.max(axis=1) ** 2 / (spectrum**2).sum(axis=1)
    assert share.min() > 0.99, "one frequency alone, but for rounding"


def test_every_intensity_from_75_to_256_is_drawn() -> None:
    """Of 182 intensities each frequency draws 120: that one is in none of the ten has a chance of 2e-5."""
    for seed in range(3):
        _, table = frequencies(seed, 31)
        assert set(table["intensity"]) == set(range(75, 257))


def test_gratings_are_deterministic_by_seed() -> None:
    (images, table), (again, table_again), (_, other) = frequencies(3), frequencies(3), frequencies(4)
    assert images.shape == (1200, 1, 32, 32)
    assert (images == again).all()
    pd.testing.assert_frame_equal(table, table_again)
    assert (table["intensity"] != other["intensity"]).any()
    assert (table["rotated"] != other["rotated"]).any()


def test_a_size_that_cannot_resolve_fifteen_cycles_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 30, it must be at least 31 to resolve 15 cycles"):
        frequencies(size=30)
