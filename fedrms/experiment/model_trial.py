"""Try a model before anyone trains: a step on two examples, and what clients could not do alike."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedrms.client import LocalSettings, as_function
from fedrms.client.app import split
from fedrms.client.draw_keys import draws, test_keys
from fedrms.client.layer_draws import addressed_draws
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
    values is kept with the module, see :mod:`fedrms.client.value_reads`.

    Raises
    ------
    ConfigError
        If they do not fit, or the model does what clients cannot do alike on every engine.
    """
    parameters = trainable(module)
    if not parameters:
        frozen = any(True for _ in module.parameters())
        raise ConfigError(
            "model",
            "has no trainable parameter" + (", all have requires_grad=False" if frozen else ""),
            "set requires_grad=True for what is to be learned" if frozen else CHOOSE,
        )
    _refuse_types(parameters)
    examples = len(federation.test_y) > 0
    none = np.zeros((2, *federation.test_y.shape[1:]), federation.test_y.dtype)
    y = federation.test_y[:2] if examples else none
    batch = {"x": torch.from_numpy(inputs_for(federation)[: len(y)]), "y": torch.from_numpy(y)}
    if draws(task):
        batch["key"] = torch.from_numpy(test_keys(0, len(y)))
    params, _ = split(module, dict(module.state_dict()))
    supervised = isinstance(task, Classification | MultiLabel | Regression | OwnLoss)
    who = "model" if supervised else "task"
    watched = _Watched(as_function(module), supervised, outputs_of(federation))
    update = LocalUpdate(task, watched, LocalSettings(optimizer=GRADIENT_ALONE))
    present = torch.ones(len(y))
    key = torch.tensor(0)
    reads = ValueReads()
    keep_reads(module, "")

    def step(rows: Tensor, there: Tensor) -> tuple[Any, Tensor]:
        columns = {name: column[rows] for name, column in batch.items()} | {"present": there}
        with addressed_draws(key), reads.watching(params, columns):
            return update.step(update.begin(params, torch.tensor(1.0)), columns)

    if not supervised:
        with evaluating(module), addressed_draws(key), unchanged("model", module):
            leaves = {
                n: value.detach().requires_grad_(n in parameters) for n, value in params.items()
            }
            try_task(task, watched, leaves, batch)

    def trial() -> tuple[Any, Tensor, Tensor, bool]:
        after, losses = step(torch.arange(len(y)), present)
        with evaluating(module), torch.no_grad(), addressed_draws(key) as judged:
            with reads.watching(params, batch):
                told = task.metrics(watched, params, batch)
                scored = update.score(params, batch)[:, 0]
            if not supervised:
                _try_judge(task, set(told), watched, params, batch)
        return after, losses, scored, judged.drawn > 0

    def first_outputs() -> tuple[Tensor, Tensor]:
        some = {"x": federation.test_x[:ROWS], "y": federation.test_y[:ROWS]}
        x, targets = (torch.from_numpy(v) for v in some.values()) if examples else batch.values()
        with evaluating(module), torch.no_grad(), addressed_draws(key):
            return watched(params, x), targets

    with unchanged("model", module), _explained(federation):
        flat = isinstance(task, OwnLoss) and try_loss(task, *first_outputs(), examples)
        after, losses, scored, drawn = without_other_generators(who, trial)
        _refuse_sparse(after["gradients"])
        keep_reads(module, reads.found)
        again = (*PADDED, PADDED[0])
        padded = [step(rows, torch.tensor([1.0, 1.0, 0.0])) for rows in again if len(y) == 2]
    if isinstance(task, Classification | OwnLoss):
        with unchanged("model", module):
            _tell_of_probabilities(task, *first_outputs())
    if scored.shape != batch["y"].shape[:1] or losses.shape != batch["y"].shape[:1]:
        raise ConfigError(
            who,
            f"gives losses of shape {tuple(scored.shape)} for {len(y)} examples",
            "a task needs one loss for each example",
        )
    if padded and (reads.remembers or not _alike(padded[0], padded[-1])):
        raise ConfigError(
            who,
            "gives other numbers for the same examples when it is called again, or remembers "
            "something of the examples that it was given before",
            "let forward keep nothing from one call to the next",
        )

    def losses_of(training: bool, some: Mapping[str, Tensor]) -> Tensor:
        mode = nullcontext() if training else evaluating(module)
        with mode, torch.no_grad(), addressed_draws(key):
            return task.losses(watched, params, some)

    if drawn:
        raise ConfigError(
            who,
            "draws at random when it is evaluated too, so no measurement would be certain",
            "draw in training alone: nn.Dropout, or functional.dropout(x, p, self.training)",
        )
    mixes = bool(padded) and not _alike(*padded[:2])
    if padded and reads.found != "inputs":
        for training in (False,) if watched.normalises else (False, True):
            mixes |= _mixes(functools.partial(losses_of, training), batch, alone=not training)
    if mixes:
        raise ConfigError(
            who,
            "mixes the examples of a batch, so that padding would change what a client learns",
            "let each example's outputs and loss depend on itself alone; of layers that normalise "
            "by the batch, torch.nn.BatchNorm1d, BatchNorm2d and BatchNorm3d will do",
        )
    if examples:
        _refuse_dead(who, losses, after["gradients"], flat or not supervised)
    if reads.found == "inputs":
        log.warning(
            "model: it or its loss decides by values of the examples (if, .item(), x[mask]), so "
            "clients are trained one after the other on the rows that are there, and judged one "
            "example at a time, which is slow; torch.where instead of `if` avoids it"
        )


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
        shape = tuple(federation.shape)
        whole = federation.test_x.dtype.kind == "i"
        remedy = CHOOSE
        if whole:
            remedy = "look them up by a large enough nn.Embedding, or set data.integer_inputs=false"
        elif "indices" in str(error):
            remedy = "set data.integer_inputs=true: the inputs are floats, and an index is none"
        kind = "whole numbers" if whole else "examples"
        raise ConfigError(
            "model", f"does not fit {kind} of shape {shape}: {said_by(error)}", remedy
        ) from error


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
