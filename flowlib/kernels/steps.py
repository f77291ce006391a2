"""All steps of flow of a level at once: nearly all of a Glow's cost.

Float32 on a CPU is for ``steps.cpp``, where a compiler is found (`flowlib.runtime.compiled`): one call for all steps.
All else is done step by step in torch (`flowlib.kernels.coupling`). Tensors are channels first, images second, ``(C, N,
H, W)``; of M flows at once, which are for torch, all have one more axis, the first.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from flowlib.kernels.coupling import FlowStep, inverse_step
from flowlib.runtime import compiled


def forward_steps(x: Tensor, bound: float, *parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Through K steps: ``(C, N, H, W)`` to the same shape, and the log-determinant of the couplings, ``(N, H, W)``.

    `parameters` are those of `FlowStep`, stacked: ``A (K, C, C)``, ``c (K, C)``, ``w_in (K, hidden, 9*Cb + 1)``,
    ``w_middle (layers - 2, K, hidden, hidden + 1)``, ``w_out (K, 9*outputs, hidden)`` and ``b_out (K, outputs)``.
    """
    if library := compiled_for(x, *parameters):
        x, matrices = x.contiguous(), joined(*parameters)
        if differentiable(x, *parameters):
            return CompiledSteps.apply(library, x, bound, *matrices)
        return compiled_forward(library, x, bound, *matrices, keep=False)[:2]
    logdet = x.new_zeros(*x.shape[:-4], *x.shape[-3:])
    for step in one_by_one(*parameters):
        x, of_coupling = FlowStep.apply(x, bound, *step)
        logdet = logdet + of_coupling
    return x, logdet


def inverse_steps(y: Tensor, bound: float, *parameters: Tensor) -> Tensor:
    """Undo `forward_steps`, given the inverse of each `A` in its place: ``(C, N, H, W)`` to ``(C, N, H, W)``."""
    if not differentiable(y, *parameters) and (library := compiled_for(y, *parameters)):
        return compiled_inverse(library, y, bound, parameters)
    for step in reversed(one_by_one(*parameters)):
        y = inverse_step(y, bound, *step)
    return y


def one_by_one(A: Tensor, c: Tensor, w_in: Tensor, w_middle: Tensor, w_out: Tensor, b_out: Tensor) -> list[Any]:
    """The parameters of each step."""
    middle = ((w, -3) for w in w_middle.unbind(-4))
    stacks = ((A, -3), (c, -2), (w_in, -3), (w_out, -3), (b_out, -2), *middle)
    return list(zip(*(stack.unbind(axis) for stack, axis in stacks), strict=True))


def differentiable(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


# --- compiled --------------------------------------------------------------------------------------------------------


class Parameters(ctypes.Structure):
    """``struct Parameters`` of steps.cpp."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("affine", "w_in", "w_middle", "w_out", "b_out"))


class Flow(ctypes.Structure):
    """``struct Flow`` of steps.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("N", "H", "W", "C", "hidden", "layers", "steps")),
        ("bound", ctypes.c_double),
        ("weights", Parameters),
    )


def compiled_for(*tensors: Tensor) -> ctypes.CDLL | None:
    x = tensors[0]
    fit = x.ndim == 4 and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
    return compiled.library("kernels/steps.cpp") if fit else None


class CompiledSteps(torch.autograd.Function):
    """`compiled_forward` and its gradient, for which what comes out of each step is kept, and its log-scale."""

    @staticmethod
    def forward(ctx: Any, library: Any, x: Tensor, bound: float, *matrices: Tensor) -> tuple[Tensor, Tensor]:
        y, logdet, ys, log_scales = compiled_forward(library, x, bound, *matrices, keep=True)
        ctx.library, ctx.bound = library, bound
        ctx.save_for_backward(x, ys, log_scales, *matrices)
        return y, logdet

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_logdet: Tensor) -> tuple[Tensor | None, ...]:
        x, ys, log_scales, *matrices = ctx.saved_tensors
        grad = grad_y.clone(memory_format=torch.contiguous_format)
        found = [torch.empty_like(matrix) for matrix in matrices]
        arrays = (x, ys, log_scales, grad_logdet.contiguous(), grad, room(x))
        call(ctx.library.flow_gradient, x, ctx.bound, matrices, *arrays, ctypes.byref(pointers(found)))
        return None, grad, None, *found


def compiled_forward(
    library: Any, x: Tensor, bound: float, *matrices: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """``y, logdet``, what comes out of each step ``(K, C, N, H, W)`` or of the last two, and log-scales, if kept.

    `x` and the `matrices` of `joined` are contiguous.
    """
    C, K = len(x), len(matrices[0])
    ys = x.new_empty(K if keep else 2, *x.shape)
    log_scales = x.new_empty(K, C // 2, *x.shape[1:]) if keep else None
    logdet = x.new_zeros(x.shape[1:])
    call(library.flow_forward, x, bound, matrices, x, ys, log_scales, logdet, room(x), ctypes.c_int64(len(ys)))
    return ys[(K - 1) % len(ys)], logdet, ys, log_scales


def compiled_inverse(library: Any, y: Tensor, bound: float, parameters: Sequence[Tensor]) -> Tensor:
    y, (A, c, *rest) = y.contiguous(), parameters
    matrices = joined(A, -(A @ c[..., None])[..., 0], *rest)
    xs = y.new_empty(2, *y.shape)
    call(library.flow_inverse, y, bound, matrices, y, xs, room(y))
    return xs[(len(A) - 1) % 2]


def joined(A: Tensor, c: Tensor, *rest: Tensor) -> list[Tensor]:
    """What `Parameters` points to."""
    return [torch.cat((A, c[..., None]), 2), *(p.contiguous() for p in rest)]


def room(x: Tensor) -> Tensor:
    """For the output of a coupling network, or its gradient."""
    return x.new_empty(len(x) // 2 * 2, *x.shape[1:])


def call(function: Any, x: Tensor, bound: float, matrices: Sequence[Tensor], *arguments: Any) -> None:
    """Call `function` of the library with the steps of `matrices` for `x`, and with `arguments`, tensors contiguous.

    Raises ValueError where `matrices` do not fit `x`: the library would read past their end.
    """
    (C, N, H, W), (K, hidden, _), layers = x.shape, matrices[1].shape, 2 + len(matrices[2])
    Ca = C // 2
    expected = [
        (K, C, C + 1),
        (K, hidden, 9 * (C - Ca) + 1),
        (layers - 2, K, hidden, hidden + 1),
        (K, 18 * Ca, hidden),
        (K, 2 * Ca),
    ]
    if expected != (shapes := [tuple(matrix.shape) for matrix in matrices]):
        raise ValueError(f"steps of flow of {C} channels: matrices are {shapes}, expected {expected}")
    flow = Flow(N, H, W, C, hidden, layers, K, bound, pointers(matrices))
    places = (ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a for a in arguments)
    function(ctypes.byref(flow), *places, ctypes.c_int64(torch.get_num_threads()))


def pointers(matrices: Sequence[Tensor]) -> Parameters:
    return Parameters(*(matrix.data_ptr() for matrix in matrices))
