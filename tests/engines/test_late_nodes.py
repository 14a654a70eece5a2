"""Clients that register late on Flower's simulation: no round begins without them."""

from __future__ import annotations

import os
import subprocess
import sys

import pandas as pd
import pytest

from fedrms.engines.flower_ray import wait_for_all
from fedrms.errors import RunError

CODE = """
import sys
import fedrms

fedrms.run(sys.argv[2:], folder=sys.argv[1])
"""


class SlowRegistry:
    """The one thing that is read of a grid: one node more at each look."""

    def __init__(self) -> None:
        self.there = 0

    def get_node_ids(self) -> list[int]:
        self.there += 1
        return list(range(self.there))


def test_the_wait_ends_with_the_last_client() -> None:
    grid = SlowRegistry()
    wait_for_all(grid, 6)  # type: ignore[arg-type]
    assert grid.there == 6


def test_the_wait_says_how_many_came() -> None:
    with pytest.raises(RunError, match="only 1 of 60 simulated clients registered within 0 s"):
        wait_for_all(SlowRegistry(), 60, timeout=0.0)  # type: ignore[arg-type]


@pytest.mark.ray
@pytest.mark.parametrize("strategy", ["fedavg_flower", "fedrms"])
def test_all_clients_train_in_the_first_round_however_few_would_do(strategy, tmp_path) -> None:
    pytest.importorskip("ray")
    words = [
        *(f"strategy={strategy}", "strategy.min_train_nodes=1", "strategy.min_available_nodes=1"),
        *("clients=6", "rounds=1", "client.epochs=1", "engine=flower", "engine.num_cpus=2"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "run"), *words],
        cwd=tmp_path,
        env=os.environ | {"FLWR_HOME": str(tmp_path / "flwr")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    clients = pd.read_parquet(tmp_path / "run" / "clients.parquet")
    assert clients.participated.sum() == 6
