import numpy as np
import pytest
import torch

from fedrms.client import LocalSettings
from fedrms.client.train import train_client

from .by_hand import federation, parameters, problem, update_of


def test_losses_by_class_are_those_of_the_received_model_on_all_rows_of_a_class() -> None:
    task, module = problem(dtype=torch.float64)
    examples = federation([13], dtype=np.float64).client(0)
    settings = LocalSettings(lr=0.5, batch_size=4, statistic="incoming", class_losses=4)
    _, metrics = train_client(
        update_of(task, module, settings), parameters(module), examples, client=0, server_round=1
    )
    y = torch.from_numpy(examples.y)
    losses = torch.nn.functional.cross_entropy(
        module(torch.from_numpy(examples.x)), y, reduction="none"
    )
    present = sorted(set(examples.y.tolist()))
    assert len(present) > 1
    for label in present:
        expected = losses[y == label].mean().item()
        assert metrics["loss-mean-by-class"][label] == pytest.approx(expected, rel=1e-12)
    assert np.isnan(metrics["loss-mean-by-class"][3])  # there is no such class


def test_losses_by_class_are_reported_only_where_they_are_asked_for() -> None:
    task, module = problem()
    settings = LocalSettings(statistic="incoming")
    _, metrics = train_client(
        update_of(task, module, settings),
        parameters(module),
        federation([13]).client(0),
        client=0,
        server_round=1,
    )
    assert not [name for name in metrics if "class" in name]


def test_work_is_the_sum_of_the_steps_learning_rates_as_far_as_momentum_carries_them() -> None:
    task, module = problem()

    def work(**options: float) -> tuple[float, float]:
        settings = LocalSettings(lr=0.5, batch_size=4, epochs=3, **options)
        _, metrics = train_client(
            update_of(task, module, settings),
            parameters(module),
            federation([13]).client(0),
            **{"client": 0, "server_round": 1, "lr_scale": 0.2},
        )
        return metrics["work"], metrics["steps"]

    assert work() == (pytest.approx(12 * 0.5 * 0.2), 12)
    assert work(momentum=0.75)[0] == pytest.approx(4 * 12 * 0.5 * 0.2)
    more, steps = work(most_work=4.0, lr_spread=2.0)
    assert 12 < steps <= 48
    assert 0.5 <= more / (steps * 0.5 * 0.2) <= 2.0
