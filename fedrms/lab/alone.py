"""One client with all data of an experiment, for many descents at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedrms.client import as_function
from fedrms.engines.traced_step import StepCache
from fedrms.engines.work import own_parameters
from fedrms.experiment import compose_config
from fedrms.experiment.build import build_side
from fedrms.experiment.config import plain
from fedrms.lab.descent import Batches, Descent, descend, traced_steps
from fedrms.randomness import integer
from fedrms.tasks import Apply, Task


@dataclass(frozen=True)
class Alone:
    """The article's own setting: one client, clean data."""

    task: Task
    module: nn.Module
    """What is learned, and a model of its kind."""
    train: Mapping[str, Tensor]
    test: Mapping[str, Tensor]
    """Columns ``x`` and ``y``."""
    graphs: StepCache = field(default_factory=traced_steps)
    """Traced steps of this task and module, for all their descents."""

    @property
    def apply(self) -> Apply:
        """The model as a function of its parameters."""
        return as_function(self.module)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Parameters by name, for their order and shapes."""
        return {name: p.detach() for name, p in self.module.named_parameters()}

    def tree(self, row: NDArray[np.float64]) -> dict[str, Tensor]:
        """Return one run's parameters by name, from its row ``[parameters]``."""
        some = next(iter(self.parameters.values()))
        return own_parameters(self.parameters, torch.from_numpy(row).to(some))

    def starts(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Return a freshly initialised model for each seed, ``[seeds, parameters]``."""
        rows = []
        for seed in seeds:
            draw = torch.Generator().manual_seed(integer(seed, "model"))
            made = self.task.init(draw).parameters()
            rows.append(torch.cat([p.detach().flatten() for p in made]))
        return torch.stack(rows).double().numpy()

    def batches(self, seeds: Sequence[int], batch_size: int, repeat: int = 1) -> Batches:
        """Return random mini-batches, with replacement: the same for every repetition of a seed.

        ``repeat`` is how often the seeds are in the stack, one after the other (step sizes).
        """
        draws = [torch.Generator().manual_seed(integer(s, "lab-batches")) for s in seeds]
        count = len(self.train["y"])

        def batches(t: int) -> Mapping[str, Tensor]:
            rows = torch.stack([torch.randint(count, (batch_size,), generator=d) for d in draws])
            rows = rows.repeat(repeat, 1)
            return {name: column[rows] for name, column in self.train.items()}

        return batches

    def descend(
        self,
        options: Mapping[str, Any],
        lrs: Sequence[float],
        seeds: Sequence[int],
        batch_size: int,
        steps: int,
        **further: Any,
    ) -> Descent:
        """Descend at every step size from every seed's start, on the same batches.

        Runs are in the order of step sizes, of each the seeds; see
        :func:`fedrms.lab.descent.descend`.
        """
        return descend(
            self.task,
            self.module,
            options,
            np.repeat(lrs, len(seeds)).tolist(),
            self.batches(seeds, batch_size, repeat=len(lrs)),
            steps,
            starts=np.tile(self.starts(seeds), (len(lrs), 1)),
            graphs=self.graphs,
            **further,
        )


def alone(experiment: str, *changes: str) -> Alone:
    """Return one client with clean data of ``experiment=lab/...``, after changes by overrides."""
    words = [f"experiment=lab/{experiment}", "clients=1", "partition=iid", *changes]
    # The experiment's options of noise would not fit another choice of the group.
    config = plain(compose_config(words)) | {"noise": {"name": "none"}}
    side = build_side(config, "cpu")
    own = side.federation.client(0)
    return Alone(
        side.task,
        side.module,
        {"x": torch.from_numpy(own.x), "y": torch.from_numpy(own.y)},
        {
            "x": torch.from_numpy(side.federation.test_x),
            "y": torch.from_numpy(side.federation.test_y),
        },
    )
