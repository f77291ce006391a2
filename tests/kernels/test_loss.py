"""The compiled loss of a whole flow, and its gradient, against torch's in 64-bit floats."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from flowlib import Glow
from flowlib.kernels.loss import CompiledLoss
from flowlib.runtime import compiled

pytestmark = pytest.mark.skipif(compiled.library("kernels/steps.cpp") is None, reason="no C++ compiler")

CASES = {
    "default": ((1, 28, 28), 16, {"levels": 2, "steps": 4, "hidden_channels": 32}),
    "three levels, colour": ((3, 16, 8), 5, {"levels": 3, "steps": 3, "hidden_channels": 9, "hidden_layers": 2}),
    "one level, two channels": ((2, 6, 10), 7, {"levels": 1, "steps": 2, "hidden_channels": 8, "hidden_layers": 3}),
    "fixed priors": ((1, 8, 8), 3, {"levels": 2, "steps": 2, "hidden_channels": 8, "learned_prior": False}),
    "one image of one position": ((1, 4, 4), 1, {"levels": 2, "steps": 1, "hidden_channels": 1}),
    "flat logit": ((1, 8, 8), 4, {"levels": 2, "steps": 2, "hidden_channels": 8, "alpha": 0.05}),
    "ends of the logit": ((1, 8, 8), 4, {"levels": 2, "steps": 2, "hidden_channels": 8, "alpha": 1e-12}),
}


def some(name: str) -> tuple[Glow, Tensor, Tensor, Tensor]:
    """A flow with no parameter at its initial value, images with all levels, noise, and weights of the losses."""
    shape, n, options = CASES[name]
    torch.manual_seed(0)
    flow = Glow(shape, **options)
    images = torch.randint(0, 256, (n, *shape), dtype=torch.uint8)
    images.view(-1)[:2] = torch.tensor([0, 255], dtype=torch.uint8)
    flow.initialise(images)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
            parameter.grad = torch.full_like(parameter, torch.nan)
    return flow, images, torch.rand(images.shape), torch.rand(n)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def loss_of(flow: Glow, images: Tensor, noise: Tensor) -> CompiledLoss:
    loss = flow.compiled_loss(images, noise)
    assert loss is not None
    return loss


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_those_of_torch(name: str, threads: None):
    flow, images, noise, weights = some(name)
    exact = copy.deepcopy(flow).double()
    exact.zero_grad()
    expected = exact.loss(images, noise.double())
    expected.backward(weights.double())
    loss = loss_of(flow, images, noise)
    torch.testing.assert_close(loss().double(), expected, rtol=2e-6, atol=1e-3)
    loss.gradient(weights)
    for (of, parameter), other in zip(flow.named_parameters(), exact.parameters(), strict=True):
        if parameter.numel() == 0:
            continue
        largest = float(other.grad.abs().max())
        torch.testing.assert_close(parameter.grad.double(), other.grad, rtol=0, atol=3e-5 * largest + 1e-6, msg=of)


def test_it_sees_what_changes_between_calls():
    """Images, noise and parameters stay where they are; what they hold is looked at in each call."""
    flow, images, noise, weights = some("default")
    loss = loss_of(flow, images, noise)
    first = loss().clone()
    images.random_(0, 256)
    noise.uniform_()
    with torch.no_grad():
        flow.levels[1].prior_matrix.add_(0.1)
    assert not torch.equal(loss(), first)
    torch.testing.assert_close(loss(), flow.loss(images, noise).detach(), rtol=1e-6, atol=1e-3)
    loss.gradient(weights)
    gradient = flow.levels[0].w_in.grad.clone()
    loss.gradient(2 * weights)
    torch.testing.assert_close(flow.levels[0].w_in.grad, 2 * gradient)


def test_the_same_bits_every_time():
    flow, images, noise, weights = some("default")
    found = []
    for _ in range(2):
        loss = loss_of(flow, images, noise)
        losses = loss().clone()
        loss.gradient(weights)
        found.append([losses, *(p.grad.clone() for p in flow.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("name", [name for name, _ in Glow((1, 8, 8), 2, 2, 8).named_parameters()])
def test_a_nan_is_not_lost(name: str):
    flow, images, noise, weights = some("flat logit")
    parameter = flow.get_parameter(name)
    if name.endswith(("w_middle", "lower", "upper")):  # empty here, or half of them unused
        pytest.skip("not looked at")
    with torch.no_grad():
        parameter.fill_(torch.nan)
    loss = loss_of(flow, images, noise)
    assert loss().isnan().all()
    loss.gradient(weights)
    assert parameter.grad.isnan().any()


def test_what_is_not_for_it():
    """Other devices and types, classes, and several flows at once are torch's; images of another shape are refused."""
    flow, images, noise, _ = some("default")
    assert copy.deepcopy(flow).double().compiled_loss(images, noise.double()) is None
    assert Glow((1, 28, 28), 2, 1, 4, classes=2).compiled_loss(images, noise) is None
    assert flow.to("meta").compiled_loss(images.to("meta"), noise.to("meta")) is None
    with pytest.raises(ValueError, match="crop or pad"):
        some("default")[0].compiled_loss(images[..., :-1], noise[..., :-1])
