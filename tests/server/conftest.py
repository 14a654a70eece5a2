"""Flower builds messages only inside a process that knows its task."""

import pytest

from fedrms.engines.flower_border import become_server


@pytest.fixture(scope="module", autouse=True)
def server_process() -> None:
    become_server(run_id=1)
