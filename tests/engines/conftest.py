from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fedrms.deployment.ports import free_port
from fedrms.engines import native_training, traced_step

from .ray_nodes import Node


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
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train as on a machine without a C compiler."""
    monkeypatch.setattr(native_training, "library", lambda name: None)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace every step when it is first used."""
    monkeypatch.setattr(traced_step, "TRACE_AFTER", 1)


@pytest.fixture(scope="session")
def ray_address(repository: Path) -> Iterator[str]:
    """A Ray cluster that was there before: two nodes with one processor each.

    Ray is told of a GPU on the first; whether there is one shows only in a worker.
    """
    pytest.importorskip("ray")
    port = free_port()
    # Short, for Ray makes sockets under it.
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        nodes = [
            Node(
                folder,
                repository,
                "--head",
                f"--port={port}",
                f"--ray-client-server-port={free_port()}",
                f"--temp-dir={folder}",
                "--include-dashboard=false",
                "--num-gpus=1",
            )
        ]
        try:
            nodes[0].wait()
            nodes.append(Node(folder, repository, f"--address=127.0.0.1:{port}", "--num-gpus=0"))
            nodes[1].wait()
            yield f"127.0.0.1:{port}"
        finally:
            for node in reversed(nodes):
                node.stop()
