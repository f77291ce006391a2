"""The coupling network of a step of flow, and its gradient, in torch.

Its layers are a 3x3 convolution and ReLU, any number of 1x1 convolutions and ReLU, and a 3x3 convolution. Tensors are
channels first, images second, ``(C, N, H, W)``. Each layer is one matrix product over the positions of a few images, so
that hidden layers stay in the cache of a core. None is kept for the backward pass, which saves nearly all of the
memory: they are computed again.

Of M flows at once all tensors have one more axis, the first, ``(M, C, N, H, W)``: M products are one call.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# On a CPU, so many numbers of a hidden layer at a time, or one image: what fits the cache of a core.
PIECE = 2**19


def network(b: Tensor, w_in: Tensor, w_out: Tensor, b_out: Tensor, *middle: Tensor) -> Tensor:
    """What the network makes of `b` ``(Cb, N, H, W)``: ``(outputs, N, H, W)``.

    `w_in` is ``(hidden, 9*Cb + 1)`` and each of `middle` ``(hidden, hidden + 1)``, their bias the last column; `w_out`
    is ``(9*outputs, hidden)``, `b_out` ``(outputs,)``. Columns of `w_in` and rows of `w_out` are ordered as in
    `neighbourhoods` and `scatter`: (dy, dx, channel).
    """
    out = b.new_empty(*b_out.shape, *b.shape[-3:])
    for some in pieces(b, w_in.shape[-2]):
        hidden = hidden_activations(neighbourhoods(b[..., some, :, :], ones=1), (w_in, *middle))[-1]
        part = out[..., some, :, :]
        torch.add(scatter(w_out @ hidden, part.shape), b_out[..., None, None, None], out=part)
    return out


def network_gradient(
    b: Tensor, grad_out: Tensor, w_in: Tensor, w_out: Tensor, b_out: Tensor, *middle: Tensor
) -> tuple[Tensor, ...]:
    """The gradients of `b`, `w_in`, `w_out`, `b_out` and each of `middle`, given that of what `network` returns."""
    grad_b, grad_b_out = b.new_empty(b.shape), grad_out.sum((-3, -2, -1))
    # transposed where that is the faster product
    grad_w_in, grad_w_out = w_in.new_zeros(w_in.mT.shape), w_out.new_zeros(w_out.shape)
    grad_middle = [w.new_zeros(w.shape) for w in middle]
    for some in pieces(b, w_in.shape[-2]):
        columns = neighbourhoods(b[..., some, :, :], ones=1)
        *below, last = hidden_activations(columns, (w_in, *middle))
        grad_columns = neighbourhoods(grad_out[..., some, :, :])  # the adjoint of `scatter`
        add_product(grad_w_out, grad_columns, last.mT)
        grad_hidden = through_relu(w_out.mT @ grad_columns, last)
        for w, grad_w, activation in zip(reversed(middle), reversed(grad_middle), reversed(below), strict=True):
            add_product(grad_w[..., :-1], grad_hidden, activation.mT)
            grad_w[..., -1] += grad_hidden.sum(-1)
            grad_hidden = through_relu(w[..., :-1].mT @ grad_hidden, activation)
        add_product(grad_w_in, columns, grad_hidden.mT)
        part = grad_b[..., some, :, :]
        part.copy_(scatter(w_in[..., :-1].mT @ grad_hidden, part.shape))
    return grad_b, grad_w_in.mT, grad_w_out, grad_b_out, *grad_middle


class CouplingNetwork(torch.autograd.Function):
    """`network` with `network_gradient`."""

    @staticmethod
    def forward(ctx: Any, b: Tensor, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(b, *weights)
        return network(b, *weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, ...]:
        b, *weights = ctx.saved_tensors
        return network_gradient(b, grad_out, *weights)


def pieces(x: Tensor, hidden: int) -> Iterator[slice]:
    """Images of ``(C, N, H, W)``: on a CPU so many at a time that `hidden` channels are at most `PIECE` numbers."""
    N, H, W = x.shape[-3:]
    images = N if x.is_cuda else max(1, PIECE // (hidden * H * W))
    return (slice(first, first + images) for first in range(0, N, images))


def neighbourhoods(x: Tensor, ones: int = 0) -> Tensor:
    """The 3x3 neighbourhood of every position, zero outside the image: ``(C, N, H, W) -> (9C + ones, N*H*W)``.

    As many rows of `ones` as asked for come last: what a bias is multiplied with.
    """
    *M, C, N, H, W = x.shape
    padded = F.pad(x, (1, 1, 1, 1))
    *m, c, n, h, w = padded.stride()
    columns = x.new_empty(*M, 9 * C + ones, N * H * W)
    shifted = padded.as_strided((*M, 3, 3, C, N, H, W), (*m, h, w, c, n, h, w))
    columns[..., : 9 * C, :].view(shifted.shape).copy_(shifted)
    columns[..., 9 * C :, :] = 1
    return columns


def scatter(columns: Tensor, shape: Sequence[int]) -> Tensor:
    """The adjoint of `neighbourhoods`: sum ``(9C, N*H*W)`` back onto ``(C, N, H, W)``. Overwrites its input."""
    left, row, right = columns.view(*shape[:-4], 3, 3, *shape[-4:]).unbind(-5)  # (3, C, N, H, W) each
    row[..., :-1] += left[..., 1:]
    row[..., 1:] += right[..., :-1]
    above, x, below = row.unbind(-5)
    x[..., :-1, :] += above[..., 1:, :]
    x[..., 1:, :] += below[..., :-1, :]
    return x


def affine(A: Tensor, x: Tensor, c: Tensor) -> Tensor:
    """``A x + c``: A ``(D, C)``, x ``(C, P)``, c ``(D,)``."""
    return (torch.addmm if A.ndim == 2 else torch.baddbmm)(c[..., None], A, x)


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add ``a @ b`` to a total in its place."""
    (total.addmm_ if total.ndim == 2 else total.baddbmm_)(a, b)


class Neighbourhoods(torch.autograd.Function):
    """`neighbourhoods` with `scatter` as its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ones: int = 0) -> Tensor:
        ctx.shape = x.shape
        return neighbourhoods(x, ones)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return scatter(
            gradient[..., : 9 * ctx.shape[-4], :].clone(memory_format=torch.contiguous_format), ctx.shape
        ), None


def hidden_activations(columns: Tensor, layers: Sequence[Tensor]) -> list[Tensor]:
    """Activations of the hidden layers, ``(hidden, P)`` each, given ``(9*Cb + 1, P)`` of `neighbourhoods`."""
    activations = [(layers[0] @ columns).relu_()]
    for w in layers[1:]:
        activations.append(affine(w[..., :-1], activations[-1], w[..., -1]).relu_())
    return activations


def through_relu(gradient: Tensor, activation: Tensor) -> Tensor:
    """The gradient before a ReLU, given its output. Overwrites `gradient`."""
    return torch.ops.aten.threshold_backward.grad_input(gradient, activation, 0, grad_input=gradient)
