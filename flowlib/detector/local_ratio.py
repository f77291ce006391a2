"""A local density ratio: how much more does the surround of this pixel look changed than unchanged?

A small convolutional network sees normal images, parts of them with made-up defects (`flowlib.detector.made_up`), and
tells at each pixel changed from unchanged. The logit of the best such network is the log-ratio of the two densities of
what it sees, up to a constant (Sugiyama, Suzuki & Kanamori 2012), so that whatever changed and unchanged parts have in
common,
brightness, texture, complexity, cancels: what a likelihood alone cannot do. No real defect takes part in it.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowlib import training
from flowlib.detector import made_up
from flowlib.detector.made_up import made_up_changes
from flowlib.glow import Glow

DEFECTS = 4  # an image of a batch carries 0 to 3 made-up ones
CHANGES = 3  # made-up ones on each image that the ratio network learns from
CHANNELS = 24  # of the ratio network
LEARNING_RATE = 6e-3


class LocalRatio(nn.Module):
    """Log-ratio in nats at each pixel, from its surround of about 100 pixels at four scales.

    Arguments
    ---------
    image_shape: ``(C, H, W)`` of the training images; maps can be of images of any size that is a multiple of 8.
    width: channels of the finest scale; the coarser ones have two, three and four times as many.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, image_shape: tuple[int, int, int], width: int = 16) -> None:
        super().__init__()
        C, w = image_shape[0], width
        self.register_buffer("mean", torch.zeros(C, 1, 1))
        self.register_buffer("deviation", torch.ones(C, 1, 1))
        self.down = nn.ModuleList(
            [
                layer(C, w),
                layer(w, 2 * w, stride=2),
                nn.Sequential(layer(2 * w, 3 * w, stride=2), layer(3 * w, 3 * w, dilation=2)),
                nn.Sequential(
                    layer(3 * w, 4 * w, stride=2), layer(4 * w, 4 * w, dilation=2), layer(4 * w, 4 * w, dilation=4)
                ),
            ]
        )
        self.up = nn.ModuleList([layer(7 * w, 3 * w), layer(5 * w, w)])
        self.last = nn.Conv2d(2 * w, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 ``(N, C, H, W)`` to log-ratios ``(N, H, W)``; H and W multiples of 8."""
        x = (images.float() - self.mean) / self.deviation
        scales = []
        for down in self.down:
            x = down(x)
            scales.append(x)  # (N, w, H, W), (N, 2w, H/2, W/2), (N, 3w, H/4, W/4), (N, 4w, H/8, W/8)
        finest, fine, coarse, x = scales
        x = self.up[0](torch.cat((doubled(x), coarse), 1))
        x = self.up[1](torch.cat((doubled(x), fine), 1))
        return self.last(torch.cat((doubled(x), finest), 1))[:, 0]

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy of "changed here", mean over pixels, ``(N,)``, of normal images damaged on the spot."""
        seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
        rng = np.random.default_rng(int(seed))
        batch = training.to_numpy(images)
        damaged, masks = batch.copy(), np.zeros((len(batch), *batch.shape[2:]), dtype=bool)
        for index in range(len(batch)):
            for _ in range(rng.integers(DEFECTS)):
                other = batch[rng.integers(len(batch))]
                damaged[index], mask = made_up.damage(damaged[index], other, made_up.LEARNED, rng)
                masks[index] |= mask
        logits = self(training.to_device_of(images, damaged))
        changed = training.to_device_of(images, masks).float()
        return F.binary_cross_entropy_with_logits(logits, changed, reduction="none").mean((1, 2))

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Standardise the channels as in `images`."""
        deviation, mean = torch.std_mean(images.float(), (0, 2, 3), keepdim=True)
        self.mean.copy_(mean[0])
        self.deviation.copy_(deviation[0].clamp_min(1.0))


def layer(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


training.MODELS["LocalRatio"] = LocalRatio


def pixel_statistics(images: Tensor) -> Tensor:
    """uint8 ``(N, 1, H, W)`` to ``(N, 3, H, W)``: grey level in [0, 1], and whether it is the lowest or the highest."""
    return torch.cat((images / 255, images == 0, images == 255), 1)


def flow_statistics(flow: Glow, images: Tensor) -> Tensor:
    """What a flow says of each position, ``(N, F, H, W)``: the terms of its likelihood, its latents, and the place
    within the block of ``2**levels`` pixels that they speak of.

    Terms are in tens of nats, latents in standard deviations and cut at 6; both are repeated over their blocks.
    """
    N, _, H, W = images.shape
    columns = [repeated(term[:, None] / 10, 2**level) for level, _, term in flow.position_terms(images)]
    columns += [repeated(z.clamp(-6, 6), 2**level) for level, z in enumerate(flow.encode(images), start=1)]
    block = 2 ** len(flow.levels)
    place = torch.eye(block, device=images.device).repeat(1, max(H, W) // block)
    columns += [place[:, :H, None].expand(N, -1, H, W), place[:, None, :W].expand(N, -1, H, W)]
    return torch.cat(columns, 1)


def repeated(x: Tensor, block: int) -> Tensor:
    return x.repeat_interleave(block, 2).repeat_interleave(block, 3)


def train_ratio(
    images: np.ndarray, statistics: Callable[[Tensor], Tensor], steps: int, batch_size: int, seed: int
) -> nn.Module:
    """Logistic regression of "changed here" on the neighbourhood's `statistics`, by Adam, on the best device.

    `statistics` takes uint8 images ``(n, C, H, W)`` on that device to what the network sees, ``(n, F, H, W)``.
    """
    device = training.best_device()
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        C = CHANNELS
        features = statistics(torch.tensor(images[:1], device=device)).shape[1]
        network = nn.Sequential(
            nn.Conv2d(features, C, 3, padding=1), nn.ReLU(),
            nn.Conv2d(C, C, 3, padding=1), nn.ReLU(),
            nn.Conv2d(C, C, 3, padding=1), nn.ReLU(),
            nn.Conv2d(C, 1, 1),
        ).to(device)  # fmt: skip
    optimiser = torch.optim.Adam(network.parameters())
    for step in range(steps):
        batch = images[rng.integers(len(images), size=batch_size)]
        changed, masks = batch, np.zeros((batch_size, *images.shape[2:]), dtype=bool)
        for _ in range(CHANGES):
            changed, more = made_up_changes(changed, rng)
            masks |= more
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * training.schedule(step, steps)
        logits = network(statistics(training.to_device_of(network, changed)))[:, 0]
        loss = F.binary_cross_entropy_with_logits(logits, training.to_device_of(network, masks).float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()
