"""Flower: FedAvg over its Ray simulation, with a client as in its PyTorch quick start."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from logging import WARNING, getLogger
from pathlib import Path

import protocol
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from runners.flower_client import app

getLogger("flwr").setLevel(WARNING)
arguments = protocol.arguments()
rounds = protocol.Rounds()
workload = arguments.workload
server, final = ServerApp(), ArrayRecord()


def between_rounds(server_round: int, arrays: ArrayRecord) -> None:
    """Report a round and wait for the next; Flower calls this as ``evaluate_fn``."""
    global final
    final = arrays
    if server_round:
        rounds.done()
    if server_round < arguments.rounds:
        rounds.wait()


class WaitForAll(FedAvg):
    """FedAvg samples from the nodes that have registered by then: wait for all of them."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Wait, then go on as FedAvg does."""
        while len(list(grid.get_node_ids())) < workload.spec.clients:
            time.sleep(0.01)
        return super().configure_train(server_round, arrays, config, grid)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Run every round."""
    WaitForAll(
        fraction_train=1.0,
        fraction_evaluate=0.0,
        min_train_nodes=workload.spec.clients,
        min_available_nodes=workload.spec.clients,
    ).start(
        grid,
        ArrayRecord({n: torch.from_numpy(v) for n, v in workload.initial.items()}),
        num_rounds=arguments.rounds,
        timeout=3600,
        train_config=ConfigRecord({"workload": str(Path(sys.argv[1]).resolve())}),
        evaluate_fn=between_rounds,
    )


cores = len(os.sched_getaffinity(0))
run_simulation(
    server_app=server,
    client_app=app,
    num_supernodes=workload.spec.clients,
    backend_config={
        "init_args": {"num_cpus": cores, "logging_level": "ERROR", "log_to_driver": False},
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
    },
)
protocol.conclude(rounds, arguments, {n: a.numpy() for n, a in final.items()})
