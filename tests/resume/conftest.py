from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

KILLER = Path(__file__).with_name("killer.py")


def assert_identical(one: Path, other: Path) -> None:
    """Compare weights and tables to the bit, but for the time that rounds took."""
    for name in ("model.safetensors", "clients.parquet", "partition.parquet"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    tables = [pd.read_parquet(folder / "rounds.parquet") for folder in (one, other)]
    pd.testing.assert_frame_equal(
        *(table.drop(columns="seconds") for table in tables), check_exact=True
    )


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
