"""By which metrics models are judged, where a person chooses others than the task's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedrms.tasks.set_metrics import LOWER_IS_BETTER, Answers, Floats, is_set_metric, scored
from fedrms.tasks.task import Task


@dataclass(frozen=True)
class Judge:
    """The chosen metrics."""

    names: tuple[str, ...]
    """As :func:`fedrms.tasks.set_metrics.chosen_metrics` returns them; the first judges."""
    class_names: tuple[str, ...] | None = None  # in label order

    @property
    def of_sets(self) -> tuple[str, ...]:
        """Those that are no means over examples, and need the model's outputs."""
        return tuple(name for name in self.names if is_set_metric(name))

    def score(self, name: str, told: Answers) -> Floats:
        """Return ``[clients]`` a metric of each."""
        return scored(name, told, self.class_names)

    def overall(self, outputs: Floats, targets: np.ndarray) -> dict[str, float]:
        """Return each metric of the whole test set."""
        one = Answers.of(outputs, targets, np.zeros(len(targets), np.int64), np.ones((1, 1)))
        return {name: float(self.score(name, one)[0]) for name in self.of_sets}


def judged_by(task: Task, judge: Judge) -> Task:
    """Have a task judged by the first of the chosen metrics, and report them all."""
    if judge.names:
        task.judge = judge  # type: ignore[attr-defined]
        task.metric = judge.names[0]
        task.higher_is_better = task.metric not in LOWER_IS_BETTER
    return task


def judged_names(task: Task) -> tuple[str, ...]:
    """Return the metrics that a person chose for a task; empty where they chose none."""
    judge = judge_of(task)
    return judge.names if judge else ()


def judge_of(task: Task) -> Judge | None:
    """Return who judges a task by other metrics than its own; None for nobody."""
    judge: Judge | None = getattr(task, "judge", None)
    return judge
