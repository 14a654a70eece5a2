"""Bad replies on Flower's Ray simulation: left out by name, and the round goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from .bad_replies import FAULTS
from .flower_ray_spoilt import SPOILT

pytestmark = pytest.mark.ray

OVERRIDES = ("seed=3", "clients=5", "rounds=2", "client.epochs=1", "model=softmax")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, repository) -> Path:
    pytest.importorskip("ray")
    folder = tmp_path_factory.mktemp("ray")
    done = subprocess.run(
        [sys.executable, "-m", "tests.engines.flower_ray_spoilt", str(folder), *OVERRIDES],
        cwd=folder,
        env=os.environ | {"FLWR_HOME": str(folder / "flwr"), "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_bad_replies_are_recorded_as_failed_by_name_with_the_reason(folder):
    table = pd.read_parquet(folder / "clients.parquet").set_index(["round", "client"])
    assert len(table) == 2 * 5
    assert table["participated"].all()
    assert table.index[table["failed"]].tolist() == [(t, c) for t in (1, 2) for c in SPOILT]
    for (_, client), why in table.loc[table["failed"], "failure"].items():
        assert FAULTS[SPOILT[client]][1] in why
    assert table.loc[table["failed"], "weight"].isna().all()


def test_the_round_goes_on_with_the_others(folder):
    table = pd.read_parquet(folder / "clients.parquet")
    good = table[~table["failed"]]
    assert good.groupby("round")["client"].agg(list).to_dict() == {1: [0, 4], 2: [0, 4]}
    assert (good["weight"] > 0).all()
    rounds = pd.read_parquet(folder / "rounds.parquet")
    assert rounds["round"].tolist() == [1, 2]
    model = load_file(folder / "model.safetensors")
    assert all(np.isfinite(values).all() for values in model.values())
