"""Which modules count as stacks of linear layers, and which must go the general way."""

import pytest
import torch
from torch import nn

from fedrms.client import LocalSettings, LocalUpdate, as_function
from fedrms.engines.dense_network import dense_network
from fedrms.tasks import Classification, Regression
from fedrms.tasks.models import CNN, MLP, Linear


def found(module, shape=(4,), task=Classification, **settings):
    update = LocalUpdate(task(lambda: module), as_function(module), LocalSettings(**settings))
    return dense_network(update, shape)


class Own(nn.Module):
    """A user's network that calls its layers by name."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.second = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3, bias=False)

    def forward(self, x):
        return self.second(self.act(self.first(x)))


class Doubled(Own):
    def forward(self, x):
        return 2 * super().forward(x)


class Deciding(Own):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.act = nn.Linear(4, 4), nn.ReLU()

    def forward(self, x):
        return self.layer(self.act(self.layer(x)))


class Idle(Own):
    """A parameter that nothing uses: it must come back as it was sent."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(2))


@pytest.mark.parametrize(
    ("module", "shape", "layers"),
    [
        (Linear((4,), 3), (4,), (("layers.1.weight", "layers.1.bias"),)),
        (
            MLP((1, 2, 2), 3, hidden=5),
            (1, 2, 2),
            (("layers.1.weight", "layers.1.bias"), ("layers.3.weight", "layers.3.bias")),
        ),
        (Own(), (4,), (("first.weight", "first.bias"), ("second.weight", None))),
        (nn.Linear(4, 3), (4,), ()),
    ],
    ids=["linear", "mlp", "own", "bare layer"],
)
def test_layers_are_found_by_what_the_module_does(module, shape, layers):
    network = found(module, shape)
    assert (network.layers if network else ()) == layers


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (CNN((1, 8, 8), 3), (1, 8, 8)),
        (Doubled(), (4,)),
        (Deciding(), (4,)),
        (Tied(), (4,)),
        (Idle(), (4,)),
        (nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), (4,)),
        (nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)), (4,)),
        (nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (4,)),
        (nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)), (4,)),
        (nn.Sequential(nn.Linear(4, 3)), (2, 4)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_anything_else_goes_the_general_way(module, shape):
    assert found(module, shape) is None


@pytest.mark.parametrize(
    "options",
    [{"momentum": 0.9}, {"weight_decay": 0.1}, {"clip_norm": 1.0}, {"proximal_mu": 0.1}],
    ids=lambda options: next(iter(options)),
)
def test_only_plain_sgd_is_trained_without_autograd(options):
    assert found(Own()) is not None
    assert found(Own(), **options) is None


def test_a_task_with_a_loss_of_its_own_goes_the_general_way():
    class Squared(Classification):
        def losses(self, apply, params, batch):
            return apply(params, batch["x"]).square().sum(-1)

    assert found(Own(), task=Squared) is None


def test_regression_needs_one_output():
    assert found(Linear((4,), 1), task=Regression) is not None
    assert found(Linear((4,), 3), task=Regression) is None


def test_a_hook_is_not_passed_over():
    module = Own()
    module.first.register_forward_hook(lambda layer, given, result: result + 1)
    assert found(module) is None
