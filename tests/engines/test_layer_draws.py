"""Layers that draw at random draw by the address: alike on every engine, anew at every step."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fedrms.client import LocalSettings
from fedrms.client.layer_draws import addressed_draws, layer_keys
from fedrms.engines import VectorGrid
from fedrms.errors import ConfigError

from ..client.by_hand import CLASSES, FEATURES, federation, problem
from .by_hand import train_one_by_one, train_stacked

SIZES = [9, 4, 14]


class Attention(nn.Module):
    """A transformer's layer on the numbers of an example, with dropout in three places."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.3, batch_first=True)
        self.enter, self.head = nn.Linear(1, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.layer(self.enter(x[..., None])).mean(1))


class Between(nn.Module):
    """Two linear layers with a function between them, in training."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, 6), nn.Linear(6, CLASSES)
        self.between = between

    def forward(self, x):
        y = self.first(x)
        return self.second(self.between(y) if self.training else y)


def stochastic_depth(y):
    return y * (torch.rand(len(y), 1) < 0.6)


MODELS = {
    "dropout": lambda: Between(nn.Dropout(0.5)),
    "in place": lambda: Between(nn.Sequential(nn.Dropout(0.5, inplace=True), nn.ReLU())),
    "functional": lambda: Between(lambda y: functional.dropout(y, 0.4)),
    "alpha": lambda: Between(nn.AlphaDropout(0.3)),
    "rrelu": lambda: Between(nn.RReLU()),
    "twice": lambda: Between(nn.Sequential(nn.Dropout(0.2), nn.ReLU(), nn.Dropout(0.2))),
    "noise": lambda: Between(lambda y: y + 0.1 * torch.randn_like(y)),
    "uniform in place": lambda: Between(lambda y: y * torch.empty(y.shape).uniform_(0.5, 1.5)),
    "stochastic depth": lambda: Between(stochastic_depth),
    "gumbel": lambda: Between(lambda y: functional.gumbel_softmax(y)),
    "one number a batch": lambda: Between(lambda y: y * (0.5 + torch.rand(()))),
    "permuted": lambda: Between(lambda y: y[:, torch.randperm(6)]),
    "attention": Attention,
}
UNSTACKABLE = {"rrelu", "permuted", "uniform in place"}


def in_double(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return make().double()


@pytest.mark.long
@pytest.mark.parametrize("how", ["loop", "stacked", "auto"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("traced", [1, 10**9], ids=["traced", "as it is"])
def test_a_cohort_draws_what_its_clients_draw_and_no_generator_moves(
    name, how, traced, monkeypatch
):
    if how == "stacked" and name in UNSTACKABLE:
        pytest.skip("PyTorch cannot map it over clients; auto then loops")
    monkeypatch.setattr("fedrms.engines.traced_step.TRACE_AFTER", traced)
    task, _ = problem(dtype=torch.float64)
    module, clients = in_double(MODELS[name]), federation(SIZES, dtype=np.float64)
    settings = LocalSettings(lr=0.1, batch_size=4, epochs=2, statistic="incoming")
    before = torch.get_rng_state()
    got = train_stacked(
        VectorGrid(task, module, clients, executor=how, threads=2, chunk_clients=2),
        module,
        settings,
        range(3),
        server_round=2,
    )
    params, metrics = train_one_by_one(task, module, clients, settings, range(3), server_round=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert module.training
    np.testing.assert_allclose(got.parameters.numpy(), params, rtol=0, atol=1e-12)
    for key, column in metrics.items():
        np.testing.assert_allclose(got.metrics[key], column, rtol=1e-9, err_msg=key)


def test_draws_differ_between_clients_rounds_steps_and_seeds():
    keys = {
        int(key)
        for seed in (0, 1)
        for server_round in (1, 2)
        for key in layer_keys(seed, np.arange(3), server_round, 4).ravel()
    }
    assert len(keys) == 2 * 2 * 3 * 4


def test_what_is_drawn_has_the_distribution_that_the_operation_names():
    count = 200_000
    with addressed_draws(torch.tensor(7)) as mode:
        kept = functional.dropout(torch.ones(count), 0.3)
        leaky = functional.rrelu(-torch.ones(count), 0.1, 0.3, training=True)
        waits = torch.empty(count).exponential_(2.0)
        normal = torch.normal(torch.full((count,), 3.0), 2.0)
        whole = torch.randint(2, 6, (count,))
        chosen = torch.multinomial(torch.tensor([1.0, 2.0, 7.0]), count, replacement=True)
        order = torch.randperm(100)
        twice = [torch.rand(5), torch.rand(5)]
    assert mode.drawn == 9
    error = 5 / count**0.5
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert kept.mean() == pytest.approx(1.0, abs=error)
    assert leaky.mean() == pytest.approx(-0.2, abs=0.06 * error)
    assert leaky.min() >= -0.3
    assert leaky.max() <= -0.1
    assert waits.mean() == pytest.approx(0.5, abs=0.5 * error)
    assert normal.mean() == pytest.approx(3.0, abs=2 * error)
    assert normal.std() == pytest.approx(2.0, abs=2 * error)
    assert set(whole.tolist()) == {2, 3, 4, 5}
    assert whole.double().mean() == pytest.approx(3.5, abs=1.2 * error)
    shares = torch.bincount(chosen) / count
    assert shares.tolist() == pytest.approx([0.1, 0.2, 0.7], abs=error)
    assert order.sort().values.tolist() == list(range(100))
    assert not torch.equal(*twice)


def test_what_cannot_be_drawn_by_address_is_refused_by_name():
    with addressed_draws(torch.tensor(7)), pytest.raises(ConfigError, match="poisson"):
        torch.poisson(torch.ones(3))
