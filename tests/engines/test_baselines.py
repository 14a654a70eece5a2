"""Loss-driven baselines on every engine: from stacks, from single messages, and on Ray."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import fedrms
from fedrms.client import LocalSettings
from fedrms.engines import VectorGrid
from fedrms.server.weighed_by import weighed_by
from fedrms.weighting import AFL, DGA, QFFL, TERM, TieredTERM

from ..client.by_hand import federation, problem
from .by_hand import AppGrid, arrays_of, run_strategy, train_one_by_one, vector

SIZES = [9, 12, 5, 8, 17]
SETTINGS = LocalSettings(lr=0.1, epochs=1, batch_size=8)
BASELINES = {
    "qffl": partial(weighed_by, QFFL, q=1.0, client_learning_rate=0.1),
    "afl": partial(weighed_by, AFL),
    "term": partial(weighed_by, TERM),
    "term_tiered": partial(weighed_by, TieredTERM),
    "dga_loss": partial(weighed_by, DGA),
    "dga_variance": partial(weighed_by, DGA, measure="variance", beta=1e3),
}


@pytest.fixture(scope="module")
def parts():
    task, module = problem()
    return task, module, federation(SIZES)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", BASELINES)
def test_stacked_replies_give_the_model_and_the_weights_that_messages_give(name, parts):
    stacked, single = BASELINES[name](), BASELINES[name]()
    ends = [
        vector(run_strategy(strategy, grid(*parts), parts[1], SETTINGS, rounds=3).arrays)
        for strategy, grid in ((stacked, VectorGrid), (single, AppGrid))
    ]
    np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=1e-5)
    for column in ("scale", "weight"):
        ours, theirs = (s.diagnostics.columns[column] for s in (stacked, single))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
        assert np.ptp(ours) > 1e-3


@pytest.mark.usefixtures("untraced")
def test_q_fedavg_takes_the_loss_of_the_received_model_and_not_of_training(parts):
    task, module, clients = parts
    settings = LocalSettings(lr=0.1, epochs=3, batch_size=8, statistic="incoming")
    strategy = BASELINES["qffl"]()
    run_strategy(strategy, VectorGrid(*parts), module, settings, rounds=1)

    rows, metrics = train_one_by_one(task, module, clients, settings, range(len(SIZES)))
    losses = metrics["loss-mean"]
    assert np.abs(losses / metrics["train-loss"] - 1).min() > 0.005
    squared = np.square((rows - vector(arrays_of(module))) / 0.1).sum(1)
    expected = losses / 0.1 / (squared + losses / 0.1).sum()
    np.testing.assert_allclose(strategy.diagnostics.columns["weight"], expected, rtol=1e-4)


def end_of(folder: Path) -> np.ndarray:
    arrays = load_file(folder / "model.safetensors")
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)]).astype(np.float64)


@pytest.mark.ray
@pytest.mark.parametrize("name", ["qffl", "afl"])
def test_a_ray_cluster_gives_the_model_and_the_weights_of_the_vector_engine(
    name, ray_address, tmp_path
):
    overrides = [f"strategy={name}", "seed=3", "clients=4", "rounds=2", "client.epochs=1"]
    on_ray = ["engine=ray", f"engine.address={ray_address}"]
    ours = fedrms.run(overrides, folder=tmp_path / "vector").folder
    theirs = fedrms.run([*overrides, *on_ray], folder=tmp_path / "ray").folder
    difference = np.linalg.norm(end_of(ours) - end_of(theirs))
    assert difference < 1e-5 * np.linalg.norm(end_of(ours))
    columns = ["round", "client", "scale", "weight"]
    one, other = (pd.read_parquet(f / "clients.parquet")[columns] for f in (ours, theirs))
    pd.testing.assert_frame_equal(one, other, rtol=1e-4)
