"""A cohort's local training for one round, laid out for an executor."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedrms.client.local_update import LocalUpdate, Tree
from fedrms.client.schedule import Schedule
from fedrms.tasks.classification import Classification

if TYPE_CHECKING:
    from fedrms.engines.example_products import ExampleProducts


@dataclass(frozen=True)
class Work:
    """What a cohort trains on.

    Attributes
    ----------
    update : LocalUpdate
        The pure step.
    received : Tree
        The global model.
    columns : Tree
        Everyone's examples, ``[total, ...]``.
    starts : np.ndarray
        ``[cohort]`` first row of each client.
    plan : Schedule
        The batches.
    lr : np.ndarray
        ``[cohort]`` local learning rates.
    server_round : int
        The round, from 1: part of the address of what losses and layers draw.
    clients : np.ndarray, optional
        ``[cohort]`` client indices: the other part of it.
    first_scores : Tensor, optional
        ``[cohort, batch, scores]`` NaN; takes the scores of the first batches at the received
        model (see ``LocalUpdate.score``) where training gives them at no cost.
    products : ExampleProducts, optional
        Inner products of everyone's examples, where data stay as they are.
    received_scores : dict of Tensor
        Takes ``[rows, scores]`` of all of a client's rows, by its position in the cohort, where
        training gives them.
    """

    update: LocalUpdate
    received: Tree
    columns: Tree
    starts: np.ndarray
    plan: Schedule
    lr: np.ndarray
    server_round: int = 1
    clients: np.ndarray | None = None
    first_scores: Tensor | None = None
    products: ExampleProducts | None = None
    received_scores: dict[int, Tensor] = field(default_factory=dict)

    @property
    def who(self) -> np.ndarray:
        """``[cohort]`` client indices; their places in the cohort where nobody said."""
        return np.arange(len(self.starts)) if self.clients is None else self.clients

    @property
    def usual_chance(self) -> bool:
        """Whether chance losses can be read from class scores: they are the task's own."""
        own = getattr(type(self.update.task), "chance_losses", None)
        return own is Classification.chance_losses

    @functools.cached_property
    def flat(self) -> Tensor:
        """``[parameters]`` the global model in one piece; perhaps in its own memory."""
        first, *others = values = list(self.received.values())
        at = first.storage_offset()
        for value in values:
            if value.storage_offset() != at or not value.is_contiguous():
                break
            at += value.numel()
        else:
            memory = first.untyped_storage().data_ptr()
            if all(value.untyped_storage().data_ptr() == memory for value in others):
                return first.as_strided((at - first.storage_offset(),), (1,))
        return torch.cat([value.reshape(-1) for value in values])

    def take(self, part: np.ndarray) -> Work:
        """Return the work of some of the clients, by their positions in the cohort."""
        plan = replace(
            self.plan,
            rows=self.plan.rows[:, part],
            present=self.plan.present[:, part],
            steps=self.plan.steps[part],
        )
        own = {"starts": self.starts[part], "lr": self.lr[part], "clients": self.who[part]}
        few = replace(self, plan=plan, first_scores=None, products=None, **own)
        return replace(few, received_scores={})


@dataclass(frozen=True)
class Batches:
    """The batches of some clients on the device, those with the most steps first.

    Attributes
    ----------
    rows : Tensor
        ``[steps, clients, batch]`` rows of ``Work.columns``.
    present : Tensor
        ``[steps, clients, batch]`` 1 for an example, 0 for padding; padding comes last.
    active : sequence of int
        ``[steps]`` how many clients are still at work.
    lr : Tensor
        ``[clients]`` learning rates.
    clients : np.ndarray
        ``[clients]`` client indices.
    """

    rows: Tensor
    present: Tensor
    active: Sequence[int]
    lr: Tensor
    clients: np.ndarray


def batches_of(
    work: Work, part: np.ndarray, flat: Tensor, most_steps: int | None = None
) -> Batches:
    """Return the batches of a part of the cohort, sorted by steps, on the device of ``flat``."""
    plan = work.plan
    counts = plan.steps[part]
    longest = min(int(counts[0]), most_steps or int(counts[0]))
    rows = plan.rows[:longest].take(part, 1)
    rows += work.starts[part][None, :, None]
    present = torch.from_numpy(plan.present[:longest].take(part, 1))
    wide = torch.promote_types(flat.dtype, torch.float32)
    return Batches(
        rows=torch.from_numpy(rows).to(flat.device, non_blocking=True),
        present=present.to(flat.device, wide, non_blocking=True),
        active=np.searchsorted(-counts, -np.arange(longest)).tolist(),
        lr=torch.from_numpy(work.lr[part]).to(flat),
        clients=work.who[part],
    )


def repeated_parameters(received: Tree, clients: int) -> Tree:
    """Return a copy of the received model for each client: ``[clients, ...]`` by name."""
    return {
        name: value.expand(clients, *value.shape).clone(memory_format=torch.contiguous_format)
        for name, value in received.items()
    }


def own_parameters(received: Tree, row: Tensor) -> Tree:
    """Return one client's flat row of parameters as views by name, in the order of ``received``."""
    parts = torch.split(row, [value.numel() for value in received.values()])
    return {
        name: part.view(value.shape)
        for (name, value), part in zip(received.items(), parts, strict=True)
    }
