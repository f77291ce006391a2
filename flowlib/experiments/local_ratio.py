"""A local density ratio: how much more does the surround of this pixel look changed than unchanged?

A small convolutional network sees statistics of normal images, parts of them with made-up defects
(`flowlib.experiments.made_up`), and tells at each pixel changed from unchanged. The logit of the best such network is
the log-ratio of the two densities of what it sees, up to a constant (Sugiyama, Suzuki & Kanamori 2012), so that
whatever changed and unchanged parts have in common, brightness, texture, complexity, cancels: what a likelihood alone
cannot do. No real defect takes part in it.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowlib import training
from flowlib.experiments.made_up import made_up_changes
from flowlib.glow import Glow

CHANGES = 3  # made-up ones on each image that the ratio network learns from
CHANNELS = 24  # of the ratio network
LEARNING_RATE = 6e-3


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
