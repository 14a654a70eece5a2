"""Reach a Ray cluster, or start one on this machine; stop only what was started here."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fedrms.errors import ConfigError

ADDRESS = re.compile(r"auto|(ray://)?(?P<host>\[[^\[\]]+\]|[^\s:/]+):(?P<port>\d+)")
"""``auto``, ``host:port``, or ``ray://host:port`` for the Ray client."""

KEY = "engine.address"
START_ONE = "start one with `ray start --head`, or leave engine.address=null for a local cluster"


def require_ray() -> None:
    """Say so now if Ray is missing, with the command that installs it."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "engine",
            "engine=ray and engine=flower need Ray, which is not installed",
            "pip install 'fedrms[ray]'",
        )


def load_ray() -> Any:
    """Import Ray, quiet: it reports no usage, and logs nothing below an error."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    return importlib.import_module("ray")


@contextmanager
def connected(address: str | None, wait_seconds: float) -> Iterator[None]:
    """Be connected to a Ray cluster for the length of a ``with`` block.

    The address is ``auto``, ``host:port`` or ``ray://host:port``; without one a cluster is started
    on this machine, and stopped at the end. From one that was there before, this process only
    disconnects. A connection that this process already has is used, and stays.
    """
    ray = load_ray()
    if ray.is_initialized():
        yield
        return
    if address is not None:
        _knock(address, wait_seconds)
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        options["include_dashboard"] = False
    try:
        try:
            ray.init(address=address or "local", **options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"at {address}" if address else "on this machine"
            raise ConfigError(
                KEY, f"no Ray cluster {where}: {_last_line(error)}", START_ONE
            ) from error
        yield
    finally:
        ray.shutdown()


def slots(worker_cpus: float, worker_gpus: float) -> int:
    """Return how many workers the connected cluster has free room for.

    A worker's share lies on one node, and its share of a GPU on one GPU.
    """
    ray = load_ray()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(_fit(node, worker_cpus, worker_gpus) for node in nodes)
    return min(room, _fit(ray.available_resources(), worker_cpus, worker_gpus))


def size() -> str:
    """Say how large the connected cluster is and what of it is free."""
    ray = load_ray()

    def count(resources: dict[str, float]) -> str:
        return f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"

    nodes = sum(node["Alive"] for node in ray.nodes())
    return (
        f"the cluster has {count(ray.cluster_resources())} on {nodes} node(s), "
        f"of which {count(ray.available_resources())} are free"
    )


def _fit(resources: dict[str, float], cpus: float, gpus: float) -> int:
    by_cpu = int(resources.get("CPU", 0) / cpus + 1e-9)
    if not gpus:
        return by_cpu
    return min(by_cpu, int(resources.get("GPU", 0)) * int(1 / gpus + 1e-9))


def _knock(address: str, wait_seconds: float) -> None:
    """Refuse an address that does not answer: Ray itself would wait for it without an end."""
    named = ADDRESS.fullmatch(address)
    assert named is not None
    if address != "auto":
        host, port = named["host"].strip("[]"), int(named["port"])
        try:
            socket.create_connection((host, port), timeout=wait_seconds).close()
        except (OSError, OverflowError) as error:
            raise ConfigError(KEY, f"nothing answers at {address}: {error}", START_ONE) from error
    if address.startswith("ray://"):
        return
    # `ray status`, in a process of its own, for it may hang where something else is listening.
    command = [sys.executable, "-m", "ray.scripts.scripts", "status"]
    command += [] if address == "auto" else ["--address", address]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=wait_seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            KEY, f"no Ray cluster answers at {address} within {wait_seconds:g} s", START_ONE
        ) from error
    if asked.returncode:
        raise ConfigError(
            KEY, f"no Ray cluster at {address}: {_last_line(asked.stderr)}", START_ONE
        )


def _last_line(text: object) -> str:
    lines = str(text).strip().splitlines()
    return lines[-1] if lines else "Ray does not say why"
