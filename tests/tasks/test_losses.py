"""What a task loses, and how it makes a model."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from fedrms.tasks import Classification, KnowsChance, Regression, Task
from fedrms.tasks.models import MLP, Linear


def classification() -> Classification:
    return Classification(lambda: MLP((4,), 3, hidden=5))


def regression() -> Regression:
    return Regression(lambda: Linear((4,), 1))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_pure(module: nn.Module):
    return lambda params, x: functional_call(module, params, (x,))


def examples(task: Task, count: int = 7) -> dict[str, torch.Tensor]:
    draw = seeded(11)
    x = torch.randn(count, 4, generator=draw)
    if isinstance(task, Classification):
        return {"x": x, "y": torch.randint(0, 3, (count,), generator=draw)}
    return {"x": x, "y": torch.randn(count, generator=draw)}


@pytest.mark.parametrize("task", [classification(), regression()], ids=lambda t: t.metric)
def test_a_task_satisfies_the_protocol_at_run_time(task):
    assert isinstance(task, Task)


def test_something_without_losses_is_no_task():
    class Half:
        metric = "accuracy"
        higher_is_better = True

        def init(self, generator):
            return nn.Linear(1, 1)

    assert not isinstance(Half(), Task)


def test_classification_loses_torchs_cross_entropy_for_each_example():
    task = classification()
    module, batch = task.init(seeded(0)), examples(task)
    losses = task.losses(as_pure(module), dict(module.named_parameters()), batch)
    expected = [
        functional.cross_entropy(module(x[None])[0], y)
        for x, y in zip(*batch.values(), strict=True)
    ]
    torch.testing.assert_close(losses, torch.stack(expected))
    assert losses.shape == (7,)


def test_a_cross_entropy_by_hand():
    """Scores 0 and log 3: the second class has three quarters of the probability."""
    task = Classification(lambda: Linear((1,), 2))
    batch = {"x": torch.ones(2, 1), "y": torch.tensor([0, 1])}
    scores = torch.tensor([[1.0, 3.0], [1.0, 3.0]]).log()
    losses = task.losses(lambda params, x: scores, {}, batch)
    torch.testing.assert_close(losses, torch.tensor([4.0, 4.0 / 3.0]).log())


def test_a_chance_loss_is_the_mean_cross_entropy_of_the_other_labels():
    task, module = classification(), MLP((4,), 3, hidden=5)
    batch = examples(task)
    params = dict(module.named_parameters())
    losses, chance = task.chance_losses(as_pure(module), params, batch)
    torch.testing.assert_close(losses, task.losses(as_pure(module), params, batch))
    others = [
        functional.cross_entropy(module(batch["x"]), (batch["y"] + shift) % 3, reduction="none")
        for shift in (1, 2)
    ]
    torch.testing.assert_close(chance, (others[0] + others[1]) / 2)


def test_classification_alone_knows_what_chance_loses():
    assert isinstance(classification(), KnowsChance)
    assert not isinstance(regression(), KnowsChance)


def test_regression_loses_the_squared_error_of_each_example():
    task = regression()
    module, batch = task.init(seeded(0)), examples(task)
    losses = task.losses(as_pure(module), dict(module.named_parameters()), batch)
    expected = functional.mse_loss(module(batch["x"])[:, 0], batch["y"], reduction="none")
    torch.testing.assert_close(losses, expected)
    assert losses.shape == (7,)


@pytest.mark.parametrize("targets", [(), (1,), (2, 3)])
def test_regression_tells_errors_predictions_and_targets(targets):
    count = int(np.prod(targets))
    task = Regression(lambda: nn.Sequential(Linear((4,), count), nn.Unflatten(1, targets or (1,))))
    module, draw = task.init(seeded(0)), np.random.default_rng(0)
    x, y = (torch.from_numpy(draw.normal(size=(7, *s)).astype("f4")) for s in ((4,), targets))
    batch, params = {"x": x, "y": y}, dict(module.named_parameters())
    told = task.errors_and_targets(as_pure(module), params, batch)
    assert told.shape == (7, 1 + 2 * count)
    torch.testing.assert_close(told[:, 0], task.losses(as_pure(module), params, batch))
    torch.testing.assert_close(told[:, 1 : 1 + count], module(x).flatten(1))
    torch.testing.assert_close(told[:, 1 + count :], y.reshape(7, count))


def test_accuracy_is_one_where_the_largest_score_is_the_label():
    task = Classification(lambda: Linear((1,), 3))
    scores = torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.5, 1.0]])
    batch = {"x": torch.zeros(3, 1), "y": torch.tensor([1, 1, 2])}
    metrics = task.metrics(lambda params, x: scores, {}, batch)
    assert metrics["accuracy"].tolist() == [1.0, 0.0, 1.0]
    torch.testing.assert_close(
        metrics["loss"], functional.cross_entropy(scores, batch["y"], reduction="none")
    )


def test_mse_is_the_squared_error_of_each_example():
    task = regression()
    batch = {"x": torch.zeros(2, 4), "y": torch.tensor([1.0, -2.0])}
    metrics = task.metrics(lambda params, x: torch.tensor([[3.0], [-2.0]]), {}, batch)
    assert metrics["mse"].tolist() == [4.0, 0.0]
    assert metrics["loss"].tolist() == [4.0, 0.0]


@pytest.mark.parametrize("task", [classification(), regression()], ids=lambda t: t.metric)
def test_the_headline_metric_is_among_the_metrics(task):
    module = task.init(seeded(0))
    metrics = task.metrics(as_pure(module), dict(module.named_parameters()), examples(task))
    assert set(metrics) == {"loss", task.metric}
    assert all(values.shape == (7,) for values in metrics.values())


@pytest.mark.parametrize("task", [classification(), regression()], ids=lambda t: t.metric)
def test_the_initial_model_depends_on_the_generators_seed_alone(task):
    one = task.init(seeded(3)).state_dict()
    torch.rand(5)  # the global generator has moved on
    used = seeded(3)
    torch.rand(5, generator=used)  # and so has this one, whose seed is the same
    two, other = task.init(used).state_dict(), task.init(seeded(4)).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_init_leaves_the_global_generator_as_it_was():
    before = copy.deepcopy(torch.get_rng_state())
    classification().init(seeded(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_init_leaves_the_generator_it_is_given_as_it_was():
    mine = seeded(5)
    before = mine.get_state()
    classification().init(mine)
    assert torch.equal(mine.get_state(), before)


@pytest.mark.parametrize("classes", [2, 10, 15, 16, 40])
def test_scores_outside_of_training_give_the_losses_of_training(classes):
    scores, labels = torch.randn(50, classes, dtype=torch.float64), torch.arange(50) % classes
    task, batch = Classification(lambda: None), {"x": scores, "y": labels}

    def told():
        both = task.chance_losses(lambda params, x: x, {}, batch)
        return torch.stack([*both, task.losses(lambda params, x: x, {}, batch)])

    trained = told()
    with torch.no_grad():
        torch.testing.assert_close(told(), trained, rtol=1e-13, atol=1e-13)
