"""One step of flow (Kingma & Dhariwal 2018, Fig. 2a) with its hand-written backward pass.

Tensors are channels first, images second, ``(C, N, H, W)``: the channels of a step are few and its positions many, so
the 1x1 convolution and both convolutions of the coupling network become one matrix product each over all positions,
and the two halves of a coupling are contiguous views. The network is computed for a few images at a time, so that its
hidden layers stay in the cache of a core. Of these at most the last is kept for the backward pass; the others, which
cost little, are computed again from the step's input, which saves most of the memory.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# A coupling network is computed for so many numbers of one hidden layer at a time, or for one image: what fits the
# cache of a core.
PIECE = 2**19


def pieces(x: Tensor, hidden: int) -> Iterator[slice]:
    """Images of ``(C, N, H, W)``, so many at a time that `hidden` channels of them are at most `PIECE` numbers."""
    images = images_at_once(x, hidden)
    return (slice(first, first + images) for first in range(0, x.shape[1], images))


def images_at_once(x: Tensor, hidden: int) -> int:
    return max(1, PIECE // (hidden * x.shape[2] * x.shape[3]))


def neighbourhoods(x: Tensor, ones: int = 0) -> Tensor:
    """The 3x3 neighbourhood of every position, zero outside the image: ``(C, N, H, W) -> (9C + ones, N*H*W)``.

    As many rows of `ones` as asked for come last: what a bias is multiplied with.
    """
    C, N, H, W = x.shape
    padded = F.pad(x, (1, 1, 1, 1))
    c, n, h, w = padded.stride()
    columns = x.new_empty(9 * C + ones, N * H * W)
    columns[: 9 * C].view(3, 3, C, N, H, W).copy_(padded.as_strided((3, 3, C, N, H, W), (h, w, c, n, h, w)))
    columns[9 * C :] = 1
    return columns


def scatter(columns: Tensor, shape: Sequence[int]) -> Tensor:
    """The adjoint of `neighbourhoods`: sum ``(9C, N*H*W)`` back onto ``(C, N, H, W)``. Overwrites its input."""
    c = columns.view(3, 3, *shape)
    row = c[:, 1]
    row[..., :-1] += c[:, 0, ..., 1:]
    row[..., 1:] += c[:, 2, ..., :-1]
    x = row[1]
    x[:, :, :-1] += row[0, :, :, 1:]
    x[:, :, 1:] += row[2, :, :, :-1]
    return x


class Neighbourhoods(torch.autograd.Function):
    """`neighbourhoods` with `scatter` as its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return neighbourhoods(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return scatter(gradient.clone(), ctx.shape)


def hidden_activations(columns: Tensor, layers: Sequence[Tensor]) -> list[Tensor]:
    """Activations of the coupling network, ``(hidden, P)`` each: a 3x3 convolution, then 1x1 convolutions.

    `columns` is ``(9*Cb + 1, P)``, of `neighbourhoods`; the first of `layers` ``(hidden, 9*Cb + 1)`` and the others
    ``(hidden, hidden + 1)`` carry their bias as the last column.
    """
    activations: list[Tensor] = []
    for w in layers:
        if not activations:
            activations.append((w @ columns).relu_())
        else:
            activations.append(torch.addmm(w[:, -1:], w[:, :-1], activations[-1]).relu_())
    return activations


def last_layer(hidden: Tensor, w_out: Tensor, b_out: Tensor, bound: float, shape: Sequence[int]) -> Tensor:
    """The coupling network's last layer, ``(hidden, N*H*W)`` to log-scale and shift, ``(2*Ca, N, H, W)``.

    `shape` is ``(Ca, N, H, W)``. The log-scale is what the layer gives where that is near zero, and smoothly held
    within plus and minus `bound`.
    """
    Ca, *rest = shape
    out = scatter(w_out @ hidden, (2 * Ca, *rest)).add_(b_out.view(-1, 1, 1, 1))
    out[:Ca].div_(bound).tanh_().mul_(bound)
    return out


def through_relu(gradient: Tensor, activation: Tensor) -> Tensor:
    """The gradient before a ReLU, given its output. Overwrites `gradient`."""
    return torch.ops.aten.threshold_backward.grad_input(gradient, activation, 0, grad_input=gradient)


class FlowStep(torch.autograd.Function):
    """Actnorm and 1x1 convolution as one affine map, then affine coupling.

    ``forward(x, bound, A, c, w_in, w_out, b_out, *middle)``: `x` ``(C, N, H, W)``, `A` ``(C, C)``, `c` ``(C,)``; with
    ``a, b = split(A x + c)`` the result is ``(exp(s) * a + t, b)``, where ``s, t`` come from the coupling network of
    `b`, ``|s| < bound``, and the log-determinant of the coupling at each position, ``(N, H, W)``; that of `A` is the
    caller's.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bound: float,
        A: Tensor,
        c: Tensor,
        w_in: Tensor,
        w_out: Tensor,
        b_out: Tensor,
        *middle: Tensor,
    ) -> tuple[Tensor, Tensor]:
        Ca = b_out.numel() // 2
        u = torch.addmm(c[:, None], A, x.flatten(1)).view_as(x)
        log_scale = torch.empty_like(u[:Ca])
        # the last activations are dear to compute again where another hidden layer lies below, else only when small
        keep = any(ctx.needs_input_grad) and (middle or x.shape[1] <= images_at_once(x, len(w_in)))
        kept = []
        for some in pieces(x, len(w_in)):
            activations = hidden_activations(neighbourhoods(u[Ca:, some], ones=1), (w_in, *middle))
            out = last_layer(activations[-1], w_out, b_out, bound, u[:Ca, some].shape)
            log_scale[:, some] = out[:Ca]
            u[:Ca, some].mul_(log_scale[:, some].exp()).add_(out[Ca:])
            if keep:
                kept.append(activations[-1])
        ctx.bound, ctx.middle = bound, len(middle)
        ctx.save_for_backward(x, log_scale, A, c, w_in, w_out, *middle, *kept)
        return u, log_scale.sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_logdet: Tensor) -> tuple[Tensor | None, ...]:
        x, log_scale, A, c, w_in, w_out, *rest = ctx.saved_tensors
        middle, kept = tuple(rest[: ctx.middle]), rest[ctx.middle :]
        Ca = log_scale.shape[0]
        u = torch.addmm(c[:, None], A, x.flatten(1)).view_as(x)
        grad_u = torch.empty_like(u)
        torch.mul(grad_y[:Ca], log_scale.exp(), out=grad_u[:Ca])
        grad_out = torch.empty(2 * Ca, *x.shape[1:], dtype=x.dtype, device=x.device)
        torch.mul(grad_u[:Ca], u[:Ca], out=grad_out[:Ca]).add_(grad_logdet)
        grad_out[:Ca].addcmul_(grad_out[:Ca], log_scale.div(ctx.bound).square_(), value=-1)  # through tanh
        grad_out[Ca:] = grad_y[:Ca]

        # of the matrices of the coupling network, transposed where that is the faster product
        grad_w_in, grad_w_out = torch.zeros_like(w_in).t().contiguous(), torch.zeros_like(w_out)
        grad_middle = [torch.zeros_like(w) for w in middle]
        for number, some in enumerate(pieces(x, len(w_in))):
            known = kept[number : number + 1]
            columns = neighbourhoods(u[Ca:, some], ones=1)
            activations = [*hidden_activations(columns, [w_in, *middle][: len(middle) + 1 - len(known)]), *known]
            grad_columns = neighbourhoods(grad_out[:, some])  # the adjoint of `scatter`
            grad_w_out.addmm_(grad_columns, activations[-1].t())
            grad_hidden = through_relu(w_out.t() @ grad_columns, activations[-1])
            for w, grad_w, activation in zip(
                reversed(middle), reversed(grad_middle), reversed(activations[:-1]), strict=True
            ):
                grad_w[:, :-1].addmm_(grad_hidden, activation.t())
                grad_w[:, -1] += grad_hidden.sum(1)
                grad_hidden = through_relu(w[:, :-1].t() @ grad_hidden, activation)
            grad_w_in.addmm_(columns, grad_hidden.t())
            grad_b = scatter(w_in[:, :-1].t() @ grad_hidden, u[Ca:, some].shape)
            torch.add(grad_y[Ca:, some], grad_b, out=grad_u[Ca:, some])

        grad_A = grad_u.flatten(1) @ x.flatten(1).t()
        grad_x = (A.t() @ grad_u.flatten(1)).view_as(x)
        grad_b_out = grad_out.sum((1, 2, 3))
        return grad_x, None, grad_A, grad_u.sum((1, 2, 3)), grad_w_in.t(), grad_w_out, grad_b_out, *grad_middle


def inverse_step(
    y: Tensor, bound: float, A_inverse: Tensor, c: Tensor, w_in: Tensor, w_out: Tensor, b_out: Tensor, *middle: Tensor
) -> Tensor:
    """Undo `FlowStep`: ``(C, N, H, W)`` to ``(C, N, H, W)``, given the inverse of `A`."""
    Ca = b_out.numel() // 2
    u = y.clone()
    for some in pieces(y, len(w_in)):
        activations = hidden_activations(neighbourhoods(y[Ca:, some], ones=1), (w_in, *middle))
        out = last_layer(activations[-1], w_out, b_out, bound, y[:Ca, some].shape)
        u[:Ca, some].sub_(out[Ca:]).mul_(out[:Ca].neg_().exp_())
    return (A_inverse @ (u.flatten(1) - c[:, None])).view_as(y)
