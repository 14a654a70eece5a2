"""BlazeFL: its FedAvg handler and trainer; one client after the other, or a thread a core.

Batches are indices into tensors, not a DataLoader, which is BlazeFL's to leave to its user.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import protocol
import torch
import workloads
from blazefl.contrib import FedAvgBaseClientTrainer, FedAvgBaseServerHandler
from blazefl.contrib.fedavg import FedAvgThreadPoolClientTrainer
from torch import Tensor, nn

arguments = protocol.arguments()
rounds = protocol.Rounds()
workload, spec = arguments.workload, arguments.workload.spec


class Models:
    """BlazeFL's ``ModelSelector``: the one model, as every engine starts from it."""

    def select_model(self, model_name: str) -> nn.Module:
        """Return a new module."""
        module = workloads.make_model(model_name)
        module.load_state_dict({n: torch.from_numpy(v) for n, v in workload.initial.items()})
        return module


@dataclass
class Batches:
    """One epoch of a client in a random order."""

    x: Tensor
    y: Tensor
    size: int
    generator: torch.Generator

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(len(self.x), generator=self.generator).split(self.size):
            yield self.x[rows], self.y[rows]


class Clients:
    """BlazeFL's ``PartitionedDataset``."""

    def get_dataloader(
        self, type_: str, cid: int, batch_size: int, generator: torch.Generator
    ) -> Batches:
        """Return a client's batches."""
        x, y = map(torch.from_numpy, workload.client(cid))
        return Batches(x, y, batch_size, generator)


shared = {
    "model_selector": Models(),
    "model_name": spec.model,
    "dataset": Clients(),
    "device": "cpu",
    "num_clients": spec.clients,
    "batch_size": spec.batch,
    "seed": 1,
}
local = shared | {"epochs": 1, "lr": spec.lr}
cores = protocol.cores()
handler = FedAvgBaseServerHandler(**shared, global_round=arguments.rounds, sample_ratio=1.0)
if cores == 1:
    trainer = FedAvgBaseClientTrainer(**local)
else:
    torch.set_num_threads(1)
    trainer = FedAvgThreadPoolClientTrainer(**local, num_parallels=cores)
for _ in range(arguments.rounds):
    rounds.wait()
    trainer.local_process(handler.downlink_package(), handler.sample_clients())
    for package in trainer.uplink_package():
        handler.load(package)
    rounds.done()
final = {n: v.numpy() for n, v in handler.model.state_dict().items()}
protocol.conclude(rounds, arguments, final)
