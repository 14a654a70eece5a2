"""Scores of a model on the clean test set."""

import numpy as np
import pytest
import torch

from fedrms.client import evaluate as evaluate_module
from fedrms.client.evaluate import evaluate, scores_of
from fedrms.data import Examples

from .by_hand import federation, losses_at, parameters, problem


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("batch_size", [1, 7, 30, 4096])
def test_every_test_example_is_scored_whatever_the_batch_size(kind, batch_size):
    task, module = problem(kind)
    clients = federation([5], task=kind)
    scores = scores_of(task, module, parameters(module), clients, batch_size=batch_size).examples
    expected = losses_at(module, parameters(module), Examples(clients.test_x, clients.test_y))
    np.testing.assert_allclose(scores["loss"], expected, rtol=1e-5, atol=1e-7)
    assert set(scores) == {"loss", task.metric}
    assert all(s.shape == (30,) and s.dtype == np.float64 for s in scores.values())


def test_the_scores_are_those_of_the_parameters_that_are_given():
    task, module = problem(hidden=())
    clients = federation([5])
    zero = {name: value * 0 for name, value in parameters(module).items()}
    scores = evaluate(task, module, zero, clients)
    np.testing.assert_allclose(scores["loss"], np.log(3.0), rtol=1e-6)
    np.testing.assert_array_equal(scores["accuracy"], clients.test_y == 0)


def test_dropout_layers_rest_while_a_model_is_scored():
    from torch import nn

    from fedrms.tasks import Classification

    clients = federation([5])
    features = int(np.prod(clients.test_x.shape[1:]))
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(features, 3))
    task = Classification(lambda: module)
    one, two = (evaluate(task, module, parameters(module), clients) for _ in range(2))
    np.testing.assert_array_equal(one["loss"], two["loss"])
    assert module.training


@pytest.mark.parametrize(("limit", "expected"), [(10**9, 1), (1, 2)])
def test_a_small_test_set_is_scored_on_one_thread_and_a_large_one_on_all(
    limit, expected, monkeypatch
):
    monkeypatch.setattr(evaluate_module, "WORTH_THREADS", limit)
    task, module = problem()
    seen = []
    module.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        evaluate(task, module, parameters(module), federation([5]))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [expected]
