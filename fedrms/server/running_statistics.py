"""Running statistics of batch normalisation: averaged over clients, and never stepped.

They stand among a model's floating arrays under the names that ``torch.nn`` gives them. FedAvg
averages them like parameters, and so does FedRMS, by the weights that clients have in the round.
But they are no parameters: a server optimizer does not step them, weights always sum to 1 for
them, and they have no part in the length of an update.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from fedrms.combining.clip import update_norms
from fedrms.combining.row_blocks import RowBlocks, blocks_of
from fedrms.combining.weighted_mean import mean
from fedrms.errors import ConfigError
from fedrms.replies.cohort import Cohort, Layout

MEAN, VARIANCE, COUNTER = "running_mean", "running_var", "num_batches_tracked"


@functools.lru_cache(maxsize=16)
def statistic_columns(layout: Layout, endings: tuple[str, ...] = (MEAN, VARIANCE)) -> Tensor:
    """Return where the running statistics lie in a flat model, int64 ``[columns]``."""
    ends = np.cumsum(layout.sizes).tolist()
    places = [
        torch.arange(end - size, end)
        for name, end, size in zip(layout.names, ends, layout.sizes, strict=True)
        if name.rsplit(".", 1)[-1] in endings
    ]
    return torch.cat(places) if places else torch.zeros(0, dtype=torch.int64)


def refuse_running_statistics(layout: Layout) -> None:
    """Refuse a model with running statistics where noise hides clients' steps."""
    if len(statistic_columns(layout)):
        raise ConfigError(
            "strategy.noise_multiplier",
            "hides steps of limited length, and the model's running batch statistics are none",
            "take a model with GroupNorm or LayerNorm in the place of BatchNorm",
        )


def norms_without(cohort: Cohort, received: Tensor, statistics: Tensor) -> np.ndarray:
    """Return ``[clients]`` the L2 norms of the updates of parameters alone."""
    kept = torch.ones(len(received), dtype=torch.bool)
    kept[statistics] = False
    stack = cohort.parameters
    blocks = stack if isinstance(stack, RowBlocks) else RowBlocks([stack])
    parameters = blocks.map(lambda _, block: block[:, kept])
    parameters.shape = (len(parameters), int(kept.sum()))
    return update_norms(parameters, received[kept])


def averaged(cohort: Cohort, received: Tensor, weights: np.ndarray, statistics: Tensor) -> Tensor:
    """Return ``[columns]`` the statistics of the next model: the clients' weighted mean."""
    clients = torch.empty(len(weights), len(statistics), dtype=received.dtype)
    for rows, block in blocks_of(cohort.parameters):
        clients[rows] = block[:, statistics.to(block.device)].to(clients)
    share = torch.from_numpy(weights / weights.sum())
    return received[statistics] + mean(clients, received[statistics], share)


def clamped(model: Tensor, layout: Layout) -> Tensor:
    """Return a model ``[parameters]`` whose running variances are 0 or more, in its place."""
    variances = statistic_columns(layout, (VARIANCE,))
    model[variances] = model[variances].clamp(min=0.0)
    return model


def with_batches_counted(
    record: ArrayRecord, before: ArrayRecord, steps: np.ndarray, weights: np.ndarray | None = None
) -> ArrayRecord:
    """Return the record with the counters of layers whose statistics have moved, for a stack.

    They move by the batches ``[clients]`` that clients were trained on; the mean is rounded.
    """
    share = np.ones(len(steps)) if weights is None else weights
    count = int(np.rint((share / share.sum()) @ steps))
    for name, moved in _counters(record, before):
        if moved:
            values = before[name].numpy() + count
            record[name] = Array(np.asarray(values, before[name].dtype))
    return record


def _counters(record: ArrayRecord, before: ArrayRecord) -> Iterator[tuple[str, bool]]:
    for name in record:
        mean_of = name.removesuffix(COUNTER) + MEAN
        if name.endswith(COUNTER) and mean_of in record:
            yield name, not np.array_equal(record[mean_of].numpy(), before[mean_of].numpy())
