from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fedrms.engines import traced_step


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Small operations on several threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run steps as they are: tracing a step takes longer than most tests."""
    monkeypatch.setattr(traced_step, "TRACE_AFTER", 10**9)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace every step when it is first used."""
    monkeypatch.setattr(traced_step, "TRACE_AFTER", 1)
