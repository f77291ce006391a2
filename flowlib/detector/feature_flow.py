"""A normalizing flow of feature vectors, position by position, with an exact likelihood.

Each coupling is affine (Real NVP, Dinh et al. 2017) with a fixed random rotation before it, in place of Glow's learned
1x1 convolution: vectors are standardised, and what a rotation mixes need not be learned. Nothing but the vector itself
is seen, so one position's likelihood is its own; what a position knows of its surround comes with the features.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from flowlib.kernels.loop import GRADIENT_NORM, combine
from flowlib.runtime import artifacts
from flowlib.runtime.artifacts import Arrays, Artifact
from flowlib.runtime.code import code_hash
from flowlib.training import (
    TrainingError,
    best_device,
    computed_with,
    schedule,
    to_device_of,
    to_numpy,
)

LARGEST_LOG_SCALE = 2.0  # of one coupling
LOG_TWO_PI = math.log(2 * math.pi)
BATCH = 1024  # positions
LEARNING_RATE, DECAY = 1e-3, 1e-2  # of AdamW
NOISE = 0.3  # standard deviations, on what training sees: without it a flow of features overfits
CHUNK = 8192  # positions scored at once


class FeatureFlow(nn.Module):
    """Normalizing flow of vectors ``(n, D)``.

    Arguments
    ---------
    dimensions: D, at least 2.
    couplings: number of affine couplings, each of which transforms half of the rotated dimensions.
    width: of the two hidden layers of a coupling's network.

    `standardise` sets a mean and a deviation for each dimension first; likelihoods are in nats of the vector as given,
    so they count these scales, too.

    Example
    -------
    >>> flow = FeatureFlow(6, couplings=2, width=8)
    >>> flow.log_prob(torch.randn(5, 6)).shape
    torch.Size([5])
    """

    mean: Tensor
    deviation: Tensor
    rotations: Tensor

    def __init__(self, dimensions: int, couplings: int = 6, width: int = 192) -> None:
        super().__init__()
        if dimensions < 2 or min(couplings, width) < 1:
            raise ValueError("FeatureFlow: dimensions must be at least 2, couplings and width at least 1")
        D, self.changed = dimensions, dimensions // 2
        self.register_buffer("mean", torch.zeros(D))
        self.register_buffer("deviation", torch.ones(D))
        self.register_buffer("rotations", torch.linalg.qr(torch.randn(couplings, D, D))[0])
        self.networks: Sequence[nn.Module] = nn.ModuleList(  # type: ignore[assignment]
            network(D - self.changed, width, 2 * self.changed) for _ in range(couplings)
        )

    @torch.no_grad()
    def standardise(self, vectors: Tensor) -> None:
        """Take mean and deviation of each dimension from training vectors ``(n, D)``; a constant is only shifted."""
        deviation, mean = torch.std_mean(vectors, 0, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def forward(self, vectors: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latents ``(n, D)`` and log-determinants ``(n,)`` in nats; `noise` is added to the standardised vectors."""
        x = (vectors - self.mean) / self.deviation
        if noise is not None:
            x = x + noise
        determinant = -self.deviation.log().sum().expand(len(x))
        for rotation, coupling in zip(self.rotations, self.networks, strict=True):
            x = x @ rotation
            log_scale, shift = self.scale_and_shift(coupling, x[:, self.changed :])
            x = torch.cat((x[:, : self.changed] * log_scale.exp() + shift, x[:, self.changed :]), 1)
            determinant = determinant + log_scale.sum(1)
        return x, determinant

    def inverse(self, latents: Tensor) -> Tensor:
        """The vectors ``(n, D)`` whose latents are given."""
        x = latents
        for rotation, coupling in zip(reversed(self.rotations), reversed(self.networks), strict=True):
            log_scale, shift = self.scale_and_shift(coupling, x[:, self.changed :])
            x = torch.cat(((x[:, : self.changed] - shift) * (-log_scale).exp(), x[:, self.changed :]), 1) @ rotation.T
        return x * self.deviation + self.mean

    def log_prob(self, vectors: Tensor, noise: Tensor | None = None) -> Tensor:
        """Log-likelihood in nats, ``(n,)``."""
        z, determinant = self(vectors, noise)
        return determinant - 0.5 * (z.square() + LOG_TWO_PI).sum(1)

    def scale_and_shift(self, coupling: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = coupling(x).chunk(2, 1)
        return LARGEST_LOG_SCALE * torch.tanh(raw / LARGEST_LOG_SCALE), shift


def network(given: int, width: int, out: int) -> nn.Module:
    """Two hidden layers; the last layer begins at zero, so that a new flow is a rotation."""
    last = nn.Linear(width, out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(given, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), last)


# --- training --------------------------------------------------------------------------------------------------------


def train(vectors: np.ndarray, steps: int, seed: int, noise: float = NOISE) -> tuple[FeatureFlow, np.ndarray]:
    """A flow of training vectors ``(n, D)``, and the loss of each step in nats, ``(steps,)``.

    What it models is the density of standardised vectors with a little normal `noise`, a smoothed one. Batches and
    noise follow from the seed and the step. Raises TrainingError when a loss is not finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow = FeatureFlow(vectors.shape[1]).to(best_device())
    data = to_device_of(flow, np.asarray(vectors, dtype=np.float32))
    flow.standardise(data)
    optimiser = torch.optim.AdamW(flow.parameters(), LEARNING_RATE, weight_decay=DECAY)
    losses = np.empty(steps)
    for step in range(steps):
        generator = torch.Generator().manual_seed(combine(seed, step))
        batch = data[torch.randint(len(data), (BATCH,), generator=generator).to(data.device)]
        disturbance = noise * torch.randn(batch.shape, generator=generator).to(data.device)
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * schedule(step, steps)
        loss = -flow.log_prob(batch, disturbance).mean()
        losses[step] = loss.item()
        if not math.isfinite(losses[step]):
            raise TrainingError(f"FeatureFlow: not finite at step {step}")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), GRADIENT_NORM)
        optimiser.step()
    return flow.eval(), losses


def trained(vectors: np.ndarray, steps: int, seed: int) -> Arrays:
    """The parameters of `train`, or those that an earlier run found with the same vectors, settings and machine."""

    def make(_: Path) -> Artifact:
        flow, losses = train(vectors, steps, seed)
        return Artifact({**parameters(flow), "losses": losses}, {})

    parts = {
        "vectors": artifacts.array_hash(vectors),
        "settings": [steps, seed],
        "code": code_hash(__name__),
        **computed_with(),
    }
    return artifacts.cached("feature_flow", parts, make).arrays


def parameters(flow: FeatureFlow) -> Arrays:
    return {f"flow.{name}": to_numpy(value) for name, value in flow.state_dict().items()}


def restored(arrays: Arrays) -> FeatureFlow:
    """The flow that `parameters` are of. Raises KeyError or RuntimeError where they are of none."""
    state = {name.removeprefix("flow."): a for name, a in arrays.items() if name.startswith("flow.")}
    flow = FeatureFlow(len(state["mean"]))
    flow.load_state_dict({name: to_device_of(flow, array) for name, array in state.items()})
    return flow.to(best_device()).eval()


def nll(flow: FeatureFlow, vectors: np.ndarray) -> np.ndarray:
    """Negative log-likelihoods in nats, float32 ``(n,)``, of float32 vectors ``(n, D)``."""
    with torch.inference_mode():
        return to_numpy(torch.cat([-flow.log_prob(chunk) for chunk in to_device_of(flow, vectors).split(CHUNK)]))


def nll_map(flow: FeatureFlow, features: np.ndarray) -> np.ndarray:
    """Negative log-likelihood in nats of each position: float32 ``(D, H, W)`` to ``(H, W)``."""
    return nll(flow, features.reshape(len(features), -1).T.copy()).reshape(features.shape[1:])
