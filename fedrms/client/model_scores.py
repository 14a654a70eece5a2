"""A torch model's scores on the batches of a loader, however a batch is made up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fedrms.label_names import LABEL_NAMES


def model_scores(
    model: nn.Module, loader: Iterable[Any], device: torch.device | str | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield scores and labels of each batch, on the CPU; the model's mode is what it was after."""
    place = device or next((p.device for p in model.parameters()), torch.device("cpu"))
    training = model.training
    model.eval()
    try:
        for batch in loader:
            inputs, labels = _parted(batch)
            with torch.no_grad():
                scores = _scores(_answer(model, inputs, place))
            yield scores.detach().cpu(), torch.as_tensor(labels).cpu()
    finally:
        model.train(training)


def _parted(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        named = next((name for name in LABEL_NAMES if name in batch), None)
        if named is None:
            raise ValueError(
                f"a batch has {', '.join(map(repr, batch))} and no labels under one of "
                f"{', '.join(LABEL_NAMES)}"
            )
        inputs = {k: v for k, v in batch.items() if k != named and isinstance(v, Tensor)}
        return inputs, batch[named]
    if isinstance(batch, list | tuple) and len(batch) >= 2:
        return batch[0], batch[1]
    raise ValueError(
        f"a batch is a {type(batch).__name__}, not a tuple of inputs and labels or a mapping"
    )


def _answer(model: nn.Module, inputs: Any, place: torch.device | str) -> Any:
    if isinstance(inputs, Mapping):
        moved = {name: value.to(place) for name, value in inputs.items()}
        lone = len(moved) == 1 and "input_ids" not in moved
        return model(*moved.values()) if lone else model(**moved)
    if isinstance(inputs, list | tuple):
        return model(*(torch.as_tensor(value).to(place) for value in inputs))
    return model(torch.as_tensor(inputs).to(place))


def _scores(answer: Any) -> Tensor:
    found = answer
    if isinstance(answer, Mapping):
        found = answer.get("logits")
    elif not isinstance(answer, Tensor):
        found = getattr(answer, "logits", None)
        if found is None and isinstance(answer, list | tuple) and answer:
            found = answer[0]
    if not isinstance(found, Tensor):
        raise ValueError(
            f"the model's output, a {type(answer).__name__}, holds no tensor of scores"
        )
    return found
