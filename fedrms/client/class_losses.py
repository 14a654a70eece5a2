"""A client's losses by class: what FedRMS tells noise from rare and hard classes by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fedrms.server.class_losses import class_key
from fedrms.tasks.classification import chance_cross_entropy


def stacked_class_losses(
    classes: int, scores: np.ndarray, present: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the losses by class of many clients at once.

    Parameters
    ----------
    classes : int
        How many there are; with 1 all examples are of one class.
    scores : np.ndarray
        ``[clients, rows, 1 or 2]`` losses, and chance losses beside them if they are known.
    present : np.ndarray
        ``[clients, rows]`` which rows count.
    labels : np.ndarray
        ``[clients, rows]`` classes; rows of a class that is none of them do not count.

    Returns
    -------
    dict
        Each ``[clients]`` float64, under :func:`fedrms.server.class_losses.class_key`:
        ``count``, ``mean`` and ``variance`` of the losses of each class and, where they are
        known, the mean ``chance`` loss; the last three are NaN where a client holds none of it.
    """
    clients = len(present)
    if classes > 1:
        present = present & (labels >= 0) & (labels < classes)
    who, row = np.nonzero(present)
    label = labels[who, row].astype(np.int64) if classes > 1 else np.zeros(len(who), np.int64)
    place = who * classes + label

    def sums(values: np.ndarray | None) -> np.ndarray:
        return np.bincount(place, values, clients * classes).astype(np.float64)

    kept = scores[who, row].astype(np.float64)
    count = sums(None)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = sums(kept[:, 0]) / count
        columns = {"count": count, "mean": mean}
        columns["variance"] = sums(np.square(kept[:, 0] - mean[place])) / count
        if kept.shape[1] == 2:
            columns["chance"] = sums(kept[:, 1]) / count
    return {
        class_key(name, c): column.reshape(clients, classes)[:, c]
        for name, column in columns.items()
        for c in range(classes)
    }


def class_losses(
    scores: torch.Tensor | np.ndarray, labels: torch.Tensor | np.ndarray | Sequence[int]
) -> dict[str, float]:
    """Return one client's losses by class, under the keys that :class:`fedrms.FedRMS` reads.

    What an existing Flower ``ClientApp`` for classification adds, before it trains::

        with torch.no_grad():                                 # the model as it was received
            batches = [(model(x), y) for x, y in train_loader]
        scores, labels = (torch.cat(part) for part in zip(*batches))
        metrics.update(class_losses(scores, labels))

    Parameters
    ----------
    scores : tensor or array
        ``[examples, classes]`` outputs (logits) of the received model on the local training data.
        Logarithms of probabilities are such: ``np.log(np.clip(model.predict_proba(x), 1e-6, 1))``
        of a model of scikit-learn.
    labels : tensor, array or sequence of int
        ``[examples]`` the local labels.

    Returns
    -------
    dict
        ``loss-count-class-0``, ``loss-mean-class-0``, ``loss-variance-class-0``,
        ``loss-chance-class-0`` and so on: counts, and cross-entropy in nats. The server learns
        how many examples of each class a client labels as such, and no single example.

    Raises
    ------
    ValueError
        If there is no example, or the shapes do not fit.
    """
    logits = torch.as_tensor(scores).detach().to("cpu", torch.float64)
    target = torch.as_tensor(labels).detach().to("cpu", torch.int64)
    if logits.dim() != 2 or target.shape != logits.shape[:1] or not len(target):
        raise ValueError(
            f"class_losses needs scores [examples, classes] and labels [examples], not "
            f"{tuple(logits.shape)} and {tuple(target.shape)}"
        )
    stacked = stacked_class_losses(
        logits.shape[1],
        torch.stack(chance_cross_entropy(logits, target), dim=1).numpy()[None],
        np.ones((1, len(target)), dtype=bool),
        target.numpy()[None],
    )
    return {key: float(value[0]) for key, value in stacked.items()}
