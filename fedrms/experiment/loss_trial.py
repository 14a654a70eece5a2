"""Try a person's own loss on a model's first outputs, so that what is wrong with it names it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fedrms.client.layer_draws import addressed_draws
from fedrms.client.value_reads import ValueReads
from fedrms.errors import ConfigError, as_config_error
from fedrms.experiment.trial_state import unchanged, without_other_generators
from fedrms.tasks.own_loss import OwnLoss

ROWS = 64
"""The most test examples that a loss is tried on."""

ALONE = 4
"""How many of them it is tried on one by one."""

WIDTHS = (1.0, 10.0, 100.0)
"""Deviations of the outputs that are drawn where the first ones have no gradient."""

FAR = (1e3, 1e4)
"""How far outputs are moved to see whether a loss falls without end."""

SUM_OF_ONE = 1e-3
"""What a sum of probabilities, or its logarithm, may differ by rounding."""


def try_loss(task: OwnLoss, outputs: Tensor, y: Tensor, told: bool = True) -> bool:
    """Refuse a loss that does not fit, or that clients could not use alike.

    It is tried on the model's outputs ``[examples, outputs]``; ``told`` says whether the targets
    are values of the data, and not zeros in their place. Returns whether it is flat at the first
    two, as a hinge or an ignored class may be: that they have no gradient is then not the model's
    fault.
    """
    outputs = outputs.detach()
    _fits(task, outputs, y)
    reads = ValueReads()

    def trial() -> tuple[Tensor, Tensor, int]:
        with (
            unchanged("loss", task.on(outputs.device)),
            addressed_draws(torch.tensor(0)) as drawing,
        ):
            with reads.watching({}, {"outputs": outputs, "y": y}):
                first = task.of(outputs, y)
            drawn = drawing.drawn
            return first, task.of(outputs, y), drawn

    first, again, drawn = without_other_generators("loss", trial)
    if drawn or not torch.equal(first.nan_to_num(), again.nan_to_num()):
        raise ConfigError(
            "loss",
            "draws at random, so no measurement would be certain"
            if drawn
            else "gives other numbers for the same outputs and targets when it is called again",
            "let it follow from outputs and targets alone; what is drawn, such as dropout, belongs "
            "into the model",
        )
    if reads.found != "inputs":
        _each_alone(task, outputs, y, first)
    if told and bool(outputs.isfinite().all()):
        _finite(outputs, y, first)
    if not (_are_logs(outputs) or are_probabilities(outputs)):
        _bounded(task, outputs, y, first)
        _falls(task, outputs, y)
    return _flat(task, outputs, y) if told else False


def scale_free(task: OwnLoss, outputs: Tensor, y: Tensor) -> bool:
    """Say whether the loss takes scores: what is added to all outputs does not count."""
    return bool(torch.allclose(task.of(outputs + 1, y), task.of(outputs, y), atol=1e-4))


def are_probabilities(outputs: Tensor) -> bool:
    """Say whether a softmax has gone over outputs ``[examples, classes]``."""
    if outputs.dim() < 2 or outputs.shape[1] < 2:
        return False
    return bool((outputs >= 0).all() and ((outputs.sum(1) - 1).abs() < SUM_OF_ONE).all())


def _are_logs(outputs: Tensor) -> bool:
    """Say whether outputs ``[examples, classes]`` are logarithms of probabilities."""
    return outputs.dim() > 1 and bool((outputs.logsumexp(1).abs() < SUM_OF_ONE).all())


def _fits(task: OwnLoss, outputs: Tensor, y: Tensor) -> None:
    fits_by_chance = torch.arange(len(y) + 1) % len(y)  # as many examples as classes
    for rows in (torch.arange(min(2, len(y))), fits_by_chance, torch.arange(1)):
        some, targets = outputs[rows], y[rows]
        before = some._version, targets._version
        losses = _losses(task, some, targets)
        if (some._version, targets._version) != before:
            what = "outputs" if some._version != before[0] else "targets"
            raise ConfigError(
                "loss",
                f"changes its {what} in place, which are read again",
                "let it change nothing but values of its own, such as outputs = outputs * 2",
            )
        if not losses.is_floating_point():
            kind = str(losses.dtype).removeprefix("torch.")
            raise ConfigError("loss", f"gives numbers of type {kind}", "let it return real numbers")


def _losses(task: OwnLoss, outputs: Tensor, y: Tensor) -> Tensor:
    told = f"does not fit outputs {list(outputs.shape)} and targets {list(y.shape)}: "
    remedy = "give a function of both that returns one number for each example"
    with as_config_error("loss", remedy, lambda error: f"{told}{str(error).strip()}"):
        return task.of(outputs, y)


def _each_alone(task: OwnLoss, outputs: Tensor, y: Tensor, losses: Tensor) -> None:
    """Refuse a loss of an example that moves with the others, or with how many there are."""
    alone = torch.cat([task.of(outputs[i : i + 1], y[i : i + 1]) for i in range(len(y))[:ALONE]])
    if not torch.allclose(alone, losses[:ALONE], rtol=1e-4, atol=1e-5, equal_nan=True):
        raise ConfigError(
            "loss",
            "mixes the examples of a batch: an example alone loses something else, so padding "
            "would change what a client learns",
            "let each example's loss follow from its own outputs and targets; a mean that is the "
            "same for all is none",
        )


def _finite(outputs: Tensor, y: Tensor, losses: Tensor) -> None:
    bad = (~losses.isfinite()).nonzero()[:, 0]
    if len(bad):
        row = int(bad[0])
        raise ConfigError(
            "loss",
            f"is {float(losses[row])} for outputs {_shown(outputs[row])} and target "
            f"{_shown(y[row])}",
            "let the model give what it takes (nn.KLDivLoss takes logarithms of probabilities), or "
            "mend it: add a small number before a log, a root or a division",
        )


def _bounded(task: OwnLoss, outputs: Tensor, y: Tensor, losses: Tensor) -> None:
    """Refuse what is linear in scores, as ``nll_loss`` is: it falls without end as they grow."""
    if not losses.any():
        return
    for times in (-1.0, 3.0):
        try:
            found = task.of(outputs * times, y)
        except Exception:  # somebody's function may refuse such outputs
            return
        if not torch.allclose(found, losses * times, rtol=1e-4, atol=1e-6):
            return
    name = type(task.loss).__name__ if isinstance(task.loss, nn.Module) else "it"
    raise ConfigError(
        "loss",
        f"{name} takes logarithms of probabilities, or falls without end as outputs grow, and the "
        "model's outputs are scores",
        "take CrossEntropyLoss, or let the model end in nn.LogSoftmax(1)",
    )


def _falls(task: OwnLoss, outputs: Tensor, y: Tensor) -> None:
    """Refuse what falls ever on down its own slope, as the negative of a loss does."""
    slope = _gradient(task, outputs, y)[1][1]
    steps = slope / slope.norm(dim=tuple(range(1, slope.dim())), keepdim=True).clamp(min=1e-12)
    try:
        near, far = (task.of(outputs - times * steps, y) for times in FAR)
    except Exception:  # somebody's function may refuse such outputs
        return
    if bool(((far < 5 * near) & (near < -1)).any()):
        raise ConfigError(
            "loss",
            f"falls without end: it is {float(far.min()):.4g} for outputs far from all targets, so "
            "training would never be done",
            "look at its sign: a loss is the smaller the better a prediction is",
        )


def _flat(task: OwnLoss, outputs: Tensor, y: Tensor) -> bool:
    """Say whether the first two have no gradient; refuse a loss that has none anywhere."""
    losses, gradient = _gradient(task, outputs, y)
    own = _learned(losses, gradient[0])
    if own is not None:
        raise ConfigError(
            "loss",
            f"learns a tensor of its own, of shape {tuple(own.shape)}, which nobody would train",
            "put it into the model, or set requires_grad=False for it",
        )
    if losses.requires_grad:
        if gradient[1].any():
            return not gradient[1][:2].any()
        generator = torch.Generator().manual_seed(0)
        for width in WIDTHS:
            drawn = outputs + width * torch.randn(outputs.shape, generator=generator)
            try:
                if _gradient(task, drawn.to(outputs.dtype), y)[1][1].any():
                    return True
            except Exception:  # somebody's function may refuse such outputs
                break
    raise ConfigError(
        "loss",
        "has a gradient of zero for every output, so nothing would be learned",
        "let no detach(), no_grad(), argmax or comparison stand between outputs and loss",
    )


def _gradient(task: OwnLoss, outputs: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    with torch.enable_grad():
        leaf = outputs.clone().requires_grad_(True)
        losses = task.of(leaf * 1, y)
        if not losses.requires_grad:
            return losses, (leaf, torch.zeros_like(leaf))
        (found,) = torch.autograd.grad(losses.sum(), leaf, retain_graph=True, allow_unused=True)
    return losses, (leaf, torch.zeros_like(leaf) if found is None else found)


def _learned(losses: Tensor, outputs: Tensor) -> Tensor | None:
    """Return a leaf that the losses have a gradient for, besides the outputs."""
    leaves = (node.variable for node in _nodes(losses.grad_fn) if hasattr(node, "variable"))
    return next((leaf for leaf in leaves if leaf is not outputs), None)


def _nodes(end: Any) -> Iterator[Any]:
    seen, waiting = set(), [end]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [before for before, _ in node.next_functions]


def _shown(values: Tensor) -> str:
    numbers = [f"{float(value):.4g}" for value in values.reshape(-1)[:6]]
    return "[" + ", ".join(numbers + ["..."] * (values.numel() > 6)) + "]"
