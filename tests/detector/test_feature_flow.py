"""The flow of feature vectors: an exact likelihood, an inverse, and what training does."""

import numpy as np
import pytest
import torch

from flowlib.detector import feature_flow as module
from flowlib.detector.feature_flow import FeatureFlow, nll_map, parameters, restored, train, trained
from flowlib.training import TrainingError


@pytest.fixture(autouse=True)
def double():
    """Everything in float64, the rotations too, which are orthogonal to the precision they were made in."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random_flow(dimensions: int, couplings: int = 5) -> FeatureFlow:
    """With parameters that are far from those of a new flow, and data of other scales."""
    torch.manual_seed(1)
    flow = FeatureFlow(dimensions, couplings, width=12)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    flow.standardise(3 + 5 * torch.randn(50, dimensions))
    return flow


@pytest.mark.parametrize("dimensions", [2, 7, 8])
def test_the_inverse_gives_the_vectors_back(dimensions):
    flow = random_flow(dimensions)
    vectors = 10 * torch.randn(20, dimensions)
    latents, _ = flow(vectors)
    assert (flow.inverse(latents) - vectors).abs().max() < 1e-8
    assert (latents - (vectors - flow.mean) / flow.deviation).abs().max() > 0.1  # no identity


@pytest.mark.parametrize("dimensions", [2, 7, 8])
def test_the_log_determinant_is_that_of_the_jacobian(dimensions):
    flow = random_flow(dimensions)
    vectors = 10 * torch.randn(6, dimensions)
    _, determinants = flow(vectors)
    for vector, determinant in zip(vectors, determinants, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], vector)
        assert abs(torch.linalg.slogdet(jacobian).logabsdet - determinant) < 1e-8
    assert determinants.std() > 0.01  # it depends on the vector


def test_the_density_has_mass_one():
    flow = random_flow(2, couplings=3)
    edge = torch.linspace(-150, 150, 1201)
    grid = torch.cartesian_prod(edge, edge)
    with torch.no_grad():
        mass = flow.log_prob(grid).exp().sum() * (edge[1] - edge[0]) ** 2
    assert mass == pytest.approx(1, abs=0.01)


def test_a_new_flow_is_the_standard_normal_of_standardised_vectors():
    flow = FeatureFlow(4)
    data = 2 + 3 * torch.randn(100, 4)
    data[:, 2] = 5  # constant
    flow.standardise(data)
    scale = torch.where(data.std(0, correction=0) > 0, data.std(0, correction=0), 1.0)
    normal = torch.distributions.Normal(data.mean(0), scale)
    assert torch.allclose(flow.log_prob(data), normal.log_prob(data).sum(1))


def test_a_vector_has_its_likelihood_whatever_stands_beside_it():
    flow = random_flow(6)
    vectors = torch.randn(9, 6)
    assert torch.allclose(flow.log_prob(vectors)[3:4], flow.log_prob(vectors[3:4]), atol=1e-12)


@pytest.mark.parametrize("wrong", [{"dimensions": 1}, {"dimensions": 4, "couplings": 0}, {"dimensions": 4, "width": 0}])
def test_what_makes_no_flow_is_refused(wrong):
    with pytest.raises(ValueError, match="FeatureFlow"):
        FeatureFlow(**wrong)


# --- training ------------------------------------------------------------------------------------------------------


def banana(n: int, seed: int) -> np.ndarray:
    """Points along a parabola, whose two coordinates are not correlated, in float32."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return np.stack([x, x**2 + 0.2 * rng.normal(size=n)], axis=1).astype(np.float32)


@pytest.fixture
def single():
    torch.set_default_dtype(torch.float32)


def test_a_trained_flow_knows_what_a_gaussian_cannot(single):
    flow, losses = train(banana(4000, 0), 300, seed=0)
    assert losses.shape == (300,)
    assert losses[-20:].mean() < losses[:5].mean() - 0.3
    with torch.no_grad():
        on, off = flow.log_prob(torch.tensor([[2.0, 4.0], [0.0, 4.0]]))
    assert on > off + 1


def test_a_training_follows_from_its_seed(single):
    vectors = banana(500, 1)
    torch.manual_seed(5)
    first, losses = train(vectors, 3, seed=4)
    torch.manual_seed(6)
    again, same = train(vectors, 3, seed=4)
    np.testing.assert_array_equal(losses, same)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not np.array_equal(losses, train(vectors, 3, seed=5)[1])


def test_a_flow_is_trained_once_and_found_again(single, tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path))
    first = trained(banana(200, 2), 2, 0)
    monkeypatch.setattr(module, "train", None)
    again = trained(banana(200, 2), 2, 0)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    with pytest.raises(TypeError):
        trained(banana(200, 2), 3, 0)


def test_the_map_is_of_positions(single):
    flow, _ = train(banana(500, 1), 3, seed=4)
    values = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    found = nll_map(restored(parameters(flow)), values)
    assert found.shape == (3, 5)
    assert found[1, 3] == pytest.approx(-flow.log_prob(torch.from_numpy(values[:, 1, 3][None])).item(), rel=1e-5)


def test_numbers_that_are_not_finite_stop_the_training(single):
    with pytest.raises(TrainingError, match="step 0"):
        train(np.full((10, 3), np.inf, np.float32), 2, seed=0)
