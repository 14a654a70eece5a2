"""Keep PyTorch from splitting operations over threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
