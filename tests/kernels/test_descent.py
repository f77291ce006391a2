"""Adam on all parameters in one tensor, against torch's; one model and several."""

import copy

import pytest
import torch
from torch import nn

from flowlib.kernels.descent import Descent, adam_rates

RATES = [0.01, 0.02, 0.005, 0.02, 0.01]


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2)).double()


def gradients(model: nn.Module, step: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(100 * step + seed)
    return [10**step * torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in model.parameters()]


def by_torch(model: nn.Module, seed: int) -> list[float]:
    """The model after steps of torch's own Adam and clipping, and the lengths of the gradients."""
    optimiser, lengths = torch.optim.Adam(model.parameters()), []
    for step, rate in enumerate(RATES):
        optimiser.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(model.parameters(), gradients(model, step, seed), strict=True):
            parameter.grad = gradient
        lengths.append(float(nn.utils.clip_grad_norm_(model.parameters(), 50.0)))
        optimiser.step()
    return lengths


@pytest.mark.parametrize("number", [1, 3])
def test_adam_is_torchs(number: int):
    models = [network(seed) for seed in range(number)]
    expected = copy.deepcopy(models)
    descent = Descent(models)
    lengths = []
    for step, rates in enumerate(adam_rates(RATES).double()):
        of_models = [gradients(model, step, seed) for seed, model in enumerate(expected)]
        for parameter, *parts in zip(descent.model.parameters(), *of_models, strict=True):
            parameter.grad.copy_(torch.stack(parts).view(parameter.shape))
        lengths.append(descent.shorten(50.0).view(-1).tolist())
        descent.update(rates)
    for seed, (model, other) in enumerate(zip(models, expected, strict=True)):
        torch.testing.assert_close([one[seed] for one in lengths], by_torch(other, seed))
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)
    assert min(map(min, lengths)) < 50 < max(map(max, lengths))


def test_parameters_of_all_are_parts_of_one_tensor():
    models = [network(0), network(1)]
    descent = Descent(models)
    descent.value[1].fill_(3)
    assert all((p == 3).all() for p in models[1].parameters())
    assert not any((p == 3).any() for p in models[0].parameters())
    with torch.no_grad():
        models[0].get_parameter("0.weight")[0, 0] = 7
    assert descent.model.get_parameter("0.weight")[0, 0, 0] == 7
    assert descent.model.get_buffer("1.running_mean").shape == (2, 4)
