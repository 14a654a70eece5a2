"""Linear layers trained without autograd give what the pure step gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fedrms.client import LocalSettings
from fedrms.engines import dense_training
from fedrms.engines.executor import Executor
from fedrms.tasks import Classification, Regression
from fedrms.tasks.models import MLP, Linear

from .test_executor import RAGGED, untraced, work

MODULES = {
    "linear": (lambda outputs: Linear((1, 2, 3), outputs), (1, 2, 3)),
    "mlp": (lambda outputs: MLP((1, 2, 3), outputs, hidden=(7, 5)), (1, 2, 3)),
    "no bias": (
        lambda outputs: nn.Sequential(
            nn.Linear(6, 7, bias=False), nn.ReLU(), nn.Linear(7, outputs, bias=False)
        ),
        (6,),
    ),
}


def given(name, task=Classification, dtype=torch.float64, **settings):
    build, shape = MODULES[name]
    module = build(3 if task is Classification else 1).to(dtype)
    orders = LocalSettings(batch_size=8, **{"epochs": 2} | settings)
    ours = work(module, sizes=RAGGED, settings=orders, shape=shape, task=task(lambda: module))
    if task is Regression:
        ours.columns["y"] = ours.columns["x"].flatten(1).sum(1)
    return ours


def assert_trained_without_autograd(executor, ours):
    assert executor._network(ours) is not None


@pytest.mark.parametrize("executor", ["stacked", "loop"])
@pytest.mark.parametrize("task", [Classification, Regression])
@pytest.mark.parametrize("name", MODULES)
def test_in_float64_they_agree_to_the_last_digits(name, task, executor):
    ours = given(name, task)
    chosen = Executor(executor)
    stack, _ = chosen.train(ours)
    torch.testing.assert_close(stack, untraced(ours), rtol=1e-11, atol=1e-13)
    assert_trained_without_autograd(chosen, ours)


@pytest.mark.parametrize("executor", ["stacked", "loop"])
def test_float32_is_as_near_to_float64_as_the_pure_step_is(executor):
    exact = untraced(given("mlp", epochs=4))
    ours = given("mlp", dtype=torch.float32, epochs=4)
    stack, _ = Executor(executor).train(ours)
    off = (stack.double() - exact).norm(dim=1)
    theirs = (untraced(ours).double() - exact).norm(dim=1)
    assert (off <= 1.5 * theirs + 1e-6).all()


@pytest.mark.parametrize("executor", ["stacked", "loop"])
@pytest.mark.parametrize("task", [Classification, Regression])
def test_losses_are_those_before_each_update_and_zero_where_there_is_no_example(task, executor):
    ours = given("mlp", task, lr=1e-15)  # so that losses stay those of the received model
    _, losses = Executor(executor).train(ours)
    expected = ours.update.losses(ours.received, ours.columns).numpy()
    rows = ours.plan.rows + ours.starts[None, :, None]
    present = ours.plan.present
    np.testing.assert_allclose(losses[present], expected[rows][present], rtol=1e-6)
    assert (losses[~present] == 0).all()


@pytest.mark.parametrize("executor", ["stacked", "loop"])
def test_each_client_has_its_own_learning_rate(executor):
    ours = given("mlp")
    ours.lr[:] = np.linspace(0.0, 0.3, len(ours.lr))
    stack, _ = Executor(executor).train(ours)
    torch.testing.assert_close(stack, untraced(ours), rtol=1e-11, atol=1e-13)
    flat = torch.cat([value.reshape(-1) for value in ours.received.values()])
    assert torch.equal(stack[0], flat)


@pytest.mark.parametrize("executor", ["stacked", "loop"])
def test_scores_kept_a_few_steps_at_a_time_change_nothing(executor, monkeypatch):
    ours = given("mlp", epochs=3)
    whole, whole_losses = Executor(executor).train(ours)
    monkeypatch.setattr(dense_training, "SCORES_AT_ONCE", 200)
    cut, cut_losses = Executor(executor).train(ours)
    assert torch.equal(whole, cut)
    np.testing.assert_array_equal(whole_losses, cut_losses)


@pytest.mark.parametrize("executor", ["stacked", "loop"])
@pytest.mark.parametrize("orders", [{}, {"class_losses": 3, "statistic": "incoming"}])
def test_the_first_batches_are_scored_at_the_received_model(executor, orders):
    ours = given("mlp", **orders)
    scores = ours.update.score(ours.received, ours.columns)
    first = scores.new_full((*ours.plan.rows.shape[1:], scores.shape[1]), torch.nan)
    Executor(executor, chunk_clients=3).train(replace(ours, first_scores=first))
    rows = torch.from_numpy(ours.plan.rows[0] + ours.starts[:, None])
    there = torch.from_numpy(ours.plan.present[0])
    torch.testing.assert_close(first[there], scores[rows][there])


@pytest.mark.parametrize("threads", [1, 2])
def test_looped_clients_share_calls_and_each_thread_has_some(threads, monkeypatch):
    calls = []
    train = dense_training.train_alone

    def counted(network, work, models, *further):
        calls.append(len(models))
        return train(network, work, models, *further)

    monkeypatch.setattr(dense_training, "train_alone", counted)
    ours = given("mlp")
    stack, losses = Executor("loop", threads=threads).train(ours)
    assert calls == ([8] if threads == 1 else [1] * 8)
    monkeypatch.setattr(dense_training, "SCORES_AT_ONCE", 1)  # and nobody shares one
    alone, alone_losses = Executor("loop").train(ours)
    assert torch.equal(stack, alone)
    assert torch.equal(losses, alone_losses)


@pytest.mark.parametrize("executor", ["stacked", "loop"])
def test_a_single_client_leaves_the_received_model_as_it_was(executor):
    module = Linear((4,), 3)
    ours = work(module, sizes=[9], settings=LocalSettings(batch_size=4), shape=(4,))
    before = {name: value.clone() for name, value in ours.received.items()}
    Executor(executor).train(ours)
    for name, value in before.items():
        assert torch.equal(value, ours.received[name])


def test_very_wrong_scores_keep_a_finite_loss():
    """A probability that underflows still has a logarithm."""
    module = Linear((1,), 2).float()
    ours = work(module, sizes=[4], settings=LocalSettings(batch_size=4, lr=1e-6), shape=(1,))
    ours.received["layers.1.weight"][:] = torch.tensor([[500.0], [-500.0]])
    ours.received["layers.1.bias"].zero_()
    ours.columns["x"][:] = 1.0
    ours.columns["y"][:] = 1
    _, losses = Executor("stacked").train(ours)
    np.testing.assert_allclose(losses[0, 0], 1000.0)
