"""fluke: its FedAVG on its own clients, server and data loaders; no evaluation."""

from __future__ import annotations

from typing import Any

import protocol
import torch
import workloads
from fluke import FlukeENV
from fluke.algorithms.fedavg import FedAVG
from fluke.client import Client
from fluke.config import OptimizerConfigurator
from fluke.data import FastDataLoader
from fluke.server import Server
from fluke.utils import FederationObserver

arguments = protocol.arguments()
rounds = protocol.Rounds()
workload, spec = arguments.workload, arguments.workload.spec
environment = FlukeENV()
environment.set_seed(1)
environment.set_device("cpu")
environment.set_eval_cfg(pre_fit=False, post_fit=False, locals=False, server=False)


class BetweenRounds(FederationObserver):
    """Wait for a round before it starts, and report it."""

    def start_round(self, round: int, global_model: Any) -> None:
        """Wait."""
        rounds.wait()

    def end_round(self, round: int) -> None:
        """Report."""
        rounds.done()


def client(index: int) -> Client:
    """Return a client with its own examples."""
    x, y = (torch.from_numpy(column) for column in workload.client(index))
    loader = FastDataLoader(
        x,
        y,
        num_labels=workloads.CLASSES,
        batch_size=spec.batch,
        shuffle=True,
        skip_singleton=False,
    )
    sgd = OptimizerConfigurator({"name": "SGD", "lr": spec.lr})
    return Client(index, loader, None, sgd, torch.nn.CrossEntropyLoss(), local_epochs=1)


clients = [client(index) for index in range(spec.clients)]
module = workloads.make_model(spec.model)
module.load_state_dict({n: torch.from_numpy(v) for n, v in workload.initial.items()})
algorithm = FedAVG(
    spec.clients, None, {}, clients=clients, server=Server(module, None, clients, weighted=True)
)
algorithm.set_callbacks([BetweenRounds()])
algorithm.run(arguments.rounds, 1.0)
final = {n: v.numpy() for n, v in algorithm.server.model.state_dict().items()}
protocol.conclude(rounds, arguments, final)
