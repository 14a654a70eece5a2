"""Metrics of a whole test set, for every client's mix of it at once.

Accuracy and losses are means over examples. These are not: what one example counts depends on the
others. Clients share a model's outputs and differ only in how much each example counts for them,
so each function scores all of them from one pass. The numbers are scikit-learn's with
``sample_weight``; it would sort the whole test set again for every client and class.

Balanced accuracy: Brodersen et al. 2010 (ICPR). AUC: the Mann-Whitney statistic (Hanley and McNeil
1982), for several classes one against the rest, on log-odds, which order examples as probabilities
do and never round to 1. Averages are over classes (or labels) that occur with the weight in hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.errors import ConfigError

Floats = NDArray[np.float64]

RECALL = "recall"
AT_ONCE = 1 << 22
"""Numbers in memory at a time, where every client has one for each example."""


@dataclass(frozen=True, eq=False)
class Answers:
    """A model's outputs on a test set, and how much each example counts for whom."""

    outputs: Floats
    """``[examples, outputs]`` scores of classes, logits of labels, or predicted numbers."""
    targets: NDArray[Any]  # ``[examples]`` classes as int64, labels as 0 or 1, or numbers
    groups: NDArray[np.int64]  # ``[examples]`` examples of one group count alike
    shares: Floats  # ``[clients, groups]`` what an example of a group counts for a client

    @classmethod
    def of(
        cls, outputs: NDArray[Any], targets: NDArray[Any], groups: NDArray[np.int64], mix: Floats
    ) -> Answers:
        """Take a mix of groups ``[clients, groups]`` whose rows sum to 1."""
        sizes = np.bincount(groups, minlength=mix.shape[1])
        outputs = np.asarray(outputs, np.float64).reshape(len(targets), -1)
        return cls(outputs, np.asarray(targets), groups, mix / np.maximum(sizes, 1))

    def weigh(self, values: NDArray[Any]) -> Floats:
        """Return ``[clients, columns]`` the weighted sums of ``values [examples, columns]``."""
        count = self.shares.shape[1]
        columns = [np.bincount(self.groups, column, count) for column in values.T]
        return np.asarray(self.shares @ np.stack(columns, 1))


def _marks(labels: NDArray[Any], classes: int) -> NDArray[np.bool_]:
    return np.asarray(labels[:, None] == np.arange(classes), np.bool_)


def _truth_and_guess(told: Answers) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return ``[examples, classes]`` what is there and what the model says, class by class."""
    if told.targets.ndim == 1:
        classes = told.outputs.shape[1]
        return _marks(told.targets, classes), _marks(told.outputs.argmax(1), classes)
    return told.targets > 0, told.outputs > 0


def _mean_known(values: Floats) -> Floats:
    """Return the mean of each row over what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    sums = np.where(known, values, 0.0).sum(1)
    return np.asarray(
        np.divide(sums, known.sum(1), out=np.full(len(values), np.nan), where=known.any(1))
    )


def _ratio(above: Floats, below: Floats) -> Floats:
    """Return a quotient that is NaN where nothing is below."""
    return np.asarray(np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0))


def recalls(told: Answers) -> Floats:
    """Return ``[clients, classes]`` the share of each class that is found."""
    truth, guess = _truth_and_guess(told)
    return _ratio(told.weigh(truth & guess), told.weigh(truth))


def balanced_accuracy(told: Answers) -> Floats:
    """Return ``[clients]`` the mean recall of classes; of labels, the mean of both answers' too."""
    found = recalls(told)
    if told.targets.ndim == 1:
        return _mean_known(found)
    truth, guess = _truth_and_guess(told)
    spared = _ratio(told.weigh(~truth & ~guess), told.weigh(~truth))
    both = np.stack([found, spared])
    return _mean_known(np.stack([_mean_known(both[:, :, k].T) for k in range(truth.shape[1])], 1))


def f1(told: Answers) -> Floats:
    """Return ``[clients]`` the mean over classes of ``2 tp / (2 tp + fp + fn)``."""
    truth, guess = _truth_and_guess(told)
    there = told.weigh(truth)
    score = _ratio(2 * told.weigh(truth & guess), there + told.weigh(guess))
    return _mean_known(np.where(there > 0, score, np.nan))


def auc(told: Answers) -> Floats:
    """Return ``[clients]`` the mean area under the ROC curves."""
    truth, _ = _truth_and_guess(told)
    odds = told.outputs if told.targets.ndim > 1 else _log_odds(told.outputs)
    columns = [1] if told.targets.ndim == 1 and truth.shape[1] == 2 else range(truth.shape[1])
    return _mean_known(np.stack([_area(told, odds[:, k], truth[:, k]) for k in columns], 1))


def _log_odds(scores: Floats) -> NDArray[np.float32]:
    """Return ``[examples, classes]`` each class's score less that of all others together."""
    odds = np.empty_like(scores)
    for k in range(scores.shape[1]):
        odds[:, k] = scores[:, k] - np.logaddexp.reduce(np.delete(scores, k, 1), axis=1)
    return np.asarray(odds, np.float32)  # equal odds stay equal, whatever the last bits are


def _area(told: Answers, scores: NDArray[Any], positive: NDArray[np.bool_]) -> Floats:
    """Return ``[clients]`` how often a positive lies above a negative; half of ties count."""
    _, rank = np.unique(scores, return_inverse=True)
    steps = int(rank.max()) + 1 if len(rank) else 1
    at = np.argsort(rank, kind="stable")
    starts = np.searchsorted(rank[at], np.arange(steps))
    areas = np.empty(len(told.shares))
    for first in range(0, len(areas), max(1, AT_ONCE // max(1, len(rank)))):
        part = slice(first, first + max(1, AT_ONCE // max(1, len(rank))))
        weights = told.shares[part][:, told.groups[at]]
        up = np.add.reduceat(weights * positive[at], starts, axis=1)
        down = np.add.reduceat(weights * ~positive[at], starts, axis=1)
        below = np.cumsum(down, 1) - down / 2
        areas[part] = _ratio((up * below).sum(1), up.sum(1) * down.sum(1))
    return areas


def _numbers(told: Answers) -> tuple[Floats, Floats]:
    return told.outputs, np.asarray(told.targets, np.float64).reshape(told.outputs.shape)


def mae(told: Answers) -> Floats:
    """Return ``[clients]`` the mean absolute error, the mean over targets."""
    guess, y = _numbers(told)
    return np.asarray(told.weigh(np.abs(guess - y)).mean(1))


def rmse(told: Answers) -> Floats:
    """Return ``[clients]`` the root of the mean squared error over all targets."""
    guess, y = _numbers(told)
    return np.asarray(np.sqrt(told.weigh(np.square(guess - y)).mean(1)))


def r2(told: Answers) -> Floats:
    """Return ``[clients]`` the coefficient of determination, the mean over targets.

    Against the client's own mean; NaN where its targets do not vary.
    """
    guess, y = _numbers(told)
    y_apart = y - y.mean(0)  # squares of large numbers would swallow the variance
    mass = told.weigh(np.ones((len(y), 1)))
    mean = told.weigh(y_apart) / mass
    variance = told.weigh(np.square(y_apart)) / mass - np.square(mean)
    variance[variance <= 1e-12 * y_apart.var(0)] = 0.0
    error = told.weigh(np.square(guess - y)) / mass
    return _mean_known(1.0 - _ratio(error, variance))


SET_METRICS: dict[str, Callable[[Answers], Floats]] = {
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "auc": auc,
    "mae": mae,
    "rmse": rmse,
    "r2": r2,
}
"""What is not a mean over examples, by name; ``recall_CLASS`` stands beside them."""

OF_TASK: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "balanced_accuracy", "f1", "auc", RECALL),
    "multilabel": ("accuracy", "exact_match", "balanced_accuracy", "f1", "auc"),
    "regression": ("mse", "rmse", "mae", "r2"),
}
"""What a person can choose for each kind of data."""

LOWER_IS_BETTER = frozenset(("mse", "rmse", "mae"))


def chosen_metrics(asked: Any, task: str, class_names: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the chosen metrics that fit the data, the judging one first; none for ``auto``.

    ``recall`` stands for one a class, ``recall_CLASS`` for that of one.
    """
    names = [asked] if isinstance(asked, str) else list(asked or ())
    names = [str(name) for name in names if name not in ("auto", None)]
    if not names:
        return ()
    if task not in OF_TASK:
        raise ConfigError("metric", "these data have a metric of their own", "leave metric=auto")
    known = OF_TASK[task]
    recall = {f"{RECALL}_{name}": None for name in class_names or ()} if RECALL in known else {}
    for name in names:
        if name not in known and name not in recall:
            told = ", ".join(known) + (", recall_CLASS" if recall else "")
            raise ConfigError("metric", f"{name!r} is none for {task}", f"choose from {told}")
    if names[0] == RECALL:
        raise ConfigError(
            "metric",
            "recall is one number a class, and the first metric is what runs are compared by",
            f"name the class first, as {next(iter(recall))}, or another metric before it",
        )
    told_all: dict[str, None] = {}
    for name in names:
        told_all |= recall if name == RECALL else {name: None}
    return tuple(told_all)


def is_set_metric(name: str) -> bool:
    """Say whether a metric is of a set, and no mean over examples."""
    return name in SET_METRICS or name.startswith(f"{RECALL}_")


def scored(name: str, told: Answers, class_names: tuple[str, ...] | None) -> Floats:
    """Return ``[clients]`` one metric of each."""
    if name in SET_METRICS:
        return SET_METRICS[name](told)
    place = list(class_names or ()).index(name.removeprefix(f"{RECALL}_"))
    return np.asarray(recalls(told)[:, place])
