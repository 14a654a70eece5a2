"""The same round on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedrms.client import LocalSettings
from fedrms.engines import VectorGrid

from ..client.by_hand import federation, problem
from .by_hand import train_stacked


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
