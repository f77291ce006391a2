"""The real sets against the numbers of the thesis, and properties of the pixel operations."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flowlib import datasets
from flowlib.datasets import CLASS_NAMES, load
from flowlib.experiments.black_pixels import black_pixels, crop_to_object, invert, resample, surround
from flowlib.runtime.download import DataError

IMAGES = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)))


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


def test_black_pixels_counts_only_zeros() -> None:
    image = np.array([[[[0, 1, 255], [0, 0, 7]]]], dtype=np.uint8)
    assert black_pixels(np.concatenate([image, 0 * image, invert(image)])).tolist() == [3, 6, 1]


def test_crop_enlarges_the_bounding_box() -> None:
    image = np.zeros((1, 1, 8, 8), dtype=np.uint8)
    image[0, 0, 3, 2:6] = 200
    image[0, 0, 4, 5] = 100
    cropped = crop_to_object(image)[0, 0]
    assert cropped[0].tolist() == [200] * 8, "the upper row of the 2x4 box"
    assert cropped[-1, 0] == 0
    assert cropped[-1, -1] == 100, "its lower right pixel"
    assert (np.diff(cropped[1:7, -1].astype(int)) < 0).all(), "bilinear from 200 down to 100"
    assert crop_to_object(image, threshold=150)[0, 0].tolist() == [[200] * 8] * 8


@given(IMAGES)
def test_crop_fills_the_frame_and_keeps_the_range(images: np.ndarray) -> None:
    before = images.copy()
    cropped = crop_to_object(images)
    assert (images == before).all(), "the input is not changed"
    assert (cropped.dtype, cropped.shape) == (np.uint8, images.shape)
    assert (crop_to_object(cropped) == cropped).all(), "nothing is left to crop"
    for image, result in zip(images, cropped, strict=True):
        assert result.max() <= image.max()
        on = (result > 0).any(axis=0)
        sides = [on[0], on[-1], on[:, 0], on[:, -1]]
        assert all(side.any() for side in sides) == image.any(), "an all-black image stays as it is"


@given(IMAGES, st.integers(1, 5), st.integers(1, 5))
def test_crop_does_not_depend_on_where_the_object_lies(images: np.ndarray, down: int, right: int) -> None:
    frame = ((0, 0), (0, 0), (0, 6), (0, 6))
    padded = np.pad(images, frame)
    moved = np.roll(padded, (down, right), axis=(2, 3))
    assert (crop_to_object(padded) == crop_to_object(moved)).all()


@given(IMAGES)
def test_invert_is_its_own_inverse(images: np.ndarray) -> None:
    assert (invert(invert(images)) == images).all()
    assert (invert(images).astype(int) + images == 255).all()


def test_bad_input_is_refused() -> None:
    floats = np.zeros((1, 1, 4, 4), dtype=np.float32)
    for operation in (black_pixels, crop_to_object, resample, surround, invert):
        with pytest.raises(ValueError, match=r"float32 \(1, 1, 4, 4\), they must be uint8 \(N, C, H, W\)"):
            operation(floats)
        with pytest.raises(ValueError, match=r"uint8 \(4, 4\)"):
            operation(floats[0, 0].astype(np.uint8))


def test_by_class(monkeypatch: pytest.MonkeyPatch):
    images, labels = np.arange(6, dtype=np.uint8)[:, None, None, None], np.array([2, 0, 1, 0, 2, 0])
    monkeypatch.setattr(datasets, "load", lambda name, split: (images, labels))
    assert [group.ravel().tolist() for group in datasets.by_class("mnist", "test")] == [[1, 3, 5], [2], [0, 4]]
    assert [group.ravel().tolist() for group in datasets.by_class("mnist", "test", 2)] == [[1, 3], [2], [0, 4]]
