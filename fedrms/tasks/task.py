"""The contract between a learning problem and the rest of fedrms.

A task is a model plus a per-example loss. Everything that a client, an engine or a
report knows about learning goes through the members below, so a new problem is one more
file, and every strategy, engine and noise model works on it unchanged. Losses that sample say so
(:class:`Samples`). Games, landscapes and policies are in :mod:`fedrms.lab.tasks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Params = Mapping[str, Tensor]
"""A model's trainable tensors by name."""

Batch = Mapping[str, Tensor]
"""Columns of examples by name, each ``[examples, ...]``; supervised tasks use ``x`` and ``y``."""

Apply = Callable[[Params, Tensor], Tensor]
"""``apply(params, inputs) -> outputs``: the model as a pure function of its parameters."""


@runtime_checkable
class Task(Protocol):
    """A learning problem: how to make a model, what it loses, how it is judged.

    Attributes
    ----------
    metric : str
        Name of the headline metric, a key of what :meth:`metrics` returns
        (``"accuracy"``, ``"mse"``). Tables name their columns after it.
    higher_is_better : bool
        Direction of the headline metric.
    """

    metric: str
    higher_is_better: bool

    def init(self, generator: torch.Generator) -> nn.Module:
        """Return a freshly initialised model; the generator's seed alone decides it."""
        ...

    def losses(self, apply: Apply, params: Params, batch: Batch) -> Tensor:
        """Return the loss of each example, ``[examples]``.

        The gradient of the mean is the training direction. Must be pure: clients are
        mapped over it by ``torch.func``.
        """
        ...

    def metrics(self, apply: Apply, params: Params, batch: Batch) -> dict[str, Tensor]:
        """Return per-example metrics, each ``[examples]``: ``"loss"`` and :attr:`metric`."""
        ...


class Samples(Protocol):
    """A task whose losses draw at random: trajectories, latent vectors, the start of an attack.

    Its batches carry a further column ``key``, int64 ``[examples]``, that is new at every step;
    :mod:`fedrms.tasks.draws` makes numbers of it.
    """

    samples: bool


@runtime_checkable
class KnowsChance(Protocol):
    """A task that can say what an example would lose with a label drawn at random."""

    def chance_losses(self, apply: Apply, params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss of each example and its chance loss, both ``[examples]``."""
        ...


def never_negative(task: Task) -> bool:
    """Say whether a task's losses cannot be below 0: it then has ``nonnegative = True``."""
    return bool(getattr(task, "nonnegative", False))


def seeded_module(build: Callable[[], nn.Module], generator: torch.Generator) -> nn.Module:
    """Build a module whose initial weights depend on the generator's seed alone.

    ``torch.nn`` layers draw from the global generator, so it is forked and seeded for
    the duration, and left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        return build()


class BuildsModel:
    """What tasks have in common whose model somebody builds for them."""

    def __init__(self, build_model: Callable[[], nn.Module]) -> None:
        self._build_model = build_model

    def init(self, generator: torch.Generator) -> nn.Module:
        """Return a freshly initialised model; the generator's seed alone decides it."""
        return seeded_module(self._build_model, generator)
