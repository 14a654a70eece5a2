"""A client's losses by class: what FedRMS tells noise from rare and hard classes by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from fedrms.client.model_scores import model_scores
from fedrms.client.scored_examples import ScoredExamples, scored_examples
from fedrms.client.unitless_losses import unitless_losses
from fedrms.statistic import BY_CLASS


def stacked_class_losses(
    classes: int, scores: np.ndarray, present: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the losses by class of many clients, each ``[clients, classes]``.

    Parameters are ``scores`` ``[clients, rows, scores]``, losses and beside them chance losses, if
    they are known, or in regression predictions and targets; ``present`` and ``labels`` ``[clients,
    rows]``. Rows of a class that is none of them do not count. The keys are those of
    :data:`fedrms.statistic.BY_CLASS`; all but the count are NaN where a client holds none of a
    class. In regression there are also ``unitless`` losses (:mod:`fedrms.client.unitless_losses`).
    """
    clients, width = present.shape
    if classes > 1:
        present = present & (labels >= 0) & (labels < classes)
    row = np.flatnonzero(present)  # of all clients', one after the other
    place = row // width * classes
    if classes > 1:
        place += labels.ravel().take(row).astype(np.int64)

    def sums(values: np.ndarray | None) -> np.ndarray:
        return np.bincount(place, values, clients * classes).astype(np.float64)

    losses, *beside = (
        scores[:, :, column].ravel().take(row).astype(np.float64)
        for column in range(scores.shape[2])
    )
    count = sums(None)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = sums(losses) / count
        columns = {"count": count, "mean": mean}
        columns["variance"] = sums(np.square(losses - mean.take(place))) / count
        if len(beside) == 1:
            columns["chance"] = sums(beside[0]) / count
    found = {
        BY_CLASS[name].key: column.reshape(clients, classes) for name, column in columns.items()
    }
    if scores.shape[2] > 2 and classes == 1:
        found |= unitless_losses(scores[:, :, 1:], present)
    return found


class ClassLossesOf:
    """One client's losses by class, under the keys that :class:`fedrms.FedRMS` reads.

    What an existing Flower ``ClientApp`` adds, before it trains, of the model as it was received::

        metrics.update(class_losses(scores, labels))
        metrics.update(class_losses.of(model, train_loader, device=device))
    """

    def __call__(
        self,
        scores: Any,
        labels: Any,
        *,
        ignore_index: int = -100,
        probabilities: bool | None = None,
    ) -> dict[str, list[float]]:
        """Return the losses by class of scores and labels.

        Parameters
        ----------
        scores : tensor, array or sequence
            Outputs (logits) of the received model on the local training data: ``[examples,
            classes]``; one output a yes or no, ``[examples]`` or ``[examples, 1]``; several of
            them (multi-label), ``[examples, outputs]``; of tokens or pixels ``[examples, ...,
            classes]`` or, as PyTorch has it, ``[examples, classes, ...]``. Of any library: NumPy,
            PyTorch, JAX, scikit-learn.
        labels : tensor, array or sequence
            ``[examples]``, ``[examples, outputs]`` or ``[examples, ...]``: whole numbers of any
            type. Of multi-label outputs 0 or 1 each; a one-hot label of one class is
            ``labels.argmax(1)``.
        ignore_index : int (default: -100)
            Labels that do not count, as in ``torch.nn.functional.cross_entropy``.
        probabilities : bool, optional
            Whether scores are probabilities, as of ``predict_proba`` or a softmax. By default they
            are taken for such, with a warning, if they sum to 1 or, of a yes or no, lie in [0, 1].

        Returns
        -------
        dict
            ``loss-count-by-class``, ``loss-mean-by-class``, ``loss-variance-by-class`` and
            ``loss-chance-by-class``, lists ``[classes]``: counts, and cross-entropy in nats; NaN
            where there is no example of a class. The server learns how many examples of each
            class a client labels as such, and no single example.
            Each multi-label output has two classes; with more than 1,000 classes, as of a
            vocabulary, all examples are of one.

        Raises
        ------
        ValueError
            If there is no example, the shapes do not fit, or a label is none of the classes.
        """
        found = scored_examples(
            scores, labels, ignore_index=ignore_index, probabilities=probabilities
        )
        return _reported([found])

    def of(
        self,
        model: torch.nn.Module,
        loader: Iterable[Any],
        *,
        device: torch.device | str | None = None,
        ignore_index: int = -100,
        probabilities: bool | None = None,
    ) -> dict[str, list[float]]:
        """Return the losses by class of a torch model on the batches of a loader.

        Parameters
        ----------
        model : nn.Module
            As it was received; scored in evaluation mode, without gradients. An output with
            ``logits``, as of Hugging Face's models, or a tuple whose first part is the scores,
            does as well.
        loader : iterable
            Batches: tuples of inputs and labels, or mappings with labels under one of
            :data:`fedrms.label_names.LABEL_NAMES`. A lone other tensor is the input; several
            are given by name.
        device : optional
            Where to score; by default where the model is.
        ignore_index, probabilities
            As in the call.

        Raises
        ------
        ValueError
            As in the call, and for batches of another kind.
        """
        parts: list[ScoredExamples] = []
        whole: list[tuple[torch.Tensor, torch.Tensor]] = []
        how: dict[str, Any] = {"ignore_index": ignore_index, "probabilities": probabilities}
        for scores, labels in model_scores(model, loader, device):
            if scores.dim() > 2:  # of tokens or pixels only the losses are kept
                parts.append(scored_examples(scores, labels, **how))
            else:
                whole.append((scores, labels))
        if whole:
            scores, labels = (torch.cat(part) for part in zip(*whole, strict=True))
            parts.append(scored_examples(scores, labels, **how))
        if not parts:
            raise ValueError("class_losses.of needs at least one batch, and the loader has none")
        return _reported(parts)


class_losses = ClassLossesOf()
"""See :class:`ClassLossesOf`."""


def _reported(parts: Sequence[ScoredExamples]) -> dict[str, list[float]]:
    label, loss, chance = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("label", "loss", "chance")
    )
    stacked = stacked_class_losses(
        parts[0].classes,
        torch.stack([loss, chance], dim=1).numpy()[None],
        np.ones((1, len(label)), dtype=bool),
        label.numpy()[None],
    )
    return {key: rows[0].tolist() for key, rows in stacked.items()}
