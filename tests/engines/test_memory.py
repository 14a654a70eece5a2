"""Sizes that people write, and memory that runs out."""

import subprocess
import sys
import textwrap

import pytest
import torch

from fedrms.engines.memory import (
    Budget,
    available_memory,
    out_of_memory,
    parse_memory,
    room_for_models,
)
from fedrms.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("4GiB", 4 * 1024**3),
        ("500MB", 500_000_000),
        ("1.5 KiB", 1536),
        (1000, 1000),
        ("auto", None),
        (None, None),
    ],
)
def test_a_size_is_read_as_it_is_written(written, size):
    assert parse_memory(written) == size


@pytest.mark.parametrize("written", ["much", "4 gigs", "-1GB", "0", 0, True, "GiB"])
def test_anything_else_is_refused_by_name(written):
    with pytest.raises(ConfigError, match=r"engine\.memory"):
        parse_memory(written)


def test_models_have_half_of_the_budget_and_the_budget_half_of_what_is_free():
    assert room_for_models("auto", free=400) == 100
    assert room_for_models("400B", free=1) == 200
    budget = Budget(torch.device("cpu"), 400)
    assert budget.clients(bytes_a_model=50) == room_for_models("400B", free=1) // 50


def test_main_memory_is_measured():
    assert 2**20 < available_memory(torch.device("cpu")) < 2**50


def test_an_allocation_that_fails_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60, dtype=torch.float32)
    assert out_of_memory(refused.value)
    with pytest.raises(RuntimeError) as misfit:
        torch.ones(2) @ torch.ones(3)
    assert not out_of_memory(misfit.value)


TRAIN = """
    import logging, resource, sys
    import numpy as np, torch
    from fedrms.client import LocalSettings, LocalUpdate, as_function
    from fedrms.client.schedule import schedule
    from fedrms.engines.executor import Executor
    from fedrms.engines.work import Work
    from fedrms.tasks import Classification
    from fedrms.tasks.models import MLP

    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    torch.set_num_threads(1)
    module = MLP((50,), 3, hidden=100_000)  # 5.4 million parameters, 22 MB a client
    settings = LocalSettings(batch_size=4)
    clients, sizes = np.arange(16), np.full(16, 4)
    x, y = torch.randn(64, 50), torch.zeros(64, dtype=torch.int64)
    work = Work(
        LocalUpdate(Classification(lambda: module), as_function(module), settings),
        {name: p.detach() for name, p in module.named_parameters()},
        {"x": x, "y": y},
        clients * 4,
        schedule(settings, 1, clients, sizes),
        np.full(16, 0.1),
    )
    few = Executor("stacked", chunk_clients=2).train(work)[0][15].clone()
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE * 2**20,) * 2)
    stack, _ = Executor("stacked", chunk_clients=16).train(work)
    print("same", torch.allclose(stack[15], few, atol=1e-6))
"""
"""The result takes 350 MB, and a stack of 16 as much again; its hidden layer takes 50 MB."""


def train_within(spare: int) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(TRAIN).replace("SPARE", str(spare))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


@pytest.mark.long
def test_where_memory_runs_out_stacks_are_halved_once():
    done = train_within(640)
    assert "out of memory with 16 clients in a stack; going on with 8" in done.stdout, done.stderr
    assert "same True" in done.stdout


@pytest.mark.long
def test_where_it_runs_out_again_the_message_names_the_number_to_set():
    done = train_within(450)
    assert done.returncode
    assert "engine.chunk_clients=4 or less" in done.stderr


def test_where_not_even_the_result_fits_the_message_names_the_budget():
    done = train_within(200)
    assert done.returncode
    assert "engine.memory" in done.stderr
    assert "16 clients" in done.stderr


@pytest.mark.parametrize(("size", "least"), [(899, 900), (900, None), (None, None)])
def test_a_budget_below_what_a_single_client_takes_is_known(size, least):
    assert Budget(torch.device("cpu"), size).lacks(bytes_a_model=100, beside=8) == least
