"""The same run on Flower's Ray simulation: one start of Ray for all tests here."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import fedrms

pytestmark = pytest.mark.ray

OVERRIDES = [
    *("seed=3", "clients=4", "rounds=2", "client.epochs=1", "noise.fraction=0.5"),
    *("heterogeneity=dropout", "counterfactual=clean", "metric=[balanced_accuracy,auc]"),
    *("adversary=liars", "adversary.clients=[1]"),
    *("adversary.loss=copy_clean", "adversary.update=random"),
]
"""With this seed, client 3 drops out of round 1, and nobody else ever; client 1 lies."""

CODE = """
import sys
import fedrms

fedrms.run(sys.argv[2:], folder=sys.argv[1])
"""


@dataclass
class Finished:
    """A run on Ray: its folder, and what it wrote to the terminal."""

    folder: Path
    terminal: str


@pytest.fixture(scope="module")
def on_ray(tmp_path_factory) -> Finished:
    pytest.importorskip("ray")
    folder = tmp_path_factory.mktemp("ray")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder), *OVERRIDES, "engine=flower", "engine.num_cpus=2"],
        cwd=folder,
        env=os.environ | {"FLWR_HOME": str(folder / "flwr")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Finished(folder, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def on_vector(tmp_path_factory) -> Path:
    return fedrms.run(OVERRIDES, folder=tmp_path_factory.mktemp("vector")).folder


def weights(folder: Path) -> np.ndarray:
    arrays = load_file(folder / "model.safetensors")
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)]).astype(np.float64)


def test_the_model_is_the_one_of_the_vector_engine(on_ray, on_vector):
    ours, theirs = weights(on_vector), weights(on_ray.folder)
    assert np.linalg.norm(ours - theirs) < 1e-5 * np.linalg.norm(ours)


@pytest.mark.parametrize("table", ["clients", "rounds"])
def test_the_tables_are_those_of_the_vector_engine_apart_from_timing(table, on_ray, on_vector):
    ours, theirs = (
        pd.read_parquet(folder / f"{table}.parquet").drop(columns="seconds", errors="ignore")
        for folder in (on_vector, on_ray.folder)
    )
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_client_that_drops_out_is_recorded_as_failed_with_its_reason(on_ray):
    clients = pd.read_parquet(on_ray.folder / "clients.parquet")
    failed = clients[clients.failed]
    assert failed[["round", "client"]].to_numpy().tolist() == [[1, 3]]
    assert failed.failure.tolist() == ["client 3 dropped out of round 1"]
    assert failed.participated.all()
    assert failed.weight.isna().all()


def test_a_client_that_drops_out_sprays_no_traceback_over_the_terminal(on_ray):
    assert "Traceback" not in on_ray.terminal
    assert "ERROR" not in on_ray.terminal
    assert "client 3 dropped out of round 1" in on_ray.terminal
