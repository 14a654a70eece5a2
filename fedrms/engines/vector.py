"""``VectorGrid``: a Flower ``Grid`` whose clients live in this process, trained as one batch."""

from __future__ import annotations

from torch import nn

from fedrms.data import AnyFederation
from fedrms.engines.cohort_trainer import CohortTrainer
from fedrms.engines.executor import Executor
from fedrms.engines.simulated_grid import SimulatedGrid
from fedrms.tasks import Task


class VectorGrid(SimulatedGrid):
    """Simulate every client in this process; any Flower strategy runs on it unmodified.

    Parameters
    ----------
    task : Task
        What is learned.
    module : nn.Module
        The model's structure.
    federation : Federation or Population
        Everyone's data.
    device : str
        Where clients train.
    executor : str
        ``stacked`` trains clients as batches, ``loop`` one by one; ``auto`` goes by the
        size of the model, ``measure`` times both.
    chunk_clients : int, optional
        Most clients in one batch; by default what fits a CPU's caches, all on a GPU.
    threads : int, optional
        Worker threads on a CPU; by default as many as PyTorch uses.
    precision : str
        ``float32``, or ``bf16`` for products and convolutions in bfloat16: faster on
        processors and GPUs that have it, at a price in accuracy (docs/benchmarks.md).
    memory : int, optional
        Bytes that a round may take, see :class:`CohortTrainer`.
    compiled : bool
        Compile each step with ``torch.compile``.
    run_id : int
        Flower's number for the run.

    Attributes
    ----------
    executor : Executor
        Runs the clients' steps; its ``decision`` says how, and why.
    """

    def __init__(
        self,
        task: Task,
        module: nn.Module,
        federation: AnyFederation,
        *,
        device: str = "cpu",
        executor: str = "auto",
        chunk_clients: int | None = None,
        threads: int | None = None,
        precision: str = "float32",
        memory: int | None = None,
        compiled: bool = False,
        run_id: int = 1,
    ) -> None:
        self.executor = Executor(
            executor, chunk_clients=chunk_clients, threads=threads, compiled=compiled
        )
        trainer = CohortTrainer(task, module, federation, device, self.executor, precision, memory)
        super().__init__(trainer, federation.clients, run_id=run_id)
