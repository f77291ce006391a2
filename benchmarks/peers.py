"""The same Glow in normflows, nflows and FrEIA: same weights, same likelihood, for `speed.py` to time.

Each is put together from its library's own squeeze, actnorm, 1x1 convolution, coupling and split as its users would,
with one coupling network in torch convolutions for all. A peer takes what our logit gives,
``(N, C, H, W)``, and has standard normal latents. FrEIA's 1x1 convolution is a fixed rotation, the others learn theirs.
"""

import math
from collections.abc import Callable

import FrEIA.modules as freia
import normflows
import torch
from FrEIA.framework import SequenceINN
from nflows import transforms
from torch import Tensor, nn

from flowlib import Glow
from flowlib.glow import OUTPUT_GAIN, Level


def network(level: Level, k: int) -> nn.Sequential:
    """A step's coupling network, ``(N, Cb, H, W)`` to log-scale (before its bound) and shift, ``(N, 2*Ca, H, W)``."""
    hidden, outputs = level.w_in.shape[1], level.b_out.shape[1]
    inputs = level.w_in.shape[2] // 9
    layers: list[nn.Module] = [nn.Conv2d(inputs, hidden, 3, padding=1), nn.ReLU(inplace=True)]
    for _ in level.w_middle:
        layers += [nn.Conv2d(hidden, hidden, 1), nn.ReLU(inplace=True)]
    layers.append(nn.Conv2d(hidden, outputs, 3, padding=1))
    with torch.no_grad():
        layers[0].weight.copy_(level.w_in[k, :, :-1].view(hidden, 3, 3, inputs).permute(0, 3, 1, 2))  # type: ignore
        layers[0].bias.copy_(level.w_in[k, :, -1])  # type: ignore
        for layer, w in zip(layers[2:-1:2], level.w_middle[:, k], strict=True):
            layer.weight.copy_(w[:, :-1, None, None])  # type: ignore
            layer.bias.copy_(w[:, -1])  # type: ignore
        w_out = (OUTPUT_GAIN * level.w_out[k]).view(3, 3, outputs, hidden).permute(2, 3, 0, 1).flip(2, 3)
        layers[-1].weight.copy_(w_out)  # type: ignore
        layers[-1].bias.copy_(level.b_out[k])  # type: ignore
    return nn.Sequential(*layers)


def reorder(net: nn.Sequential, order: Tensor, factor: Tensor | None = None) -> nn.Sequential:
    """Put the outputs of a network in another order, each times a factor."""
    last = net[-1]
    with torch.no_grad():
        for parameter in (last.weight, last.bias):
            values = parameter[order].clone()
            if factor is not None:
                values *= factor.view(-1, *[1] * (values.ndim - 1))
            parameter.copy_(values)
    return net


class Peer(nn.Module):
    """What the three have in common: logit and likelihood around their own transforms."""

    def __init__(self, flow: Glow) -> None:
        super().__init__()
        self.image_shape, self.alpha = flow.image_shape, flow.alpha

    def transform(self, h: Tensor) -> tuple[list[Tensor], Tensor]:
        """Latents of each level and the log-determinant ``(N,)``."""
        raise NotImplementedError

    def invert(self, latents: list[Tensor]) -> Tensor:
        raise NotImplementedError

    def loss(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return -self.log_prob(images, torch.rand(images.shape, generator=generator))

    def log_prob(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        s = self.alpha + (1 - 2 * self.alpha) * (images + (0.5 if noise is None else noise)) / 256
        latents, logdet = self.transform(torch.logit(s))
        slope = math.log1p(-2 * self.alpha) - torch.log(s * (1 - s)) - math.log(256)
        prior = sum((-0.5 * (z * z + math.log(2 * math.pi))).flatten(1).sum(1) for z in latents)
        return logdet + prior + slope.flatten(1).sum(1)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        C, H, W = self.image_shape
        shapes = [(n, 2 * C, H // 2, W // 2), (n, 8 * C, H // 4, W // 4)]
        h = self.invert([torch.randn(shape, generator=generator) for shape in shapes])
        y = (torch.sigmoid(h) - self.alpha) / (1 - 2 * self.alpha)
        return ((256 * y - 0.5) / 255).clamp(0, 1)


class Normflows(Peer):
    def __init__(self, flow: Glow) -> None:
        super().__init__(flow)
        self.squeeze, self.split = normflows.flows.Squeeze(), normflows.flows.Split(mode="channel")
        self.steps = nn.ModuleList(
            nn.ModuleList(step for k in range(level.steps) for step in self.step(level, k)) for level in flow.levels
        )

    @staticmethod
    def step(level: Level, k: int) -> list[nn.Module]:
        C = level.channels
        actnorm = normflows.flows.ActNorm((C, 1, 1))
        actnorm.data_dep_init_done.fill_(1)
        convolution = normflows.flows.Invertible1x1Conv(C, use_lu=True)
        convolution.P, convolution.sign_S = level.permutation[k].clone(), level.sign[k].clone()
        with torch.no_grad():
            actnorm.s.copy_(level.actnorm_log_scale[k].view(1, -1, 1, 1))
            actnorm.t.copy_(level.actnorm_bias[k].view(1, -1, 1, 1))
            convolution.L.copy_(level.lower[k])
            convolution.U.copy_(level.upper[k])
            convolution.log_S.copy_(level.log_diagonal[k])
        Ca = C // 2
        interleaved = torch.stack((Ca + torch.arange(Ca), torch.arange(Ca)), 1).flatten()  # shift, log-scale
        bounded = Bounded(reorder(network(level, k), interleaved), level.bound, slice(1, None, 2))
        coupling = normflows.flows.AffineCouplingBlock(bounded, split_mode="channel_inv")
        return [actnorm, convolution, coupling]  # their 1x1 convolution is forward when sampling

    def transform(self, h: Tensor) -> tuple[list[Tensor], Tensor]:
        latents, total = [], h.new_zeros(len(h))
        for number, steps in enumerate(self.steps):
            h, _ = self.squeeze.inverse(h)
            for i, step in enumerate(steps):  # type: ignore[arg-type]
                h, logdet = step.inverse(h) if i % 3 == 1 else step(h)
                total = total + logdet
            if number + 1 < len(self.steps):
                (z, h), _ = self.split(h)
                latents.append(z)
        return [*latents, h], total

    def invert(self, latents: list[Tensor]) -> Tensor:
        h = latents[-1]
        for number in reversed(range(len(self.steps))):
            if number + 1 < len(self.steps):
                h, _ = self.split.inverse([latents[number], h])
            for i, step in reversed(list(enumerate(self.steps[number]))):  # type: ignore[arg-type]
                h, _ = step(h) if i % 3 == 1 else step.inverse(h)
            h, _ = self.squeeze(h)
        return h


class Bounded(nn.Module):
    """A network of which some outputs, the log-scales, are held within a bound."""

    def __init__(self, net: nn.Module, bound: float, which: slice) -> None:
        super().__init__()
        self.net, self.bound, self.which = net, bound, which

    def forward(self, b: Tensor) -> Tensor:
        out = self.net(b)
        raw, shift = out[:, 1::2], out[:, 0::2]
        return torch.stack((shift, self.bound * torch.tanh(raw / self.bound)), 2).flatten(1, 2)


class Nflows(Peer):
    def __init__(self, flow: Glow) -> None:
        super().__init__(flow)
        C, H, W = flow.image_shape
        shape = (C, H, W)
        self.all = transforms.MultiscaleCompositeTransform(len(flow.levels))
        for level in flow.levels:
            squeeze = transforms.SqueezeTransform()
            C, H, W = squeeze.get_output_shape(*shape)
            steps = [step for k in range(level.steps) for step in self.step(level, k)]
            shape = self.all.add_transform(transforms.CompositeTransform([squeeze, *steps]), (C, H, W))

    @staticmethod
    def step(level: Level, k: int) -> list[nn.Module]:
        C = level.channels
        actnorm = transforms.ActNorm(C)
        actnorm.initialized.data = torch.tensor(True)
        convolution = transforms.OneByOneConvolution(
            C, using_cache=True
        )  # starts as a permutation, as all of ours here
        convolution.permutation._permutation.copy_(level.permutation[k].argmax(1))
        with torch.no_grad():
            actnorm.log_scale.copy_(level.actnorm_log_scale[k])
            actnorm.shift.copy_(level.actnorm_bias[k])
        Ca = C // 2
        order = torch.cat((Ca + torch.arange(Ca), torch.arange(Ca)))  # shift, log-scale
        net = reorder(network(level, k), order)
        mask = torch.arange(C) < Ca

        class Coupling(transforms.AffineCouplingTransform):
            def _scale_and_shift(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
                shift, raw = parameters.chunk(2, 1)
                return torch.exp(level.bound * torch.tanh(raw / level.bound)), shift

        return [actnorm, convolution, Coupling(mask.int(), lambda *_: WithContext(net))]

    def transform(self, h: Tensor) -> tuple[list[Tensor], Tensor]:
        z, logdet = self.all(h)
        return [z], logdet

    def invert(self, latents: list[Tensor]) -> Tensor:
        return self.all.inverse(torch.cat([z.flatten(1) for z in latents], 1))[0]


class WithContext(nn.Module):
    """A network that nflows gives a context, too."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, b: Tensor, context: Tensor | None = None) -> Tensor:
        return self.net(b)


class Freia(Peer):
    """Its block is coupling, actnorm, 1x1 convolution, and transforms the second half: ours, one half-step later."""

    def __init__(self, flow: Glow) -> None:
        super().__init__(flow)
        C, H, W = flow.image_shape
        self.parts = nn.ModuleList()
        for level in flow.levels:
            C, H, W = 4 * C, H // 2, W // 2
            self.parts.append(self.level(level, (C, H, W)))
            C = C // 2

    @staticmethod
    def level(level: Level, shape: tuple[int, int, int]) -> SequenceINN:
        C, Ca, K = level.channels, level.channels // 2, level.steps
        swap = torch.cat(
            (torch.arange(Ca, C), torch.arange(Ca))
        )  # their order of channels: the conditioning half first
        inn = SequenceINN(*shape)
        inn.append(freia.ActNorm)
        inn.append(freia.Fixed1x1Conv, M=level.permutation[0][swap].t().contiguous())
        first = inn.module_list[0]
        first.init_on_next_batch = False
        with torch.no_grad():
            first.scale.copy_(level.actnorm_log_scale[0].view_as(first.scale))
            first.bias.copy_(level.actnorm_bias[0].view_as(first.bias))
        for k in range(K):
            factor = torch.cat((torch.full((Ca,), 10 / level.bound), torch.full((Ca,), 10.0)))  # they divide by ten
            net = reorder(network(level, k), torch.arange(2 * Ca), factor)
            inn.append(
                freia.AllInOneBlock,
                subnet_constructor=lambda *_, net=net: net,
                affine_clamping=level.bound,
                global_affine_type="EXP",
            )
            block = inn.module_list[-1]
            with torch.no_grad():
                if k + 1 < K:
                    W = level.permutation[k + 1][swap][:, swap]
                    block.global_scale.copy_(level.actnorm_log_scale[k + 1][swap].view_as(block.global_scale))
                    block.global_offset.copy_(level.actnorm_bias[k + 1][swap].view_as(block.global_offset))
                else:
                    W = torch.eye(C)
                block.w_perm.copy_(W[:, :, None, None])
                block.w_perm_inv.copy_(W.t()[:, :, None, None])
        return inn

    def transform(self, h: Tensor) -> tuple[list[Tensor], Tensor]:
        latents, total = [], h.new_zeros(len(h))
        for number, inn in enumerate(self.parts):
            h, logdet = inn(nn.functional.pixel_unshuffle(h, 2))
            total = total + logdet
            if number + 1 < len(self.parts):
                h, z = h.chunk(2, 1)
                latents.append(z)
        return [*latents, h], total

    def invert(self, latents: list[Tensor]) -> Tensor:
        h = latents[-1]
        for number in reversed(range(len(self.parts))):
            if number + 1 < len(self.parts):
                h = torch.cat((h, latents[number]), 1)
            h, _ = self.parts[number](h, rev=True)
            h = nn.functional.pixel_shuffle(h, 2)
        return h


PEERS: dict[str, Callable[[Glow], Peer]] = {"FrEIA": Freia, "nflows": Nflows, "normflows": Normflows}


def common_glow(image_shape: tuple[int, int, int], images: Tensor, **options: int) -> Glow:
    """A Glow whose weights each of the libraries can hold: standard normal latents, 1x1 convolutions that permute."""
    torch.manual_seed(0)
    flow = Glow(image_shape, learned_prior=False, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        for level in flow.levels:
            for k in range(level.steps):
                level.permutation[k].copy_(torch.eye(level.channels)[torch.randperm(level.channels)])
            for parameter in (level.lower, level.upper, level.log_diagonal):
                parameter.zero_()
            level.sign.fill_(1)
    flow.initialise(images)
    with torch.no_grad():
        for level in flow.levels:
            level.w_out.add_(0.02 * torch.randn_like(level.w_out))
    return flow
