"""The examples of text, tables and adapters, and an app that ``fedrms-new-app`` wrote.

Under ``flwr run`` each gives the score that its own server and client give in one process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedrms.cli import new_app

from .real_flower import SIMULATION, THREE_CLIENTS, RealFlower

GAIN = {"pytorch": 0.0, "sklearn": 1.0, "text": 5.0, "tabular": 1.0, "adapters": 5.0}
"""Percent by which FedRMS is better at least, with ten clients of which four have wrong labels."""


@pytest.fixture(scope="module")
def in_one_process(repository: Path):
    sys.path.insert(0, str(repository / "scripts" / "bench"))
    try:
        import app_gain
    finally:
        sys.path.pop(0)
    return app_gain.score


def options(example: str, strategy: str) -> dict[str, object]:
    """FedAvg cannot average a head alone with whole adapters."""
    return {"head-only": strategy == "fedrms"} if example == "adapters" else {}


@pytest.mark.long
@pytest.mark.parametrize("example", GAIN)
def test_fedrms_scores_better_than_fedavg(example, in_one_process):
    theirs, ours = (
        in_one_process(example, strategy=strategy, **options(example, strategy))
        for strategy in ("fedavg", "fedrms")
    )
    assert ours > theirs + GAIN[example]


@pytest.mark.ray
@pytest.mark.parametrize("example", ["text", "tabular", "adapters"])
def test_under_flwr_run_a_written_app_gives_the_score_of_its_example(
    example, flower: RealFlower, in_one_process, tmp_path
):
    pytest.importorskip("ray")
    new_app.main([str(tmp_path / f"my-{example}"), "--like", example])
    words = ("-c", "clients=3 num-server-rounds=2", "--federation-config", THREE_CLIENTS)
    printed = flower.run(tmp_path / f"my-{example}", SIMULATION, *words)
    score = in_one_process(example, **{"clients": 3, "num-server-rounds": 2})
    assert f"with fedrms: {score:.2f} %" in printed
