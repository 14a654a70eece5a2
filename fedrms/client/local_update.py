"""How one client learns: three small pure functions, ``begin``, ``step`` and ``finish``.

They are written for ONE client. The Flower ``ClientApp`` loops them; the vector engine maps
``step`` over a stack of clients by ``torch.func``. Both follow the same schedule of
batches, so both give the same numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import grad
from torch.utils._pytree import tree_map_only

from fedrms.client.batch_statistics import BatchStatistics, moving_statistics, normalises
from fedrms.client.called_with import called_with
from fedrms.client.own_normalising import with_own_statistics
from fedrms.client.settings import LocalSettings
from fedrms.client.value_reads import Reads, reads_of
from fedrms.tasks import Apply, Batch, KnowsChance, Params, Regression, Task

Tree = dict[str, Tensor]
State = dict[str, Tree]
"""``params``, and where the settings ask for them ``velocity`` (momentum), ``anchor`` (the
received parameters, for the proximal term), ``squares`` (the running mean of squared
gradients) and ``gradients`` (for an optimizer other than SGD); ``lr`` holds the scalar step
size. ``statistics`` are the running statistics of a model that normalises by the batch."""

MOST_TARGETS = 16
"""Of an example for which they leave the device, with what is predicted of them."""

SQUARES = "gradient-squares/"
"""What the names of the squared gradients begin with, behind the parameters in a client's row."""


@dataclass(frozen=True)
class ModuleFunction:
    """A module as a pure function of its parameters (see :func:`as_function`).

    Attributes
    ----------
    module : nn.Module
        The structure; its own parameters are not used.
    precision : str
        ``float32``: as the parameters are. ``bf16``: products and convolutions in bfloat16
        (autocast), parameters and losses as they are.
    """

    module: nn.Module
    precision: str = "float32"

    @property
    def moving(self) -> tuple[str, ...]:
        """Names of the running statistics that training moves."""
        return moving_statistics(self.module)

    @property
    def normalises(self) -> bool:
        """Whether a layer normalises by the batch."""
        return normalises(self.module)

    @property
    def reads(self) -> Reads:
        """What it reads of its values, see :mod:`fedrms.client.value_reads`."""
        return reads_of(self.module)

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        """Return the module's outputs with these parameters."""
        if self.precision == "float32":
            return self._outputs(params, x)
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            y = self._outputs(params, x)
        return y.to(next(iter(params.values())).dtype)

    def _outputs(self, params: Params, x: Tensor) -> Tensor:
        return called_with(self.module, params, x)


PRECISIONS = ("float32", "bf16")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, and leave each of its parts in the mode that it had."""
    training = [part for part in module.modules() if part.training]
    if training:
        module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that clients train, by name: those that ask for a gradient."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def frozen(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that nobody trains, by every name that they have."""
    named = module.named_parameters(remove_duplicate=False)
    return {name: p for name, p in named if not p.requires_grad}


def as_function(module: nn.Module, precision: str = "float32") -> ModuleFunction:
    """Return the module as a pure function of its parameters and running statistics.

    Other buffers stay as they are.

    Parameters
    ----------
    module : nn.Module
        The structure.
    precision : str
        See :class:`ModuleFunction`.

    Raises
    ------
    ConfigError
        If its running statistics cannot be followed, see
        :func:`fedrms.client.batch_statistics.moving_statistics`.
    """
    moving_statistics(module)
    return ModuleFunction(module, precision)


@dataclass(frozen=True)
class LocalUpdate:
    """Local SGD on a task, as pure functions of one client's state.

    With another optimizer, the pure step ends at the gradient, and a
    :class:`fedrms.client.local_optimizer.LocalOptimizer` goes on from there.

    Parameters
    ----------
    task : Task
        What is learned.
    apply : Apply
        The model as a function (see :func:`as_function`).
    settings : LocalSettings
        Momentum, weight decay, clipping and the proximal weight are read from it.
    """

    task: Task
    apply: Apply
    settings: LocalSettings

    @functools.cached_property
    def moving(self) -> tuple[str, ...]:
        """Names of the running statistics that training moves beside the parameters."""
        return getattr(self.apply, "moving", ())

    def begin(self, params: Tree, lr: Tensor) -> State:
        """Return the state of a client that has just received ``params``, statistics among them."""
        statistics = {name: params[name] for name in self.moving}
        params = {name: p for name, p in params.items() if name not in statistics}
        state: State = {"params": params, "lr": {"lr": lr}}
        if statistics:
            state["statistics"] = statistics
        if self.settings.momentum:
            state["velocity"] = {name: torch.zeros_like(p) for name, p in params.items()}
        if self.settings.proximal_mu:
            state["anchor"] = params
        if self.settings.gradient_decay:
            state["squares"] = {name: torch.zeros_like(p) for name, p in params.items()}
        if self.settings.optimizer:
            state["gradients"] = {name: torch.zeros_like(p) for name, p in params.items()}
        return state

    def step(self, state: State, batch: Batch, *, mapped: bool = False) -> tuple[State, Tensor]:
        """Take one mini-batch step, or leave its gradient for the optimizer that is to take it.

        Parameters
        ----------
        state : State
            From :meth:`begin` or the previous step.
        batch : Batch
            Columns of the task, ``[batch, ...]``, and ``present`` ``[batch]``: 1 for an
            example, 0 for padding.
        mapped : bool
            Whether ``torch.func.vmap`` maps this over clients, so that ``torch.func`` must
            differentiate.

        Returns
        -------
        state : State
            After the update.
        losses : Tensor
            ``[batch]`` losses at the parameters *before* the update (0 where padded).
        """
        settings = self.settings
        params, present = state["params"], batch["present"]
        if self.reads and mapped:
            raise RuntimeError(f"vmap: the model reads values of its {self.reads}")
        if self.reads == "inputs" and 0 < present.sum() < len(present):
            rows = present.nonzero()[:, 0]
            there = {name: column[rows] for name, column in batch.items()}
            moved_on, found = self.step(state, there)
            return moved_on, found.new_zeros(present.shape).index_copy(0, rows, found)

        statistics = state.get("statistics", {})

        def objective(params: Tree) -> tuple[Tensor, tuple[Tensor, Tree]]:
            with self._normalising(present, statistics) as normalised:
                losses = self.task.losses(self.apply, params | statistics, batch) * present
            total = losses.sum() / present.sum().clamp(min=1.0)
            if settings.proximal_mu:
                anchor = state["anchor"]
                drift = sum((p - anchor[name]).square().sum() for name, p in params.items())
                total = total + 0.5 * settings.proximal_mu * drift
            return total, (losses, {} if normalised is None else normalised.latest)

        differentiated = grad(objective, has_aux=True) if mapped else _gradient(objective)
        gradients, (losses, moved) = differentiated(params)
        if settings.clip_norm:
            norm = torch.stack([g.square().sum() for g in gradients.values()]).sum().sqrt()
            shrink = (settings.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            gradients = {name: g * shrink for name, g in gradients.items()}
        if settings.weight_decay:
            gradients = {
                name: g + settings.weight_decay * params[name] for name, g in gradients.items()
            }
        after: State = dict(state)
        if statistics and not self.local_statistics:
            after["statistics"] = moved
        if settings.gradient_decay:
            # A batch of padding alone is no step: a client that has finished keeps its mean.
            works, rate = present.sum() > 0, 1.0 - settings.gradient_decay
            after["squares"] = {
                name: mean + rate * works.to(mean.dtype) * (gradients[name].square() - mean)
                for name, mean in state["squares"].items()
            }
        if settings.optimizer:
            after["gradients"] = gradients
            return after, losses
        if settings.momentum:
            velocity = state["velocity"]
            gradients = {
                name: settings.momentum * velocity[name] + g for name, g in gradients.items()
            }
            after["velocity"] = gradients
        lr = state["lr"]["lr"]
        after["params"] = {
            name: torch.addcmul(p, lr, gradients[name], value=-1) for name, p in params.items()
        }
        return after, losses

    def finish(self, state: State) -> Tree:
        """Return what training changed, and behind it the squared gradients if asked for.

        These are zeros for running statistics. The noise statistics come from the steps' losses.
        """
        statistics, squares = state.get("statistics", {}), state.get("squares", {})
        if squares:  # in the layout of the parameters
            squares = squares | {name: torch.zeros_like(v) for name, v in statistics.items()}
        behind = {SQUARES + name: mean for name, mean in squares.items()}
        return state["params"] | statistics | behind

    def gathered(self, steps: int | np.ndarray) -> np.ndarray:
        """Return the weight that a mean of squares has gathered in so many steps, to divide by.

        Adam's bias correction, ``1 - beta_2^steps`` (arXiv:1412.6980, Algorithm 1).
        """
        return np.asarray(1.0 - self.settings.gradient_decay ** np.asarray(steps))

    def losses(self, params: Tree, batch: Batch) -> Tensor:
        """Return the losses ``[examples]`` at fixed parameters, for the other statistics.

        The module is in evaluation mode, as in any measurement: no dropout.
        """
        with self._evaluating():
            return self._each(lambda some: self.task.losses(self.apply, params, some), batch)

    @property
    def reads(self) -> Reads:
        """What the model or the task reads of its values; nothing where nobody has looked."""
        return getattr(self.apply, "reads", "")

    def _each(self, score: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """Score a batch; one example at a time where others could decide about it."""
        examples = len(next(iter(batch.values())))
        if self.reads != "inputs" or examples < 2:
            return score(batch)
        alone = ({n: c[i : i + 1] for n, c in batch.items()} for i in range(examples))
        return torch.cat([score(one) for one in alone])

    def _normalising(
        self, present: Tensor, statistics: Tree
    ) -> AbstractContextManager[BatchStatistics | None]:
        if not getattr(self.apply, "normalises", False):
            return nullcontext()
        module: nn.Module = self.apply.module  # type: ignore[attr-defined]
        return BatchStatistics(module, present, statistics, still=self.local_statistics)

    @property
    def local_statistics(self) -> bool:
        """Whether running statistics are each client's own, and do not move in training."""
        return self.settings.running_statistics == "local" and bool(self.moving)

    def judging(self, params: Tree, x: Tensor) -> Tree:
        """Return what one client, with inputs ``x``, judges a model by: with its own statistics.

        The same as given, where statistics are averaged.
        """
        if not self.local_statistics:
            return params
        module: nn.Module = self.apply.module  # type: ignore[attr-defined]
        return with_own_statistics(module, params, x)

    def _evaluating(self) -> AbstractContextManager[None]:
        module = getattr(self.apply, "module", None)
        return nullcontext() if module is None else evaluating(module)

    @functools.cached_property
    def knows_chance(self) -> bool:
        """Whether :meth:`score` gives chance losses."""
        return self.settings.scores_chance and isinstance(self.task, KnowsChance)

    def targets(self, y: Tensor | None) -> int:
        """Return how many targets of an example :meth:`score` gives, and predictions of them.

        None but where losses are squared errors and no more than losses of one class are ordered.
        """
        squared = getattr(type(self.task), "losses", None) is Regression.losses
        one_class = self.settings.class_losses == 1 and not self.settings.statistic_epsilon
        count = 0 if y is None else y.shape[1:].numel()
        return count if squared and one_class and count <= MOST_TARGETS else 0

    def scores(self, y: Tensor | None) -> int:
        """Return how many numbers :meth:`score` gives an example, for targets ``[rows, ...]``."""
        return 1 + (2 * self.targets(y) or int(self.knows_chance))

    def score(self, params: Tree, batch: Batch) -> Tensor:
        """Return ``[examples, scores]`` at fixed parameters: losses, and what belongs beside them.

        Where the orders ask for losses by class: chance losses, where the task knows them, or
        predictions and targets, where losses are squared errors.
        """
        if self.targets(batch.get("y")):
            return self._scored(
                batch,
                lambda some: self.task.errors_and_targets(self.apply, params, some),  # type: ignore[attr-defined]
            )
        if self.knows_chance:
            return self._scored(
                batch,
                lambda some: torch.stack(self.task.chance_losses(self.apply, params, some), dim=1),  # type: ignore[attr-defined]
            )
        return self.losses(params, batch)[:, None]

    def _scored(self, batch: Batch, score: Callable[[Batch], Tensor]) -> Tensor:
        with self._evaluating():
            return self._each(score, batch)


def _gradient(objective: Callable[[Tree], tuple[Tensor, Any]]) -> Callable[[Tree], Any]:
    """Return what ``torch.func.grad(objective, has_aux=True)`` does, by the tape of any loop.

    It has faster kernels for layers that normalise, and leaves PyTorch's compiler alone, whose
    import takes a process more than a second and 70 MB.
    """

    def differentiated(params: Tree) -> tuple[Tree, Any]:
        with torch.enable_grad():
            # Not detach(), which would notice that other clients' rows of a stack are written to.
            leaves = {name: p.data.requires_grad_() for name, p in params.items()}
            total, told = objective(leaves)
        if total.requires_grad:
            found = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
        else:
            found = tuple(map(torch.zeros_like, params.values()))
        return dict(zip(params, found, strict=True)), tree_map_only(Tensor, Tensor.detach, told)

    return differentiated
