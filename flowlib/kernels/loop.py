"""The one loop of all trainings: models of one shape, in step and as one (`flowlib.kernels.descent.Descent`).

A step reads tensors that stay where they are, into which `feed` lays its images, noise and learning rate, and waits for
no GPU. There it is one CUDA graph, and whether all was finite is asked every `CHECK_STEPS` steps; if not, these are
taken again one by one, as they are everywhere else.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from flowlib.kernels.descent import Descent
from flowlib.kernels.graphs import captured

GRADIENT_NORM = (
    50.0  # nats; a longer gradient is cut to this length (one odd image of a small batch can be 1000 times it)
)
CHECKPOINT_SECONDS = 30.0
CHECK_STEPS = 100  # of a GPU's: it is waited for after so many


class Loop:
    """M models learn from their batches, each from its own; who runs it says in `save` and `not_finite` what then.

    columns: images ``(N, C, H, W)`` of all models, one after another, and labels ``(N,)``, if any. indices: those of
    each step, ``(steps, M * B)``. rates: of each step's update (`descent.adam_rates`). seeds: of each model's noise.
    kept: how many of its B images each has in the gradient, those with the lowest loss.
    """

    def __init__(
        self,
        models: Sequence[Any],
        columns: Sequence[Tensor],
        indices: Tensor,
        rates: Tensor,
        seeds: Sequence[int],
        kept: Sequence[int],
    ) -> None:
        self.models, self.columns, self.indices, self.rates, self.seeds = models, columns, indices, rates, seeds
        self.descent = Descent(models)
        self.losses: list[list[float]] = []  # of each step, those of the models
        value, B = self.descent.value, indices.shape[1] // len(models)
        flows = value.shape[:-1]  # (M,) where they are several
        shape = (*flows, B, *columns[0].shape[1:])
        self.batch = [column.new_empty(len(models) * B, *column.shape[1:]) for column in columns]
        images, *labels = self.batch
        self.arguments = [images.view(shape), value.new_empty(shape), *(one.view(*flows, B) for one in labels)]
        self.noises = self.arguments[1].view(len(models), -1)
        self.rate, self.found = rates[0].clone(), value.new_empty(2, *flows)
        most = value.new_tensor(kept).view(*flows, 1)
        self.weights = (torch.arange(B, device=value.device) < most) / most  # (*flows, B) of the losses in their order
        self.trims = min(kept) < B
        self.generator = torch.Generator(value.device)
        self.compiled = self.descent.model.compiled_loss(*self.arguments[:2])

    def save(self) -> None:
        """Keep where it stands: asked every `CHECKPOINT_SECONDS`."""

    def not_finite(self, step: int, losses: list[float], norms: list[float]) -> Exception:
        """What to raise where a loss, or the length of a gradient, is not finite."""
        return ArithmeticError(f"not finite at step {step}: losses {losses}, gradients {norms}")

    def feed(self, step: int) -> None:
        """What the step reads: images, labels, noise and learning rate."""
        for column, batch in zip(self.columns, self.batch, strict=True):
            torch.index_select(column, 0, self.indices[step], out=batch)
        for seed, noise in zip(self.seeds, self.noises, strict=True):
            noise.uniform_(generator=self.generator.manual_seed(combine(seed, step)))
        self.rate.copy_(self.rates[step])

    def gradient(self) -> None:
        """Finds each model's loss, and its gradient and the length of that."""
        each = self.compiled() if self.compiled else self.descent.model.loss(*self.arguments)  # (*flows, B)
        weights = self.weights
        if self.trims:
            weights = weights.gather(-1, each.argsort(-1).argsort(-1))
        loss = (each.detach().masked_fill(weights == 0, 0) * weights).sum(-1)
        if self.compiled:
            self.compiled.gradient(weights)
        else:
            self.descent.find_gradient(each, weights)
        torch.stack((loss, self.descent.shorten(GRADIENT_NORM)), out=self.found)

    def step(self) -> None:
        self.gradient()
        self.descent.update(self.rate)

    def run(self, on_step: Callable[[int, Any], None] | None = None) -> list[tuple[Any, np.ndarray]]:
        """To the end; the models and the losses of all steps, ``(steps,)`` each. `on_step` sees the first model."""
        self.feed(0)
        replay = None if on_step else captured(self.step, self.descent.state)
        stride = CHECK_STEPS if replay else 1
        last_saved, total = time.monotonic(), len(self.indices)
        with tqdm(initial=len(self.losses), total=total, leave=False, disable=None) as progress:
            while len(self.losses) < total:
                steps = range(len(self.losses), min(len(self.losses) + stride, total))
                self.losses += (replay and self.replayed(steps, replay)) or self.one_by_one(steps)
                progress.update(len(steps))
                if on_step is not None:
                    on_step(steps[-1], self.models[0])
                if time.monotonic() - last_saved > CHECKPOINT_SECONDS:
                    self.save()
                    last_saved = time.monotonic()
        self.descent.model.zero_grad()
        return [(model.eval(), losses) for model, losses in zip(self.models, np.array(self.losses).T, strict=True)]

    def one_by_one(self, steps: range) -> list[list[float]]:
        """The losses of these steps. Raises `not_finite` before the first whose loss or gradient is not."""
        found = []
        for step in steps:
            self.feed(step)
            self.gradient()
            losses, norms = self.found.view(2, -1).tolist()
            if not all(map(math.isfinite, losses + norms)):
                raise self.not_finite(step, losses, norms)
            found.append(losses)
            self.descent.update(self.rate)
        return found

    def replayed(self, steps: range, replay: Callable[[], object]) -> list[list[float]] | None:
        """As `one_by_one`, on a GPU that nothing waits for; None, and all is as before, if not all is finite."""
        before = [tensor.clone() for tensor in self.descent.state]
        found = self.found.new_empty(len(steps), *self.found.shape)
        for row, step in zip(found, steps, strict=True):
            self.feed(step)
            replay()
            row.copy_(self.found)
        if found.isfinite().all():
            return found[:, 0].view(len(steps), -1).tolist()
        for tensor, value in zip(self.descent.state, before, strict=True):
            tensor.copy_(value)
        return None


def combine(seed: int, step: int) -> int:
    """One seed for torch from a run's seed and a step."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1)
