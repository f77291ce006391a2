"""One step of flow (Kingma & Dhariwal 2018, Fig. 2a) with its hand-written backward pass.

Tensors are channels first, images second, ``(C, N, H, W)``: the channels of a step are few and its positions many, so
the 1x1 convolution is one matrix product over all positions, and the two halves of a coupling are contiguous views.
A step keeps its input and little else for the backward pass.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from flowlib.kernels.network import CouplingNetwork, network_gradient


class FlowStep(torch.autograd.Function):
    """Actnorm and 1x1 convolution as one affine map, then affine coupling.

    ``forward(x, bound, A, c, w_in, w_out, b_out, *middle)``: `x` ``(C, N, H, W)``, `A` ``(C, C)``, `c` ``(C,)``; with
    ``a, b = split(A x + c)`` the result is ``(exp(s) * a + t, b)``, where ``s, t`` come from the coupling network of
    `b` (`flowlib.kernels.network`), ``|s| < bound``, and the log-determinant of the coupling at each position,
    ``(N, H, W)``; that of `A` is the caller's.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float, A: Tensor, c: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        u = torch.addmm(c[:, None], A, x.flatten(1)).view_as(x)
        log_scale, shift = log_scale_and_shift(u, bound, *weights)
        Ca = len(shift)
        u[:Ca].mul_(log_scale.exp()).add_(shift)
        ctx.bound = bound
        ctx.save_for_backward(x, log_scale, A, c, *weights)
        return u, log_scale.sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_logdet: Tensor) -> tuple[Tensor | None, ...]:
        x, log_scale, A, c, *weights = ctx.saved_tensors
        Ca = len(log_scale)
        u = torch.addmm(c[:, None], A, x.flatten(1)).view_as(x)
        grad_u = torch.empty_like(u)
        torch.mul(grad_y[:Ca], log_scale.exp(), out=grad_u[:Ca])
        grad_out = torch.empty(2 * Ca, *x.shape[1:], dtype=x.dtype, device=x.device)
        torch.mul(grad_u[:Ca], u[:Ca], out=grad_out[:Ca]).add_(grad_logdet)
        grad_out[:Ca].addcmul_(grad_out[:Ca], log_scale.div(ctx.bound).square_(), value=-1)  # through tanh
        grad_out[Ca:] = grad_y[:Ca]
        grad_b, *grad_weights = network_gradient(u[Ca:], grad_out, *weights)
        torch.add(grad_y[Ca:], grad_b, out=grad_u[Ca:])
        grad_A = grad_u.flatten(1) @ x.flatten(1).t()
        grad_x = (A.t() @ grad_u.flatten(1)).view_as(x)
        return grad_x, None, grad_A, grad_u.sum((1, 2, 3)), *grad_weights


def log_scale_and_shift(u: Tensor, bound: float, *weights: Tensor) -> tuple[Tensor, Tensor]:
    """What a coupling does to the first half of `u` ``(C, N, H, W)``, given the second: ``(Ca, N, H, W)`` each.

    The log-scale is what the network gives where that is near zero, and smoothly held within plus and minus `bound`.
    """
    Ca = len(weights[2]) // 2
    out = CouplingNetwork.apply(u[Ca:], *weights)
    return (out[:Ca] / bound).tanh() * bound, out[Ca:]


def inverse_step(y: Tensor, bound: float, A_inverse: Tensor, c: Tensor, *weights: Tensor) -> Tensor:
    """Undo `FlowStep`: ``(C, N, H, W)`` to ``(C, N, H, W)``, given the inverse of `A`."""
    log_scale, shift = log_scale_and_shift(y, bound, *weights)
    a, b = y[: len(shift)], y[len(shift) :]
    u = torch.cat(((a - shift) * (-log_scale).exp(), b))
    return (A_inverse @ (u.flatten(1) - c[:, None])).view_as(y)
