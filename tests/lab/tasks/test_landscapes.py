"""Landscapes: values and curvatures by hand."""

import math

import pytest
import torch
from torch.func import grad, hessian

from fedrms.client import as_function
from fedrms.lab.tasks import Objective
from fedrms.lab.tasks.landscapes import Plane, Plateau, Saddle, Valley
from fedrms.tasks import Task


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


def test_a_tilt_adds_the_draw_to_the_gradient():
    module = Valley((2,), condition=4.0, start=[1.0, 2.0], noise="tilt")
    xi = torch.tensor([[0.3, -0.5]])
    slope = grad(lambda w: as_function(module)({"w": w}, xi)[0])(module.w.detach())
    assert slope.tolist() == pytest.approx([1.0 + 0.3, 2.0 / 4 - 0.5])


def test_on_a_plane_the_gradient_is_the_draw():
    xi = torch.tensor([[0.3, -0.5]])
    slope = grad(lambda w: as_function(Plane((2,)))({"w": w}, xi)[0])(torch.tensor([7.0, 8.0]))
    assert slope.tolist() == pytest.approx([0.3, -0.5])


@pytest.mark.parametrize(
    ("w", "value", "slope"),
    [(0.5, 2.4, -1.0), (3.0, 1.7, -0.1), (5.5, 1.0, -1.0), (7.0, 0.0, 0.0), (8.0, 0.5, 1.0)],
)
def test_a_plateau_is_steep_flat_steep_and_a_bowl(w, value, slope):
    module = Plateau((1,), length=4.0, flatness=0.1)
    at = torch.tensor([w])
    assert module.value(at).item() == pytest.approx(value, abs=1e-6)
    assert grad(lambda w: module.value(w))(at).item() == pytest.approx(slope, abs=1e-6)


def test_a_saddle_has_its_curvatures_and_minima():
    module = Saddle((2,), flatness=0.01)
    torch.testing.assert_close(
        curvature(module, [0.0, 0.0]), torch.diag(torch.tensor([1.0, -0.01]))
    )
    slope = grad(lambda w: module.value(w))(torch.tensor([0.0, 2.0]))
    assert slope.tolist() == pytest.approx([0.0, 0.0])
    assert module.value(torch.tensor([0.0, -2.0])).item() == 0.0
