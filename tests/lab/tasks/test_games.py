"""Games: who follows what."""

import math

import torch
from torch.func import grad

from fedrms.client import as_function
from fedrms.lab.tasks.games import Bilinear, BilinearGame, GenerativeGame, Players
from fedrms.tasks import Task
from fedrms.tasks.draws import normals


def test_each_player_of_the_bilinear_game_goes_its_own_way():
    task, module = BilinearGame(Bilinear), Bilinear((2.0, 3.0))
    assert isinstance(task, Task)
    params = {name: p.detach() for name, p in module.named_parameters()}
    batch = {"x": torch.zeros(1, 2)}
    assert task.losses(as_function(module), params, batch).tolist() == [6.0]
    slopes = grad(lambda p: task.losses(as_function(module), p, batch).mean())(params)
    assert (slopes["low.a"].item(), slopes["high.b"].item()) == (3.0, -2.0)


def game():
    task = GenerativeGame(lambda: Players((2,), latent=3, hidden=8), latent=3)
    module = task.init(torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(1)
    batch = {"x": torch.randn(5, 2, generator=draw), "key": torch.arange(5)}
    return task, module, {name: p.detach() for name, p in module.named_parameters()}, batch


def test_a_gans_gradients_are_those_of_its_two_losses_by_autograd():
    task, module, params, batch = game()
    slopes = grad(lambda p: task.losses(as_function(module), p, batch).mean())(params)
    made = module.generator(normals(batch["key"], 3))
    real = module.discriminator(batch["x"]).sigmoid().log()
    fake = module.discriminator(made).sigmoid()
    discriminator = -(real + (1 - fake).log()).mean()
    generator = -fake.log().mean()
    for part, loss in (("discriminator", discriminator), ("generator", generator)):
        own = dict(getattr(module, part).named_parameters())
        expected = torch.autograd.grad(loss, list(own.values()), retain_graph=True)
        for name, slope in zip(own, expected, strict=True):
            torch.testing.assert_close(slopes[f"{part}.{name}"], slope)


def test_a_client_reports_how_little_its_points_look_real():
    task, module, params, batch = game()
    losses = task.losses(as_function(module), params, batch)
    expected = -module.discriminator(batch["x"])[:, 0].sigmoid().log()
    torch.testing.assert_close(losses, expected.detach())


def test_quality_is_nearness_to_a_mode():
    task, module, params, batch = game()
    task.centres = task.points(as_function(module), params, batch)[:1]
    task.deviation = 1e-6
    assert task.metrics(as_function(module), params, batch)["quality"].tolist() == [1, 0, 0, 0, 0]
    assert math.isclose(GenerativeGame(Bilinear).centres.norm(dim=1).mean(), 2.0, rel_tol=1e-6)
