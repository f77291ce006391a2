"""Glow (Kingma & Dhariwal 2018) with an exact likelihood of 8-bit images.

Preprocessing is part of the model and of its likelihood: an 8-bit level ``k`` becomes the point ``(k + u) / 256`` of
its bin (``u`` = 1/2 when scoring, uniform noise when training), and a logit spreads the crowded ends, black and white,
over the line. Then, ``levels`` times: squeeze, ``steps`` of flow (`flowlib.kernels.coupling`), split.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowlib.kernels.loss import CompiledLoss, LevelParameters
from flowlib.kernels.network import Neighbourhoods
from flowlib.kernels.steps import compiled_for, forward_steps, inverse_steps

LOG_TWO_PI = math.log(2 * math.pi)
# of a coupling network's last layer: all couplings move at once, and an optimiser's first steps compound
OUTPUT_GAIN = 0.2
# |log-scale| of a coupling or a prior stays below LARGEST_LOG_SCALE, and those of all couplings of a level together
# below TOTAL_LOG_SCALE: on an input like none before, all of them saturate at once, and deeper flows would blow it up
# until rounding keeps them from inverting it (benchmarks/speed.py: errors at four times the logits of images)
LARGEST_LOG_SCALE = 2.0
TOTAL_LOG_SCALE = 8.0


class Glow(nn.Module):
    """Normalizing flow over images of one size, after Kingma & Dhariwal, "Glow", NeurIPS 2018; thesis section 3.

    Arguments
    ---------
    image_shape: ``(C, H, W)``; H and W divisible by ``2**levels``.
    levels: number of scales L (thesis 4.2: 2). Half of the channels leave at each but the last.
    steps: number of steps of flow K at each level (thesis 4.2: 32).
    hidden_channels: width of the coupling networks.
    hidden_layers: 1 is 3x3 - ReLU - 3x3 (thesis 4.2); each more puts a 1x1 convolution and ReLU between (2 is
        Glow's own).
    learned_prior: condition the prior of what leaves on what stays, and learn the last level's mean and scale per
        channel; otherwise every latent is standard normal.
    classes: number of classes (viewpoints, say) that the flow is conditioned on, 0 for none: each shifts the mean and
        the log-scale of the prior of every latent channel (Glow's class-conditional prior, at every level).
    alpha: the logit sees ``alpha + (1 - 2 * alpha) * y``; 0 < alpha < 0.5 keeps it finite.

    Images are float ``(N, C, H, W)`` in [0, 1] (level / 255) or uint8. Likelihoods are in nats of the 8-bit image: the
    density of the bin's centre times the bin's volume, so ``log 256`` is subtracted for each of the C*H*W dimensions.
    A conditional flow takes `labels`, int64 ``(N,)`` in [0, classes), with every batch of images or latents.

    Example
    -------
    >>> flow = Glow((1, 8, 8), levels=2, steps=2, hidden_channels=8)
    >>> images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    >>> flow.log_prob(images).shape, flow.sample(3).shape
    (torch.Size([5]), torch.Size([3, 1, 8, 8]))
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (1, 28, 28),
        levels: int = 2,
        steps: int = 32,
        hidden_channels: int = 64,
        hidden_layers: int = 1,
        learned_prior: bool = True,
        classes: int = 0,
        alpha: float = 1e-6,
    ) -> None:
        super().__init__()
        C, H, W = image_shape
        if min(C, H, W, levels, steps, hidden_channels, hidden_layers) < 1:
            raise ValueError(
                "Glow: image_shape, levels, steps, hidden_channels and hidden_layers must all be at least 1"
            )
        if H % 2**levels or W % 2**levels:
            raise ValueError(
                f"Glow: image_shape {H}x{W} is no multiple of 2**levels = {2**levels}: resize, crop, or lower `levels`"
            )
        if not 0 < alpha < 0.5:
            raise ValueError(f"Glow: alpha is {alpha}, it must lie between 0 and 0.5")
        if classes < 0:
            raise ValueError(f"Glow: classes is {classes}, it must be 0 (unconditional) or more")
        self.image_shape = (C, H, W)
        self.classes = classes
        self.alpha = alpha
        blocks = []
        for level in range(levels):
            C = 4 * C  # squeeze
            last = level == levels - 1
            blocks.append(Level(C, steps, hidden_channels, hidden_layers, last, learned_prior, classes))
            C = C // 2  # split
        self.levels: Sequence[Level] = nn.ModuleList(blocks)  # type: ignore[assignment]

    @property
    def flows(self) -> torch.Size:
        """``()``, or ``(M,)`` where all parameters and what comes in have an axis of M flows more, the first."""
        return self.levels[0].log_diagonal.shape[:-2]

    @property
    def dimensions(self) -> int:
        """Number of pixels times channels of an image."""
        return math.prod(self.image_shape)

    def log_prob(self, images: Tensor, noise: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Log-likelihood in nats, ``(N,)``, at the bins' centres, or at ``noise`` in [0, 1) of the images' shape."""
        return torch.stack([term.sum((-2, -1)) for _, _, term in self.position_terms(images, noise, labels)]).sum(0)

    def anomaly_score(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Negative log-likelihood in nats, ``(N,)``: higher is more anomalous (thesis section 3)."""
        return -self.log_prob(images, labels=labels)

    def loss(self, images: Tensor, noise: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """What training minimises, ``(N,)``: negative log-likelihood in nats, with uniform dequantisation noise."""
        noise = torch.rand(images.shape, device=images.device) if noise is None else noise
        return -self.log_prob(images, noise, labels)

    def compiled_loss(self, images: Tensor, noise: Tensor) -> CompiledLoss | None:
        """`loss` and its gradient of tensors that stay where they are, by C++; None where it is not for that."""
        if self.classes or not compiled_for(noise, *self.parameters()):
            return None
        self._check(images)
        levels = [level.for_loss() for level in self.levels]
        return CompiledLoss(images, noise, levels, (self.alpha, LARGEST_LOG_SCALE, OUTPUT_GAIN))

    def bits_per_dim(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Negative log-likelihood in bits per pixel and channel, ``(N,)``."""
        return -self.log_prob(images, labels=labels) / (self.dimensions * math.log(2))

    def log_prob_map(self, images: Tensor, noise: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Log-likelihood of each position in nats, ``(N, H, W)``; it sums to `log_prob`.

        A term of level l belongs to a block of ``2**l`` x ``2**l`` pixels and is spread evenly over it. Any image size
        that fits ``2**levels`` may come in: the flow is convolutional.
        """
        return sum(spread(term, 2**level) for level, _, term in self.position_terms(images, noise, labels))  # type: ignore[return-value]

    def position_terms(
        self, images: Tensor, noise: Tensor | None = None, labels: Tensor | None = None
    ) -> Iterator[tuple[int, str, Tensor]]:
        """The likelihood's parts: triples of level, name and terms in nats, ``(N, H / 2**level, W / 2**level)``.

        Level 0 has "preprocessing"; levels 1..L have "determinant" (of the steps of flow) and "prior" (of the latents
        that leave there).
        """
        self.check_labels(labels, images.shape[:-3])
        h = self._logit(images, noise)  # (C, N, H, W)
        # d logit(s) / ds = 1 / (s (1 - s)), and -log(s (1 - s)) = softplus(h) + softplus(-h)
        slope = F.softplus(h) + F.softplus(-h) + math.log1p(-2 * self.alpha)
        yield 0, "preprocessing", (slope - math.log(256)).sum(-4)
        for number, level in enumerate(self.levels, start=1):
            h, determinant = level.flow(squeeze(h))
            yield number, "determinant", determinant
            z, h = level.split(h)
            yield number, "prior", gaussian_log_prob(z, *level.prior(h, labels)).sum(-4)

    def encode(self, images: Tensor, labels: Tensor | None = None) -> list[Tensor]:
        """The latents that leave at each level, standardised by their prior: L tensors ``(N, C_l, H_l, W_l)``."""
        self.check_labels(labels, images.shape[:-3])
        h = self._logit(images, None)
        latents = []
        for level in self.levels:
            h, _ = level.flow(squeeze(h))
            z, h = level.split(h)
            mean, log_scale = level.prior(h, labels)
            latents.append(((z - mean) * torch.exp(-log_scale)).transpose(0, 1))
        return latents

    def decode(self, latents: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """Images ``(N, C, H, W)`` whose `encode` is `latents`; within [0, 1] up to half a level."""
        self.check_labels(labels, latents[-1].shape[:1])
        h = latents[-1].transpose(0, 1)[:0]
        for level, latent in zip(reversed(self.levels), reversed(latents), strict=True):
            z = latent.transpose(0, 1)
            mean, log_scale = level.prior(h, labels)
            h = unsqueeze(level.inverse(torch.cat((z * torch.exp(log_scale) + mean, h))))
        y = (torch.sigmoid(h) - self.alpha) / (1 - 2 * self.alpha)
        return ((256 * y - 0.5) / 255).transpose(0, 1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """``n`` images in [0, 1], latents drawn with standard deviation ``temperature`` (Glow, section 6)."""
        weight = self.levels[0].log_diagonal
        C, H, W = self.image_shape
        latents = []
        for number in range(1, len(self.levels) + 1):
            C = 4 * C if number == len(self.levels) else 2 * C
            shape = (n, C, H // 2**number, W // 2**number)
            noise = torch.randn(shape, generator=generator, dtype=weight.dtype, device=weight.device)
            latents.append(temperature * noise)
        return self.decode(latents, labels).clamp(0, 1)

    @torch.no_grad()
    def initialise(self, images: Tensor, noise: Tensor | None = None) -> None:
        """Set every actnorm to zero mean and unit variance of its output on `images` (Glow, section 3.1); with `noise`,
        as they train, or each step stretches the directions in which they are all alike."""
        h = self._logit(images, noise)
        for level in self.levels:
            h = squeeze(h)
            for k in range(level.steps):
                level.normalise(k, h)
                h, _ = level.flow(h, slice(k, k + 1))
            _, h = level.split(h)

    def first_not_finite(self, images: Tensor, labels: Tensor | None = None) -> str:
        """Where a forward pass first meets a number that is not finite, for an error message."""
        h = self._logit(images, None)
        for number, level in enumerate(self.levels, start=1):
            h = squeeze(h)
            for k in range(level.steps):
                h, determinant = level.flow(h, slice(k, k + 1))
                if not (h.isfinite().all() and determinant.isfinite().all()):
                    return f"in level {number}, step of flow {k}"
            z, h = level.split(h)
            if not gaussian_log_prob(z, *level.prior(h, labels)).isfinite().all():
                return f"in the prior of level {number}"
        return "in the loss"

    def check_labels(self, labels: Tensor | None, shape: torch.Size) -> None:
        """ValueError unless there is a label of [0, classes) for each image, `shape`, or none and none is wanted."""
        if labels is None and self.classes == 0:
            return
        capturing = labels is not None and labels.is_cuda and torch.cuda.is_current_stream_capturing()
        if (
            labels is None
            or labels.shape != shape
            or (not capturing and (labels.min() < 0 or labels.max() >= self.classes))
        ):
            raise ValueError(
                f"Glow: labels must be None where classes is 0, else int64 (N,) = {tuple(shape)} in [0, {self.classes})"
            )

    def _check(self, images: Tensor) -> None:
        """ValueError unless the images have a shape for this flow."""
        C = self.image_shape[0]
        if images.ndim != 4 + len(self.flows) or images.shape[-3] != C:
            raise ValueError(f"Glow: expected images (N, {C}, H, W), got {tuple(images.shape)}")
        multiple = 2 ** len(self.levels)
        if images.shape[-2] % multiple or images.shape[-1] % multiple:
            raise ValueError(
                f"Glow: images are {tuple(images.shape[-2:])} pixels, crop or pad them to multiples of {multiple}"
            )

    def _logit(self, images: Tensor, noise: Tensor | None) -> Tensor:
        """The logit of the point of its bin that stands for each level: ``(N, C, H, W) -> (C, N, H, W)``."""
        self._check(images)
        weight = self.levels[0].log_diagonal
        levels = images.to(weight.dtype) if images.dtype == torch.uint8 else 255 * images.to(weight.dtype)
        offset = 0.5 if noise is None else noise.to(weight.dtype)
        y = (levels + offset) / 256
        beyond = self.alpha / (1 - 2 * self.alpha) + 1e-5  # what `decode` may give, and rounding
        if images.dtype != torch.uint8 and len(images) and not (y.min() >= -beyond and y.max() <= 1 + beyond):
            raise ValueError(
                f"Glow: images are from {images.min():.3g} to {images.max():.3g}, expected float in [0, 1], or uint8"
            )
        eps = torch.finfo(y.dtype).eps  # where a sigmoid of `decode` has become 0 or 1
        return torch.logit(self.alpha + (1 - 2 * self.alpha) * y, eps).transpose(-4, -3)


class Level(nn.Module):
    """The steps of flow of one scale, their parameters stacked along the first axis, and the prior of what leaves."""

    permutation: Tensor
    sign: Tensor
    prior_matrix: Tensor

    def __init__(
        self,
        channels: int,
        steps: int,
        hidden_channels: int,
        hidden_layers: int,
        last: bool,
        learned_prior: bool,
        classes: int,
    ) -> None:
        super().__init__()
        C, K = channels, steps
        Ca = C // 2  # transformed half
        Cb = C - Ca  # conditioning half
        self.channels, self.steps, self.last, self.learned_prior = C, K, last, learned_prior
        self.bound = min(LARGEST_LOG_SCALE, TOTAL_LOG_SCALE / steps)
        self.actnorm_bias = nn.Parameter(torch.zeros(K, C))
        self.actnorm_log_scale = nn.Parameter(torch.zeros(K, C))

        # W = P L (U + diag(sign * exp(log_diagonal))), from a random rotation (Glow, section 3.2)
        rotation = torch.linalg.qr(torch.randn(K, C, C))[0]
        P, L, U = torch.linalg.lu(rotation)
        diagonal = U.diagonal(dim1=1, dim2=2)
        self.register_buffer("permutation", P)
        self.register_buffer("sign", diagonal.sign())
        self.lower = nn.Parameter(L.tril(-1))
        self.upper = nn.Parameter(U.triu(1))
        self.log_diagonal = nn.Parameter(diagonal.abs().log())

        # coupling network; every matrix but the last carries its bias as a last column
        w_in = torch.randn(K, hidden_channels, 9 * Cb + 1) * math.sqrt(2 / (9 * Cb))
        w_in[..., -1] = 0
        middle = torch.randn(hidden_layers - 1, K, hidden_channels, hidden_channels + 1) * math.sqrt(
            2 / hidden_channels
        )
        middle[..., -1] = 0
        self.w_in = nn.Parameter(w_in)
        self.w_middle = nn.Parameter(middle)
        self.w_out = nn.Parameter(torch.zeros(K, 18 * Ca, hidden_channels))
        self.b_out = nn.Parameter(torch.zeros(K, 2 * Ca))

        leaving = C if last else C // 2
        prior = torch.zeros(2 * leaving, 9 * (C - leaving) + 1)  # of a last level a bias alone
        if learned_prior:
            self.prior_matrix = nn.Parameter(prior)
        else:
            self.register_buffer("prior_matrix", prior)
        if classes:
            self.class_prior = nn.Parameter(torch.zeros(2, leaving, classes))

    def affine(self) -> tuple[Tensor, Tensor, Tensor]:
        """Actnorm and 1x1 convolution of each step as ``A x + c``: A ``(K, C, C)``, c ``(K, C)``, and log|det A|."""
        identity = torch.eye(self.channels, dtype=self.lower.dtype, device=self.lower.device)
        lower = self.lower.tril(-1) + identity
        upper = self.upper.triu(1) + torch.diag_embed(self.sign * self.log_diagonal.exp())
        rotation = self.permutation @ lower @ upper
        A = rotation * self.actnorm_log_scale.exp()[..., None, :]
        c = (rotation @ self.actnorm_bias[..., None])[..., 0]
        return A, c, (self.actnorm_log_scale + self.log_diagonal).sum(-1)

    def flow(self, x: Tensor, steps: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """``(C, N, H, W)`` to the same shape, and the log-determinant at each position, ``(N, H, W)``."""
        A, c, logdet = self.affine()
        matrices = (self.w_in, self.w_middle, OUTPUT_GAIN * self.w_out)
        parameters = (
            A[..., steps, :, :],
            c[..., steps, :],
            *(m[..., steps, :, :] for m in matrices),
            self.b_out[..., steps, :],
        )
        x, of_couplings = forward_steps(x, self.bound, *parameters)
        return x, logdet[..., steps].sum(-1)[..., None, None, None] + of_couplings

    def inverse(self, y: Tensor) -> Tensor:
        A, c, _ = self.affine()
        weights = (self.w_in, self.w_middle, OUTPUT_GAIN * self.w_out, self.b_out)
        return inverse_steps(y, self.bound, torch.linalg.inv(A), c, *weights)

    def normalise(self, k: int, x: Tensor) -> None:
        """Set actnorm `k` so that `x` leaves it with zero mean and unit variance; a constant one is only shifted."""
        deviation, mean = torch.std_mean(x, (1, 2, 3), correction=0)
        log_scale = torch.where(deviation > 1e-3, -deviation.clamp_min(1e-3).log(), 0.0)
        self.actnorm_log_scale[k] = log_scale
        self.actnorm_bias[k] = -mean * log_scale.exp()

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What leaves and what stays, ``(C_z, N, H, W)`` and ``(C - C_z, N, H, W)``; all leaves at the last level."""
        leaving = self.channels if self.last else self.channels // 2
        return x[..., :leaving, :, :, :], x[..., leaving:, :, :, :]

    def prior(self, kept: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of what leaves, ``(C_z, N, H, W)`` each, given what stays."""
        out = self.prior_matrix @ Neighbourhoods.apply(kept, 1)
        both = out.view(*out.shape[:-2], 2, -1, *kept.shape[-3:])
        if labels is not None:
            classes = torch.arange(self.class_prior.shape[-1], device=labels.device)
            chosen = (labels[..., None, :] == classes[:, None]).to(both.dtype)  # (classes, N)
            both = both + (self.class_prior @ chosen.unsqueeze(-3))[..., None, None]
        mean, raw = both.unbind(-5)
        return mean, LARGEST_LOG_SCALE * torch.tanh(raw / LARGEST_LOG_SCALE)

    def for_loss(self) -> LevelParameters:
        of_affine = (self.actnorm_bias, self.actnorm_log_scale, self.lower, self.upper, self.log_diagonal)
        learned = (*of_affine, self.w_in, self.w_middle, self.w_out, self.b_out, self.prior_matrix)
        return LevelParameters(self.bound, self.permutation, self.sign, learned)


def squeeze(x: Tensor) -> Tensor:
    """Blocks of 2x2 pixels become channels: ``(C, N, H, W) -> (4C, N, H/2, W/2)`` (Real NVP, section 3.6)."""
    *M, C, N, H, W = x.shape
    blocks = x.reshape(*M, C, N, H // 2, 2, W // 2, 2)
    return blocks.movedim((-3, -1), (-5, -4)).reshape(*M, 4 * C, N, H // 2, W // 2)


def unsqueeze(x: Tensor) -> Tensor:
    """Undo `squeeze`: ``(4C, N, H, W) -> (C, N, 2H, 2W)``."""
    C, N, H, W = x.shape
    return x.reshape(C // 4, 2, 2, N, H, W).permute(0, 3, 4, 1, 5, 2).reshape(C // 4, N, 2 * H, 2 * W)


def spread(term: Tensor, block: int) -> Tensor:
    """Share each value evenly among the pixels of its block: ``(N, H, W) -> (N, block*H, block*W)``."""
    return term.repeat_interleave(block, 1).repeat_interleave(block, 2) / block**2


def gaussian_log_prob(z: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-density of a normal distribution with standard deviation ``exp(log_scale)``, elementwise."""
    return -0.5 * (LOG_TWO_PI + ((z - mean) * torch.exp(-log_scale)).square()) - log_scale
