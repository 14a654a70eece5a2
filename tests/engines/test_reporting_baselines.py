"""The baselines whose clients report more than their losses, on stacks and on single messages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import fedrms
from fedrms.client import LocalSettings
from fedrms.engines import VectorGrid
from fedrms.server import FedRMS
from fedrms.server.weighed_by import weighed_by
from fedrms.weighting.arfl import ARFL
from fedrms.weighting.fednoro import FedNoRo
from fedrms.weighting.precision_weighted import PrecisionWeighted

from ..client.by_hand import CLASSES, federation, problem
from .by_hand import AppGrid, arrays_of, orders, run_strategy, vector

SIZES = [9, 12, 5, 8, 17, 7, 13]
SETTINGS = LocalSettings(lr=0.1, epochs=1, batch_size=4)
STRATEGIES = {
    "arfl": lambda: weighed_by(ARFL, regularisation=0.2, identify="query"),
    "fednoro": lambda: weighed_by(FedNoRo, stage_one=1, num_classes=CLASSES, identify="query"),
    "precision_weighted": lambda: weighed_by(
        PrecisionWeighted, gradient_decay=0.9, identify="query"
    ),
}


@pytest.fixture(scope="module")
def parts():
    task, module = problem()
    return task, module, federation(SIZES)


@pytest.mark.long
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("memory", [None, 400], ids=["whole", "in groups on disk"])
def test_a_stack_ends_where_single_messages_end(name, memory, parts):
    ours, theirs = STRATEGIES[name](), STRATEGIES[name]()
    grid = VectorGrid(*parts, memory=memory)
    stacked = run_strategy(ours, grid, parts[1], SETTINGS, rounds=3)
    single = run_strategy(theirs, AppGrid(*parts), parts[1], SETTINGS, rounds=3)
    np.testing.assert_allclose(vector(stacked.arrays), vector(single.arrays), rtol=0, atol=1e-5)
    weights = [strategy.diagnostics.columns["weight"] for strategy in (ours, theirs)]
    np.testing.assert_allclose(*weights, atol=1e-4)
    assert weights[0].sum() == pytest.approx(1.0)
    assert weights[0].max() > weights[0].min()


def test_a_reply_carries_squared_gradients_only_where_they_are_asked_for(parts):
    for decay, records in ((0.0, ["arrays"]), (0.9, ["arrays", "gradient-squares"])):
        settings = replace(SETTINGS, gradient_decay=decay)
        for grid in (VectorGrid(*parts), AppGrid(*parts)):
            [reply] = grid.send_and_receive(orders(arrays_of(parts[1]), settings, [2]))
            assert list(reply.content.array_records) == records


def test_squared_gradients_that_nobody_needs_are_not_computed(parts):
    """Plain strategies of the same class keep the way without autograd."""
    grid = VectorGrid(*parts)
    run_strategy(FedRMS(identify="query"), grid, parts[1], SETTINGS, rounds=1)
    assert grid.executor.decision is not None
    assert not grid.executor.decision.autograd


@pytest.mark.ray
def test_squared_gradients_come_through_a_ray_cluster(tmp_path: Path, ray_address: str):
    overrides = ["strategy=precision_weighted", "clients=4", "rounds=2", "client.epochs=1"]
    models = []
    for engine in (["engine=ray", f"engine.address={ray_address}"], ["engine=vector"]):
        folder = fedrms.run([*overrides, *engine], folder=tmp_path / engine[0]).folder
        arrays = load_file(folder / "model.safetensors")
        models.append(np.concatenate([arrays[name].ravel() for name in sorted(arrays)]))
    assert np.linalg.norm(models[0] - models[1]) < 1e-5 * np.linalg.norm(models[1])
