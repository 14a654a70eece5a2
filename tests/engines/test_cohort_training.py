"""A cohort trained in batches gives each client what it gets alone."""

import numpy as np
import pytest
import torch
from torch import nn

from fedrms.client import LocalSettings, LocalUpdate
from fedrms.client.local_optimizer import optimizer_order
from fedrms.client.train import train_client
from fedrms.engines import VectorGrid, cohort_training
from fedrms.engines.choice import EXECUTORS
from fedrms.engines.work import Work

from ..client.by_hand import federation, parameters, problem, update_of
from .by_hand import arrays_of, orders, train_one_by_one, train_stacked

SIZES = [9, 18, 1, 4, 14]
"""Ragged: one example, less than a batch, and partial last batches among them."""

EVERYONE = range(len(SIZES))

RMSPROP = optimizer_order({"_target_": "torch.optim.RMSprop", "alpha": 0.9})
ADAM = optimizer_order(
    {
        "_target_": "torch.optim.Adam",
        "scheduler": {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.9},
    }
)

PLAIN = {"lr": 0.1, "epochs": 2, "batch_size": 4}
OPTIONS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "weight decay": {"weight_decay": 0.05},
    "clipped gradients": {"clip_norm": 0.3},
    "proximal term": {"proximal_mu": 0.5},
    "incoming": {"statistic": "incoming"},
    "holdout": {"statistic": "holdout", "holdout_fraction": 0.25},
    "stragglers": {"straggler_fraction": 0.6, "min_work": 0.2},
    "unequal work": {"most_work": 4.0, "lr_spread": 3.0, "momentum": 0.5},
    "batches of their own": {"batch_spread": 3.0, "momentum": 0.5},
    "own learning rates of an optimizer": {"lr_spread": 3.0, "optimizer": RMSPROP},
    "steps": {"steps": 7},
    "whole data as one batch": {"batch_size": 64},
    "single examples": {"batch_size": 1, "epochs": 1},
    "squared gradients": {"gradient_decay": 0.9, "clip_norm": 0.3, "straggler_fraction": 0.5},
    "rmsprop": {"optimizer": RMSPROP, "proximal_mu": 0.5, "clip_norm": 0.3},
    "adam, scheduled": {"optimizer": ADAM, "straggler_fraction": 0.5, "gradient_decay": 0.9},
    "losses by class": {"statistic": "incoming", "class_losses": 3},
    "all at once": {
        "momentum": 0.5,
        "weight_decay": 0.05,
        "clip_norm": 0.3,
        "proximal_mu": 0.5,
        "statistic": "holdout",
        "straggler_fraction": 0.5,
    },
}


def compare(got, expected: tuple[np.ndarray, dict[str, np.ndarray]], tolerance: float) -> None:
    params, metrics = expected
    np.testing.assert_allclose(got.parameters.numpy(), params, rtol=0, atol=tolerance)
    assert set(got.metrics) == set(metrics)
    for key, column in metrics.items():
        np.testing.assert_allclose(
            got.metrics[key], column, rtol=100 * tolerance, atol=tolerance, err_msg=key
        )


def check(settings: LocalSettings, sizes: list[int], server_round: int = 1, **how) -> None:
    """Compare a cohort and its clients in double precision, where rounding is all there is."""
    task, module = problem(dtype=torch.float64)
    clients, everyone = federation(sizes, dtype=np.float64), range(len(sizes))
    got = train_stacked(
        VectorGrid(task, module, clients, **how),
        module,
        settings,
        everyone,
        server_round=server_round,
    )
    assert got.parameters.dtype == torch.float64
    assert list(got.clients) == list(everyone)
    assert not got.failures
    expected = train_one_by_one(
        task, module, clients, settings, everyone, server_round=server_round
    )
    compare(got, expected, 1e-12)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("option", OPTIONS)
def test_a_ragged_cohort_in_batches_equals_its_clients(option):
    check(LocalSettings(**PLAIN | OPTIONS[option]), SIZES, server_round=3, executor="stacked")


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("executor", ["stacked", "loop"])
@pytest.mark.parametrize(
    "option",
    [*("plain", "proximal term", "squared gradients", "all at once"), "rmsprop", "adam, scheduled"],
)
def test_a_traced_step_equals_the_step(option, executor):
    settings = LocalSettings(**PLAIN | OPTIONS[option] | {"straggler_fraction": 0.0})
    check(settings, [10, 10, 10], executor=executor)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("how", [{"executor": name} for name in EXECUTORS], ids=str)
def test_every_executor_gives_the_same(how):
    check(LocalSettings(**PLAIN | OPTIONS["all at once"]), SIZES, **how)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("option", ["plain", "all at once"])
def test_in_single_precision_a_cohort_equals_its_clients_to_five_digits(option, kind):
    settings = LocalSettings(**PLAIN | OPTIONS[option] | {"lr": 0.05})
    task, module = problem(kind)
    clients = federation(SIZES, task=kind)
    got = train_stacked(VectorGrid(task, module, clients), module, settings, EVERYONE)
    assert got.parameters.dtype == torch.float32
    compare(got, train_one_by_one(task, module, clients, settings, EVERYONE), 1e-5)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("hidden", [5, (256, 256)], ids=["small", "large"])
def test_in_regression_a_cohort_says_of_predictions_what_its_clients_say(hidden):
    settings = LocalSettings(**PLAIN | {"lr": 0.05, "statistic": "incoming", "class_losses": 1})
    task, module = problem("regression", hidden=hidden, dtype=torch.float64)
    clients = federation(SIZES, task="regression", dtype=np.float64)
    with torch.no_grad():  # of the targets, in another unit
        x, y = (torch.from_numpy(part) for part in (clients.stages[0].x, clients.stages[0].y))
        *_, last = (layer for layer in module.modules() if isinstance(layer, nn.Linear))
        fit = torch.linalg.lstsq(_inside(module, x), y[: len(x), None]).solution
        last.weight.copy_(fit.t() / 3)
    got = train_stacked(VectorGrid(task, module, clients), module, settings, EVERYONE)
    assert np.isfinite(got.metrics["loss-unitless-by-class"]).any()
    compare(got, train_one_by_one(task, module, clients, settings, EVERYONE), 1e-9)


def _inside(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a module's last layer gets."""
    seen: list[torch.Tensor] = []
    *_, last = (layer for layer in module.modules() if isinstance(layer, nn.Linear))
    with last.register_forward_pre_hook(lambda layer, given: seen.append(given[0])):
        module(x)
    return seen[0]


def test_it_stays_so_over_rounds_in_which_the_step_is_traced():
    """A shape that comes often is traced to a graph, which later rounds use again."""
    settings = LocalSettings(**PLAIN | OPTIONS["momentum"])
    task, module = problem(dtype=torch.float64)
    clients = federation([10, 10, 10], dtype=np.float64)
    grid = VectorGrid(task, module, clients, executor="stacked")
    for server_round in (1, 2, 3):
        got = train_stacked(grid, module, settings, range(3), server_round=server_round)
        expected = train_one_by_one(
            task, module, clients, settings, range(3), server_round=server_round
        )
        compare(got, expected, 1e-12)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    "how",
    [{"executor": "loop", "threads": 3}, {"executor": "measure"}, {"executor": "stacked"}],
    ids=str,
)
def test_a_wide_model_on_worker_threads_gives_the_same(how):
    task, module = problem(hidden=(96, 96), dtype=torch.float64)
    clients, settings = federation(SIZES, dtype=np.float64), LocalSettings(**PLAIN)
    expected = train_one_by_one(task, module, clients, settings, EVERYONE)
    grid = VectorGrid(task, module, clients, **how)
    for _ in range(2):
        compare(train_stacked(grid, module, settings, EVERYONE), expected, 1e-12)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_the_size_of_a_chunk_changes_nothing_beyond_rounding(chunk):
    settings = LocalSettings(**PLAIN | OPTIONS["all at once"])
    task, module = problem()
    clients = federation(SIZES)
    whole = train_stacked(
        VectorGrid(task, module, clients, executor="stacked"), module, settings, EVERYONE
    )
    chunked = train_stacked(
        VectorGrid(task, module, clients, executor="stacked", chunk_clients=chunk),
        module,
        settings,
        EVERYONE,
    )
    assert chunked.clients == whole.clients
    torch.testing.assert_close(chunked.parameters, whole.parameters, rtol=0, atol=1e-6)
    for key, column in whole.metrics.items():
        np.testing.assert_allclose(chunked.metrics[key], column, rtol=1e-5, err_msg=key)


@pytest.mark.usefixtures("untraced")
def test_the_order_of_clients_changes_nothing_beyond_rounding():
    settings = LocalSettings(**PLAIN | OPTIONS["stragglers"])
    task, module = problem()
    grid = VectorGrid(task, module, federation(SIZES))
    forward = train_stacked(grid, module, settings, EVERYONE)
    order = [4, 0, 2, 1, 3]
    shuffled = train_stacked(grid, module, settings, order)
    assert list(shuffled.clients) == order
    torch.testing.assert_close(shuffled.parameters, forward.parameters[order], rtol=0, atol=1e-6)
    for key, column in forward.metrics.items():
        np.testing.assert_allclose(shuffled.metrics[key], column[order], rtol=1e-5, err_msg=key)


@pytest.mark.usefixtures("untraced")
def test_a_client_gets_the_same_in_any_cohort():
    settings = LocalSettings(**PLAIN)
    task, module = problem()
    grid = VectorGrid(task, module, federation(SIZES))
    whole = train_stacked(grid, module, settings, EVERYONE)
    for cohort in ([1], [2, 1], [1, 3, 0, 4]):
        part = train_stacked(grid, module, settings, cohort)
        row = cohort.index(1)
        torch.testing.assert_close(part.parameters[row], whole.parameters[1], rtol=0, atol=1e-6)


@pytest.mark.usefixtures("untraced")
def test_clients_with_fewer_steps_stay_as_they_are_once_they_have_finished():
    """One of ten is done after its first step, which is too few to cut the stack for.

    Momentum and weight decay must not go on moving it.
    """
    settings = LocalSettings(lr=0.1, epochs=1, batch_size=4, momentum=0.9, weight_decay=0.5)
    check(settings, [4, *[20] * 9], executor="stacked")


@pytest.mark.usefixtures("untraced")
def test_each_client_can_have_its_own_scale_on_the_learning_rate():
    settings = LocalSettings(**PLAIN)
    task, module = problem()
    clients, arrays = federation(SIZES), arrays_of(module)
    scales = [1.0, 0.5, 0.25, 2.0, 0.0]
    sent = [
        order
        for client, scale in zip(EVERYONE, scales, strict=True)
        for order in orders(arrays, settings, [client], **{"lr-scale": scale})
    ]
    got = VectorGrid(task, module, clients).send_and_receive(sent).stacked
    for client, scale in zip(EVERYONE, scales, strict=True):
        expected, _ = train_client(
            update_of(task, module, settings),
            parameters(module),
            clients.client(client),
            client=client,
            server_round=1,
            lr_scale=scale,
        )
        row = torch.cat([value.ravel() for value in expected.values()])
        torch.testing.assert_close(got.parameters[client], row, rtol=0, atol=1e-6)


@pytest.mark.parametrize("option", ["incoming", "losses by class"])
def test_rows_of_the_first_batches_are_scored_by_their_step_alone(option, monkeypatch):
    rows, score = [], LocalUpdate.score

    def counting(self, params, batch):
        rows.append(len(batch["y"]))
        return score(self, params, batch)

    monkeypatch.setattr(cohort_training, "SCORED_FROM", 1)
    settings = LocalSettings(**PLAIN | OPTIONS[option])
    check(settings, SIZES, executor="loop")  # against clients that score all of their rows
    task, module = problem(dtype=torch.float64)
    grid = VectorGrid(task, module, federation(SIZES, dtype=np.float64), executor="loop")
    monkeypatch.setattr(LocalUpdate, "score", counting)
    train_stacked(grid, module, settings, EVERYONE)
    assert sum(rows) == sum(SIZES) - sum(min(size, settings.batch_size) for size in SIZES)


def test_the_received_model_is_used_where_it_lies_in_one_piece():
    flat = torch.arange(6.0)
    received = {"w": flat[:4].view(2, 2), "b": flat[4:]}
    work = Work(None, received, {}, np.zeros(1), None, np.ones(1))
    assert work.flat.data_ptr() == flat.data_ptr()
    assert work.flat.equal(flat)
    turned = {"b": received["b"], "w": received["w"].t()}
    work = Work(None, turned, {}, np.zeros(1), None, np.ones(1))
    assert work.flat.tolist() == [4.0, 5.0, 0.0, 2.0, 1.0, 3.0]
