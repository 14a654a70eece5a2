from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fedrms.experiment.checkpoint import rounds_in

KILLER = Path(__file__).with_name("killer.py")


def assert_identical(one: Path, other: Path) -> None:
    """Compare weights and tables to the bit, but for the time that rounds took."""
    for name in ("model.safetensors", "clients.parquet", "partition.parquet"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    tables = [pd.read_parquet(folder / "rounds.parquet") for folder in (one, other)]
    pd.testing.assert_frame_equal(
        *(table.drop(columns="seconds") for table in tables), check_exact=True
    )


class Command:
    """A ``fedrms`` process that is under way, in a folder of its own."""

    def __init__(self, folder: Path, repository: Path, *words: str) -> None:
        self.folder = folder
        environment = {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fedrms.cli", *words],
            cwd=folder,
            env=os.environ | environment | {"FLWR_HOME": str(folder / "flwr")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests may ignore it
        )

    def wait_for(self, server_round: int) -> None:
        """Wait for the checkpoint of a round, or a later one, of the run in ``run``."""
        for _ in range(60_000):
            there = rounds_in(self.folder / "run" / "checkpoint")
            if there and there[-1] >= server_round:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(self.end())

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return its exit code and what it wrote to stdout and stderr."""
        try:
            out, err = self.process.communicate(timeout=600)
        finally:
            self.process.kill()
        return self.process.returncode, out, err


@pytest.fixture
def command(tmp_path: Path, repository: Path) -> Callable[..., Command]:
    return functools.partial(Command, tmp_path, repository)


@pytest.fixture
def killed(tmp_path: Path, repository: Path) -> Callable[..., dict[str, Any]]:
    """Run overrides in children that are killed at some moments, and say what happened."""

    def run(folder: Path, moments: list[tuple[str, float]], *overrides: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, str(KILLER), str(folder), json.dumps(moments), *overrides],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    return run
