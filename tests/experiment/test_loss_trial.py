"""What a loss of one's own may do: plain federated averaging's numbers, or one sentence."""

import copy
import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import fedrms
from fedrms.errors import ConfigError
from fedrms.experiment.loss_trial import try_loss
from fedrms.tasks import Classification, Regression
from fedrms.tasks.own_loss import OwnClassLoss, OwnLoss

SIZES = {"a": 7, "b": 10, "c": 4}
WEIGHT = torch.tensor([1.0, 2.0, 4.0])
RANKS = torch.tensor([0.1, 0.5, 0.9])


def examples(several):
    rng = np.random.default_rng(1)

    def part(n):
        x = rng.normal(size=(n, 5)).astype(np.float32)
        y = rng.normal(size=(n, 3)).astype(np.float32) if several else np.arange(n) // 3 % 3
        return x, y

    return {name: part(n) for name, n in SIZES.items()}, part(9)


def net():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


def plainly(model, clients, loss, rounds=2, epochs=2, lr=0.1):
    """Return the weights that federated averaging on whole clients gives."""
    weights = copy.deepcopy(model.state_dict())
    for _ in range(rounds):
        trained = []
        for x, y in clients.values():
            model.load_state_dict(weights)
            optimizer = torch.optim.SGD(model.parameters(), lr)
            for _ in range(epochs):
                optimizer.zero_grad()
                loss(model(torch.from_numpy(x)), torch.from_numpy(y)).mean().backward()
                optimizer.step()
            trained.append((len(x), copy.deepcopy(model.state_dict())))
        total = sum(n for n, _ in trained)
        weights = {k: sum(n / total * one[k] for n, one in trained) for k in weights}
    return weights


def entropy(outputs, y, **options):
    return functional.cross_entropy(outputs, y, reduction="none", **options)


def bootstrapped(outputs, y):
    guess = outputs.softmax(1).detach()
    return 0.8 * entropy(outputs, y) - 0.2 * (guess * outputs.log_softmax(1)).sum(1)


FIRST_CLASSES = torch.tensor([0.0, 0.0, 1.0])
"""Weights under which the first test examples count for nothing."""


@pytest.mark.parametrize(
    ("loss", "by_hand", "several"),
    [
        (nn.CrossEntropyLoss(weight=FIRST_CLASSES), None, False),
        (nn.CrossEntropyLoss(ignore_index=0), None, False),
        (functools.partial(functional.cross_entropy, weight=WEIGHT), None, False),
        (lambda o, y: entropy(o.double(), y), entropy, False),
        (lambda o, y: entropy(o, y) - 5.0, None, False),
        (lambda o, y: (o.softmax(1) - functional.one_hot(y, 3)).square(), None, False),
        (bootstrapped, bootstrapped, False),
        (functools.partial(functional.mse_loss, reduction="sum"), "sum", True),
        (nn.HuberLoss(delta=0.3), None, True),
        (lambda o, y: torch.maximum(RANKS * (y - o), (RANKS - 1) * (y - o)), None, True),
        (lambda o, y: ((o - y).abs() - 3.0).clamp(min=0) ** 2, None, True),
    ],
)
def test_a_loss_gives_the_numbers_of_a_loop_written_by_hand(loss, by_hand, several, tmp_path):
    def each(outputs, y):
        if callable(by_hand):
            return by_hand(outputs, y)
        given = copy.deepcopy(loss)
        if isinstance(given, nn.Module):
            given.reduction = "none"
        takes = isinstance(given, functools.partial)
        losses = given(outputs, y, reduction="none") if takes else given(outputs, y)
        rest = losses if losses.dim() == 1 else losses.sum(1) if by_hand else losses.mean(1)
        return rest

    clients, test = examples(several)
    runs = fedrms.simulate(
        fedrms.Federation.from_arrays(clients, test=test),
        model=net(),
        loss=loss,
        strategies=["fedavg"],
        rounds=2,
        lr=0.1,
        overrides=["data.standardise=false", "client.epochs=2", "client.batch_size=10"],
        folder=tmp_path / "run",
    )
    expected = plainly(net(), clients, each)
    for name, value in runs.models["fedavg", 0].items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=2e-6)
    model = net()
    model.load_state_dict(expected)
    lost = each(model(torch.from_numpy(test[0])), torch.from_numpy(test[1])).mean()
    assert runs.rounds.test_loss.iloc[-1] == pytest.approx(float(lost), abs=1e-5)


class Counts:
    calls = 0

    def __call__(self, outputs, y):
        self.calls += 1
        return entropy(outputs, y)


class Average(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("average", torch.zeros(()))

    def forward(self, outputs, y):
        losses = entropy(outputs, y)
        self.average.mul_(0.9).add_(losses.detach().mean())
        return losses


def closure():
    calls = []

    def loss(outputs, y):
        calls.append(1)
        return entropy(outputs, y) * (2 if len(calls) > 1000 else 1)

    return loss


GENERATOR = np.random.default_rng(0)
TEMPERATURE = nn.Parameter(torch.ones(()))


def scaled_targets(outputs, y):
    return entropy(outputs, y.clamp_(max=1))


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda o, y: entropy(o, y).mean().expand(len(y)), "mixes the examples"),
        (lambda o, y: entropy(o, y) * len(y), "mixes the examples"),
        (lambda o, y: entropy(o, y) / entropy(o, y).detach().mean(), "mixes the examples"),
        (lambda o, y: entropy(o - o.mean(0), y), "mixes the examples"),
        (lambda o, y: entropy(o, y).flip(0), "mixes the examples"),
        (lambda o, y: entropy(o, y) + torch.cdist(o, o).mean(1), "mixes the examples"),
        (scaled_targets, "changes its targets in place"),
        (lambda o, y: entropy(o.sub_(1.0), y), "changes its outputs in place"),
        (lambda o, y: entropy(functional.dropout(o), y), "draws at random"),
        (lambda o, y: entropy(o, y) * np.random.rand(), "Python's or NumPy's global generator"),  # noqa: NPY002
        (lambda o, y: entropy(o, y) * GENERATOR.random(), "gives other numbers .* called again"),
        (Counts(), "changes 'calls' each time"),
        (Average(), "changes 'average' each time"),
        (closure(), "changes 'calls' each time"),
        (lambda o, y: entropy(o, y).detach(), "gradient of zero"),
        (lambda o, y: (o.argmax(1) != y).float(), "gradient of zero"),
        (lambda o, y: o.argmax(1) != y, "gives numbers of type bool|could not infer"),
        (lambda o, y: torch.complex(o, o).mean(1), "type complex64"),
        (lambda o, y: (o - 9.0).log().mean(1), r"is nan for outputs \[.*\] and target"),
        (lambda o, y: functional.nll_loss(o, y, reduction="none"), "falls without end"),
        (functional.nll_loss, "falls without end"),
        (nn.NLLLoss(), "NLLLoss takes logarithms"),
        (lambda o, y: -entropy(o, y), "falls without end: it is -"),
        (lambda o, y: 5 - (o**2).sum(1) - y, "falls without end: it is -"),
        (lambda o, y: entropy(o * TEMPERATURE, y), "learns a tensor of its own"),
        (nn.MSELoss(), "does not fit outputs"),
    ],
)
def test_a_loss_that_clients_cannot_use_alike_is_refused_by_its_own_name(loss, said):
    task = OwnClassLoss(Classification(net), loss, 3)
    outputs, y = net()(torch.randn(6, 5)), torch.tensor([0, 1, 2, 2, 1, 0])
    with pytest.raises(ConfigError, match=said) as caught:
        try_loss(task, outputs, y)
    assert caught.value.key == "loss"


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, y: (o[:, None] - y[None]) ** 2,
        lambda o, y: (o.sort()[0] - y.sort()[0]) ** 2,
        lambda o, y: torch.cumsum(o - y, 0) ** 2,
        lambda o, y: (o - y) ** 2 / y.var(),
    ],
)
def test_a_loss_of_numbers_that_pairs_examples_is_refused(loss):
    with pytest.raises(ConfigError, match="loss: mixes the examples"):
        try_loss(OwnLoss(Regression(net), loss), torch.randn(6, 1), torch.randn(6))


def test_a_loss_of_log_probabilities_and_one_of_probabilities_fit_their_models():
    y = torch.tensor([0, 1])
    logs = OwnClassLoss(Classification(net), nn.NLLLoss(), 2)
    assert not try_loss(logs, torch.randn(2, 2).log_softmax(1), y)
    right = OwnClassLoss(Classification(net), lambda o, y: -o.gather(1, y[:, None])[:, 0], 2)
    assert not try_loss(right, torch.randn(2, 2).softmax(1), y)


def test_a_hinge_that_is_flat_at_first_says_so_and_is_no_fault():
    hinge = OwnLoss(Regression(net), lambda o, y: ((o - y).abs() - 9.0).clamp(min=0))
    assert try_loss(hinge, torch.zeros(4, 1), torch.ones(4))
