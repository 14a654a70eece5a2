"""Runs that are killed, by SIGKILL and in processes of their own, and taken up again."""

import os
import random

import pytest

import fedrms

from .conftest import assert_identical

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")

SCHEDULE = "{_target_: torch.optim.lr_scheduler.MultiStepLR, milestones: [2, 5, 6], gamma: 0.5}"
HARD = (
    *("clients=6", "client.epochs=1", "rounds=8", "checkpoint.every=1", "client.fraction=0.5"),
    *("heterogeneity=mixed", "noise.drift=[{round: 3, levels: shuffle}]", "evaluate_every=3"),
    *("server_optimizer=adam", f"server_optimizer.scheduler={SCHEDULE}"),
)
"""Everything that a round hands to the next: drop-outs, drift, moments, a learning rate."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the run that nobody stops."""
    return fedrms.run(list(HARD), folder=tmp_path_factory.mktemp("whole") / "run").folder


@pytest.mark.long
def test_a_run_killed_while_it_writes_ends_as_one_that_was_never_stopped(whole, tmp_path, killed):
    """Within the write of a checkpoint, of either table, and just after a checkpoint."""
    starts = [".round-", "round-", ".clients", ".round-", "round-", ".rounds", "round-", ".round-"]
    moments = [(start, 0.0) for start in starts]
    told = killed(tmp_path / "run", moments, *HARD)
    assert told["kills"] == len(starts)
    assert len(set(told["rounds"])) >= 3
    assert_identical(whole, tmp_path / "run")


@pytest.mark.long
def test_a_run_killed_at_random_moments_ends_as_one_that_was_never_stopped(whole, tmp_path, killed):
    draw = random.Random(5)
    moments = [("", draw.uniform(0.0, 0.02)) for _ in range(3)]
    moments += [(".clients", draw.uniform(0.0, 0.01)) for _ in range(12)]
    told = killed(tmp_path / "run", moments, *HARD)
    assert told["kills"] >= 3
    assert_identical(whole, tmp_path / "run")


@pytest.mark.long
def test_flowers_fedadam_killed_ends_as_one_that_was_never_stopped(tmp_path, killed):
    """It samples with Python's global generator, and keeps moments in attributes."""
    options = ["strategy=fedadam", *HARD[:5], "heterogeneity=dropout"]
    whole = fedrms.run(options, folder=tmp_path / "whole").folder
    told = killed(tmp_path / "run", [("round-000002", 0.0), ("round-000005", 0.0)], *options)
    assert told["kills"] == 2
    assert told["rounds"] == sorted(told["rounds"])
    assert_identical(whole, tmp_path / "run")
