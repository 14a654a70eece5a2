"""``begin``, ``step`` and ``finish`` beside ``torch.optim``."""

import numpy as np
import pytest
import torch
from torch import nn

from fedrms.client import LocalSettings, as_function
from fedrms.client.schedule import schedule
from fedrms.client.train import train_client

from .by_hand import batches_of, federation, parameters, problem, train_by_hand, update_of

PLAIN = {"lr": 0.125, "epochs": 3, "batch_size": 4}
"""The rate is a power of two, so that it is the same number in float32 and in float64."""

OPTIONS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "weight decay": {"weight_decay": 0.1},
    "clipped gradients": {"clip_norm": 0.2},
    "proximal term": {"proximal_mu": 0.5},
    "all at once": {
        "momentum": 0.9,
        "weight_decay": 0.1,
        "clip_norm": 0.2,
        "proximal_mu": 0.5,
    },
}


@pytest.mark.parametrize("size", [12, 13, 3], ids=["whole batches", "partial last", "one partial"])
@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("option", OPTIONS)
def test_a_clients_training_equals_torchs_sgd_on_the_same_batches(option, kind, size):
    settings = LocalSettings(**PLAIN, **OPTIONS[option])
    task, module = problem(kind)
    received, examples = parameters(module), federation([size], task=kind).client(0)

    params, _ = train_client(
        update_of(task, module, settings), received, examples, client=0, server_round=1
    )

    expected = train_by_hand(module, received, examples, batches_of(settings, 0, size), settings)
    for name in received:
        torch.testing.assert_close(params[name], expected.params[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("option", OPTIONS)
def test_in_double_precision_the_two_agree_to_rounding(option):
    settings = LocalSettings(**PLAIN, **OPTIONS[option])
    task, module = problem(dtype=torch.float64)
    received, examples = parameters(module), federation([13], dtype=np.float64).client(0)

    params, _ = train_client(
        update_of(task, module, settings), received, examples, client=0, server_round=1
    )

    expected = train_by_hand(module, received, examples, batches_of(settings, 0, 13), settings)
    for name in received:
        torch.testing.assert_close(params[name], expected.params[name], rtol=0, atol=1e-13)


@pytest.mark.parametrize("option", [name for name in OPTIONS if name != "plain"])
def test_each_option_changes_the_training(option):
    """Otherwise the comparisons above would say nothing about it."""
    task, module = problem()
    received, examples = parameters(module), federation([13]).client(0)
    trained = [
        train_client(
            update_of(task, module, LocalSettings(**PLAIN, **more)),
            received,
            examples,
            client=0,
            server_round=1,
        )[0]
        for more in ({}, OPTIONS[option])
    ]
    assert max(float((trained[0][n] - trained[1][n]).abs().max()) for n in received) > 1e-3


def test_one_step_by_hand():
    """One weight w = 1, examples (1, 3) and (2, 0): losses 4 and 4, gradient -2 and 8 (mean 3)."""
    task, module = problem("regression", hidden=())
    weight = next(name for name in parameters(module) if name.endswith("weight"))
    bias = next(name for name in parameters(module) if name.endswith("bias"))
    update = update_of(task, module, LocalSettings())
    params = {weight: torch.tensor([[1.0, 0, 0, 0]]), bias: torch.tensor([0.0])}
    x = torch.tensor([[1.0, 0, 0, 0], [2.0, 0, 0, 0]])
    batch = {"x": x, "y": torch.tensor([3.0, 0.0]), "present": torch.ones(2)}

    state, losses = update.step(update.begin(params, torch.tensor(0.1)), batch)

    assert losses.tolist() == [4.0, 4.0]
    after = update.finish(state)
    assert after[weight][0, 0].item() == pytest.approx(1.0 - 0.1 * (2 * -2 * 1 + 2 * 2 * 2) / 2)
    assert after[bias].item() == pytest.approx(0.0 - 0.1 * (2 * -2 + 2 * 2) / 2)


@pytest.mark.parametrize("rubbish", [0.0, 1e6])
def test_padding_changes_nothing_whatever_it_holds(rubbish):
    task, module = problem()
    update = update_of(task, module, LocalSettings(momentum=0.5))
    state = update.begin(parameters(module), torch.tensor(0.5))
    draw = torch.Generator().manual_seed(0)
    real = {"x": torch.randn(3, 4, generator=draw), "y": torch.tensor([0, 1, 2])}
    padding = {"x": torch.full((2, 4), rubbish), "y": torch.tensor([0, 0])}
    padded = {name: torch.cat([real[name], padding[name]]) for name in real}

    after, losses = update.step(state, real | {"present": torch.ones(3)})
    padded_after, padded_losses = update.step(
        state, padded | {"present": torch.tensor([1.0, 1, 1, 0, 0])}
    )

    torch.testing.assert_close(padded_losses, torch.cat([losses, torch.zeros(2)]))
    for name, value in after["params"].items():
        torch.testing.assert_close(padded_after["params"][name], value)


def test_squared_gradients_are_those_that_adam_keeps():
    task, module = problem(dtype=torch.float64)
    settings = LocalSettings(lr=0.1, steps=7, batch_size=4, gradient_decay=0.9)
    received, examples = parameters(module), federation([13], dtype=np.float64).client(0)
    trained, _ = train_client(
        update_of(task, module, settings), received, examples, client=0, server_round=1
    )

    plan = schedule(settings, 1, np.array([0]), np.array([13]))
    values = [value.clone().requires_grad_() for value in received.values()]
    adam = torch.optim.Adam(values, lr=0.0, betas=(0.0, 0.9))  # keeps squares, and does not step
    for rows, present in zip(plan.rows[:, 0], plan.present[:, 0], strict=True):
        x, y = (torch.from_numpy(column[rows[present]]) for column in (examples.x, examples.y))
        scores = torch.func.functional_call(module, dict(zip(received, values, strict=True)), (x,))
        adam.zero_grad()
        torch.nn.functional.cross_entropy(scores, y).backward()
        adam.step()
        with torch.no_grad():
            for value in values:
                value -= settings.lr * value.grad
    for name, value in zip(received, values, strict=True):
        expected = adam.state[value]["exp_avg_sq"] / (1 - 0.9**7)
        torch.testing.assert_close(trained["gradient-squares/" + name], expected)


def test_a_client_that_has_finished_keeps_its_squared_gradients():
    task, module = problem()
    update = update_of(task, module, LocalSettings(gradient_decay=0.9, weight_decay=0.5))
    state = update.begin(parameters(module), torch.tensor(0.5))
    batch = {"x": torch.ones(2, 4), "y": torch.tensor([0, 1]), "present": torch.ones(2)}
    after, _ = update.step(state, batch)
    later, _ = update.step(after, batch | {"present": torch.zeros(2)})
    for name, value in after["squares"].items():
        assert value.abs().max() > 0
        assert torch.equal(later["squares"][name], value)


def test_a_step_leaves_the_state_it_is_given_as_it_was():
    task, module = problem()
    update = update_of(task, module, LocalSettings(momentum=0.5, proximal_mu=0.1))
    state = update.begin(parameters(module), torch.tensor(0.5))
    before = {part: {n: v.clone() for n, v in tree.items()} for part, tree in state.items()}
    batch = {"x": torch.ones(2, 4), "y": torch.tensor([0, 1]), "present": torch.ones(2)}
    update.step(state, batch)
    for part, tree in before.items():
        assert all(torch.equal(state[part][name], value) for name, value in tree.items())


def normalised(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(layer))


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(4, track_running_stats=False),
        nn.GroupNorm(2, 4),
        nn.LayerNorm(4),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_module_without_running_statistics_is_a_function_of_its_parameters(layer):
    module = normalised(layer)
    apply = as_function(module)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    params = {name: torch.ones_like(value) for name, value in module.named_parameters()}
    given = apply(params, x)
    assert not torch.allclose(given, module(x))
    module.load_state_dict(params, strict=False)
    torch.testing.assert_close(given, module(x))
