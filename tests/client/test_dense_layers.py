"""Stacks of linear layers are computed at once, as their modules compute them."""

import pytest
import torch
from torch import nn

from fedrms.client import as_function, products
from fedrms.client.dense_layers import WithoutCalls, dense_layers, without_calls
from fedrms.client.products import MANY
from fedrms.tasks.models import CNN, MLP, Linear


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.second = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.act(self.first(x)))


class OtherInTraining(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 3))

    def forward(self, x):
        y = self.layers(x)
        return y if self.training else y.softmax(-1)


MODULES = {
    "linear": (Linear((4,), 3), (4,)),
    "one output": (Linear((4,), 1), (4,)),
    "mlp of images": (MLP((2, 3), 15, hidden=(7, 5)), (2, 3)),
    "no bias": (
        nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, False)),
        (4,),
    ),
    "frozen": (nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)), (4,)),
    "tied": (Tied(), (4,)),
    "convolutions": (CNN((1, 8, 8), 3), (1, 8, 8)),
}
MODULES["frozen"][0][0].requires_grad_(False)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("examples", [1, 7, MANY])
@pytest.mark.parametrize("held_back", [False, True])
def test_outputs_are_those_of_the_module(name, examples, held_back, monkeypatch):
    monkeypatch.setattr(products, "mkl_is_held_back", lambda: held_back)
    torch.manual_seed(0)
    module, shape = MODULES[name]
    apply, x = as_function(module.eval()), torch.randn(examples, *shape)
    given = {n: torch.randn_like(v) for n, v in module.named_parameters() if v.requires_grad}
    with torch.no_grad():
        found, expected = without_calls(apply)(given, x), apply(given, x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.argmax(1).equal(expected.argmax(1))


def test_modules_are_not_called_where_they_need_not_be(monkeypatch):
    module = MLP((6,), 3)
    given = dict(module.named_parameters())

    def called(self, x):
        raise AssertionError("a layer was called")

    with torch.no_grad():
        WithoutCalls(module)(given, torch.ones(2, 6))  # looks at the module once
        monkeypatch.setattr(nn.Linear, "forward", called)
        assert WithoutCalls(module)(given, torch.ones(2, 6)).shape == (2, 3)


def test_hooks_are_called():
    module, seen = MLP((6,), 3), []
    given = dict(module.named_parameters())
    with torch.no_grad():
        WithoutCalls(module)(given, torch.ones(2, 6))
        module.register_forward_pre_hook(lambda *_: seen.append(1))
        WithoutCalls(module)(given, torch.ones(2, 6))
    assert seen == [1]


def test_a_module_that_is_another_in_training_is_computed_as_it_is_now():
    module = OtherInTraining()
    x, given = torch.randn(5, 4), dict(module.named_parameters())
    assert dense_layers(module, (4,))
    with torch.no_grad():
        outputs = without_calls(as_function(module.eval()))(given, x)
    torch.testing.assert_close(outputs.sum(1), torch.ones(5))


def test_another_precision_goes_through_the_module():
    apply = as_function(Linear((4,), 3), "bf16")
    assert without_calls(apply) is apply
