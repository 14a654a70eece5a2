"""One client's round: what it reports beside its parameters."""

import numpy as np
import pytest
import torch

from fedrms.client import LocalSettings
from fedrms.client.schedule import schedule
from fedrms.client.train import train_client
from fedrms.data import Examples
from fedrms.errors import RunError

from .by_hand import (
    batches_of,
    federation,
    losses_at,
    moments_by_hand,
    parameters,
    problem,
    train_by_hand,
    update_of,
)

CLIENT, ROUND = 3, 2
"""An address that is not the default of anything."""


class Scene:
    """One client's training by the package and by plain PyTorch, side by side."""

    def __init__(self, size: int, kind: str = "classification", **options):
        options = {"lr": 0.0625, "batch_size": 4, "epochs": 2} | options
        self.settings = LocalSettings(**options)
        self.task, self.module = problem(kind)
        self.received = parameters(self.module)
        self.examples = federation([1, 1, 1, size], task=kind).client(CLIENT)
        self.params, self.metrics = train_client(
            update_of(self.task, self.module, self.settings),
            self.received,
            self.examples,
            client=CLIENT,
            server_round=ROUND,
        )
        self.batches = batches_of(self.settings, CLIENT, size, ROUND)
        self.by_hand = train_by_hand(
            self.module, self.received, self.examples, self.batches, self.settings
        )

    def reported(self) -> dict[str, float]:
        return {key: value for key, value in self.metrics.items() if key.startswith("loss-")}

    def expect(self, losses: np.ndarray) -> None:
        assert self.reported() == pytest.approx(moments_by_hand(losses), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize(
    ("size", "first", "last"), [(16, 2, 4), (21, 3, 6)], ids=["whole", "ragged"]
)
def test_prequential_moments_are_those_of_the_losses_before_each_update(kind, size, first, last):
    """Batches ``first`` to ``last`` are the second half of the first epoch."""
    scene = Scene(size, kind)
    scene.expect(np.concatenate(scene.by_hand.losses[first:last]))
    assert scene.metrics["statistic-fallback"] == 0


def test_prequential_moments_differ_from_those_at_the_received_model():
    scene = Scene(21)
    at_received = moments_by_hand(losses_at(scene.module, scene.received, scene.examples))
    assert scene.reported() != pytest.approx(at_received, rel=1e-3)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_incoming_moments_are_those_of_all_losses_at_the_received_model(kind):
    scene = Scene(21, kind, statistic="incoming")
    scene.expect(losses_at(scene.module, scene.received, scene.examples))
    assert scene.metrics["statistic-fallback"] == 0


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_holdout_moments_are_those_of_held_out_rows_after_training(kind):
    scene = Scene(21, kind, statistic="holdout", holdout_fraction=0.3)
    trained = {int(row) for batch in scene.batches for row in batch}
    held = sorted(set(range(21)) - trained)
    assert len(held) == 6
    rows = Examples(scene.examples.x[held], scene.examples.y[held])
    scene.expect(losses_at(scene.module, scene.by_hand.params, rows))
    assert scene.metrics["statistic-fallback"] == 0


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (12, {}),
        (40, {"steps": 3}),
        (4, {"statistic": "holdout", "holdout_fraction": 0.2}),
    ],
    ids=["three steps an epoch", "three steps in all", "nothing to hold out"],
)
def test_a_client_with_too_little_to_score_reports_incoming_and_says_so(size, options):
    scene = Scene(size, **options)
    scene.expect(losses_at(scene.module, scene.received, scene.examples))
    assert scene.metrics["statistic-fallback"] == 1


@pytest.mark.parametrize("size", [1, 12, 21])
def test_a_client_reports_who_it_is_and_what_it_did(size):
    scene = Scene(size, epochs=3)
    moved = torch.cat(
        [(scene.by_hand.params[name] - scene.received[name]).ravel() for name in scene.received]
    )
    assert scene.metrics["partition-id"] == CLIENT
    assert scene.metrics["num-examples"] == size
    assert scene.metrics["steps"] == 3 * -(-size // 4) == len(scene.batches)
    assert scene.metrics["train-loss"] == pytest.approx(
        np.concatenate(scene.by_hand.losses).mean(), rel=1e-5
    )
    assert scene.metrics["update-norm"] == pytest.approx(float(moved.norm()), rel=1e-5)


def test_the_metrics_are_numbers_that_a_metric_record_takes():
    metrics = Scene(16).metrics
    assert set(metrics) == {
        *("partition-id", "num-examples", "steps", "work", "train-loss", "update-norm"),
        *("loss-mean", "loss-variance", "loss-second-moment", "loss-mad", "statistic-fallback"),
    }
    assert all(type(value) in (int, float) for value in metrics.values())


def test_a_straggler_trains_on_fewer_batches():
    size = 40
    options = {"straggler_fraction": 1.0, "min_work": 0.1}
    scene = Scene(size, **options)
    assert scene.metrics["steps"] == len(scene.batches) < 20
    for name, value in scene.by_hand.params.items():
        torch.testing.assert_close(scene.params[name], value, rtol=0, atol=1e-6)


def test_the_received_parameters_are_left_as_they_were():
    scene = Scene(16, momentum=0.9, proximal_mu=0.1)
    for name, value in parameters(scene.module).items():
        assert torch.equal(scene.received[name], value)


def test_a_scale_on_the_learning_rate_is_a_smaller_learning_rate():
    scene = Scene(16, lr=0.125, momentum=0.5)
    scaled, _ = train_client(
        update_of(scene.task, scene.module, LocalSettings(**vars(scene.settings) | {"lr": 0.25})),
        scene.received,
        scene.examples,
        client=CLIENT,
        server_round=ROUND,
        lr_scale=0.5,
    )
    assert all(torch.equal(scaled[name], scene.params[name]) for name in scaled)


def test_a_loss_times_a_constant_changes_the_moments_and_nothing_of_the_step():
    """Half the rate on twice the loss is the same training (scale invariance)."""

    class Doubled:
        def __init__(self, task):
            self.task, self.metric, self.higher_is_better = task, task.metric, True

        def losses(self, apply, params, batch):
            return 2.0 * self.task.losses(apply, params, batch)

    scene = Scene(21, lr=0.25)
    settings = LocalSettings(**vars(scene.settings) | {"lr": 0.125})
    params, metrics = train_client(
        update_of(Doubled(scene.task), scene.module, settings),
        scene.received,
        scene.examples,
        client=CLIENT,
        server_round=ROUND,
    )
    for name, value in scene.params.items():
        torch.testing.assert_close(params[name], value, rtol=0, atol=1e-6)
    assert metrics["loss-second-moment"] == pytest.approx(4 * scene.metrics["loss-second-moment"])


@pytest.mark.parametrize(
    ("spoil", "options"),
    [("data", {}), ("nothing", {"lr": 1e30, "epochs": 6})],
    ids=["data that are not numbers", "a rate that is far too large"],
)
def test_a_diverged_client_says_who_when_and_what_to_do(spoil, options):
    task, module = problem("regression", hidden=())
    examples = federation([16], task="regression").client(0)
    x = examples.x.copy()
    if spoil == "data":
        x[7, 1] = np.nan
    with pytest.raises(RunError, match=r"client 5, round 9: training diverged.*client\.lr"):
        train_client(
            update_of(task, module, LocalSettings(batch_size=4, **options)),
            parameters(module),
            Examples(x, examples.y),
            client=5,
            server_round=9,
        )


def test_the_batches_are_those_of_the_clients_own_address():
    """The same data under another client index or in another round are trained differently."""
    task, module = problem()
    examples = federation([30]).client(0)
    update = update_of(task, module, LocalSettings(batch_size=4))
    trained = {
        (client, server_round): train_client(
            update, parameters(module), examples, client=client, server_round=server_round
        )[1]["train-loss"]
        for client, server_round in [(0, 1), (1, 1), (0, 2)]
    }
    assert len(set(trained.values())) == 3
    plan = schedule(update.settings, 1, np.array([0]), np.array([30]))
    assert plan.steps[0] == 8
