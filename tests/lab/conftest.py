"""Experiments of the lab on their quick size, each run once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import pytest
import torch

from fedrms.lab.catalog import load
from fedrms.lab.report import Finding, find


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Small operations on several threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def quick() -> Callable[[str], Finding]:
    """Return what an experiment finds on its quick size."""

    @functools.cache
    def found(name: str) -> Finding:
        if name == "policy":
            pytest.importorskip("gymnasium", reason="needs the extra lab")
        return find(name, load(name), quick=True)

    return found
