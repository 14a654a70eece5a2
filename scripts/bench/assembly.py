"""A workload as fedrms takes it: the grid, the strategy, the model and the orders to clients."""

from __future__ import annotations

from collections.abc import Callable
from logging import WARNING, getLogger
from typing import Any

import numpy as np
import torch
import workloads
from flwr.app import ArrayRecord, ConfigRecord

from fedrms import FedRMS
from fedrms.client import LocalSettings
from fedrms.data import Federation
from fedrms.data.federation import Stage
from fedrms.engines import VectorGrid
from fedrms.tasks import Classification


def federation(workload: workloads.Workload) -> Federation:
    """Return the workload's clients."""
    clients = workload.spec.clients
    return Federation(
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


def assemble(
    workload: workloads.Workload, *, law: str = "uniform", fraction: float = 1.0, **options: Any
) -> Callable[..., None]:
    """Return a function that runs whole rounds: ``start(rounds, evaluate_fn)``.

    Parameters
    ----------
    workload : Workload
        Data, model, batch size and learning rate.
    law : str
        ``uniform`` is FedAvg; ``excess``, the default of ``FedRMS``, asks for losses by class.
    fraction : float
        Share of the clients that trains in a round.
    options
        For ``VectorGrid``.
    """
    getLogger("flwr").setLevel(WARNING)  # the command keeps Flower's log off the terminal, too
    spec = workload.spec
    task = Classification(lambda: workloads.make_model(spec.model))
    module = task.init(torch.Generator().manual_seed(0))
    grid = VectorGrid(task, module, federation(workload), **options)
    strategy = FedRMS(
        law=law,
        num_classes=workloads.CLASSES,
        fraction_train=fraction,
        fraction_evaluate=0.0,
        min_train_nodes=1,
        min_available_nodes=spec.clients,
        identify="query",
    )
    settings = LocalSettings(lr=spec.lr, batch_size=spec.batch)

    def start(rounds: int, evaluate_fn: Callable[[int, ArrayRecord], None]) -> None:
        strategy.start(
            grid,
            ArrayRecord({n: torch.from_numpy(v) for n, v in workload.initial.items()}),
            num_rounds=rounds,
            train_config=ConfigRecord(settings.to_record()),
            evaluate_fn=evaluate_fn,
        )

    return start
