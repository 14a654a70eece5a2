"""Multi-label classification: each output says yes or no, judged by the share that is right."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from fedrms.tasks.task import Apply, Batch, BuildsModel, Params


class MultiLabel(BuildsModel):
    """Predict several labels, 0 or 1 ``[examples, labels]``: mean binary cross-entropy in nats.

    The model maps ``[examples, *shape]`` to logits ``[examples, labels]``.
    """

    metric = "accuracy"
    higher_is_better = True

    def losses(self, apply: Apply, params: Params, batch: Batch) -> Tensor:
        """Return the cross-entropy of each example, ``[examples]``, the mean over its labels."""
        return _cross_entropy(apply(params, batch["x"]), batch["y"])

    def chance_losses(self, apply: Apply, params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each example's loss, and what it would lose with every label turned."""
        logits, y = apply(params, batch["x"]), batch["y"]
        return _cross_entropy(logits, y), _cross_entropy(logits, 1.0 - y)

    def metrics(self, apply: Apply, params: Params, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss``, ``accuracy`` (share of right labels) and ``exact_match`` (0 or 1)."""
        logits, y = apply(params, batch["x"]), batch["y"]
        right = ((logits > 0).to(y.dtype) == y).to(logits.dtype)
        return {
            "loss": _cross_entropy(logits, y),
            "accuracy": right.mean(-1),
            "exact_match": right.amin(-1),
        }


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    losses = functional.binary_cross_entropy_with_logits(
        logits, y.to(logits.dtype), reduction="none"
    )
    return losses.flatten(1).mean(1)
