"""The thesis's two autoencoders: their layers (4.2, 4.3), shapes and range, and what their error says."""

import numpy as np
import pytest
import torch
from torch import nn

from flowlib import ConvAutoencoder, FullyConnectedAutoencoder
from flowlib.autoencoders import Autoencoder

BOTH = pytest.mark.parametrize("kind", [ConvAutoencoder, FullyConnectedAutoencoder])
SHAPES = [(1, 28, 28), (3, 8, 8), (1, 9, 8), (1, 8, 11), (3, 15, 13), (2, 23, 32)]


def images_of(shape: tuple[int, ...], n: int = 5) -> torch.Tensor:
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def layers(model: nn.Module) -> list[type[nn.Module]]:
    return [type(layer) for layer in model.children()]


@BOTH
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_and_range(kind: type[Autoencoder], shape: tuple[int, int, int]):
    model = kind(shape)
    images = images_of(shape)
    reconstructed = model(images)
    assert reconstructed.shape == images.shape
    assert 0 < reconstructed.min() < reconstructed.max() < 1
    assert model.squared_error(images).shape == (5, *shape[1:])
    assert model.anomaly_score(images).shape == (5,)


def test_layers_of_the_convolutional_autoencoder():
    """Thesis 4.2: three of convolution, ReLU, max-pooling with kernel 2 and stride 2; three transposed; sigmoid."""
    model = ConvAutoencoder((3, 16, 16), channels=(6, 5, 4))
    assert layers(model.encoder) == [nn.Conv2d, nn.ReLU, nn.MaxPool2d] * 3
    assert layers(model.decoder) == [nn.ConvTranspose2d, nn.ReLU] * 2 + [nn.ConvTranspose2d, nn.Sigmoid]
    pools = [layer for layer in model.encoder.modules() if isinstance(layer, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride) for pool in pools] == [(2, 2)] * 3
    widths = [(m.in_channels, m.out_channels) for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert widths == [(3, 6), (6, 5), (5, 4), (4, 5), (5, 6), (6, 3)]
    assert model.encoder(torch.zeros(2, 3, 16, 16)).shape == (2, 4, 2, 2)


def test_layers_of_the_fully_connected_autoencoder():
    """Thesis 4.3: three fully connected layers with ReLU, three back, sigmoid at the end."""
    model = FullyConnectedAutoencoder((1, 4, 6), hidden=(9, 5, 2))
    assert layers(model.encoder) == [nn.Flatten] + [nn.Linear, nn.ReLU] * 3
    assert layers(model.decoder) == [nn.Linear, nn.ReLU] * 2 + [nn.Linear, nn.Sigmoid, nn.Unflatten]
    widths = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]
    assert widths == [(24, 9), (9, 5), (5, 2), (2, 5), (5, 9), (9, 24)]


def test_default_bottleneck_of_the_convolutional_autoencoder_is_72_numbers():
    assert ConvAutoencoder().encoder(torch.zeros(1, 1, 28, 28)).numel() == 72


@BOTH
def test_score_is_the_mean_squared_error(kind: type[Autoencoder]):
    """By hand, on the scale of pixels in [0, 1]; the loss is the same; neither sees the other images."""
    model = kind((2, 8, 8))
    images = images_of((2, 8, 8))
    with torch.no_grad():
        difference = model(images).numpy() - images.numpy() / 255
        np.testing.assert_allclose(model.anomaly_score(images), (difference**2).mean((1, 2, 3)), rtol=1e-5)
        np.testing.assert_allclose(model.squared_error(images), (difference**2).mean(1), rtol=1e-4, atol=1e-7)
        alone = torch.cat([model.anomaly_score(image[None]) for image in images])
        torch.testing.assert_close(model.loss(images), alone)


@BOTH
def test_uint8_and_unit_interval_are_the_same_images(kind: type[Autoencoder]):
    model = kind((1, 8, 8))
    images = images_of((1, 8, 8))
    assert torch.equal(model(images), model(images.float() / 255))
    assert torch.equal(model.anomaly_score(images), model.anomaly_score(images.float() / 255))


@BOTH
def test_training_lowers_the_error(kind: type[Autoencoder]):
    torch.manual_seed(0)
    model = kind((1, 8, 8))
    images = torch.zeros(8, 1, 8, 8, dtype=torch.uint8)
    images[:4, :, :4] = images[4:, :, :, :4] = 220
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = model.loss(images).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())  # no layer is left out


@BOTH
@pytest.mark.parametrize("wrong", [(2, 1, 8, 9), (2, 3, 8, 8), (1, 8, 8), (2, 64)])
def test_bad_images_are_named(kind: type[Autoencoder], wrong: tuple[int, ...]):
    model = kind((1, 8, 8))
    for call in (model, model.anomaly_score, model.squared_error):
        with pytest.raises(ValueError, match=r"expected images \(N, 1, 8, 8\), got \(") as error:
            call(torch.zeros(wrong))
        assert str(wrong) in str(error.value)


def test_image_too_small_to_pool_is_named():
    with pytest.raises(ValueError, match="image_shape 7x28 is smaller than 8 pixels on a side"):
        ConvAutoencoder((1, 7, 28))
