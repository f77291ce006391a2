"""Glow is exact: its inverse, its log-determinant, its normalisation, its units, and normflows agrees."""

import itertools
import math

import normflows as nf
import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from flowlib import Glow
from flowlib.glow import OUTPUT_GAIN, Level, gaussian_log_prob, spread, squeeze, unsqueeze
from flowlib.kernels import network
from flowlib.kernels.coupling import FlowStep, inverse_step
from flowlib.kernels.network import Neighbourhoods, neighbourhoods, scatter

TOLERANCE = 1e-8


def random_glow(image_shape: tuple[int, int, int], seed: int = 0, **options) -> Glow:
    """A float64 Glow at random parameters, every one of them away from its initial value."""
    torch.manual_seed(seed)
    flow = Glow(image_shape, **{"levels": 2, "steps": 4, "hidden_channels": 6} | options).double()
    flow.initialise(random_images(64, image_shape))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return flow


def random_images(n: int, image_shape: tuple[int, int, int], seed: int = 1) -> Tensor:
    return torch.rand(n, *image_shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SHAPES = [(1, 4, 4), (1, 8, 4), (3, 4, 8), (3, 8, 8), (2, 4, 4)]
OPTIONS = [{}, {"hidden_layers": 2}, {"hidden_layers": 3}, {"learned_prior": False}, {"alpha": 0.05}]
CASES = [*itertools.product(SHAPES, OPTIONS[:2]), *itertools.product(SHAPES[-2:], OPTIONS[2:])]


@pytest.mark.parametrize(("shape", "options"), CASES)
def test_decode_inverts_encode(shape, options):
    flow = random_glow(shape, **options)
    images = random_images(5, shape)
    torch.testing.assert_close(flow.decode(flow.encode(images)), images, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("shape", "options"), CASES)
def test_encode_inverts_decode(shape, options):
    flow = random_glow(shape, **options)
    latents = flow.encode(random_images(5, shape))
    for again, latent in zip(flow.encode(flow.decode(latents)), latents, strict=True):
        torch.testing.assert_close(again, latent, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("shape", "options"), CASES)
def test_log_prob_is_the_change_of_variables(shape, options):
    """log p(x) = log N(z; 0, I) + log |det dz/dy| - D log 256, with the Jacobian from autograd."""
    flow = random_glow(shape, **options)
    image = random_images(1, shape)
    D = math.prod(shape)

    def standardised_latents(flat: Tensor) -> Tensor:
        return torch.cat([latent.flatten() for latent in flow.encode(flat.view(image.shape))])

    z = standardised_latents(image.flatten())
    dz_dx = jacobian(standardised_latents, image.flatten())
    log_det_dz_dy = torch.linalg.slogdet(dz_dx).logabsdet - D * math.log(255 / 256)  # y = (255 x + 1/2) / 256
    expected = gaussian_log_prob(z, torch.zeros(()), torch.zeros(())).sum() + log_det_dz_dy - D * math.log(256)
    torch.testing.assert_close(flow.log_prob(image), expected[None], rtol=0, atol=TOLERANCE * D)


class BijectionTests:
    """What every bijection must pass: ``forward(x)`` is y and log-determinants ``(N, H, W)``; ``inverse(y)`` is x."""

    shape: tuple[int, int, int, int]  # (C, N, H, W)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def inverse(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def inputs(self) -> Tensor:
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def test_shapes_and_finiteness(self):
        y, logdet = self.forward(self.inputs())
        assert y.isfinite().all()
        assert logdet.shape == self.shape[1:]

    def test_inverse(self):
        x = self.inputs()
        torch.testing.assert_close(self.inverse(self.forward(x)[0]), x, rtol=0, atol=TOLERANCE)

    def test_forward_undoes_inverse(self):
        y = self.inputs()
        torch.testing.assert_close(self.forward(self.inverse(y))[0], y, rtol=0, atol=TOLERANCE)

    def test_log_determinant(self):
        x = self.inputs()[:, :1]
        full = jacobian(lambda flat: self.forward(flat.view_as(x))[0].flatten(), x.flatten())
        logdet = torch.linalg.slogdet(full).logabsdet
        torch.testing.assert_close(self.forward(x)[1].sum(), logdet, rtol=0, atol=TOLERANCE)

    def test_images_do_not_see_each_other(self):
        x = self.inputs()
        alone = torch.cat([self.forward(x[:, i : i + 1])[0] for i in range(x.shape[1])], 1)
        torch.testing.assert_close(self.forward(x)[0], alone, rtol=0, atol=1e-12)


@pytest.fixture(
    params=[(2, 0), (3, 1), (4, 2), (5, 0), (7, 1)], ids=lambda p: f"{p[0]} channels, {p[1]} middle", scope="class"
)
def step_parameters(request):
    """Random parameters of one step: even and odd channel counts, and both ways an odd count splits."""
    C, middle = request.param
    request.cls.shape = (C, 3, 4, 6)
    generator = torch.Generator().manual_seed(C)

    def random(*shape: int) -> Tensor:
        return 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)

    Ca = C // 2
    request.cls.bound = 1.5
    request.cls.parameters = (
        random(C, C) + torch.eye(C, dtype=torch.float64),
        random(C),
        random(8, 9 * (C - Ca) + 1),
        random(18 * Ca, 8),
        random(2 * Ca),
        *(random(8, 9) for _ in range(middle)),
    )


@pytest.mark.usefixtures("step_parameters")
class TestFlowStep(BijectionTests):
    bound: float
    parameters: tuple[Tensor, ...]

    def forward(self, x):
        y, logdet = FlowStep.apply(x, self.bound, *self.parameters)
        return y, logdet + torch.linalg.slogdet(self.parameters[0]).logabsdet

    def inverse(self, y):
        A, *rest = self.parameters
        return inverse_step(y, self.bound, torch.linalg.inv(A), *rest)

    @pytest.mark.parametrize("piece", [0, 2**30], ids=["an image at a time", "all at once"])
    def test_gradients(self, monkeypatch, piece):
        monkeypatch.setattr(network, "PIECE", piece)
        x, *parameters = (t.clone().requires_grad_() for t in (self.inputs()[:, :2, :3, :3], *self.parameters))
        assert torch.autograd.gradcheck(FlowStep.apply, (x, self.bound, *parameters))


def test_pieces_are_all_images_once_and_as_many_as_fit(monkeypatch):
    monkeypatch.setattr(network, "PIECE", 1000)
    x = torch.arange(7.0).view(1, 7, 1, 1).expand(2, 7, 5, 4)
    for hidden, sizes in ((25, [2, 2, 2, 1]), (7, [7]), (100, [1] * 7)):
        found = [x[:, some] for some in network.pieces(x, hidden)]
        assert [part.shape[1] for part in found] == sizes
        torch.testing.assert_close(torch.cat(found, 1), x)


@pytest.mark.parametrize("layers", [1, 2])
def test_pieces_change_nothing(monkeypatch, layers):
    flow = random_glow((1, 8, 8), hidden_layers=layers)
    images = random_images(7, (1, 8, 8))

    def everything(piece: int) -> list[Tensor]:
        monkeypatch.setattr(network, "PIECE", piece)
        flow.zero_grad()
        likelihood = flow.log_prob(images)
        likelihood.sum().backward()
        gradients = [p.grad.clone() for p in flow.parameters() if p.grad is not None]
        return [likelihood.detach(), flow.decode(flow.encode(images)).detach(), *gradients]

    torch.testing.assert_close(everything(2 * 6 * 4 * 4), everything(2**30), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("C", [1, 3])
def test_a_step_splits_odd_channels_both_ways(C):
    """The coupling changes the first half and leaves the second as the 1x1 convolution made it."""
    channels = 2 * C + 1
    x = torch.randn(channels, 2, 4, 4, dtype=torch.float64)
    for changed in (C, C + 1):
        kept = channels - changed
        w_in, w_out = torch.randn(5, 9 * kept + 1).double(), torch.randn(18 * changed, 5).double()
        parameters = (
            torch.eye(channels).double(),
            torch.zeros(channels).double(),
            w_in,
            w_out,
            torch.randn(2 * changed).double(),
        )
        y, _ = FlowStep.apply(x, 2.0, *parameters)
        torch.testing.assert_close(y[changed:], x[changed:], rtol=0, atol=0)
        assert (y[:changed] != x[:changed]).all()
        torch.testing.assert_close(inverse_step(y, 2.0, *parameters), x, rtol=0, atol=TOLERANCE)


class TestLevel(BijectionTests):
    shape = (4, 3, 4, 6)
    level = random_glow((1, 8, 12)).levels[0]

    def forward(self, x):
        return self.level.flow(x)

    def inverse(self, y):
        return self.level.inverse(y)


def test_unsqueeze_undoes_squeeze():
    x = torch.randn(3, 2, 4, 6)
    assert torch.equal(unsqueeze(squeeze(x)), x)


def test_squeeze_keeps_blocks_of_two_by_two_together():
    x = torch.arange(16).view(1, 1, 4, 4)
    assert squeeze(x)[:, 0, 0, 1].tolist() == [2, 3, 6, 7]


@pytest.mark.parametrize("hidden_layers", [1, 2])
def test_coupling_is_the_convolutional_network_it_says(hidden_layers):
    """Against torch's own convolutions, so that padding, tap order and biases are those of the field."""
    flow = random_glow((2, 8, 8), levels=1, steps=1, hidden_layers=hidden_layers)
    level = flow.levels[0]
    x = torch.randn(8, 3, 5, 7, dtype=torch.float64)
    A, c, _ = level.affine()
    u = torch.einsum("ij,jnhw->nihw", A[0], x) + c[0].view(1, -1, 1, 1)
    a, b = u.chunk(2, 1)
    w_in = level.w_in[0, :, :-1].view(-1, 3, 3, 4).permute(0, 3, 1, 2)
    hidden = torch.relu(torch.conv2d(b, w_in, level.w_in[0, :, -1], padding=1))
    for w in level.w_middle[:, 0]:
        hidden = torch.relu(torch.conv2d(hidden, w[:, :-1, None, None], w[:, -1]))
    w_out = (OUTPUT_GAIN * level.w_out[0]).view(3, 3, 8, -1).permute(2, 3, 0, 1).flip(2, 3)
    log_scale, shift = torch.conv2d(hidden, w_out, level.b_out[0], padding=1).chunk(2, 1)
    log_scale = 2 * torch.tanh(log_scale / 2)
    expected = torch.cat((a * log_scale.exp() + shift, b), 1).transpose(0, 1)
    torch.testing.assert_close(level.flow(x)[0], expected, rtol=0, atol=1e-10)


def test_prior_is_the_convolution_it_says():
    """Mean and bounded log-scale of what leaves, from what stays, against torch's own convolution."""
    level = random_glow((2, 8, 8)).levels[0]
    kept = torch.randn(4, 3, 5, 7, dtype=torch.float64)
    with torch.no_grad():
        level.prior_matrix.mul_(20)  # log-scales beyond the bound
    weight = level.prior_matrix[:, :-1].reshape(-1, 3, 3, 4).permute(0, 3, 1, 2)
    bias = level.prior_matrix[:, -1]
    mean, raw = torch.conv2d(kept.transpose(0, 1), weight, bias, padding=1).transpose(0, 1).chunk(2)
    assert raw.abs().max() > 2
    found_mean, found_log_scale = level.prior(kept)
    torch.testing.assert_close(found_mean, mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(found_log_scale, 2 * torch.tanh(raw / 2), rtol=0, atol=1e-10)


def test_scatter_is_the_adjoint_of_neighbourhoods():
    x, columns = torch.randn(2, 3, 4, 5).double(), torch.randn(18, 60).double()
    forwards = (neighbourhoods(x) * columns).sum()
    backwards = (scatter(columns.clone(), x.shape) * x).sum()
    torch.testing.assert_close(forwards, backwards)
    assert torch.autograd.gradcheck(Neighbourhoods.apply, x.requires_grad_())


def test_density_of_a_two_pixel_flow_integrates_to_one_on_a_grid():
    """Four steps on images of one position and two channels, behind the logit: the integral over (0, 1)^2."""
    torch.manual_seed(0)
    level = Level(2, 4, 6, 1, last=True, learned_prior=True, classes=0).double()
    with torch.no_grad():
        for parameter in level.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    h = torch.linspace(-13.8, 13.8, 401, dtype=torch.float64)  # the whole range of logit(alpha + (1 - 2 alpha) y)
    grid = torch.cartesian_prod(h, h).t().reshape(2, -1, 1, 1)
    z, logdet = level.flow(grid)
    mean, log_scale = level.prior(z[:0])
    with torch.no_grad():
        # dy = dh * sigmoid'(h) / (1 - 2 alpha) cancels against the logit's own log-determinant
        density = (gaussian_log_prob(z, mean, log_scale).sum(0) + logdet).exp()
    assert density.sum().item() * (h[1] - h[0]).item() ** 2 == pytest.approx(1, abs=2e-3)


def test_density_of_a_four_pixel_glow_integrates_to_one():
    """The integral of the density over (0, 1)^4, by quasi-Monte Carlo with the logit of y drawn from N(0, 3^2)."""
    flow = random_glow((1, 2, 2), levels=1, steps=4)
    uniform = torch.quasirandom.SobolEngine(4, scramble=True, seed=0).draw(2**16).double()
    proposal = torch.distributions.Normal(0.0, 3.0)
    h = proposal.icdf(uniform.clamp(1e-9, 1 - 1e-9)).view(-1, 1, 2, 2)
    y = torch.sigmoid(h)
    with torch.no_grad():
        log_density = flow.log_prob((256 * y - 0.5) / 255) + 4 * math.log(256)
    log_weight = (torch.log(y * (1 - y)) - proposal.log_prob(h)).sum((1, 2, 3))
    assert (log_density + log_weight).exp().mean().item() == pytest.approx(1, abs=0.02)


def test_units_are_nats_of_the_8_bit_image():
    """A flow that maps the uniform density to itself gives every image log 256 nats, 8 bits, a dimension."""
    flow = Glow((1, 4, 4), levels=1, steps=1, hidden_channels=4, learned_prior=False).double()
    images = torch.randint(0, 256, (64, 1, 4, 4), dtype=torch.uint8)
    y = (images.double() + 0.5) / 256
    logistic = torch.logit(y)
    # identity step up to a rotation: the density is that of a standard normal logit
    expected = -0.5 * (logistic**2 + math.log(2 * math.pi)) - torch.log(y * (1 - y)) - math.log(256)
    torch.testing.assert_close(flow.log_prob(images), expected.sum((1, 2, 3)), rtol=1e-4, atol=0)
    torch.testing.assert_close(flow.bits_per_dim(images), -flow.log_prob(images) / 16 / math.log(2))


def test_uint8_and_unit_interval_are_the_same_images():
    flow = random_glow((1, 4, 4))
    images = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8)
    torch.testing.assert_close(flow.log_prob(images), flow.log_prob(images.double() / 255), rtol=0, atol=1e-9)


def test_noise_moves_a_level_within_its_bin():
    flow = random_glow((1, 4, 4))
    images = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8)
    half = torch.full(images.shape, 0.5)
    torch.testing.assert_close(flow.log_prob(images, half), flow.log_prob(images), rtol=0, atol=0)
    shifted = (images.double() + 0.25) / 255
    torch.testing.assert_close(flow.log_prob(images, half + 0.25), flow.log_prob(shifted), rtol=0, atol=1e-9)


def test_loss_is_the_negative_likelihood_at_noise_of_its_generator():
    flow = random_glow((1, 4, 4))
    images = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(3))
    loss = flow.loss(images, torch.rand(images.shape, generator=torch.Generator().manual_seed(3)))
    torch.testing.assert_close(loss, -flow.log_prob(images, noise), rtol=0, atol=0)
    assert (loss != flow.anomaly_score(images)).all()
    assert (flow.anomaly_score(images) == -flow.log_prob(images)).all()


def test_map_sums_to_the_likelihood_and_terms_lie_where_they_say():
    flow = random_glow((3, 16, 8))
    images = random_images(3, (3, 16, 8))
    torch.testing.assert_close(flow.log_prob_map(images).sum((1, 2)), flow.log_prob(images), rtol=0, atol=1e-9)
    shapes = [(level, name, tuple(term.shape)) for level, name, term in flow.position_terms(images)]
    assert shapes == [
        (0, "preprocessing", (3, 16, 8)),
        (1, "determinant", (3, 8, 4)),
        (1, "prior", (3, 8, 4)),
        (2, "determinant", (3, 4, 2)),
        (2, "prior", (3, 4, 2)),
    ]
    assert spread(torch.tensor([[[4.0]]]), 2).tolist() == [[[1, 1], [1, 1]]]


def test_a_position_depends_on_its_surroundings_only():
    """The map of an image larger than the receptive field does not change far from a changed pixel."""
    flow = random_glow((1, 8, 8), levels=1, steps=1)
    images = random_images(1, (1, 64, 64))
    changed = images.clone()
    changed[..., 4, 4] = 1 - changed[..., 4, 4]
    difference = (flow.log_prob_map(images) - flow.log_prob_map(changed)).abs()[0]
    assert difference[4, 4] > 1e-6
    assert difference[16:, 16:].max() == 0


def test_score_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    flow = Glow((1, 28, 28), steps=4, hidden_channels=16)
    images = torch.randint(0, 256, (9, 1, 28, 28), dtype=torch.uint8)
    flow.initialise(images)
    together = flow.log_prob(images)
    alone = torch.cat([flow.log_prob(image[None]) for image in images.flip(0)]).flip(0)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=0)


@pytest.mark.parametrize("level", [0, 255, 7])
def test_constant_images_do_not_break_initialisation(level):
    flow = Glow((1, 8, 8), steps=2, hidden_channels=8)
    images = torch.full((4, 1, 8, 8), level, dtype=torch.uint8)
    flow.initialise(images)
    assert not any(level.actnorm_log_scale.any() for level in flow.levels)  # shifted only, not blown up
    assert flow.log_prob(images).isfinite().all()
    loss = -flow.log_prob(images).mean()
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in flow.parameters())


def test_initialisation_normalises_every_step():
    flow = random_glow((1, 8, 8))
    images = random_images(200, (1, 8, 8))
    flow.initialise(images)
    h = squeeze(flow._logit(images, None))
    level = flow.levels[0]
    for k in range(level.steps):
        normed = h * level.actnorm_log_scale[k].exp().view(-1, 1, 1, 1) + level.actnorm_bias[k].view(-1, 1, 1, 1)
        deviation, mean = torch.std_mean(normed, (1, 2, 3), correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-10)
        torch.testing.assert_close(deviation, torch.ones_like(deviation), rtol=0, atol=1e-10)
        h, _ = level.flow(h, slice(k, k + 1))


def test_sample_shape_range_and_temperature():
    flow = random_glow((3, 8, 4))
    samples = flow.sample(5, generator=torch.Generator().manual_seed(0))
    assert samples.shape == (5, 3, 8, 4)
    assert samples.min() >= 0
    assert samples.max() <= 1
    again = flow.sample(5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(samples, again)
    cold = flow.sample(5, temperature=0.0)
    torch.testing.assert_close(cold, cold[:1].expand_as(cold))
    z = flow.encode(cold)[1]
    torch.testing.assert_close(z, torch.zeros_like(z), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        ({"image_shape": (1, 6, 8)}, "no multiple"),
        ({"image_shape": (1, 8, 8), "alpha": 0.0}, "alpha"),
        ({"image_shape": (1, 8, 8), "steps": 0}, "steps"),
    ],
)
def test_bad_options_are_named(arguments, mend):
    with pytest.raises(ValueError, match=mend):
        Glow(**arguments)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 8, 6), (1, 8, 8)])
def test_bad_images_are_named(shape):
    with pytest.raises(ValueError, match="Glow"):
        Glow((1, 8, 8), steps=1).log_prob(torch.zeros(shape))


@pytest.mark.parametrize("factor", [4.0, -1.0, 255.0, math.nan])
def test_images_out_of_range_are_named(factor):
    flow = random_glow((1, 8, 8))
    images = torch.rand(2, 1, 8, 8)
    for function in (flow.log_prob, flow.encode, flow.loss, flow.log_prob_map):
        with pytest.raises(ValueError, match=r"images are from .*expected float in \[0, 1\], or uint8"):
            function(factor * images)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 100.0])
def test_what_is_decoded_can_be_encoded(temperature):
    flow = random_glow((1, 8, 8)).float()
    latents = [temperature * z.float() for z in flow.encode(random_images(50, (1, 8, 8)))]
    assert all(z.isfinite().all() for z in flow.encode(flow.decode(latents)))


@pytest.mark.parametrize("C", [1, 3])
def test_the_same_weights_in_normflows_give_the_same_likelihood(C):
    """An independent implementation: normflows' squeeze, actnorm, LU 1x1 convolution, coupling, split and prior."""
    flow = random_glow((C, 8, 8), hidden_layers=2, learned_prior=False)
    images = random_images(4, (C, 8, 8))
    y = (255 * images + 0.5) / 256
    s = flow.alpha + (1 - 2 * flow.alpha) * y
    h = torch.logit(s)
    expected = (math.log1p(-2 * flow.alpha) - torch.log(s * (1 - s)) - math.log(256)).sum((1, 2, 3))
    for level in flow.levels:
        h, _ = nf.flows.Squeeze().inverse(h)
        for k in range(level.steps):
            for step in their_step(level, k):
                h, logdet = step(h)
                expected = expected + logdet
        z = h
        if not level.last:
            (z, h), _ = nf.flows.Split(mode="channel").forward(h)
        expected = expected + nf.distributions.DiagGaussian(z.shape[1:], trainable=False).double().log_prob(z)
    torch.testing.assert_close(flow.log_prob(images), expected, rtol=0, atol=1e-7)


def their_step(level: Level, k: int) -> list:
    """Step `k` as normflows' bijections, in our order and direction; their 1x1 convolution is forward when sampling."""
    actnorm = nf.flows.ActNorm((level.channels, 1, 1)).double()
    actnorm.data_dep_init_done.fill_(1)
    actnorm.s.data = level.actnorm_log_scale[k].view(1, -1, 1, 1)
    actnorm.t.data = level.actnorm_bias[k].view(1, -1, 1, 1)
    convolution = nf.flows.Invertible1x1Conv(level.channels, use_lu=True).double()
    convolution.P, convolution.sign_S = level.permutation[k], level.sign[k]
    convolution.L.data, convolution.U.data, convolution.log_S.data = (
        level.lower[k],
        level.upper[k],
        level.log_diagonal[k],
    )
    coupling = nf.flows.AffineCouplingBlock(TheirNetwork(level, k), split_mode="channel_inv")
    return [actnorm.forward, convolution.inverse, coupling.forward]


class TheirNetwork(torch.nn.Module):
    """Our coupling network as torch convolutions with normflows' interleaved (shift, log-scale) output."""

    def __init__(self, level, k):
        super().__init__()
        self.level, self.k = level, k

    def forward(self, b: Tensor) -> Tensor:
        level, k = self.level, self.k
        w_in = level.w_in[k, :, :-1].view(-1, 3, 3, b.shape[1]).permute(0, 3, 1, 2)
        hidden = torch.relu(torch.conv2d(b, w_in, level.w_in[k, :, -1], padding=1))
        for w in level.w_middle[:, k]:
            hidden = torch.relu(torch.conv2d(hidden, w[:, :-1, None, None], w[:, -1]))
        out_channels = level.b_out.shape[1]
        w_out = (OUTPUT_GAIN * level.w_out[k]).view(3, 3, out_channels, -1).permute(2, 3, 0, 1).flip(2, 3)
        raw, shift = torch.conv2d(hidden, w_out, level.b_out[k], padding=1).chunk(2, 1)
        return torch.stack((shift, 2 * torch.tanh(raw / 2)), 2).flatten(1, 2)


@pytest.mark.parametrize(("steps", "bound"), [(2, 2.0), (8, 1.0), (32, 0.25)])
def test_no_input_is_stretched_beyond_the_bound_of_all_couplings(steps, bound):
    flow = random_glow((1, 8, 8), levels=1, steps=steps)
    level = flow.levels[0]
    with torch.no_grad():
        level.w_out.mul_(1e4)  # every coupling saturates
    _, determinant = level.flow(1e3 * torch.randn(4, 2, 4, 4, dtype=torch.float64))
    of_couplings = determinant - level.affine()[2].sum()
    assert level.bound == bound
    assert of_couplings.abs().max() <= 2 * bound * steps  # two channels are changed
    assert of_couplings.abs().max() > bound


class TestConditional:
    labels = torch.tensor([0, 2, 1, 2, 0])

    def test_labels_choose_the_prior(self):
        flow = random_glow((1, 8, 8), classes=3)
        images = random_images(5, (1, 8, 8))
        one_by_one = torch.cat([flow.log_prob(images[i : i + 1], labels=self.labels[i : i + 1]) for i in range(5)])
        together = flow.log_prob(images, labels=self.labels)
        torch.testing.assert_close(together, one_by_one, rtol=0, atol=1e-9)
        others = flow.log_prob(images, labels=(self.labels + 1) % 3)
        assert (together - others).abs().min() > 0

    @pytest.mark.parametrize("learned_prior", [True, False])
    def test_decode_inverts_encode_and_log_prob_is_theirs(self, learned_prior):
        flow = random_glow((1, 4, 4), classes=3, learned_prior=learned_prior)
        images = random_images(5, (1, 4, 4))
        latents = flow.encode(images, self.labels)
        torch.testing.assert_close(flow.decode(latents, self.labels), images, rtol=0, atol=TOLERANCE)
        wrong = flow.decode(latents, (self.labels + 1) % 3)
        assert (wrong - images).abs().amax((1, 2, 3)).min() > 1e-6

        def standardised_latents(flat):
            return torch.cat([z.flatten() for z in flow.encode(flat.view(1, 1, 4, 4), self.labels[1:2])])

        flat = images[1].flatten()
        logdet = torch.linalg.slogdet(jacobian(standardised_latents, flat)).logabsdet - 16 * math.log(255 / 256)
        z = standardised_latents(flat)
        expected = -0.5 * (z.square() + math.log(2 * math.pi)).sum() + logdet - 16 * math.log(256)
        found = flow.log_prob(images[1:2], labels=self.labels[1:2])[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)

    def test_every_class_is_learned(self):
        flow = random_glow((1, 4, 4), classes=3)
        flow.loss(random_images(5, (1, 4, 4)), labels=self.labels).sum().backward()
        assert all((level.class_prior.grad != 0).all() for level in flow.levels)

    @pytest.mark.parametrize("labels", [None, torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([0])])
    def test_wrong_labels_are_refused(self, labels):
        with pytest.raises(ValueError, match="labels must be"):
            random_glow((1, 4, 4), classes=3).log_prob(random_images(2, (1, 4, 4)), labels=labels)

    def test_an_unconditional_flow_takes_no_labels(self):
        with pytest.raises(ValueError, match="labels must be None"):
            random_glow((1, 4, 4)).log_prob(random_images(2, (1, 4, 4)), labels=torch.tensor([0, 0]))
