"""Small federations and models, and one client's training with ``torch.optim`` beside ours."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from fedrms.client import LocalSettings, LocalUpdate, as_function
from fedrms.client.local_update import Tree
from fedrms.client.schedule import schedule
from fedrms.data import Examples, Federation
from fedrms.data.federation import Stage
from fedrms.tasks import Classification, Regression, Task
from fedrms.tasks.models import MLP

FEATURES, CLASSES = 4, 3


def federation(
    sizes: Sequence[int],
    *,
    task: str = "classification",
    dtype: Any = np.float32,
    test: int = 30,
    seed: int = 0,
) -> Federation:
    """Clients of the given sizes, with examples that a linear model can partly learn."""
    draw = np.random.default_rng(seed)
    total = sum(sizes)
    x = draw.normal(size=(total + test, FEATURES)).astype(dtype)
    scores = x @ draw.normal(size=(FEATURES, CLASSES)) + draw.normal(size=(total + test, CLASSES))
    y = scores[:, 0].astype(dtype) if task == "regression" else scores.argmax(1)
    groups = np.zeros(test, np.int64) if task == "regression" else y[total:]
    mix = draw.random((len(sizes), int(groups.max()) + 1))
    return Federation(
        task=task,
        num_classes=None if task == "regression" else CLASSES,
        shape=(FEATURES,),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        stages=(Stage(1, x[:total], y[:total], np.zeros(len(sizes))),),
        clean_y=y[:total],
        test_x=x[total:],
        test_y=y[total:],
        test_groups=groups,
        client_mix=mix / mix.sum(1, keepdims=True),
        rare=np.zeros(len(sizes), bool),
        class_names=None,
    )


def with_drift(before: Federation, start_round: int, shift: float) -> Federation:
    """The same federation, whose features are all shifted from a round on."""
    first = before.stages[0]
    later = Stage(start_round, first.x + np.float32(shift), first.y, first.true_noise)
    return replace(before, stages=(first, later))


def with_bad_client(before: Federation, client: int) -> Federation:
    """The same federation, where one client's features are not numbers."""
    first = before.stages[0]
    x = first.x.copy()
    x[before.offsets[client] : before.offsets[client + 1]] = np.nan
    return replace(before, stages=(replace(first, x=x),))


def problem(
    kind: str = "classification", *, hidden: Any = 5, dtype: torch.dtype = torch.float32
) -> tuple[Task, nn.Module]:
    """A task with a small model for :func:`federation`."""
    if kind == "regression":
        task: Task = Regression(lambda: MLP((FEATURES,), 1, hidden))
    else:
        task = Classification(lambda: MLP((FEATURES,), CLASSES, hidden))
    return task, task.init(torch.Generator().manual_seed(1)).to(dtype)


def parameters(module: nn.Module) -> Tree:
    """A module's parameters as plain tensors."""
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def update_of(task: Task, module: nn.Module, settings: LocalSettings) -> LocalUpdate:
    return LocalUpdate(task, as_function(module), settings)


def batches_of(
    settings: LocalSettings, client: int, size: int, server_round: int = 1
) -> list[np.ndarray]:
    """The rows of each of a client's batches, from the schedule that is under test elsewhere."""
    plan = schedule(settings, server_round, np.array([client]), np.array([size]))
    return [plan.rows[t, 0][plan.present[t, 0]] for t in range(plan.steps[0])]


@dataclass
class HandTrained:
    """What plain PyTorch makes of a client."""

    params: Tree
    losses: list[np.ndarray]
    """Per-example losses of each batch, before its update."""


def losses_at(module: nn.Module, params: Tree, examples: Examples) -> np.ndarray:
    """Per-example losses at fixed parameters, with plain PyTorch."""
    model = copy.deepcopy(module)
    model.load_state_dict(params, strict=False)
    with torch.no_grad():
        losses = _losses(model, torch.from_numpy(examples.x), torch.from_numpy(examples.y))
    return losses.numpy()


def train_by_hand(
    module: nn.Module,
    received: Tree,
    examples: Examples,
    batches: Sequence[np.ndarray],
    settings: LocalSettings,
    *,
    lr_scale: float = 1.0,
) -> HandTrained:
    """Train with ``nn.Module``, ``backward`` and ``torch.optim.SGD``."""
    model = copy.deepcopy(module)
    model.load_state_dict(received, strict=False)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=settings.lr * lr_scale,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    seen = []
    for rows in batches:
        x, y = torch.from_numpy(examples.x[rows]), torch.from_numpy(examples.y[rows])
        losses = _losses(model, x, y)
        objective = losses.mean()
        for name, value in model.named_parameters():
            objective = objective + settings.proximal_mu / 2 * (value - received[name]).norm() ** 2
        optimizer.zero_grad()
        objective.backward()
        if settings.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        seen.append(losses.detach().numpy())
    return HandTrained(parameters(model), seen)


def moments_by_hand(losses: np.ndarray) -> dict[str, float]:
    """The four moments by their definitions."""
    losses = np.asarray(losses, dtype=np.float64)
    deviation = np.abs(losses - np.median(losses))
    return {
        "loss-mean": losses.sum() / len(losses),
        "loss-variance": ((losses - losses.mean()) ** 2).sum() / len(losses),
        "loss-second-moment": (losses**2).sum() / len(losses),
        "loss-mad": (1.4826 * np.median(deviation)) ** 2,
    }


def _losses(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    outputs = model(x)
    if y.is_floating_point():
        return nn.functional.mse_loss(outputs[:, 0], y, reduction="none")
    return nn.functional.cross_entropy(outputs, y, reduction="none")
