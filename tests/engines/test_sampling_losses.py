"""Losses that draw at random draw the same on every engine, and anew at every step."""

import numpy as np
import pytest
import torch

from fedrms.client import LocalSettings
from fedrms.client.draw_keys import at_step, row_keys
from fedrms.engines import VectorGrid
from fedrms.tasks import Classification
from fedrms.tasks.draws import normals

from ..client.by_hand import federation, problem
from .by_hand import AppGrid, arrays_of, orders, train_one_by_one, train_stacked


class NoisyInputs(Classification):
    """Classification of inputs that are blurred anew whenever they are looked at."""

    samples = True

    def losses(self, apply, params, batch):
        blurred = batch["x"] + normals(batch["key"], batch["x"].shape[-1]).to(batch["x"])
        return super().losses(apply, params, {**batch, "x": blurred})


SIZES = [9, 4, 14]


@pytest.fixture
def scene():
    task, module = problem(dtype=torch.float64)
    return NoisyInputs(task._build_model), module, federation(SIZES, dtype=np.float64)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("executor", ["stacked", "loop"])
@pytest.mark.parametrize("statistic", ["prequential", "incoming", "holdout"])
def test_a_cohort_draws_what_its_clients_draw(scene, executor, statistic):
    task, module, clients = scene
    settings = LocalSettings(lr=0.1, batch_size=4, epochs=2, statistic=statistic)
    got = train_stacked(
        VectorGrid(task, module, clients, executor=executor),
        module,
        settings,
        range(3),
        server_round=2,
    )
    params, metrics = train_one_by_one(task, module, clients, settings, range(3), server_round=2)
    np.testing.assert_allclose(got.parameters.numpy(), params, rtol=0, atol=1e-12)
    for key, column in metrics.items():
        np.testing.assert_allclose(got.metrics[key], column, rtol=1e-9, err_msg=key)


def test_traced_steps_draw_anew(scene):
    task, module, clients = scene
    settings = LocalSettings(lr=1e-9, batch_size=9, epochs=5)
    got = train_stacked(
        VectorGrid(task, module, clients, executor="stacked"), module, settings, [0]
    )
    expected, _ = train_one_by_one(task, module, clients, settings, [0])
    np.testing.assert_allclose(got.parameters.numpy(), expected, rtol=0, atol=1e-15)


def test_the_client_app_draws_the_same(scene):
    task, module, clients = scene
    settings = LocalSettings(lr=0.1, batch_size=4)
    sent = orders(arrays_of(module), settings, range(3))
    replies = AppGrid(task, module, clients).send_and_receive(sent)
    by_app = [reply.content["metrics"]["train-loss"] for reply in replies]
    got = train_stacked(VectorGrid(task, module, clients), module, settings, range(3))
    np.testing.assert_allclose(by_app, got.metrics["train-loss"], rtol=1e-12)


def test_keys_differ_between_rows_clients_rounds_and_steps():
    keys = row_keys(0, np.array([3, 8]), np.array([0, 4, 9]))
    batch = {"key": torch.from_numpy(keys)}
    seen = [at_step(batch, r, s)["key"] for r in (1, 2) for s in (0, 1, 2)]
    assert len(torch.cat(seen).unique()) == 9 * 6
    alone = row_keys(0, np.array([8]), np.array([0, 5]))
    assert alone.tolist() == keys[4:].tolist()
