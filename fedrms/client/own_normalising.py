"""A client's own running statistics, which never leave it.

Where clients' inputs differ in scale or look, an average of their statistics is nobody's. SiloBN
(Andreux et al. 2020, arXiv:2008.07424) keeps them at the clients and shares the weights; FedBN (Li
et al. 2021, arXiv:2102.07623) keeps the layers' weights too. Training never reads running
statistics; judging a model does. So a client that judges one takes those of its own training rows
under that model, as ``torch.optim.swa_utils.update_bn`` computes them: nothing has to be kept
between rounds, resumed or moved between processes, and every engine gives the same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from fedrms.client.batch_statistics import BatchStatistics, moving_statistics

Tree = dict[str, Tensor]

AT_ONCE = 4096
"""Rows whose statistics are taken together; of more, the means over parts of equal size."""


@torch.no_grad()
def with_own_statistics(module: nn.Module, params: Tree, x: Tensor) -> Tree:
    """Return the model with the running statistics of a client's own rows ``x`` ``[rows, *shape]``.

    The module is in training mode, but for layers that shall not move. A channel that sees a single
    value keeps the statistics that it had.
    """
    names = moving_statistics(module)
    if not names or not len(x):
        return params
    given = {name: params[name] for name in names}
    moving = [part for part in module.modules() if isinstance(part, _NormBase) and part.training]
    modes = [(part, part.training) for part in module.modules()]
    total = {name: torch.zeros_like(value) for name, value in given.items()}
    parts = np.array_split(np.arange(len(x)), -(-len(x) // AT_ONCE))
    module.eval()
    try:
        for layer in moving:
            layer.training = True
        for rows in parts:
            inputs: Any = x[rows[0] : rows[-1] + 1]
            present = torch.ones(len(inputs), device=x.device)
            with BatchStatistics(module, present, given, momentum=1.0) as seen:
                functional_call(module, params, (inputs,))
            for name in names:
                total[name] += seen.latest[name] / len(parts)
    finally:
        for every, training in modes:
            every.training = training
    return params | total
