"""A module called with other parameters gives what torch's own way gives, and keeps its own."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations

from fedrms.client.called_with import called_with


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).relu())


class Twice(nn.Module):
    """One layer under two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first

    def forward(self, x):
        return self.again(self.first(x).relu())


class Recurrent(nn.Module):
    """Layers that keep a list of their weights beside their names."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x):
        return self.cell(x[:, None])[0][:, 0]


MODELS = {
    "plain": lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Sequential(), nn.Linear(5, 4)),
    "buffers": lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval(),
    "wrapped": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4))),
    "tied": Tied,
    "twice": Twice,
    "recurrent": Recurrent,
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("some", [False, True], ids=["all", "some"])
def test_outputs_and_gradients_are_those_of_functional_call(name, some):
    torch.manual_seed(0)
    module, x = MODELS[name](), torch.randn(3, 4)
    own = {n: value.clone() for n, value in module.state_dict().items()}
    given = {n: torch.randn_like(v) for n, v in module.named_parameters()}
    given = {n: v.requires_grad_() for n, v in list(given.items())[: 1 if some else None]}
    buffers = {n: torch.rand_like(v) for n, v in module.named_buffers() if v.is_floating_point()}
    found = called_with(module, given | buffers, x)
    if name != "twice":  # of which functional_call itself leaves one name with what was given
        assert all(torch.equal(value, own[n]) for n, value in module.state_dict().items())
    expected = functional_call(module, given | buffers, (x,))
    assert torch.equal(found, expected)
    for a, b in zip(
        torch.autograd.grad(found.sum(), list(given.values())),
        torch.autograd.grad(expected.sum(), list(given.values())),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_a_module_that_fails_has_its_own_parameters_again():
    module = nn.Linear(4, 4)
    weight = module.weight
    with pytest.raises(RuntimeError):
        called_with(module, {"weight": torch.zeros(4, 3)}, torch.zeros(1, 4))
    assert module.weight is weight


def test_a_name_that_the_module_lacks_is_met_as_torch_meets_it():
    module, x = nn.Linear(4, 4), torch.ones(1, 4)
    given = {"weight": torch.ones(4, 4), "absent": torch.ones(1)}
    assert torch.equal(called_with(module, given, x), functional_call(module, given, (x,)))
