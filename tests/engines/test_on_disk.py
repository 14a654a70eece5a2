"""Cohorts whose models do not fit in memory: trained in groups, kept on disk, combined."""

import gc
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.serverapp.strategy import FedAvg, FedMedian

from fedrms import FedRMS
from fedrms.client import LocalSettings
from fedrms.combining.row_blocks import RowBlocks
from fedrms.engines import VectorGrid, on_disk
from fedrms.errors import RunError

from ..client.by_hand import federation, problem, with_bad_client
from .by_hand import arrays_of, orders, run_strategy, train_stacked, vector

SIZES = [9, 20, 5, 16, 7, 11]
SETTINGS = LocalSettings(lr=0.1, batch_size=4)
TINY = 1 << 10
"""Bytes: two of the models at a time."""


def grid(memory=None, clients=None):
    task, module = problem()
    return VectorGrid(task, module, clients or federation(SIZES), memory=memory), module


def mapped_files() -> int:
    return Path("/proc/self/maps").read_text().count(".stack")


def test_a_cohort_that_does_not_fit_comes_in_blocks_with_the_same_rows():
    whole, module = grid()
    cut, _ = grid(TINY)
    expected = train_stacked(whole, module, SETTINGS, range(6))
    ours = train_stacked(cut, module, SETTINGS, range(6))
    assert isinstance(expected.parameters, torch.Tensor)
    assert isinstance(ours.parameters, RowBlocks)
    assert len(list(ours.parameters)) >= 3
    rows = ours.parameters[:, slice(0, expected.parameters.shape[1])]
    torch.testing.assert_close(rows, expected.parameters, rtol=1e-5, atol=1e-6)
    for name, column in expected.metrics.items():
        np.testing.assert_allclose(ours.metrics[name], column, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "make",
    [
        FedRMS,
        lambda: FedRMS(combine="median"),
        lambda: FedRMS(combine="geometric_median", clip_median=2.0),
        lambda: FedAvg(fraction_evaluate=0.0),
        lambda: FedMedian(fraction_evaluate=0.0),
    ],
    ids=["fedrms", "median", "geometric", "flower", "flower median"],
)
def test_every_strategy_gives_the_model_that_it_gives_in_memory(make):
    whole, module = grid()
    cut, _ = grid(TINY)
    expected = run_strategy(make(), whole, module, SETTINGS, rounds=2)
    ours = run_strategy(make(), cut, module, SETTINGS, rounds=2)
    np.testing.assert_allclose(vector(ours.arrays), vector(expected.arrays), rtol=1e-5, atol=1e-6)


def test_a_diverged_client_is_left_out_of_its_block():
    cut, module = grid(TINY, with_bad_client(federation(SIZES), 3))
    replies = cut.send_and_receive(orders(arrays_of(module), SETTINGS, range(6)))
    assert list(replies.stacked.clients) == [0, 1, 2, 4, 5]
    assert len(replies.stacked.parameters) == 5
    assert "client 3, round 1: training diverged" in replies[3].error.reason


def test_it_is_said_once_and_names_the_key(caplog):
    caplog.set_level(logging.INFO, "fedrms")
    cut, module = grid(TINY)
    for server_round in (1, 2):
        train_stacked(cut, module, SETTINGS, range(6), server_round=server_round)
    said = [line for line in caplog.messages if "engine.memory" in line]
    assert len(said) == 1


def test_the_file_is_gone_with_the_tensor():
    gc.collect()  # what tests before it have left
    before = mapped_files()
    stack = torch.arange(12.0).view(3, 4)
    kept = on_disk.on_disk(stack)
    assert torch.equal(kept, stack)
    assert mapped_files() == before + 1
    del kept
    gc.collect()
    assert mapped_files() == before


def test_a_disk_that_is_full_is_named(monkeypatch):
    """Every write to /dev/full fails as on a full disk."""
    opened = lambda **options: (os.open("/dev/full", os.O_WRONLY), "/tmp/fedrms-never")  # noqa: E731
    monkeypatch.setattr(on_disk.tempfile, "mkstemp", opened)
    monkeypatch.setattr(on_disk.Path, "unlink", lambda path: None)
    with pytest.raises(RunError, match=r"3 models .*engine\.memory, or set TMPDIR"):
        on_disk.on_disk(torch.zeros(3, 100_000))


def test_a_budget_that_no_grouping_keeps_is_a_warning(caplog):
    caplog.set_level(logging.INFO, "fedrms")
    cut, module = grid(TINY // 2)
    train_stacked(cut, module, SETTINGS, range(1))
    (said,) = (record for record in caplog.records if "engine.memory" in record.getMessage())
    assert said.levelno == logging.WARNING
    assert "for a single client already, more than engine.memory" in said.getMessage()
