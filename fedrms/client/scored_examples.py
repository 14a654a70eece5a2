"""Scores and labels as people's models have them, made into rows of classes."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedrms.tasks.classification import chance_cross_entropy

LEAST_PROBABILITY = 1e-7
"""What a probability of 0 counts as; single precision does not tell 1 from 1 less it."""

MOST_CLASSES = 1000
"""With more, as of a vocabulary, all examples count as of one class."""


@dataclass(frozen=True)
class ScoredExamples:
    """Losses of examples, one a row."""

    classes: int  # how many there are
    label: Tensor  # ``[rows]`` int64, the class of each
    loss: Tensor
    chance: Tensor
    """``[rows]`` float64, in nats: the loss, and its mean under the other labels."""


def scored_examples(
    scores: Any, labels: Any, *, ignore_index: int, probabilities: bool | None
) -> ScoredExamples:
    """Return each example's loss and class; parameters as in :func:`fedrms.class_losses`."""
    logits, target = _plain(scores), _whole(_plain(labels))
    if logits.dim() == 2 and logits.shape[1] == 1 and target.numel() == len(logits):
        logits = logits[:, 0]
    if logits.dim() == 1 and target.shape == (len(logits), 1):
        target = target[:, 0]
    if target.shape == logits.shape and target.dim() in (1, 2) and target.numel():
        return _by_sigmoid(logits, target, ignore_index, probabilities)
    rows, target = _by_softmax(logits, target)
    there = target != ignore_index
    rows, target = rows[there], target[there]
    classes = rows.shape[1]
    _check_labels(target, classes)
    sums_to_one = bool((rows >= 0).all() and ((rows.sum(1) - 1).abs() < _tolerance(scores)).all())
    if probabilities is None and sums_to_one:
        _notice("each row is 0 or more and sums to 1")
    if probabilities or (probabilities is None and sums_to_one):
        rows = rows.clamp_min(LEAST_PROBABILITY).log()
    elif rows.isneginf().any():  # a class that is masked out has a probability of 0
        rows = rows.log_softmax(1).clamp_min(math.log(LEAST_PROBABILITY))
    loss, chance = chance_cross_entropy(rows, target)
    if classes > MOST_CLASSES:
        classes, target = 1, torch.zeros_like(target)
    return ScoredExamples(classes, target, loss, chance)


def _by_sigmoid(
    logits: Tensor, target: Tensor, ignore_index: int, probabilities: bool | None
) -> ScoredExamples:
    """One output a yes or no; of several outputs each has two classes of its own."""
    outputs = 1 if logits.dim() == 1 else logits.shape[1]
    output = torch.arange(outputs).expand(len(logits), outputs).reshape(-1)
    one_hot = outputs > 2 and bool((target == 1).sum(1).eq(1).all())
    logits, target = logits.reshape(-1), target.reshape(-1)
    there = target != ignore_index
    logits, target, output = logits[there], target[there], output[there]
    _check_labels(target, 2)
    if one_hot:
        warnings.warn(
            "class_losses takes these labels for several yes or no an example, and each example "
            "has exactly one yes; if they are one-hot, give labels.argmax(1)",
            stacklevel=4,
        )
    shares = bool(((logits >= 0) & (logits <= 1)).all())
    if probabilities is None and shares:
        _notice("all lie in [0, 1]")
    if probabilities or (probabilities is None and shares):
        logits = logits.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY).logit()
    pair = torch.stack([torch.zeros_like(logits), logits], dim=1)
    loss, chance = chance_cross_entropy(pair, target)
    return ScoredExamples(2 * outputs, 2 * output + target, loss, chance)


def _by_softmax(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores ``[rows, classes]`` and labels ``[rows]``; classes are last, or second."""
    if logits.dim() >= 2 and target.shape == logits.shape[:-1]:
        return logits.reshape(-1, logits.shape[-1]), target.reshape(-1)
    if logits.dim() >= 3 and target.shape == logits.shape[:1] + logits.shape[2:]:
        last = logits.movedim(1, -1)
        return last.reshape(-1, last.shape[-1]), target.reshape(-1)
    raise ValueError(
        "class_losses needs scores [examples, classes] and labels [examples], one output a yes or "
        "no in both, or scores [examples, tokens, classes] and labels [examples, tokens]; not "
        f"{tuple(logits.shape)} and {tuple(target.shape)}"
    )


def _check_labels(target: Tensor, classes: int) -> None:
    if not len(target):
        raise ValueError("class_losses needs at least one example whose label is not ignored")
    wrong = target[(target < 0) | (target >= classes)]
    if len(wrong):
        raise ValueError(
            f"class_losses got the label {int(wrong[0])}, and scores of {classes} classes; labels "
            f"go from 0 to {classes - 1}, and those to leave out are ignore_index"
        )


def _plain(values: Any) -> Tensor:
    """Return a copy in double precision of a tensor, an array of any library or a list."""
    if isinstance(values, Tensor):
        return values.detach().to("cpu", torch.float64, copy=True)
    try:
        return torch.from_numpy(np.array(values, dtype=np.float64))
    except ValueError as error:
        raise ValueError(
            f"class_losses needs numbers for scores and labels ({error}); of labels that are "
            "words give their places, np.unique(labels, return_inverse=True)[1]"
        ) from error


def _whole(labels: Tensor) -> Tensor:
    whole = labels.to(torch.int64)
    if not torch.equal(whole.to(labels.dtype), labels):
        raise ValueError("class_losses needs whole numbers for labels")
    return whole


def _tolerance(scores: Any) -> float:
    """Return how far from 1 probabilities may sum: half precision has three digits."""
    return 2e-2 if getattr(getattr(scores, "dtype", None), "itemsize", 8) < 4 else 1e-3


def _notice(why: str) -> None:
    warnings.warn(
        f"class_losses takes these scores for probabilities, for {why}; it is better to give "
        "logits. Say probabilities=False if they are logits, True to silence this",
        stacklevel=4,
    )
