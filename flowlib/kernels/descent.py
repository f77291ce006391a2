"""Gradient descent on all parameters at once: one tensor of them, one call for each operation of Adam on it.

M models of one shape are trained as one: a model whose parameters have one more axis, the first, and of whose gradients
each is cut to its own length. What is written here waits for no GPU, so that a step may be captured as a CUDA graph
(`flowlib.kernels.graphs`).
"""

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

FIRST, SECOND, EPSILON = 0.9, 0.999, 1e-8  # Kingma & Ba 2015


class Descent:
    """Adam (Kingma & Ba 2015) on models of one shape, their parameters in one tensor.

    value, gradient, moments: all parameters, their gradients and Adam's two moments, ``(P,)``, or ``(M, P)`` of M > 1.
    model: the one, or all in one, with an axis of models first. Its parameters are parts of `value`, their `grad` of
        `gradient`, and the parameters of `models` are parts of `value`, too: who changes one changes all.
    """

    def __init__(self, models: Sequence[Any]) -> None:
        values = [torch.cat([p.detach().flatten() for p in model.parameters()]) for model in models]
        self.model, self.value = models[0], values[0]
        if len(models) > 1:
            self.model, self.value = stacked(models), torch.stack(values)
            for model, value in zip(models, self.value, strict=True):
                place(model, value)
        self.gradient = torch.zeros_like(self.value)
        self.moments = {"first": torch.zeros_like(self.value), "second": torch.zeros_like(self.value)}
        place(self.model, self.value, self.gradient)

    @property
    def state(self) -> tuple[Tensor, ...]:
        """All that an update changes."""
        return self.value, *self.moments.values()

    def find_gradient(self, of: Tensor, weights: Tensor) -> None:
        """That of the sum of a tensor with these weights."""
        parameters = list(self.model.parameters())
        found = torch.autograd.grad(of, parameters, weights, allow_unused=True, materialize_grads=True)
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.grad.copy_(gradient)

    def shorten(self, longest: float) -> Tensor:
        """The length of each model's gradient, ``(M,)`` or ``()``. One that is longer than `longest` is cut to it."""
        norm = torch.linalg.vector_norm(self.gradient, dim=-1, keepdim=True)
        self.gradient.mul_((longest / (norm + 1e-6)).clamp_(max=1))
        return norm[..., 0]

    def update(self, rates: Tensor) -> None:
        """One step of Adam; `rates` are those of `adam_rates` for the step."""
        first, second = self.moments.values()
        factor, epsilon = rates
        first.lerp_(self.gradient, 1 - FIRST)
        second.mul_(SECOND).addcmul_(self.gradient, self.gradient, value=1 - SECOND)
        self.value.addcdiv_(first, second.sqrt().mul_(factor).add_(epsilon), value=-1)


def stacked(models: Sequence[nn.Module]) -> nn.Module:
    """The first model with the buffers of all, an axis of models first."""
    model = copy.deepcopy(models[0])
    for name, _ in list(model.named_buffers()):
        path, _, own = name.rpartition(".")
        buffers = torch.stack([one.get_buffer(name) for one in models])
        model.get_submodule(path).register_buffer(own, buffers)
    return model


def place(model: nn.Module, value: Tensor, gradient: Tensor | None = None) -> None:
    """Make the parameters of a model parts of `value` ``(..., P)``, whose first axes come before theirs.

    With their gradients parts of `gradient`, if it is given.
    """
    parameters = list(model.parameters())
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, *parts in zip(
        parameters, *(whole.split(sizes, -1) for whole in (value, gradient) if whole is not None), strict=True
    ):
        shape = (*value.shape[:-1], *parameter.shape)
        parameter.data = parts[0].view(shape)
        parameter.grad = parts[1].view(shape) if gradient is not None else None


def adam_rates(learning_rates: Iterable[float]) -> Tensor:
    """Of each step's update ``(steps, 2)``: a factor of the second moment's root, and what is then added to it.

    The first moment is divided by that. The learning rate and the corrections of the moments are in both.
    """
    rates = []
    for step, rate in enumerate(learning_rates, start=1):
        of_first = rate / (1 - FIRST**step)
        rates.append((1 / math.sqrt(1 - SECOND**step) / of_first, EPSILON / of_first))
    return torch.tensor(rates)
