"""Image scores beyond the likelihood: one interface, higher is more anomalous, fitted on normal images alone.

A score is a function that is given what a flow says of normal images, their `Readings`, and returns a function from
readings to scores ``(N,)``, so that many scores share one pass of the flow. `Score` takes images instead.

All are deterministic, and an image's score does not depend on the other images of its call.

Those that we recommend are `joined` of two questions. *Is anything like it among the normal images?* `neighbours`
compares by an angle, which knows no magnitude: few edges and small gradients, which make an image likely, bring it no
nearer. It is blind to magnitude, so: *does the flow find as much in it as in normal images?* `mahalanobis` compares the
sums of the likelihood's parts, from both sides.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import gaussian_kde
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from flowlib.baselines import BLOCK, jpegls_size
from flowlib.datasets import check_images
from flowlib.glow import Glow
from flowlib.training import SCORING_BATCH, Recipe, to_device_of, to_numpy, trained

BLUR = 1.5  # standard deviation in pixels over which the descriptions forget where exactly something is


@dataclass(frozen=True)
class Readings:
    """What a flow says of images. Arrays are float32 but for the images.

    images: uint8 ``(N, C, H, W)``.
    terms: the likelihood's parts in nats, ``(N, H / 2**l, W / 2**l)``, under "preprocessing 0", and "determinant l" and
        "prior l" of the levels l = 1..L; all of them together sum to the log-likelihood.
    latents: what leaves at each level, in standard deviations, L arrays ``(N, C_l, H_l, W_l)``.
    gradient: of the log-likelihood in the logit of the image, without the preprocessing's term, ``(N, C, H, W)``.
    """

    images: np.ndarray
    terms: dict[str, np.ndarray]
    latents: list[np.ndarray]
    gradient: np.ndarray

    def subset(self, chosen: np.ndarray) -> Self:
        """The readings of some of the images, by a bool ``(N,)`` or indices."""
        terms = {name: term[chosen] for name, term in self.terms.items()}
        return replace(self, images=self.images[chosen], terms=terms, latents=[z[chosen] for z in self.latents],
                       gradient=self.gradient[chosen])  # fmt: skip

    def nll(self) -> np.ndarray:
        """Negative log-likelihood in nats, float64 ``(N,)``."""
        sums = (term.sum((1, 2), dtype=np.float64) for term in self.terms.values())
        return -sum(sums, start=np.zeros(len(self.images)))


ScoreFunction = Callable[[Readings], np.ndarray]
Fit = Callable[[Readings], ScoreFunction]


def read(flow: Glow, images: np.ndarray) -> Readings:
    """Everything that the scores ask of a flow, in one pass forward and one back.

    Images are uint8 ``(N, C, H, W)``, N > 0. Raises ValueError for others, or when the flow's answer is not finite.
    """
    check_images(images)
    if len(images) == 0:
        raise ValueError("read: there are no images")
    batches = [read_batch(flow, batch, n) for batch, n in in_batches(flow, images)]
    terms, latents, gradients = zip(*batches, strict=True)
    readings = Readings(
        images,
        {name: np.concatenate([batch[name] for batch in terms]) for name in terms[0]},
        [np.concatenate(level) for level in zip(*latents, strict=True)],
        np.concatenate(gradients),
    )
    if not (np.isfinite(readings.nll()).all() and np.isfinite(readings.gradient).all()):
        raise ValueError("read: what the flow says of these images is not finite: train it with a lower learning rate")
    return readings


def read_batch(flow: Glow, batch: Tensor, n: int) -> tuple[dict[str, np.ndarray], list[np.ndarray], np.ndarray]:
    """Terms, latents and gradient, as in `Readings`, of the first `n` images of a batch."""
    with torch.enable_grad():
        x = (batch.float() / 255).requires_grad_()
        terms = {f"{name} {level}": term for level, name, term in flow.position_terms(x)}
        total = torch.stack([term.sum() for name, term in terms.items() if not name.startswith("preprocessing")]).sum()
        (gradient,) = torch.autograd.grad(total, x)
    with torch.no_grad():
        y = flow.alpha + (1 - 2 * flow.alpha) * (255 * x + 0.5) / 256
        gradient = gradient * y * (1 - y) * (256 / 255 / (1 - 2 * flow.alpha))  # from the pixel in [0, 1] to its logit
        latents = flow.encode(batch)
    return (
        {name: to_numpy(term[:n]) for name, term in terms.items()},
        [to_numpy(z[:n]) for z in latents],
        to_numpy(gradient[:n]),
    )


def in_batches(model: nn.Module, images: np.ndarray) -> Iterator[tuple[Tensor, int]]:
    """Batches of one size on the device of the model, the last filled up with black images, and how many of each count.

    Sums of products of matrices of one size give an image the same numbers in any company.
    """
    for start in range(0, len(images), SCORING_BATCH):
        some = images[start : start + SCORING_BATCH]
        batch = np.zeros((SCORING_BATCH, *images.shape[1:]), images.dtype)
        batch[: len(some)] = some
        yield to_device_of(model, batch), len(some)


class Score:
    """A score with scikit-learn's names: `fit` on a trained flow and normal images, then `score_samples`.

    Example
    -------
    >>> flow = Glow((1, 8, 8), levels=2, steps=2, hidden_channels=8)
    >>> images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    >>> score = Score(SCORES["typicality"]).fit(flow, images[:30])
    >>> score.score_samples(images[30:]).shape  # higher is more anomalous
    (10,)
    """

    def __init__(self, fit: Fit) -> None:
        self._fit = fit

    def fit(self, flow: Glow, images: np.ndarray) -> Self:
        """Take a trained flow and normal images, uint8 ``(N, C, H, W)``, as a rule those it was trained on."""
        self.flow = flow
        self.score_ = self._fit(read(flow, images))
        return self

    def score_samples(self, images: np.ndarray) -> np.ndarray:
        """Scores, float64 ``(N,)``, of uint8 images ``(N, C, H, W)``; higher is more anomalous."""
        if not hasattr(self, "score_"):
            raise ValueError("Score: fit it on a flow and normal images first")
        return self.score_(read(self.flow, images))


# --- the likelihood and its corrections ----------------------------------------------------------------------------


def likelihood(normal: Readings) -> ScoreFunction:
    """Negative log-likelihood, nats (thesis section 3)."""
    return Readings.nll


def complexity_corrected(normal: Readings) -> ScoreFunction:
    """Negative log-likelihood less the length of the image as a lossless JPEG-LS file, in nats (Serra et al. 2020).

    The file's constant header is counted in; it moves all scores alike.
    """
    return lambda readings: readings.nll() - 8 * math.log(2) * jpegls_size(readings.images)


def typicality(normal: Readings, two_sided: bool = True) -> ScoreFunction:
    """Distance of the negative log-likelihood from its mean over normal images, nats (Nalisnick et al. 2019, eq. 5).

    One-sided, it is the likelihood again but for a constant. For groups of images see `of_groups`.
    """
    return partial(_from_entropy, entropy=normal.nll().mean(), two_sided=two_sided)


def _from_entropy(readings: Readings, entropy: float, two_sided: bool) -> np.ndarray:
    excess = readings.nll() - entropy
    return np.abs(excess) if two_sided else excess


def of_groups(nll: np.ndarray, normal_nll: np.ndarray, size: int, two_sided: bool = True) -> np.ndarray:
    """Typicality of groups of `size` images that come together, ``(N // size,)`` from ``(N,)``, nats an image.

    The distance of a group's mean negative log-likelihood from the mean of `normal_nll`; groups are taken in order, and
    what is left over is left out. ValueError when there is not one whole group (Nalisnick et al. 2019, section 3.1).
    """
    if not 0 < size <= len(nll):
        raise ValueError(f"of_groups: size is {size}, it must lie in [1, {len(nll)}], the number of images")
    whole = len(nll) // size
    excess = nll[: whole * size].reshape(whole, size).mean(1) - normal_nll.mean()
    return np.abs(excess) if two_sided else excess


def last_level(normal: Readings) -> ScoreFunction:
    """Negative log-density of the latents of the last level alone, nats (Schirrmeister et al. 2020)."""
    name = list(normal.terms)[-1]
    return lambda readings: -readings.terms[name].sum((1, 2), dtype=np.float64)


def likelihood_ratio(normal: Readings, recipe: Recipe, share: float = 0.2) -> ScoreFunction:
    """Log-ratio of a background flow's likelihood to the flow's own, nats (Ren et al. 2019).

    The background flow has the flow's `recipe`, but learns from the normal images with a `share` of their pixels drawn
    anew from the 256 levels (section 4 there: 0.1 to 0.3), which keeps the statistics of the background and destroys
    the object. It is cached as any trained flow.
    """
    if not 0 < share <= 1:
        raise ValueError(f"likelihood_ratio: share is {share}, it must lie in (0, 1]")
    rng = np.random.default_rng(recipe.seed)
    noise = rng.integers(0, 256, normal.images.shape, dtype=np.uint8)
    noised = np.where(rng.random(normal.images.shape) < share, noise, normal.images)
    background = trained(noised, recipe)
    if not isinstance(background, Glow):
        raise ValueError(f"likelihood_ratio: the recipe's model is {recipe.model}, it must be Glow")

    @torch.inference_mode()
    def ratio(readings: Readings) -> np.ndarray:
        batches = [background.log_prob(batch)[:n].double() for batch, n in in_batches(background, readings.images)]
        return readings.nll() + to_numpy(torch.cat(batches))

    return ratio


# --- densities of what the flow says -------------------------------------------------------------------------------


def statistics(readings: Readings) -> np.ndarray:
    """The sum of each term in nats and the squared norm of each level's latents, float64 ``(N, 3 L + 1)``."""
    sums = [term.sum((1, 2), dtype=np.float64) for term in readings.terms.values()]
    return np.stack(sums + [np.square(z).sum((1, 2, 3), dtype=np.float64) for z in readings.latents], axis=1)


def term_maps(readings: Readings) -> np.ndarray:
    """The terms of every position and level but the preprocessing's, in nats, float64 ``(N, positions)``."""
    terms = [term for name, term in readings.terms.items() if not name.startswith("preprocessing")]
    return np.concatenate([term.reshape(len(term), -1) for term in terms], axis=1).astype(np.float64)


def kernel_density(normal: Readings) -> ScoreFunction:
    """Negative log-density of `statistics`, taken as independent, each a kernel estimate (DoSE, Morningstar 2021)."""
    densities = [gaussian_kde(column) for column in statistics(normal).T]
    return lambda readings: -sum(d.logpdf(x) for d, x in zip(densities, statistics(readings).T, strict=True))


def mahalanobis(normal: Readings, features: Callable[[Readings], np.ndarray] = statistics) -> ScoreFunction:
    """Squared Mahalanobis distance of `features` ``(N, F)`` from their mean, covariance after Ledoit & Wolf (2004).

    Features are in units of their standard deviations first; one that does not vary is left out.
    """
    values = features(normal)
    mean, deviation = values.mean(0), values.std(0)
    varies = deviation > 1e-6 * (1 + abs(mean))

    def standardised(readings: Readings) -> np.ndarray:
        return ((features(readings) - mean) / np.where(varies, deviation, 1))[:, varies]

    gaussian = LedoitWolf(assume_centered=True).fit(standardised(normal))
    return lambda readings: gaussian.mahalanobis(standardised(readings))


# --- nearest neighbours by angle -----------------------------------------------------------------------------------


def neighbours(normal: Readings) -> ScoreFunction:
    """Distance to the fifth nearest normal image, in its edges and in the flow's gradient at once.

    ValueError for fewer than five normal images. An image of the normal set counts itself as its first neighbour.
    """

    def described(readings: Readings) -> np.ndarray:
        return np.concatenate([rooted(edges(readings.images)), rooted(gradient_signs(readings))], axis=1)

    distance = nearest(described(normal))
    return lambda readings: distance(described(readings))


def gradient_neighbours(normal: Readings) -> ScoreFunction:
    """`neighbours` in the flow's gradient alone."""
    distance = nearest(rooted(gradient_signs(normal)))
    return lambda readings: distance(rooted(gradient_signs(readings)))


def edges(images: np.ndarray) -> np.ndarray:
    """Oriented edges of uint8 ``(N, C, H, W)``: grey-level gradients in eight directions, ``(N, 8 * H/2 * W/2)``.

    Source: Dalal & Triggs 2005, without the normalisation of their blocks.
    """
    grey = images.mean(axis=1, dtype=np.float32) / 255  # (N, H, W)
    down, right = np.gradient(grey, axis=(1, 2))
    length, angle = np.hypot(down, right), np.arctan2(down, right)
    share = [np.maximum(np.cos(angle - k * np.pi / 4), 0) ** 4 for k in range(8)]
    return pooled(np.stack([part * length for part in share], axis=1))


def gradient_signs(readings: Readings) -> np.ndarray:
    """Where the flow wants the image brighter, and where darker, ``(N, 2 * C * H/2 * W/2)``."""
    return pooled(np.concatenate([np.maximum(readings.gradient, 0), np.maximum(-readings.gradient, 0)], axis=1))


def pooled(maps: np.ndarray) -> np.ndarray:
    """Maps ``(N, F, H, W)``, blurred by `BLUR` and taken at every second pixel: ``(N, F * H/2 * W/2)``."""
    return gaussian_filter(maps, (0, 0, BLUR, BLUR))[:, :, ::2, ::2].reshape(len(maps), -1)


def rooted(histograms: np.ndarray) -> np.ndarray:
    """Square roots of values at or above 0 ``(N, F)``, each row of unit length, or all 0 where it was.

    Distances then are Hellinger's between histograms of equal sum (RootSIFT, Arandjelović & Zisserman 2012).
    """
    roots = np.sqrt(np.maximum(histograms, 0), dtype=np.float64)
    return roots / np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-9)


def nearest(normal: np.ndarray, k: int = 5) -> Callable[[np.ndarray], np.ndarray]:
    """Euclidean distance of rows ``(N, F)`` to the k-th nearest of the rows of `normal`; ValueError if it has fewer."""
    if len(normal) < k:
        raise ValueError(f"nearest: {k} normal images are needed at least, there are {len(normal)}")
    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(normal)

    def distance(vectors: np.ndarray) -> np.ndarray:
        filled = np.concatenate([vectors, np.zeros((-len(vectors) % BLOCK, vectors.shape[1]))])  # see `in_batches`
        blocks = np.split(filled, len(filled) // BLOCK)
        return np.concatenate([index.kneighbors(block)[0][:, -1] for block in blocks])[: len(vectors)]

    return distance


# --- several at once -----------------------------------------------------------------------------------------------


def joined(
    normal: Readings, join: Callable[..., np.ndarray] = np.max, parts: Sequence[Fit] = (neighbours, mahalanobis)
) -> ScoreFunction:
    """Several scores as one, each in its own standard deviations: the highest (``join=np.max``) or their mean.

    The highest calls an image anomalous that any part finds so, as Tippett's least p-value (1931); the mean adds up
    what the parts find, as Fisher's product of p-values (1932). Every fifth normal image is held out: on these the
    logarithm of each part, whose scores must not be negative, is given mean 0 and deviation 1; the other images fit the
    parts. ValueError for fewer than ten normal images.
    """
    if len(normal.images) < 10:
        raise ValueError(f"joined: 10 normal images are needed at least, there are {len(normal.images)}")
    held = np.arange(len(normal.images)) % 5 == 4
    functions = [fit(normal.subset(~held)) for fit in parts]

    def logs(readings: Readings) -> np.ndarray:  # (parts, N)
        return np.log(np.maximum([function(readings) for function in functions], 1e-12))

    of_held = logs(normal.subset(held))
    means, deviations = of_held.mean(1, keepdims=True), of_held.std(1, keepdims=True)
    return lambda readings: join((logs(readings) - means) / np.maximum(deviations, 1e-12), axis=0)


SCORES: dict[str, Fit] = {
    "likelihood": likelihood,
    "complexity-corrected": complexity_corrected,
    "typicality": typicality,
    "last level": last_level,
    "DoSE": kernel_density,
    "Mahalanobis, sums": mahalanobis,
    "Mahalanobis, maps": partial(mahalanobis, features=term_maps),
    "neighbours, gradient": gradient_neighbours,
    "neighbours": neighbours,
    "union": joined,
    "sum": partial(joined, join=np.mean),
}
