"""The two autoencoders that the thesis sets beside Glow (thesis sections 4.2 and 4.3): they score by reconstruction."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn


class Autoencoder(nn.Module):
    """What both share: ``encoder`` and ``decoder`` for images of ``image_shape``, and the error between.

    Images are float ``(N, C, H, W)`` in [0, 1] or uint8; reconstructions are float in (0, 1).
    """

    image_shape: tuple[int, int, int]
    encoder: nn.Module
    decoder: nn.Module

    def forward(self, images: Tensor) -> Tensor:
        """Reconstructions ``(N, C, H, W)``."""
        return self.decoder(self.encoder(unit_interval(images, self.image_shape)))

    def squared_error(self, images: Tensor) -> Tensor:
        """Squared reconstruction error of each pixel, averaged over channels, ``(N, H, W)``."""
        return (self(images) - unit_interval(images, self.image_shape)).square().mean(1)

    def anomaly_score(self, images: Tensor) -> Tensor:
        """Mean squared reconstruction error, ``(N,)``, on the scale of pixels in [0, 1]."""
        return self.squared_error(images).mean((1, 2))

    def loss(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """What training minimises: the mean squared error, ``(N,)``."""
        return self.anomaly_score(images)

    def compiled_loss(self, images: Tensor, noise: Tensor) -> None:
        """There is none."""

    def first_not_finite(self, images: Tensor) -> str:
        """Where a forward pass first meets a number that is not finite, for an error message."""
        hidden = unit_interval(images, self.image_shape)
        for name, layer in [*self.encoder.named_children(), *self.decoder.named_children()]:
            hidden = layer(hidden)
            if not hidden.isfinite().all():
                return f"in layer {name} ({type(layer).__name__})"
        return "in the loss"

    def initialise(self, images: Tensor, noise: Tensor | None = None) -> None:
        """Nothing to do: the layers' own initialisation does not look at data."""


class ConvAutoencoder(Autoencoder):
    """Thesis 4.2: three convolutions, each with ReLU and 2x2 max-pooling; three transposed convolutions back; sigmoid.

    ``channels`` are the widths of the three convolutions. The thesis does not give them; with (32, 16, 8) a 28x28 image
    passes through 8x3x3 = 72 numbers, one for every 11 pixels.
    """

    def __init__(
        self, image_shape: tuple[int, int, int] = (1, 28, 28), channels: tuple[int, int, int] = (32, 16, 8)
    ) -> None:
        super().__init__()
        C, H, W = image_shape
        self.image_shape = (C, H, W)
        if min(H, W) < 2 ** len(channels):
            raise ValueError(
                f"ConvAutoencoder: image_shape {H}x{W} is smaller than {2 ** len(channels)} pixels on a side"
            )
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        sizes = [(H, W)]
        for width_in, width in pairwise((C, *channels)):
            down += [nn.Conv2d(width_in, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2)]
            sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
        for width_in, width, (height, columns) in zip(
            reversed(channels), (*reversed(channels[:-1]), C), reversed(sizes[:-1]), strict=True
        ):
            even = (1 - height % 2, 1 - columns % 2)  # twice the size, or twice and one
            up.append(nn.ConvTranspose2d(width_in, width, 3, stride=2, padding=even, output_padding=even))
            up.append(nn.ReLU())
        up[-1] = nn.Sigmoid()
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up)


class FullyConnectedAutoencoder(Autoencoder):
    """Thesis 4.3: three fully connected layers with ReLU, three back, sigmoid at the end.

    ``hidden`` are the widths of the three layers of the encoder; the thesis does not give them.
    """

    def __init__(
        self, image_shape: tuple[int, int, int] = (1, 28, 28), hidden: tuple[int, int, int] = (256, 64, 16)
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        D = math.prod(image_shape)
        down: list[nn.Module] = [nn.Flatten()]
        up: list[nn.Module] = []
        for width_in, width in pairwise((D, *hidden)):
            down += [nn.Linear(width_in, width), nn.ReLU()]
        for width_in, width in pairwise((*reversed(hidden), D)):
            up += [nn.Linear(width_in, width), nn.ReLU()]
        up[-1] = nn.Sigmoid()
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up, nn.Unflatten(1, image_shape))


def unit_interval(images: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Images as floats in [0, 1], their shape checked."""
    if tuple(images.shape[1:]) != tuple(image_shape):
        raise ValueError(
            f"autoencoder: expected images (N, {', '.join(map(str, image_shape))}), got {tuple(images.shape)}"
        )
    return images.float() / 255 if images.dtype == torch.uint8 else images
