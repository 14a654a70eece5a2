"""Workers on a real Ray cluster that die, raise or have no room; and rounds that go well there."""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedrms.client import LocalSettings
from fedrms.combining.row_blocks import RowBlocks
from fedrms.engines.ray_cluster import connected
from fedrms.engines.ray_pool import WorkerPool
from fedrms.engines.ray_trainer import RayTrainer, join
from fedrms.errors import ConfigError, RunError
from fedrms.replies.cohort import Layout, StackedReplies

from ..client.by_hand import problem
from .by_hand import arrays_of
from .ray_trainers import (
    SIZES,
    Killed,
    Raising,
    Slow,
    dies_at_start,
    good,
    lives_once,
    unbuildable,
)

pytestmark = pytest.mark.ray

SETTINGS = LocalSettings(lr=0.1, epochs=2, batch_size=4)
EVERYONE = [0, 1, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def cluster(ray_address) -> Iterator[None]:
    with connected(ray_address, 30):
        yield


def pool(make, **options) -> WorkerPool:
    options = {"workers": 2, "worker_cpus": 0.5} | options
    return WorkerPool(make, **options)


def round_on(
    workers: WorkerPool, clients: list[int], chunks: int = 3, **options: int
) -> StackedReplies:
    """One round of hand-made clients on a pool."""
    record = arrays_of(problem()[1])
    trainer = RayTrainer(
        workers, np.array(SIZES).__getitem__, good().evaluate, chunks=chunks, **options
    )
    who = np.array(clients)
    return trainer.train(record, Layout.of(record), SETTINGS, 1, who, np.ones(len(who)))


def round_here(clients: list[int], **options: int) -> StackedReplies:
    """The same round in this process."""
    record = arrays_of(problem()[1])
    who = np.array(clients)
    return good(**options).train(record, Layout.of(record), SETTINGS, 1, who, np.ones(len(who)))


def assert_same(ours: StackedReplies, theirs: StackedReplies) -> None:
    assert list(ours.clients) == list(theirs.clients)
    torch.testing.assert_close(ours.parameters, theirs.parameters, rtol=0, atol=1e-6)
    assert set(ours.metrics) == set(theirs.metrics)
    for name, column in theirs.metrics.items():
        np.testing.assert_allclose(ours.metrics[name], column, rtol=1e-4, atol=1e-6)
    assert ours.failures == theirs.failures


def kill_one_of_two(folder: Path) -> None:
    """Wait until two workers train, and kill one of them."""
    for _ in range(1000):
        training = list(folder.iterdir())
        if len(training) == 2:
            os.kill(int(training[0].name), signal.SIGKILL)
            (folder / "go").touch()
            return
        time.sleep(0.02)


def test_a_worker_killed_in_the_middle_of_a_round_is_replaced_and_no_client_is_missing(
    cluster, tmp_path, caplog
):
    killer = threading.Thread(target=kill_one_of_two, args=(tmp_path,))
    killer.start()
    with pool(functools.partial(Slow, str(tmp_path))) as workers:
        with caplog.at_level(logging.WARNING, "fedrms"):
            assert_same(round_on(workers, EVERYONE), round_here(EVERYONE))
        assert_same(round_on(workers, [5, 2]), round_here([5, 2]))
    killer.join()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "fedrms"]
    killed = line.split("(process ")[1].split()[0]
    assert (tmp_path / killed).exists()
    assert f"on {socket.gethostname()}) died, its process was killed" in line
    assert "are trained again, retry 1 of 2" in line


def test_clients_whose_workers_die_each_time_stop_the_run_by_name(cluster, tmp_path):
    with (
        pool(functools.partial(Killed, str(tmp_path), 100), retries=1) as workers,
        pytest.raises(RunError, match=r"clients 2, 4 died 2 times.*engine\.retries") as caught,
    ):
        round_on(workers, EVERYONE, chunks=6)
    assert "killed (out of memory, or from outside)" in str(caught.value)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_error_in_training_is_raised_with_its_message_and_not_tried_again(cluster, tmp_path):
    with pool(functools.partial(Raising, str(tmp_path)), workers=1) as workers:
        with pytest.raises(RunError, match=r"training clients 2, 4 failed .*a bug in the model"):
            round_on(workers, EVERYONE, chunks=6)
        assert len(list(tmp_path.iterdir())) == 1
        assert_same(round_on(workers, [0, 3]), round_here([0, 3]))


def test_a_client_that_diverges_is_a_failure_of_its_own(cluster):
    with pool(functools.partial(good, 1), workers=1) as workers:
        replies = round_on(workers, [0, 1, 2])
        alone = round_on(workers, [4], chunks=1)
        a_few_at_a_time = round_on(workers, [3, 0, 1, 4, 2], memory=1000)
    assert list(replies.clients) == [0, 2]
    assert "client 1, round 1: training diverged" in replies.failures[1]
    assert_same(replies, round_here([0, 1, 2], bad_client=1))
    theirs = round_here([3, 0, 1, 4, 2], bad_client=1)
    assert isinstance(a_few_at_a_time.parameters, RowBlocks)
    models = a_few_at_a_time.parameters[:, slice(None)]
    assert_same(replace(a_few_at_a_time, parameters=models), theirs)
    alone.parameters.add_(1.0)  # what came out of Ray's read-only memory may be written to
    torch.testing.assert_close(alone.parameters, round_here([4]).parameters + 1.0)


def test_more_workers_than_the_cluster_has_room_for_are_refused_in_time(cluster):
    with pytest.raises(ConfigError, match=r"[0-2] of 3 workers.* 2 CPUs and 1 GPUs on 2") as caught:
        pool(good, workers=3, worker_cpus=1, wait_seconds=3).__enter__()
    assert caught.value.key == "engine.workers"


def test_what_a_worker_cannot_build_is_named_by_its_key_and_place(cluster):
    with pytest.raises(ConfigError, match="there is no folder 'here'") as caught:
        pool(unbuildable, workers=1).__enter__()
    assert caught.value.key == "data.path"
    assert socket.gethostname() in caught.value.problem


def test_a_worker_that_dies_at_its_start_is_told_before_training(cluster):
    with pytest.raises(ConfigError, match=r"died while it started.*its process was killed"):
        pool(dies_at_start, workers=1).__enter__()


def test_a_run_that_no_worker_is_left_for_stops(cluster, tmp_path):
    make = functools.partial(lives_once, str(tmp_path))
    with (
        pool(make, workers=1, retries=1) as workers,
        pytest.raises(RunError, match=r"no Ray worker is left.*2 CPUs and 1 GPUs on 2 node"),
    ):
        round_on(workers, [2])


def test_a_round_without_a_reply_for_someone_is_refused():
    with pytest.raises(ValueError, match="3 clients were asked, 2 answered, 0 failed"):
        join([round_here([0, 1])], [0, 1, 2])
