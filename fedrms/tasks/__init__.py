"""What is learned: a model, a per-example loss and its metrics. One file a task."""

from fedrms.tasks.classification import Classification
from fedrms.tasks.regression import Regression
from fedrms.tasks.task import Apply, Batch, KnowsChance, Params, Samples, Task

__all__ = [
    "Apply",
    "Batch",
    "Classification",
    "KnowsChance",
    "Params",
    "Regression",
    "Samples",
    "Task",
]
