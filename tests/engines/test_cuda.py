"""The same round on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedrms import FedRMS
from fedrms.client import LocalSettings
from fedrms.engines import VectorGrid

from ..client.by_hand import federation, problem
from .by_hand import run_strategy, train_stacked, vector


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("statistic", ["prequential", "incoming", "holdout"])
def test_a_gpu_gives_what_the_processor_gives(statistic):
    settings = LocalSettings(
        lr=0.1, epochs=2, batch_size=4, momentum=0.5, straggler_fraction=0.5, statistic=statistic
    )
    sizes = [13, 40, 4, 1, 26]
    on = {}
    for device in ("cpu", "cuda"):
        task, module = problem()
        grid = VectorGrid(task, module, federation(sizes), device=device)
        on[device] = train_stacked(grid, module, settings, range(5))
    assert on["cuda"].parameters.is_cuda
    torch.testing.assert_close(on["cuda"].parameters.cpu(), on["cpu"].parameters, rtol=0, atol=1e-4)
    for key, column in on["cpu"].metrics.items():
        np.testing.assert_allclose(on["cuda"].metrics[key], column, rtol=1e-3, atol=1e-4)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("options", [{}, {"precision": "bf16"}, {"compiled": True}], ids=str)
def test_a_run_on_a_gpu_ends_where_one_on_the_processor_ends(options):
    ends = []
    for device in ("cpu", "cuda"):
        task, module = problem()
        chosen = options if device == "cuda" else {}
        grid = VectorGrid(task, module, federation([13, 40, 26]), device=device, **chosen)
        settings = LocalSettings(lr=0.1, batch_size=8)
        ends.append(vector(run_strategy(FedRMS(), grid, module, settings, rounds=3).arrays))
    tolerance = 3e-2 if options.get("precision") else 1e-4
    np.testing.assert_allclose(ends[1], ends[0], rtol=0, atol=tolerance)
