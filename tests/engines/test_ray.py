"""``engine=ray``: whole runs on clusters of two workers, equal to ``vector``."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

import fedrms
from fedrms.deployment.ports import free_port
from fedrms.engines.ray_cluster import connected, slots
from fedrms.engines.ray_trainer import balanced
from fedrms.errors import ConfigError

OVERRIDES = [
    *("seed=3", "clients=4", "rounds=2", "client.epochs=1", "noise.fraction=0.5"),
    *("heterogeneity=dropout", "counterfactual=clean"),
    *("adversary=liars", "adversary.clients=[1]"),
    *("adversary.loss=copy_clean", "adversary.update=random"),
]
"""With this seed, client 3 drops out of round 1, and nobody else ever; client 1 lies."""


def weights(folder: Path) -> np.ndarray:
    arrays = load_file(folder / "model.safetensors")
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)]).astype(np.float64)


@pytest.fixture(scope="module")
def on_vector(tmp_path_factory) -> Path:
    return fedrms.run(OVERRIDES, folder=tmp_path_factory.mktemp("vector")).folder


@pytest.fixture(scope="module", params=["two nodes that were there", "a cluster of its own"])
def on_ray(request, tmp_path_factory) -> Path:
    where = ["engine.workers=2", "engine.worker_cpus=0.5"]
    if request.param == "two nodes that were there":
        where = [f"engine.address={request.getfixturevalue('ray_address')}"]
    folder = tmp_path_factory.mktemp("ray")
    return fedrms.run([*OVERRIDES, "engine=ray", *where], folder=folder).folder


@pytest.fixture(scope="module")
def listener() -> Iterator[int]:
    """A port where something listens that is not Ray, and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.ray
def test_the_model_is_the_one_of_the_vector_engine(on_ray, on_vector):
    ours, theirs = weights(on_vector), weights(on_ray)
    assert np.linalg.norm(ours - theirs) < 1e-5 * np.linalg.norm(ours)


@pytest.mark.ray
@pytest.mark.parametrize("table", ["clients", "rounds"])
def test_the_tables_are_those_of_the_vector_engine_apart_from_timing(table, on_ray, on_vector):
    ours, theirs = (
        pd.read_parquet(folder / f"{table}.parquet").drop(columns="seconds", errors="ignore")
        for folder in (on_vector, on_ray)
    )
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.ray
def test_a_run_leaves_no_connection_behind(on_ray):
    import ray

    assert not ray.is_initialized()


@pytest.mark.ray
def test_a_worker_larger_than_every_node_is_refused_before_training(ray_address, tmp_path):
    overrides = ["engine=ray", f"engine.address={ray_address}", "engine.worker_cpus=2"]
    with pytest.raises(ConfigError, match=r"no worker of 2 CPUs and 0 GPUs fits; .*2 CP") as caught:
        fedrms.run(overrides, folder=tmp_path)
    assert caught.value.key == "engine.workers"
    assert len(pd.read_parquet(tmp_path / "rounds.parquet")) == 0


@pytest.mark.ray
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_workers_with_a_share_of_a_gpu_train_on_it_or_say_why_not(ray_address, tmp_path):
    overrides = ["engine=ray", f"engine.address={ray_address}", "engine.worker_gpus=0.5"]
    overrides += ["engine.worker_cpus=0.5"]
    with pytest.raises(ConfigError, match=r"no CUDA device in a worker that was given") as caught:
        fedrms.run(overrides, folder=tmp_path)
    assert caught.value.key == "device"


@pytest.mark.ray
def test_an_existing_cluster_stays_and_has_its_processors_back(on_ray, ray_address):
    import ray

    with connected(ray_address, 30):
        assert ray.cluster_resources()["CPU"] == 2
        for _ in range(100):  # a killed worker gives its processor back in a moment
            if slots(1, 0) == 2:
                break
            time.sleep(0.1)
        assert slots(1, 0) == 2
        assert slots(0.5, 0) == 4
        assert slots(2, 0) == 0  # no node has two processors
        assert slots(0.25, 0.5) == 2  # one node has a GPU
        assert slots(0.25, 0.3) == 3
        assert slots(0.5, 0.3) == 2
        with connected(None, 1):  # a connection of the caller's own is used
            assert slots(1, 0) == 2
        assert ray.is_initialized()  # and kept
    assert not ray.is_initialized()


@pytest.mark.ray
def test_something_that_listens_but_is_not_ray_is_refused_in_time(listener, tmp_path):
    overrides = ["engine=ray", f"engine.address=127.0.0.1:{listener}", "engine.wait_seconds=1"]
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at .* within 1 s") as caught:
        fedrms.run(overrides, folder=tmp_path)
    assert caught.value.key == "engine.address"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_refused(scheme, tmp_path):
    pytest.importorskip("ray")
    overrides = ["engine=ray", f"engine.address={scheme}127.0.0.1:{free_port()}"]
    with pytest.raises(ConfigError, match="nothing answers at") as caught:
        fedrms.run(overrides, folder=tmp_path)
    assert caught.value.key == "engine.address"
    assert "ray start --head" in caught.value.remedy


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("engine.address=nowhere", "engine.address"),
        ("engine.address=ray://head", "engine.address"),
        ("engine.address=6379", "engine.address"),
        ("engine.workers=0", "engine.workers"),
        ("engine.workers=1.5", "engine.workers"),
        ("engine.worker_cpus=0", "engine.worker_cpus"),
        ("engine.worker_gpus=2", "engine.worker_gpus"),
        ("engine.worker_gpus=-0.5", "engine.worker_gpus"),
        ("engine.chunks_per_worker=0", "engine.chunks_per_worker"),
        ("engine.retries=-1", "engine.retries"),
        ("engine.wait_seconds=never", "engine.wait_seconds"),
        ("engine.executor=fast", "engine.executor"),
        ("engine.chunk_clients=0", "engine.chunk_clients"),
        ("engine.threads=0", "engine.threads"),
        ("+engine.num_cpus=2", "engine.num_cpus"),
        ("device=cuda", "device"),
        ("device=cuda:1", "device"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_by_its_key(option, key, tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(ConfigError) as caught:
        fedrms.run(["engine=ray", option], folder=tmp_path)
    assert caught.value.key == key
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "option", ["num_cpus=0", "num_gpus=-1", "client_cpus=0", "client_gpus=-0.5", "client_gpus=some"]
)
def test_an_option_of_flowers_engine_that_cannot_be_meant_is_refused_by_its_key(option, tmp_path):
    with pytest.raises(ConfigError) as caught:
        fedrms.run(["engine=flower", f"engine.{option}"], folder=tmp_path)
    assert caught.value.key == f"engine.{option.split('=')[0]}"
    assert not list(tmp_path.iterdir())


def test_workers_with_gpus_that_the_device_would_leave_idle_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="leaves idle") as caught:
        fedrms.run(["engine=ray", "engine.worker_gpus=1", "device=cpu"], folder=tmp_path)
    assert caught.value.key == "engine.worker_gpus"


def test_chunks_hold_about_the_same_work_the_longest_clients_first():
    work = np.array([1, 8, 2, 2, 8, 3, 4, 4])  # 32 in all
    parts = balanced(work, 4)
    assert [part.tolist() for part in parts] == [[1], [4], [6, 7], [5, 2, 3, 0]]


def test_a_client_with_most_of_the_work_has_a_chunk_of_its_own():
    assert [part.tolist() for part in balanced(np.array([1, 100, 1]), 3)] == [[1], [0, 2]]


def test_there_are_no_more_chunks_than_clients():
    assert [part.tolist() for part in balanced(np.array([5, 5]), 8)] == [[0], [1]]
    assert [part.tolist() for part in balanced(np.array([0, 0]), 8)] == [[0, 1]]
