"""Classification: cross-entropy on class scores, judged by accuracy."""

from __future__ import annotations

import torch
from torch import Tensor

from fedrms.tasks.task import Apply, Batch, BuildsModel, Params

NARROW = 15
"""Most classes of which a softmax is faster with classes before examples, on a CPU: fewer than
its widest instructions take at a time."""


class Classification(BuildsModel):
    """Predict a class: per-example cross-entropy in nats, accuracy as the metric.

    Parameters
    ----------
    build_model : callable () -> nn.Module
        Makes a model that maps ``[examples, *shape]`` to scores ``[examples, classes]``.
    """

    metric = "accuracy"
    higher_is_better = True
    nonnegative = True

    def losses(self, apply: Apply, params: Params, batch: Batch) -> Tensor:
        """Return the cross-entropy of each example, ``[examples]``, in nats."""
        return _cross_entropy(apply(params, batch["x"]), batch["y"])

    def chance_losses(self, apply: Apply, params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each example's loss and its mean loss under the other labels, ``[examples]``.

        The second is what the example would cost, on average, with a wrong label drawn at
        random: the unit in which label noise is measured.
        """
        return chance_cross_entropy(apply(params, batch["x"]), batch["y"])

    def metrics(self, apply: Apply, params: Params, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss`` (nats) and ``accuracy`` (0 or 1) of each example."""
        scores = apply(params, batch["x"])
        return {
            "loss": _cross_entropy(scores, batch["y"]),
            "accuracy": (scores.max(-1).indices == batch["y"]).to(scores.dtype),
        }


def _cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Return ``[examples]`` losses, without torch's search for ignored labels."""
    return -_log_softmax(scores).gather(-1, labels[..., None]).squeeze(-1)


def _log_softmax(scores: Tensor) -> Tensor:
    """Return the log-probabilities; outside of training by way of classes before examples.

    A softmax over a short last dimension takes several times as long.
    """
    narrow = scores.dim() == 2 and scores.shape[1] <= NARROW and scores.device.type == "cpu"
    if narrow and not torch.is_grad_enabled():
        return scores.t().contiguous().log_softmax(0).t()
    return scores.log_softmax(-1)


def chance_cross_entropy(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``[examples]`` each: the cross-entropy, and its mean over the other labels."""
    surprise = -_log_softmax(scores)
    losses = surprise.gather(-1, labels[..., None]).squeeze(-1)
    return losses, chance(surprise, losses)


def chance(surprise: Tensor, losses: Tensor) -> Tensor:
    """Return ``[examples]`` the mean of ``surprise`` ``[examples, classes]`` without ``losses``."""
    return (surprise.sum(-1) - losses) / max(1, surprise.shape[-1] - 1)
