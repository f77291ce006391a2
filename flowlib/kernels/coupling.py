"""One step of flow (Kingma & Dhariwal 2018, Fig. 2a) with its hand-written backward pass.

Tensors are channels first, images second, ``(C, N, H, W)``: the channels of a step are few and its positions many, so
the 1x1 convolution is one matrix product over all positions, and the two halves of a coupling are contiguous views.
A step keeps its input and little else for the backward pass. Of M flows at once all tensors have one more axis, the
first, ``(M, C, N, H, W)``.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from flowlib.kernels.network import CouplingNetwork, affine, network_gradient


class FlowStep(torch.autograd.Function):
    """Actnorm and 1x1 convolution as one affine map, then affine coupling.

    ``forward(x, bound, A, c, w_in, w_out, b_out, *middle)``: `x` ``(C, N, H, W)``, `A` ``(C, C)``, `c` ``(C,)``; with
    ``a, b = split(A x + c)`` the result is ``(exp(s) * a + t, b)``, where ``s, t`` come from the coupling network of
    `b` (`flowlib.kernels.network`), ``|s| < bound``, and the log-determinant of the coupling at each position,
    ``(N, H, W)``; that of `A` is the caller's.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float, A: Tensor, c: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        u = affine(A, x.flatten(-3), c).view_as(x)
        log_scale, shift = log_scale_and_shift(u, bound, *weights)
        halves(u, shift)[0].mul_(log_scale.exp()).add_(shift)
        ctx.bound = bound
        ctx.save_for_backward(x, log_scale, A, c, *weights)
        return u, log_scale.sum(-4)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_logdet: Tensor) -> tuple[Tensor | None, ...]:
        x, log_scale, A, c, *weights = ctx.saved_tensors
        a, b = halves(affine(A, x.flatten(-3), c).view_as(x), log_scale)
        grad_changed, grad_kept = halves(grad_y, log_scale)
        grad_u = torch.empty_like(x, memory_format=torch.contiguous_format)
        grad_a, grad_b = halves(grad_u, log_scale)
        torch.mul(grad_changed, log_scale.exp(), out=grad_a)
        grad_raw = (grad_a * a).add_(grad_logdet.unsqueeze(-4))
        grad_raw.addcmul_(grad_raw, log_scale.div(ctx.bound).square_(), value=-1)  # through tanh
        grad_through, *grad_weights = network_gradient(b, torch.cat((grad_raw, grad_changed), -4), *weights)
        torch.add(grad_kept, grad_through, out=grad_b)
        grad_A = grad_u.flatten(-3) @ x.flatten(-3).mT
        grad_x = (A.mT @ grad_u.flatten(-3)).view_as(x)
        return grad_x, None, grad_A, grad_u.sum((-3, -2, -1)), *grad_weights


def halves(u: Tensor, like: Tensor) -> tuple[Tensor, ...]:
    """The channels of `u` that a coupling changes, as many as `like` has, and those that it looks at."""
    Ca = like.shape[-4]
    return u.split((Ca, u.shape[-4] - Ca), -4)


def log_scale_and_shift(u: Tensor, bound: float, *weights: Tensor) -> tuple[Tensor, Tensor]:
    """What a coupling does to the first half of `u` ``(C, N, H, W)``, given the second: ``(Ca, N, H, W)`` each.

    The log-scale is what the network gives where that is near zero, and smoothly held within plus and minus `bound`.
    """
    Ca = weights[2].shape[-1] // 2  # of the last layer's bias
    raw, shift = CouplingNetwork.apply(u[..., Ca:, :, :, :], *weights).chunk(2, -4)
    return (raw / bound).tanh() * bound, shift


def inverse_step(y: Tensor, bound: float, A_inverse: Tensor, c: Tensor, *weights: Tensor) -> Tensor:
    """Undo `FlowStep`: ``(C, N, H, W)`` to ``(C, N, H, W)``, given the inverse of `A`."""
    log_scale, shift = log_scale_and_shift(y, bound, *weights)
    a, b = halves(y, shift)
    u = torch.cat(((a - shift) * (-log_scale).exp(), b), -4)
    return (A_inverse @ (u.flatten(-3) - c[..., None])).view_as(y)
