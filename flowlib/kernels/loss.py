"""The loss of a whole flow and its gradient in two calls of C++ (``loss.h``), for training on a CPU.

A small flow's step of training would else spend nearly half of its time in Python and torch, around the steps of flow.
"""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from flowlib.kernels.steps import compiled_for


class LevelParameters(NamedTuple):
    """Of a level of flow. Learned are those that `Learned` names, in its order; their gradients are their `grad`."""

    bound: float  # of the couplings' log-scales
    permutation: Tensor
    sign: Tensor
    learned: Sequence[Tensor]


class Learned(ctypes.Structure):
    """``struct Learned`` of loss.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("bias", "log_scale", "lower", "upper", "log_diagonal")),
        *((name, ctypes.c_void_p) for name in ("w_in", "w_middle", "w_out", "b_out", "prior")),
    )


class Level(ctypes.Structure):
    """``struct Level`` of loss.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("C", "leaving", "steps", "hidden", "layers")),
        ("bound", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("permutation", "sign")),
        ("weights", Learned),
        ("gradients", Learned),
        *((name, ctypes.c_void_p) for name in ("x", "ys", "log_scales", "affine", "w_out")),
    )


class Whole(ctypes.Structure):
    """``struct Whole`` of loss.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("N", "C", "H", "W", "levels")),
        *((name, ctypes.c_double) for name in ("alpha", "prior_bound", "output_gain")),
        ("level", ctypes.POINTER(Level)),
    )


class CompiledLoss:
    """Losses in nats of uint8 `images` ``(N, C, H, W)``, at the points of their bins that `noise` in [0, 1) chooses.

    All tensors stay where they are, those of the levels' parameters and gradients, too, and may change between calls.
    `constants` are alpha of the logit, the bound of the priors' log-scales and the gain of the couplings' outputs.
    """

    def __init__(
        self,
        images: Tensor,
        noise: Tensor,
        levels: Sequence[LevelParameters],
        constants: tuple[float, float, float],
    ) -> None:
        N, C, H, W = images.shape
        self.losses = noise.new_empty(N)
        self.tensors = [images, noise, self.losses]  # kept alive
        of_levels = (Level * len(levels))()
        for number, level in enumerate(levels):
            *_, w_in, w_middle, w_out, _, prior = level.learned
            K, D, _ = level.permutation.shape  # steps, channels of the level
            shape = (D, N, H >> (number + 1), W >> (number + 1))
            gradients = [torch.empty_like(p) if p.grad is None else p.grad for p in level.learned]
            room = [
                noise.new_empty(s) for s in (shape, (K, *shape), (K, D // 2, *shape[1:]), (K, D, D + 1), w_out.shape)
            ]
            of_levels[number] = Level(
                D, len(prior) // 2, K, w_in.shape[1], 2 + len(w_middle), level.bound,
                *places(level.permutation, level.sign), Learned(*places(*level.learned)), Learned(*places(*gradients)),
                *places(*room),
            )  # fmt: skip
            self.tensors += [level.permutation, level.sign, *level.learned, *gradients, *room]
        self.whole = Whole(N, C, H, W, len(levels), *constants, of_levels)
        self.library = compiled_for(*(t for t in self.tensors if t is not images))

    def __call__(self) -> Tensor:
        """The losses, ``(N,)``, in a tensor that stays where it is, too."""
        self.call("loss_forward", *self.tensors[:3])
        return self.losses

    def gradient(self, weights: Tensor) -> None:
        """The gradients of all parameters of the losses' sum with these weights, ``(N,)``, after a call."""
        self.call("loss_gradient", weights.contiguous())

    def call(self, name: str, *tensors: Tensor) -> None:
        arguments = (ctypes.c_void_p(place) for place in places(*tensors))
        getattr(self.library, name)(ctypes.byref(self.whole), *arguments, ctypes.c_int64(torch.get_num_threads()))


def places(*tensors: Tensor) -> list[int]:
    """Where the numbers of tensors are; ValueError unless they lie one after another."""
    if not all(tensor.is_contiguous() for tensor in tensors):
        raise ValueError("the tensors of a compiled loss must be contiguous")
    return [tensor.data_ptr() for tensor in tensors]
