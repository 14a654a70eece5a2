"""Try a model before anyone trains: a step on two examples, and what clients could not do alike."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedrms.client import LocalSettings, as_function
from fedrms.client.app import split
from fedrms.client.draw_keys import draws, test_keys
from fedrms.client.layer_draws import AddressedDraws, addressed_draws
from fedrms.client.local_optimizer import optimizer_order
from fedrms.client.local_update import LocalUpdate, ModuleFunction, evaluating, trainable
from fedrms.client.value_reads import Reads, ValueReads, keep_reads, reads_of
from fedrms.data import AnyFederation
from fedrms.errors import ConfigError
from fedrms.experiment.loss_trial import ROWS, are_probabilities, scale_free, try_loss
from fedrms.experiment.model import inputs_for, outputs_of, said_by
from fedrms.experiment.task_trial import try_task
from fedrms.experiment.trial_state import unchanged, without_other_generators
from fedrms.tasks import Classification, Params, Regression, Task
from fedrms.tasks.judge import judge_of
from fedrms.tasks.multi_label import MultiLabel
from fedrms.tasks.own_loss import OwnLoss

log = logging.getLogger("fedrms")

GRADIENT_ALONE = optimizer_order({"_target_": "torch.optim.SGD"})
"""A step that ends at the gradient."""

PADDED = (torch.tensor([0, 1, 0]), torch.tensor([0, 1, 1]))
"""Two examples, and behind them a row that does not count."""

FAR = (0.0, -1000.0, 1000.0)
"""What stands in every place of an example that another must not depend on."""

CHOOSE = "mend it, or choose a model for this data (model=mlp fits every shape)"


def try_model(task: Task, module: nn.Module, federation: AnyFederation) -> None:
    """Take one training step on two examples and score them, so that a misfit shows now.

    Zeros stand in for test examples where there are none. What the model or the loss reads of its
    values is kept with the module, see :mod:`fedrms.client.value_reads`. A model that does what
    clients cannot do alike on every engine is refused.
    """
    parameters = _parameters(module)
    _refuse_types(parameters)
    trial = _Trial(task, module, federation)
    if not trial.supervised:
        trial.try_own_task(parameters)
    with unchanged("model", module), _explained(federation):
        flat = isinstance(task, OwnLoss) and try_loss(task, *trial.first_outputs(), trial.examples)
        after, losses, scored, drawn = without_other_generators(trial.who, trial.round)
        _refuse_sparse(after["gradients"])
        keep_reads(module, trial.reads.found)
        padded = trial.padded_steps()
    if isinstance(task, Classification | OwnLoss):
        with unchanged("model", module):
            _tell_of_probabilities(task, *trial.first_outputs())
    trial.refuse_shapes(losses, scored)
    trial.refuse_memory(padded)
    trial.refuse_draws(drawn)
    trial.refuse_mixing(padded)
    if trial.examples:
        _refuse_dead(trial.who, losses, after["gradients"], flat or not trial.supervised)
    if trial.reads.found == "inputs":
        log.warning(
            "model: it or its loss decides by values of the examples (if, .item(), x[mask]), so "
            "clients are trained one after the other on the rows that are there, and judged one "
            "example at a time, which is slow; torch.where instead of `if` avoids it"
        )


def _parameters(module: nn.Module) -> Mapping[str, nn.Parameter]:
    """Return what is trained, at least one."""
    parameters = trainable(module)
    if not parameters:
        frozen = any(True for _ in module.parameters())
        raise ConfigError(
            "model",
            "has no trainable parameter" + (", all have requires_grad=False" if frozen else ""),
            "set requires_grad=True for what is to be learned" if frozen else CHOOSE,
        )
    return parameters


Step = tuple[Any, Tensor]
"""A state after a step, and ``[examples]`` losses before it."""


class _Trial:
    """A client of two examples, on which a model and a task are tried."""

    def __init__(self, task: Task, module: nn.Module, federation: AnyFederation) -> None:
        self._task, self._module, self._federation = task, module, federation
        self.examples = len(federation.test_y) > 0
        none = np.zeros((2, *federation.test_y.shape[1:]), federation.test_y.dtype)
        y = federation.test_y[:2] if self.examples else none
        x = inputs_for(federation)[: len(y)]
        self._batch = {"x": torch.from_numpy(x), "y": torch.from_numpy(y)}
        if draws(task):
            self._batch["key"] = torch.from_numpy(test_keys(0, len(y)))
        self._params, _ = split(module, dict(module.state_dict()))
        self.supervised = isinstance(task, Classification | MultiLabel | Regression | OwnLoss)
        self.who = "model" if self.supervised else "task"
        self._apply = _Watched(as_function(module), self.supervised, outputs_of(federation))
        self._update = LocalUpdate(task, self._apply, LocalSettings(optimizer=GRADIENT_ALONE))
        self._key = torch.tensor(0)
        self.reads = ValueReads()
        keep_reads(module, "")

    def try_own_task(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Call a task of one's own before anything is built upon it."""
        with self._judging():
            leaves = {
                name: value.detach().requires_grad_(name in parameters)
                for name, value in self._params.items()
            }
            with unchanged("model", self._module):
                try_task(self._task, self._apply, leaves, self._batch)

    def round(self) -> tuple[Any, Tensor, Tensor, bool]:
        """Take a step and judge the model; say whether it drew at random when it was judged."""
        count = len(self._batch["y"])
        after, losses = self._step(torch.arange(count), torch.ones(count))
        with self._judging() as judged, torch.no_grad():
            with self.reads.watching(self._params, self._batch):
                told = self._task.metrics(self._apply, self._params, self._batch)
                scored = self._update.score(self._params, self._batch)[:, 0]
            if not self.supervised:
                _try_judge(self._task, set(told), self._apply, self._params, self._batch)
        return after, losses, scored, judged.drawn > 0

    def first_outputs(self) -> tuple[Tensor, Tensor]:
        """Return the model's outputs for the first test examples, and their targets."""
        x, y = self._batch["x"], self._batch["y"]
        if self.examples:
            federation = self._federation
            x, y = (torch.from_numpy(v[:ROWS]) for v in (federation.test_x, federation.test_y))
        with self._judging(), torch.no_grad():
            return self._apply(self._params, x), y

    def padded_steps(self) -> list[Step]:
        """Return steps on the two examples with this, with that and again with this behind them."""
        if len(self._batch["y"]) != 2:
            return []
        again = (*PADDED, PADDED[0])
        return [self._step(rows, torch.tensor([1.0, 1.0, 0.0])) for rows in again]

    def refuse_shapes(self, losses: Tensor, scored: Tensor) -> None:
        """Refuse what is not one loss an example."""
        count = self._batch["y"].shape[:1]
        if scored.shape != count or losses.shape != count:
            raise ConfigError(
                self.who,
                f"gives losses of shape {tuple(scored.shape)} for {count[0]} examples",
                "a task needs one loss for each example",
            )

    def refuse_memory(self, padded: Sequence[Step]) -> None:
        """Refuse a model for which a call depends on those before it."""
        if padded and (self.reads.remembers or not _alike(padded[0], padded[-1])):
            raise ConfigError(
                self.who,
                "gives other numbers for the same examples when it is called again, or remembers "
                "something of the examples that it was given before",
                "let forward keep nothing from one call to the next",
            )

    def refuse_draws(self, drawn: bool) -> None:
        """Refuse a model that draws when it is judged."""
        if drawn:
            raise ConfigError(
                self.who,
                "draws at random when it is evaluated too, so no measurement would be certain",
                "draw in training alone: nn.Dropout, or functional.dropout(x, p, self.training)",
            )

    def refuse_mixing(self, padded: Sequence[Step]) -> None:
        """Refuse a model for which an example's loss depends on those beside it."""
        mixes = bool(padded) and not _alike(*padded[:2])
        if padded and self.reads.found != "inputs":
            for training in (False,) if self._apply.normalises else (False, True):
                losses = functools.partial(self._losses, training)
                mixes |= _mixes(losses, self._batch, alone=not training)
        if mixes:
            raise ConfigError(
                self.who,
                "mixes the examples of a batch, so that padding would change what a client learns",
                "let each example's outputs and loss depend on itself alone; of layers that "
                "normalise by the batch, torch.nn.BatchNorm1d, BatchNorm2d and BatchNorm3d will do",
            )

    def _step(self, rows: Tensor, there: Tensor) -> Step:
        columns = {name: column[rows] for name, column in self._batch.items()}
        columns["present"] = there
        with addressed_draws(self._key), self.reads.watching(self._params, columns):
            return self._update.step(self._update.begin(self._params, torch.tensor(1.0)), columns)

    def _losses(self, training: bool, some: Mapping[str, Tensor]) -> Tensor:
        mode = addressed_draws(self._key) if training else self._judging()
        with mode, torch.no_grad():
            return self._task.losses(self._apply, self._params, some)

    @contextmanager
    def _judging(self) -> Iterator[AddressedDraws]:
        with evaluating(self._module), addressed_draws(self._key) as drawing:
            yield drawing


def _refuse_types(parameters: Mapping[str, nn.Parameter]) -> None:
    """Refuse parameters that cannot travel side by side in one row of numbers."""
    found = {value.dtype: name for name, value in parameters.items()}
    (first, *others) = found
    if others or first not in (torch.float16, torch.float32, torch.float64):
        told = ", ".join(f"{str(kind).removeprefix('torch.')} ({found[kind]})" for kind in found)
        raise ConfigError(
            "model",
            f"has parameters of {told}",
            "let all be float32, real and imaginary parts apart, and let forward turn them into "
            "another type; engine.precision=bf16 calculates in bfloat16",
        )


def _refuse_sparse(gradients: Params) -> None:
    for name, value in gradients.items():
        if value.layout != torch.strided:
            raise ConfigError(
                "model",
                f"has a sparse gradient for {name!r}, and updates are averaged as rows of numbers",
                "give its layer sparse=False",
            )


def _try_judge(
    task: Task, told: set[str], apply: _Watched, params: Params, batch: Mapping[str, Tensor]
) -> None:
    """Refuse a chosen metric that a task of one's own gives nothing for."""
    judge = judge_of(task)
    if judge is None:
        return
    for name in judge.names:
        if name not in judge.of_sets and name not in told:
            raise ConfigError(
                "metric",
                f"the task's `metrics` returns {', '.join(sorted(told))} and no {name!r}",
                "return it there, [examples], or leave metric=auto",
            )
    if not judge.of_sets:
        return
    outputs: Any = apply(params, batch["x"])
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else ()
    if shape[:1] != (len(batch["y"]),) or math.prod(shape[1:]) != apply.width:
        gives = f"outputs of shape {shape}" if shape else f"a {type(outputs).__name__}"
        raise ConfigError(
            "metric",
            f"{judge.of_sets[0]!r} is made of outputs [examples, {apply.width}], and this task's "
            f"model gives {gives}",
            "leave metric=auto, which is the task's own",
        )


class _Watched:
    """The model as a function that says what is wrong with its outputs."""

    def __init__(self, apply: ModuleFunction, supervised: bool, width: int) -> None:
        self._apply, self._supervised, self.width = apply, supervised, width
        self.module, self.moving, self.normalises = apply.module, apply.moving, apply.normalises

    @property
    def reads(self) -> Reads:
        return reads_of(self.module)

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        before = x._version
        y: Any = self._apply(params, x)
        if x._version != before:
            raise ConfigError(
                "model",
                "changes its input in place, which clients read again",
                "let forward change nothing but values of its own, such as x = x * 2",
            )
        if not self._supervised:
            tensor: Tensor = y
            return tensor
        if not isinstance(y, Tensor):
            raise ConfigError(
                "model",
                f"returns a {type(y).__name__}, where scores are needed",
                "let forward return the scores alone, one tensor [examples, outputs]",
            )
        if tuple(y.shape) != (len(x), self.width):
            raise ConfigError(
                "model",
                f"gives outputs of shape {tuple(y.shape)} for {len(x)} examples of shape "
                f"{tuple(x.shape[1:])}",
                f"let it give [examples, {self.width}]: one number for each class, or one where a "
                "number is learned, for each of them",
            )
        return y


@contextmanager
def _explained(federation: AnyFederation) -> Iterator[None]:
    """Turn whatever a model raises into one message."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # somebody's module may raise anything
        kind, remedy = "examples", CHOOSE
        if federation.test_x.dtype.kind == "i":
            kind = "whole numbers"
            remedy = "look them up by a large enough nn.Embedding, or set data.integer_inputs=false"
        elif "indices" in str(error):
            remedy = "set data.integer_inputs=true: the inputs are floats, and an index is none"
        problem = f"does not fit {kind} of shape {tuple(federation.shape)}: {said_by(error)}"
        raise ConfigError("model", problem, remedy) from error


def _alike(one: tuple[Any, Tensor], other: tuple[Any, Tensor]) -> bool:
    """Say whether two steps lost and moved the same, to rounding."""
    (first, losses), (second, others) = one, other
    told = [(losses, others)]
    for part in ("gradients", "statistics"):
        told += [(value, second[part][name]) for name, value in first.get(part, {}).items()]
    return all(torch.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True) for a, b in told)


def _mixes(
    losses: Callable[[Mapping[str, Tensor]], Tensor], batch: Mapping[str, Tensor], alone: bool
) -> bool:
    """Say whether the loss of an example moves with what the other one is, or without it."""
    first = losses(batch)
    for one, other in ((0, 1), (1, 0)):
        for far in (None, *FAR) if alone else FAR:  # alone it draws other numbers in training
            altered, place = {name: column.clone() for name, column in batch.items()}, one
            x, y = altered["x"], altered["y"]
            if far is None:
                altered, place = {k: v[one : one + 1] for k, v in altered.items()}, 0
            else:
                x[other], y[other] = (far if x.is_floating_point() else x[one]), y[one]
            try:
                found = losses(altered)
            except Exception:  # it is no example of the data, so a model may refuse it
                continue
            if not torch.allclose(found[place], first[one], rtol=1e-3, atol=1e-4, equal_nan=True):
                return True
    return False


def _tell_of_probabilities(task: Classification | OwnLoss, outputs: Tensor, y: Tensor) -> None:
    """Warn of outputs that a softmax has gone over: cross-entropy does that by itself."""
    if not are_probabilities(outputs):
        return
    if isinstance(task, Classification) or scale_free(task, outputs, y):
        log.warning(
            "model: its outputs are probabilities, and cross-entropy takes scores, so it learns "
            "slowly; leave the softmax out, or give a loss of probabilities"
        )


def _refuse_dead(who: str, losses: Tensor, gradients: Params, flat: bool) -> None:
    if not all(torch.isfinite(value).all() for value in (losses, *gradients.values())):
        raise ConfigError(
            who,
            f"begins with losses of {[round(float(v), 4) for v in losses]}, or a gradient that is "
            "not finite",
            "mend how its weights begin, or look for bad values in the data",
        )
    if not flat and not any(value.any() for value in gradients.values()):
        raise ConfigError(
            "model",
            "has a gradient of zero for every parameter, so it would never learn",
            "let no detach() or no_grad() stand between its parameters and its outputs",
        )
