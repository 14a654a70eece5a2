"""Attacks against the worst place of a linear model, which is known."""

import pytest
import torch

from fedrms.client import as_function
from fedrms.lab.tasks.adversarial import ATTACKERS, AdversarialClassification
from fedrms.tasks import Task
from fedrms.tasks.models import Linear


def problem(**options):
    task = AdversarialClassification(lambda: Linear((3,), 2), epsilon=0.5, **options)
    module = task.init(torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(1)
    batch = {
        "x": torch.randn(6, 3, generator=draw),
        "y": torch.tensor([0, 1, 0, 1, 0, 1]),
        "key": torch.arange(6),
    }
    params = {name: p.detach() for name, p in module.named_parameters()}
    return task, module, params, batch


def worst(module, batch):
    """With two classes every input moves against the difference of the weights."""
    weight = module.layers[1].weight.detach()
    against = (weight[1] - weight[0]).sign() * torch.where(batch["y"] == 0, 1.0, -1.0)[:, None]
    return batch["x"] + 0.5 * against


@pytest.mark.parametrize(("attacker", "lr"), [("sgd", 50.0), ("rmsprop", 0.5), ("sign", 0.5)])
def test_every_attacker_finds_the_worst_place_of_a_linear_model(attacker, lr):
    task, module, params, batch = problem()
    moved = task.attacked(as_function(module), params, batch, attacker, 20, lr)
    torch.testing.assert_close(moved, worst(module, batch))


def test_the_gradient_is_that_of_the_loss_at_the_attacked_input():
    task, module, params, batch = problem(attacker="sign", attack_steps=5, attack_lr=1.0)
    slopes = torch.func.grad(lambda p: task.losses(as_function(module), p, batch).mean())(params)
    loss = torch.nn.functional.cross_entropy(module(worst(module, batch)), batch["y"])
    loss.backward()
    for name, p in module.named_parameters():
        torch.testing.assert_close(slopes[name], p.grad)


def test_without_steps_nothing_is_attacked():
    task, module, params, batch = problem(attack_steps=0)
    plain = torch.nn.functional.cross_entropy(module(batch["x"]), batch["y"], reduction="none")
    torch.testing.assert_close(task.losses(as_function(module), params, batch), plain.detach())


def test_robust_accuracy_is_that_at_the_worst_place():
    task, module, params, batch = problem()
    assert isinstance(task, Task)
    scores = task.metrics(as_function(module), params, batch)
    right = module(worst(module, batch)).argmax(1) == batch["y"]
    assert scores["robust_accuracy"].tolist() == right.float().tolist()
    assert scores["accuracy"].sum() >= scores["robust_accuracy"].sum()


def test_an_unknown_attacker_is_refused():
    with pytest.raises(ValueError, match=", ".join(ATTACKERS)):
        problem(attacker="newton")
