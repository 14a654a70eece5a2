"""Landscapes: values and curvatures by hand."""

import math

import pytest
import torch
from torch.func import hessian

from fedrms.client import as_function
from fedrms.tasks import Objective, Task
from fedrms.tasks.landscapes import Valley


def curvature(module, at):
    apply = as_function(module)
    return hessian(lambda w: apply({"w": w}, torch.zeros(1, len(at)))[0])(torch.tensor(at))


def test_a_valley_has_its_curvatures_and_condition_number():
    found = curvature(Valley((3,), condition=100.0, scale=5.0), [0.3, 0.2, 0.1])
    torch.testing.assert_close(found, 5 * torch.diag(torch.tensor([1.0, 0.1, 0.01])))


def test_a_rotated_valley_keeps_its_eigenvalues():
    found = curvature(Valley((2,), condition=4.0, rotation=45.0), [1.0, 1.0])
    torch.testing.assert_close(found, torch.tensor([[0.625, -0.375], [-0.375, 0.625]]))


def test_a_draw_moves_the_landscape():
    module = Valley((2,), condition=4.0, start=[1.0, 2.0])
    at_draws = module(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    assert at_draws.tolist() == pytest.approx([0.5 * (1 + 4 / 4), 0.5 * 4 / 4])


def test_the_objective_is_a_task_whose_metric_is_the_value():
    task = Objective(lambda: Valley((2,)))
    assert isinstance(task, Task)
    module = task.init(torch.Generator())
    params = {"w": torch.tensor([math.sqrt(2.0), 0.0])}
    scores = task.metrics(as_function(module), params, {"x": torch.zeros(3, 2)})
    assert scores["value"].tolist() == pytest.approx([1.0] * 3)
