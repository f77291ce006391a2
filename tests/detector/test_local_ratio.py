"""The local ratio: a network of any image size, trained on defects that are made up on the spot, that finds them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from flowlib import training
from flowlib.detector import made_up
from flowlib.detector.local_ratio import LocalRatio
from flowlib.metrics import auroc
from flowlib.training import Recipe, build, train

RECIPE = Recipe("LocalRatio", {"width": 4}, steps=4, batch_size=4, learning_rate=3e-3, seed=2)


def textures(n: int, channels: int = 1, side: int = 32, seed: int = 0) -> np.ndarray:
    """Fine vertical stripes, with noise: easy to tell from what is not."""
    rng = np.random.default_rng(seed)
    waves = 40 * np.sin(np.arange(side) * 1.2 + rng.uniform(0, 6, (n, 1, 1, 1)))
    return (120 + waves + rng.normal(0, 4, (n, channels, side, side))).clip(0, 255).astype(np.uint8)


def random_ratio(channels: int = 1, width: int = 4, seed: int = 0) -> LocalRatio:
    torch.manual_seed(seed)
    model = LocalRatio((channels, 32, 32), width)
    model.initialise(torch.from_numpy(textures(8, channels)))
    model(torch.from_numpy(textures(8, channels)))  # in training mode: statistics for the batch normalisation
    return model.eval()


def parameters(model) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(32, 32), (8, 40), (64, 24)])
@torch.no_grad()
def test_a_value_for_each_pixel_of_images_of_any_size(channels, shape):
    model = random_ratio(channels)
    images = torch.randint(0, 256, (2, channels, *shape), dtype=torch.uint8)
    found = model(images)
    assert found.shape == (2, *shape)
    assert found.isfinite().all()
    assert found.std() > 0


@torch.no_grad()
def test_images_do_not_see_each_other_once_trained():
    model = random_ratio()
    images = torch.from_numpy(textures(5, seed=3))
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_pixel_is_seen_at_its_place_and_from_some_way_off():
    """The map changes about a changed pixel, and nowhere 120 pixels off."""
    model = random_ratio()
    image = torch.from_numpy(textures(1, side=256))
    changed = image.clone()
    changed[..., 128, 128] = 255 - changed[..., 128, 128]
    difference = (model(image) - model(changed)).abs()[0]
    assert difference[126:131, 126:131].max() == difference.max() > 0
    rows, columns = np.nonzero(difference.numpy())
    assert 24 < np.ptp(rows) < 240
    assert 24 < np.ptp(columns) < 240
    assert abs(rows.min() + rows.max() - 256) < 24


def test_initialise_standardises_the_channels():
    images = np.stack([np.full((5, 8, 8), 90), 10 * np.arange(5)[:, None, None].repeat(8, 1).repeat(8, 2)], axis=1)
    model = LocalRatio((2, 8, 8), 4)
    model.initialise(torch.from_numpy(images.astype(np.uint8)))
    assert model.mean.flatten().tolist() == [90, 20]
    assert model.deviation.shape == (2, 1, 1)
    assert model.deviation[0] == 1  # constant: not divided by zero
    assert model.deviation[1].item() == pytest.approx(images[:, 1].std(ddof=1), rel=1e-5)
    assert model(torch.from_numpy(images.astype(np.uint8))).isfinite().all()


@torch.no_grad()
def test_the_network_sees_standardised_images():
    """Twice the contrast with twice the deviation, and another mean, is the same image."""
    model = random_ratio()
    images = torch.randint(0, 100, (2, 1, 16, 16), dtype=torch.uint8)
    expected = model(images)
    model.mean.mul_(2).add_(30)
    model.deviation.mul_(2)
    torch.testing.assert_close(model(2 * images + 30), expected, rtol=1e-4, atol=1e-4)


# --- the loss ------------------------------------------------------------------------------------------------------


def test_loss_is_one_value_an_image_drawn_by_the_generator():
    model = random_ratio()
    images = torch.from_numpy(textures(6))
    before = images.clone()
    first, again, other = (model.loss(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == (6,)
    assert first.requires_grad
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)


def test_loss_is_the_cross_entropy_of_nought_to_three_learned_defects(monkeypatch):
    """A stand-in damages one more pixel a call: the loss must know of all of them, and of no other."""
    seen: list[torch.Tensor] = []
    others: list[np.ndarray] = []
    batch = textures(40)
    ends = np.random.default_rng(0).normal(size=(40, 32, 32)).astype(np.float32)

    def one_pixel(image, other, kinds, rng):
        assert kinds is made_up.LEARNED
        others.append(other)
        place = int((image == 0).sum())
        changed, mask = image.copy(), np.zeros(image.shape[1:], bool)
        changed[0, 5, place], mask[5, place] = 0, True
        return changed, mask

    def logits(self, images):
        seen.append(images)
        return torch.from_numpy(ends)

    monkeypatch.setattr(made_up, "damage", one_pixel)
    monkeypatch.setattr(LocalRatio, "forward", logits)
    batch[batch == 0] = 1
    loss = LocalRatio((1, 32, 32), 4).loss(torch.from_numpy(batch), torch.Generator().manual_seed(0))
    (images,) = seen
    changed = images[:, 0].numpy() == 0
    assert sorted(set(changed.sum((1, 2)).tolist())) == [0, 1, 2, 3]
    assert torch.equal(images[:, 0][~torch.from_numpy(changed)], torch.from_numpy(batch[:, 0][~changed]))
    sign = np.where(changed, -1, 1)
    np.testing.assert_allclose(loss, np.log1p(np.exp(sign * ends)).mean((1, 2)), rtol=1e-5)
    assert all(any(np.array_equal(other, image) for image in batch) for other in others)
    assert len({other.tobytes() for other in others}) > 10


# --- training ------------------------------------------------------------------------------------------------------


def test_the_recipe_determines_the_parameters():
    first, losses = train(textures(8), RECIPE)
    torch.manual_seed(77)
    np.random.seed(3)  # noqa: NPY002  the global generators say nothing
    again, losses_again = train(textures(8), RECIPE)
    assert parameters(first) == parameters(again)
    assert np.array_equal(losses, losses_again)
    assert not first.training
    other, _ = train(textures(8), Recipe("LocalRatio", {"width": 4}, 4, 4, learning_rate=3e-3, seed=3))
    assert parameters(first) != parameters(other)


class Interrupted(Exception):
    pass


def test_interrupted_training_ends_with_the_same_bits_and_buffers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expected, expected_losses = train(textures(8), RECIPE)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    checkpoint = tmp_path / "a.checkpoint"

    def interrupt(step, _):
        if step == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(textures(8), RECIPE, checkpoint, interrupt)
    steps: list[int] = []
    model, losses = train(textures(8), RECIPE, checkpoint, lambda step, _: steps.append(step))
    assert steps == [2, 3]
    assert np.array_equal(losses, expected_losses)
    assert parameters(model) == parameters(expected)
    buffers = [name for name in parameters(model) if name.endswith(("running_mean", "num_batches_tracked"))]
    assert len(buffers) == 2 * 9
    fresh = parameters(build(RECIPE, (1, 32, 32)))
    assert all(parameters(model)[name] != fresh[name] for name in (*buffers, "mean", "deviation"))


@pytest.fixture(scope="module")
def learned() -> LocalRatio:
    model, losses = train(textures(64), Recipe("LocalRatio", {"width": 4}, 60, 8, learning_rate=1e-2, seed=0))
    assert losses[-10:].mean() < 0.7 * losses[:5].mean()
    return model


@pytest.mark.parametrize("kinds", ["LEARNED", "CHOICE"])
def test_it_finds_made_up_defects_on_images_that_it_did_not_see(learned, kinds):
    rng = np.random.default_rng(1)
    images = textures(40, seed=5)
    damaged, masks = zip(*[made_up.damage(i, i[:, ::-1], getattr(made_up, kinds), rng) for i in images], strict=True)
    with torch.inference_mode():
        found = learned(torch.from_numpy(np.stack(damaged))).numpy()
        normal = learned(torch.from_numpy(images)).numpy()
    masks = np.stack(masks)
    assert auroc(found[~masks], found[masks]) > 0.8
    assert auroc(normal.max((1, 2)), found.max((1, 2))) > 0.7
    assert F.softplus(torch.from_numpy(normal)).mean() < 0.3  # most of a normal image looks unchanged
