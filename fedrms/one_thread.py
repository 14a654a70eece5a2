"""Keep PyTorch from splitting operations over threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

WORTH_THREADS = 1 << 20
"""Parameters of a layer from which one batch is worth several threads."""
SMALL = (nn.Linear, nn.Embedding, nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._BatchNorm)
"""Layers that use each of their parameters once for an example."""


@contextmanager
def one_thread_an_operation() -> Iterator[None]:
    """Give every operation one thread for as long as this lasts.

    Clients are spread over worker threads instead: operations as small as a cohort's wait for
    each other longer than they work, and on a busy machine far longer. And OpenMP's threads
    keep a core busy for a while after their work, which the next round then lacks.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(module: nn.Module) -> int:
    """Return how many threads one client's training should take where it is alone in a process.

    One, unless a layer convolves, attends or is large: threads that wait for each other on a busy
    machine took a small perceptron fifty times its processor time.
    """
    for layer in module.modules():
        own = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
        if own >= WORTH_THREADS or (own and not isinstance(layer, SMALL)):
            return torch.get_num_threads()
    return 1
