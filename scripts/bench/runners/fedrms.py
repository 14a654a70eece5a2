"""fedrms: the FedRMS strategy with the uniform law (FedAvg) on the vector engine, whole rounds."""

from __future__ import annotations

import numpy as np
import protocol
import torch
import workloads
from flwr.app import ArrayRecord, ConfigRecord

from fedrms import FedRMS
from fedrms.client import LocalSettings
from fedrms.data import Federation
from fedrms.data.federation import Stage
from fedrms.engines import VectorGrid
from fedrms.tasks import Classification

arguments = protocol.arguments(executor=["auto", "stacked", "loop"], law=["uniform", "deadzone"])
rounds = protocol.Rounds()
workload, spec = arguments.workload, arguments.workload.spec
clients = spec.clients
federation = Federation(
    task="classification",
    num_classes=workloads.CLASSES,
    shape=workload.x.shape[1:],
    offsets=workload.offsets,
    stages=(Stage(1, workload.x, workload.y, np.zeros(clients)),),
    clean_y=workload.y,
    test_x=workload.test_x,
    test_y=workload.test_y,
    test_groups=workload.test_y,
    client_mix=np.full((clients, workloads.CLASSES), 1 / workloads.CLASSES),
    rare=np.zeros(clients, bool),
    class_names=None,
)
task = Classification(lambda: workloads.make_model(spec.model))
module = task.init(torch.Generator().manual_seed(0))
grid = VectorGrid(task, module, federation, executor=arguments.executor, threads=1)
strategy = FedRMS(
    law=arguments.law,
    fraction_evaluate=0.0,
    min_train_nodes=1,
    min_available_nodes=clients,
    identify="query",
)
final = ArrayRecord()


def between_rounds(server_round: int, arrays: ArrayRecord) -> None:
    """Report a round and wait for the next; Flower calls this as ``evaluate_fn``."""
    global final
    final = arrays
    if server_round:
        rounds.done()
    if server_round < arguments.rounds:
        rounds.wait()


strategy.start(
    grid,
    ArrayRecord({n: torch.from_numpy(v) for n, v in workload.initial.items()}),
    num_rounds=arguments.rounds,
    train_config=ConfigRecord(LocalSettings(lr=spec.lr, batch_size=spec.batch).to_record()),
    evaluate_fn=between_rounds,
)
protocol.conclude(rounds, arguments, {n: a.numpy() for n, a in final.items()})
