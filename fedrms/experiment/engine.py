"""From a configuration to the engine: where the clients of a run live."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from flwr.serverapp import Grid

from fedrms.client import ClientSide, client_app
from fedrms.client.local_update import PRECISIONS
from fedrms.engines.choice import EXECUTORS
from fedrms.engines.cohort_trainer import CohortTrainer
from fedrms.engines.executor import Executor
from fedrms.engines.memory import parse_memory
from fedrms.engines.simulated_grid import SimulatedGrid
from fedrms.engines.vector import VectorGrid
from fedrms.errors import ConfigError
from fedrms.experiment.build import side_from_json, side_json
from fedrms.options import number, one_of, only, optional_whole, positive, switch, whole


def _address(key: str, value: Any) -> None:
    """Refuse what is no address of a Ray cluster."""
    from fedrms.engines.ray_cluster import ADDRESS

    if value is not None and not (isinstance(value, str) and ADDRESS.fullmatch(value)):
        remedy = "set null, auto, host:port or ray://host:port"
        raise ConfigError(key, f"{value!r} is no address", remedy)


def _optional_number(key: str, value: Any) -> None:
    if value is not None:
        number(key, value, 0)


Check = Callable[[str, Any], object]
"""Refuses a value of a key."""

EXECUTOR_OPTIONS: Mapping[str, Check] = {
    "executor": functools.partial(one_of, choices=EXECUTORS),
    "chunk_clients": optional_whole,
    "threads": optional_whole,
    "precision": functools.partial(one_of, choices=PRECISIONS),
    "compiled": switch,
    "memory": lambda key, value: parse_memory(value),
}
ENGINE_OPTIONS: Mapping[str, Mapping[str, Check]] = {
    "vector": EXECUTOR_OPTIONS,
    "ray": {
        **EXECUTOR_OPTIONS,
        "address": _address,
        "workers": optional_whole,
        "chunks_per_worker": whole,
        "retries": functools.partial(whole, least=0),
        "worker_cpus": positive,
        "wait_seconds": positive,
        "worker_gpus": functools.partial(number, low=0, high=1),  # a worker trains on one GPU
    },
    "flower": {
        "num_cpus": optional_whole,
        "num_gpus": _optional_number,
        "client_cpus": positive,
        "client_gpus": functools.partial(number, low=0),
    },
}
"""The options of each engine, and what their values must be."""


@dataclass(frozen=True)
class Engine:
    """Where a run's clients live."""

    serve: Callable[[Callable[[Grid], None]], None]
    """Calls the server's function with a ``Grid`` and returns when it has finished."""
    check: Callable[[Any], None] | None = None  # see :class:`fedrms.engines.observed.ObservedGrid`


def build_engine(config: Mapping[str, Any], side: ClientSide, device: str) -> Engine:
    """Return the engine that ``engine=vector|ray|flower`` names."""
    options = dict(config["engine"])
    name = options.pop("name")
    known = ENGINE_OPTIONS.get(name)
    if known is None:
        raise ConfigError(
            "engine", f"there is no engine {name!r}", f"choose {', '.join(ENGINE_OPTIONS)}"
        )
    only("engine", options, known)
    for key, check in known.items():
        if key in options:
            check(f"engine.{key}", options[key])
    if name == "flower":
        return _flower_engine(config, device, options)
    options["memory"] = parse_memory(options["memory"])
    if name == "ray":
        return _ray_engine(config, side, device, options)

    def serve_here(main: Callable[[Grid], None]) -> None:
        main(VectorGrid(side.task, side.module, side.federation, device=device, **options))

    return Engine(serve_here)


def _ray_engine(
    config: Mapping[str, Any], side: ClientSide, device: str, options: Mapping[str, Any]
) -> Engine:
    from fedrms.engines.ray_cluster import connected, require_ray, size, slots
    from fedrms.engines.ray_pool import WorkerPool
    from fedrms.engines.ray_trainer import RayTrainer

    require_ray()
    cpus, gpus = options["worker_cpus"], options["worker_gpus"]
    executor = {
        "choice": options["executor"],
        "chunk_clients": options["chunk_clients"],
        "threads": options["threads"] or max(1, int(cpus)),
        "compiled": options["compiled"],
    }
    trainer_options = {key: options[key] for key in ("precision", "memory")}
    folder = str(Path.cwd())
    make_trainer = functools.partial(
        _worker_trainer, side_json(config), device, folder, executor, trainer_options
    )

    def serve(main: Callable[[Grid], None]) -> None:
        with connected(options["address"], options["wait_seconds"]):
            workers = options["workers"] or slots(cpus, gpus)
            if not workers:
                raise ConfigError(
                    "engine.workers",
                    f"no worker of {cpus:g} CPUs and {gpus:g} GPUs fits; {size()}",
                    "lower engine.worker_cpus or engine.worker_gpus, or say engine.workers to "
                    "wait for room",
                )
            pool = WorkerPool(
                make_trainer,
                workers=workers,
                worker_cpus=cpus,
                worker_gpus=gpus,
                retries=options["retries"],
                wait_seconds=options["wait_seconds"],
            )
            scorer = CohortTrainer(side.task, side.module, side.federation, side.device, Executor())
            with pool:
                trainer = RayTrainer(
                    pool,
                    side.federation.sizes_of,
                    scorer.evaluate,
                    chunks=workers * options["chunks_per_worker"],
                    memory=options["memory"],
                )
                main(SimulatedGrid(trainer, side.federation.clients))

    return Engine(serve)


def _flower_engine(config: Mapping[str, Any], device: str, options: Mapping[str, Any]) -> Engine:
    from fedrms.engines.flower_ray import refuse_dead_workers, run_on_flower_ray
    from fedrms.engines.ray_cluster import require_ray

    require_ray()
    load = functools.partial(_worker_side, side_json(config), device, str(Path.cwd()))
    app = client_app(load)
    return Engine(
        lambda main: run_on_flower_ray(main, app, clients=config["clients"], **options),
        refuse_dead_workers,
    )


def _worker_side(text: str, device: str, folder: str) -> ClientSide:
    """Build the client side in a worker, from the folder that relative paths start at.

    Another machine may not have the folder, nor need it: a missing file is named later.
    """
    if Path.cwd() != Path(folder) and Path(folder).is_dir():
        os.chdir(folder)
    return side_from_json(text, device)


def _worker_trainer(
    text: str,
    device: str,
    folder: str,
    executor: Mapping[str, Any],
    options: Mapping[str, Any],
) -> CohortTrainer:
    """Build what a Ray worker trains with."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device",
            "PyTorch sees no CUDA device in a worker that was given one",
            "install a CUDA build of PyTorch on every node with a GPU, or set engine.worker_gpus=0",
        )
    torch.set_num_threads(executor["threads"])
    side = _worker_side(text, device, folder)
    chosen = Executor(**executor)
    return CohortTrainer(side.task, side.module, side.federation, device, chosen, **options)
