"""Where Hydra looks for launchers: the one of ``fedrms -m``, ``hydra/launcher=fedrms``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.plugins.launcher import Launcher

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig


class WorkerLauncher(Launcher):
    """Run a multirun's jobs in worker processes.

    Parameters
    ----------
    workers : int or "auto"
        How many at a time; ``auto`` is as many as cores and memory allow.
    """

    def __init__(self, workers: Any = "auto") -> None:
        self._workers = workers

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra hands to a launcher; configurations are composed from a cache.

        A sweeper asks for each job's before it launches any, and keeps none.
        """
        from fedrms.experiment.cached_loader import CachedLoader

        loader = CachedLoader(hydra_context.config_loader)
        checking: Any = loader.checking()
        hydra_context.config_loader = checking
        self._context, self._task, self._config = hydra_context, task_function, config
        self._loader = loader

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a batch of jobs, and return when all have ended."""
        from fedrms.cli.sweep import run_batch

        return run_batch(
            self._context,
            self._task,
            self._config,
            self._loader,
            jobs=[list(words) for words in job_overrides],
            first=initial_job_idx,
            workers=self._workers,
        )
