"""Regression: squared error on one or several targets, judged by mean squared error."""

from __future__ import annotations

import torch
from torch import Tensor

from fedrms.tasks.task import Apply, Batch, BuildsModel, Params


class Regression(BuildsModel):
    """Predict a number: per-example squared error, mean squared error as the metric.

    With target noise of standard deviation sigma the loss variance of a fitted model
    tends to 2 sigma^4, so the inverse root of it is the Gauss-Markov weight 1/sigma^2
    up to a constant.

    Parameters
    ----------
    build_model : callable () -> nn.Module
        Makes a model that maps ``[examples, *shape]`` to ``[examples, targets]``; the error of an
        example is the mean over its targets.
    """

    metric = "mse"
    higher_is_better = False
    nonnegative = True

    def losses(self, apply: Apply, params: Params, batch: Batch) -> Tensor:
        """Return the squared error of each example, ``[examples]``."""
        return _squared(_fitting(apply(params, batch["x"]), batch["y"]), batch["y"])

    def errors_and_targets(self, apply: Apply, params: Params, batch: Batch) -> Tensor:
        """Return ``[examples, 1 + 2 targets]``: squared error, predictions, and targets."""
        y = batch["y"]
        outputs = _fitting(apply(params, batch["x"]), y)
        flat = (values.reshape(len(y), -1) for values in (_squared(outputs, y), outputs, y))
        return torch.cat(list(flat), dim=1)

    def metrics(self, apply: Apply, params: Params, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss`` and ``mse``, both the squared error of each example."""
        squared_error = self.losses(apply, params, batch)
        return {"loss": squared_error, "mse": squared_error}


def _fitting(outputs: Tensor, y: Tensor) -> Tensor:
    """Return outputs in the shape of targets: a single one may have a dimension of its own."""
    return outputs.squeeze(-1) if y.dim() < outputs.dim() else outputs


def _squared(outputs: Tensor, y: Tensor) -> Tensor:
    errors = (outputs - y).square()
    return errors.flatten(1).mean(1) if errors.dim() > 1 else errors
