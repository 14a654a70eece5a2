"""A first layer trained by inner products of examples ends as the one whose weights move."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fedrms.client import LocalSettings, LocalUpdate
from fedrms.engines import VectorGrid, example_products
from fedrms.engines.example_products import ExampleProducts, pays
from fedrms.engines.executor import Executor
from fedrms.tasks import Classification, Regression
from fedrms.tasks.models import MLP, Linear

from ..client import by_hand
from .by_hand import train_one_by_one, train_stacked
from .test_executor import RAGGED, untraced, work

MODULES = {
    "linear": lambda outputs: Linear((1, 8, 8), outputs),
    "mlp": lambda outputs: MLP((1, 8, 8), outputs, hidden=(7, 5)),
    "no bias": lambda outputs: nn.Sequential(
        nn.Flatten(), nn.Linear(64, 7, bias=False), nn.ReLU(), nn.Linear(7, outputs, bias=False)
    ),
}
ORDERS = {
    "one epoch, losses by class": {"epochs": 1, "statistic": "incoming", "class_losses": 3},
    "three epochs": {"epochs": 3},
    "two epochs, incoming": {"epochs": 2, "statistic": "incoming"},
    "some less than one": {"epochs": 3, "straggler_fraction": 0.9, "min_work": 0.1},
    "batches of their own": {"epochs": 2, "batch_spread": 3.0},
}


@pytest.fixture(autouse=True)
def light(monkeypatch):
    monkeypatch.setattr(example_products, "HEAVY", 1)
    monkeypatch.setattr(example_products, "WORTH_IT", 0.9)


def given(name, task=Classification, dtype=torch.float64, **settings):
    module = MODULES[name](3 if task is Classification else 1).to(dtype)
    settings = LocalSettings(batch_size=8, lr=0.05, **settings)
    how = {"sizes": RAGGED, "settings": settings, "shape": (1, 8, 8)}
    ours = work(module, task=task(lambda: module), **how)
    if task is Regression:
        ours.columns["y"] = ours.columns["x"].flatten(1)[:, :3].sum(1)
    offsets = np.append(ours.starts, sum(RAGGED))
    return replace(ours, products=ExampleProducts(ours.columns["x"], offsets))


@pytest.mark.parametrize("orders", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("task", [Classification, Regression])
@pytest.mark.parametrize("name", MODULES)
def test_in_float64_it_agrees_to_the_last_digits(name, task, orders):
    orders = {k: v for k, v in orders.items() if task is Classification or k != "class_losses"}
    ours, chosen = given(name, task, **orders), Executor("loop")
    assert pays(chosen._network(ours), ours)
    stack, losses = chosen.train(ours)
    torch.testing.assert_close(stack, untraced(ours), rtol=1e-10, atol=1e-12)
    _, usual = Executor("loop").train(replace(ours, products=None))
    torch.testing.assert_close(losses, usual, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("task", "classes"), [(Classification, 3), (Regression, 0)])
def test_it_scores_every_example_with_the_received_model(task, classes):
    ours = given("mlp", task, epochs=1, statistic="incoming", class_losses=classes)
    Executor("loop").train(ours)
    expected = ours.update.score(ours.received, ours.columns)
    found = torch.cat([ours.received_scores[client] for client in range(len(RAGGED))])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_a_cohort_in_any_order_says_what_its_clients_say_and_nothing_is_scored_twice(monkeypatch):
    module = MLP((60,), 3, hidden=7).double()
    task = Classification(lambda: module)
    monkeypatch.setattr(by_hand, "FEATURES", 60)
    everyone = by_hand.federation([9, 18, 1, 4, 14], dtype=np.float64)
    settings = LocalSettings(lr=0.1, batch_size=4, statistic="incoming", class_losses=3)
    grid, clients = VectorGrid(task, module, everyone, executor="loop"), [3, 0, 4, 1]
    expected, metrics = train_one_by_one(task, module, everyone, settings, clients)
    scored, score = [], LocalUpdate.score

    def counting(self, params, batch):
        scored.append(len(batch["y"]))
        return score(self, params, batch)

    monkeypatch.setattr(LocalUpdate, "score", counting)
    for _ in range(2):
        got = train_stacked(grid, module, settings, clients)
        np.testing.assert_allclose(got.parameters.numpy(), expected, rtol=0, atol=1e-12)
        for key, column in metrics.items():
            np.testing.assert_allclose(got.metrics[key], column, rtol=1e-10, err_msg=key)
    assert not scored


def test_it_is_taken_where_it_multiplies_less():
    assert not pays(*_network_and(given("mlp", epochs=1)))  # what it saves is the model's pass
    assert pays(*_network_and(given("mlp", epochs=1, statistic="incoming")))
    assert pays(*_network_and(given("mlp", epochs=2)))
    held_out = {"statistic": "holdout", "holdout_fraction": 0.25}
    assert not pays(*_network_and(given("mlp", epochs=2, **held_out)))
    assert not pays(*_network_and(replace(given("mlp", epochs=2), products=None)))


def test_more_inner_products_than_memory_is_for_are_not_kept(monkeypatch):
    monkeypatch.setattr(example_products, "MOST_BYTES", 1000)
    assert not pays(*_network_and(given("mlp", epochs=2)))


def test_they_take_no_more_than_a_quarter_of_a_rounds_memory():
    x, offsets = torch.zeros(20, 3), np.array([0, 10, 20])
    assert ExampleProducts(x, offsets).fits
    assert ExampleProducts(x, offsets, memory=4 * 800).fits  # 2 clients, 100 products, 4 bytes
    assert not ExampleProducts(x, offsets, memory=4 * 799).fits


def _network_and(ours):
    return Executor("loop")._network(ours), ours
