"""What a round of large models takes beside the stack of its updates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fedrms.combining.own_memory import LARGE, empty_model

BENCH = Path(__file__).parents[2] / "scripts" / "bench" / "large.py"
STACK = 10 * 4 * 10_168_010 / (1 << 20)


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")
@pytest.mark.parametrize("law", ["excess", "uniform"])
def test_ten_large_clients_peak_below_one_and_a_half_of_their_stack(law: str) -> None:
    command = [sys.executable, str(BENCH), "--size", "1e7", "--steps", "2"]
    told = subprocess.run(
        [*command, "--engine", f"fedrms {law}"],
        input="\n" * 4,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    peaks = [float(line.split()[1]) for line in told.stdout.splitlines()]
    assert len(peaks) == 4
    assert STACK < max(peaks) < 1.5 * STACK


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.half])
def test_a_large_model_has_memory_of_its_own(dtype: torch.dtype) -> None:
    like = torch.empty(LARGE // 2 + 3, dtype=dtype)
    made = empty_model(like)
    assert (made.shape, made.dtype, made.device) == (like.shape, like.dtype, like.device)
    made.fill_(2.0)
    kept = made[5:].numpy()
    del made
    assert np.all(kept == 2.0)
    assert empty_model(like[:7]).shape == (7,)
