"""Follow an optimizer through a task, step by step: many step sizes or starts at once.

It is a client's own training, with the same pure step, the same optimizers and the same traced
graphs as on the vector engine, one client for each run of a stack; but it keeps the path, and
ends early where nothing is left to see.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedrms.client import LocalSettings, LocalUpdate, as_function
from fedrms.client.draw_keys import at_step, draws, row_keys
from fedrms.client.local_optimizer import LocalOptimizer, optimizer_order
from fedrms.client.local_update import Tree
from fedrms.engines.traced_step import StepCache
from fedrms.engines.work import own_parameters, repeated_parameters
from fedrms.experiment import compose_config
from fedrms.experiment.config import plain
from fedrms.lab.tasks import Objective
from fedrms.lab.tasks.landscapes import Plane
from fedrms.one_thread import one_thread_an_operation
from fedrms.tasks import Task

CHECK_EVERY = 256
"""Steps between two looks at whether to end early."""


@dataclass(frozen=True)
class Descent:
    """The paths of a stack of runs."""

    params: NDArray[np.float64]
    """``[kept, runs, parameters]`` before the first step and after each `every` steps."""
    losses: NDArray[np.float64]  # ``[steps, runs]`` mean loss of each step's batch, before the step
    lrs: NDArray[np.float64]  # ``[runs]`` learning rates
    every: int  # steps between two rows of :attr:`params`
    state: Mapping[str, NDArray[np.float64]]
    """What the optimizer remembers at the end, by its own names (``square_avg``), each ``[runs,
    parameters]``; what is one number for all parameters is left out."""

    @property
    def steps(self) -> int:
        """Steps that were taken."""
        return len(self.losses)

    def first(self, reached: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the steps until something is reached, ``[runs]``; infinite where it never is."""
        return np.where(reached.any(0), self.every * reached.argmax(0), np.inf)


Batches = Callable[[int], Mapping[str, Tensor]]
"""``batches(t)``: columns ``[runs, batch, ...]`` of step t, from 0."""


@functools.lru_cache(maxsize=64)
def _group(name: str) -> dict[str, Any]:
    return dict(plain(compose_config([f"optimizer={name}"]))["optimizer"])


def optimizer(name: str, **changes: Any) -> dict[str, Any]:
    """Return the options of ``optimizer=name``, as the command line has them, with changes."""
    return _group(name) | changes


def traced_steps() -> StepCache:
    """Return a store of traced steps, for descents of one task and module."""
    return StepCache(stacked=True)


def noiseless(runs: int, dimensions: int) -> Batches:
    """Return batches of one draw of zero: gradients without noise."""
    batch = {"x": torch.zeros(runs, 1, dimensions), "y": torch.zeros(runs, 1)}
    return lambda t: batch


def noisy(
    runs: int,
    deviation: float | Sequence[float],
    *,
    seed: int,
    batch_size: int = 1,
    dimensions: int | None = None,
    same: bool = False,
) -> Batches:
    """Return batches of fresh Gaussian draws, of one deviation or one a dimension.

    ``same`` has all runs of the stack see the same draws, as paired comparisons do.
    """
    scale = torch.as_tensor(deviation, dtype=torch.float32)
    wide = len(scale) if scale.dim() else int(dimensions or 1)
    draw = torch.Generator().manual_seed(seed)
    y = torch.zeros(runs, batch_size)

    def batches(t: int) -> Mapping[str, Tensor]:
        count = 1 if same else runs
        x = scale * torch.randn(count, batch_size, wide, generator=draw)
        return {"x": x.expand(runs, -1, -1), "y": y}

    return batches


def descend(
    task: Task,
    module: nn.Module,
    options: Mapping[str, Any],
    lrs: Sequence[float],
    batches: Batches,
    steps: int,
    *,
    starts: NDArray[np.float64] | None = None,
    seed: int = 0,
    every: int = 1,
    until: Callable[[NDArray[np.float64]], NDArray[np.bool_]] | None = None,
    graphs: StepCache | None = None,
    **settings: Any,
) -> Descent:
    """Train a stack of runs and keep their paths.

    Parameters
    ----------
    task, module : Task, nn.Module
        What is learned, and the model at its start.
    options : mapping
        Of the optimizer, see :func:`optimizer`.
    lrs : sequence of float
        A learning rate for each run.
    batches : callable
        The batch of each step, in order: :func:`noiseless`, :func:`noisy` or one's own.
    steps : int
        Most steps.
    starts : np.ndarray, optional
        ``[runs, parameters]``; by default where the module is.
    seed : int
        Of what the losses draw, where they do.
    every : int
        Keep the parameters of every so many steps, and of the start.
    until : callable, optional
        From parameters ``[runs, parameters]`` to which runs need no further step; when all are
        done the descent ends. Looked at now and then.
    graphs : StepCache, optional
        Traced steps to share with other descents of the same task and module, whatever their
        optimizers; see :func:`traced_steps`.
    settings
        Further orders to the client: ``clip_norm``, ``weight_decay``.

    Returns
    -------
    Descent
        In the module's precision.
    """
    rates = np.asarray(lrs, np.float64)
    orders = LocalSettings(
        seed=seed, lr=float(rates.max()), optimizer=optimizer_order(options), **settings
    )
    update = LocalUpdate(task, as_function(module), orders)
    received = {name: p.detach().clone() for name, p in module.named_parameters()}
    params = repeated_parameters(received, len(rates))
    some = next(iter(params.values()))
    if starts is not None:
        for k, row in enumerate(torch.from_numpy(np.asarray(starts)).to(some)):
            for name, value in own_parameters(received, row).items():
                params[name][k] = value
    share = torch.from_numpy(rates / rates.max()).to(some)
    traced = traced_steps() if graphs is None else graphs
    return _follow(update, traced, params, share, batches, steps, rates, every, until)


def steps_down(
    gradients: NDArray[np.float64],
    options: Mapping[str, Any],
    lr: float = 1e-3,
    *,
    exact: bool = False,
    **settings: Any,
) -> NDArray[np.float64]:
    """Return the steps ``[steps, runs]`` that an optimizer takes, in learning rates.

    Each run has one parameter, of which these are the gradients ``[steps, runs]``; ``exact`` is
    double precision. Options and settings are as of :func:`descend`.
    """
    draws = torch.from_numpy(gradients.astype(np.float32))[:, :, None, None]
    y = torch.zeros(gradients.shape[1], 1)
    task, module = Objective(lambda: Plane((1,))), Plane((1,))
    path = descend(
        task,
        module.double() if exact else module,
        options,
        [lr] * gradients.shape[1],
        lambda t: {"x": draws[t], "y": y},
        len(gradients),
        **settings,
    )
    return np.asarray(-np.diff(path.params[:, :, 0], axis=0) / lr)


@torch.no_grad()
def _follow(
    update: LocalUpdate,
    traced: StepCache,
    params: Tree,
    share: Tensor,
    batches: Batches,
    steps: int,
    lrs: NDArray[np.float64],
    every: int,
    until: Callable[[NDArray[np.float64]], NDArray[np.bool_]] | None,
) -> Descent:
    runs = len(lrs)
    state = update.begin(params, share * update.settings.lr)
    stepping = LocalOptimizer(update.settings, params)
    sizes = [value[0].numel() for value in params.values()]
    some = next(iter(params.values()))
    losses = some.new_zeros(steps, runs)
    path = some.new_zeros(steps // every + 1, runs, sum(sizes))

    def keep(row: int) -> None:
        places = torch.split(path[row], sizes, dim=1)
        for place, value in zip(places, params.values(), strict=True):
            place.copy_(value.reshape(runs, -1))

    keep(0)
    even = bool((share == 1).all())
    taken = steps
    keyed = draws(update.task)
    with one_thread_an_operation():
        for t in range(steps):
            batch = dict(batches(t))
            rows = batch["y"].shape[1]
            if keyed:
                keys = row_keys(update.settings.seed, np.arange(runs), np.arange(runs + 1) * rows)
                batch["key"] = torch.from_numpy(keys).view(runs, rows)
            batch = at_step(batch, 1, t + 1) | {"present": some.new_ones(runs, rows)}
            losses[t] = traced.step(update, state, batch)(state, batch).mean(1)
            stepping.step(state["gradients"], None if even else share)
            if (t + 1) % every == 0:
                keep((t + 1) // every)
            if until is not None and t % CHECK_EVERY == CHECK_EVERY - 1:
                now = path[(t + 1) // every].double().numpy()
                if (until(now) | ~np.isfinite(now).all(1)).all():
                    taken = t + 1
                    break
    kept = path[: taken // every + 1].double().numpy()
    remembered = {
        key: torch.cat([value.reshape(runs, -1) for value in tree.values()], 1).double().numpy()
        for key, tree in stepping.state.items()
        if all(value.shape == params[name].shape for name, value in tree.items())
    }
    return Descent(kept, losses[:taken].double().numpy(), lrs, every, remembered)
