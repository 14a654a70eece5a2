"""Clients set aside: to choose settings by, so that the test set chooses nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.federation import Federation, Stage


@dataclass(frozen=True, eq=False)
class Validation:
    """The examples of clients that never train.

    Parameters
    ----------
    test_x, test_y : arrays, float32 ``[examples, *shape]`` and ``[examples]``
        As these clients have them in the first round, noise included: nobody knows the
        clean ones. Named as a federation's test set, because a model is scored on them alike.
    """

    test_x: NDArray[np.float32]
    test_y: NDArray[Any]


def hold_out(federation: Federation, count: int) -> tuple[Federation, Validation]:
    """Take the last `count` clients out of a federation.

    Partitions and noise are drawn without regard to the order of clients, so the last ones
    are as good as any.

    Returns
    -------
    federation : Federation
        The clients that are left, with their data and noise as they were.
    validation : Validation
        The examples of those that are not.
    """
    left = federation.clients - count
    cut = int(federation.offsets[left])
    first = federation.stages[0]
    stages = tuple(
        Stage(s.start_round, s.x[:cut], s.y[:cut], s.true_noise[:left]) for s in federation.stages
    )
    remaining = replace(
        federation,
        offsets=federation.offsets[: left + 1],
        stages=stages,
        clean_y=federation.clean_y[:cut],
        client_mix=federation.client_mix[:left],
        rare=federation.rare[:left],
        names=None if federation.names is None else federation.names[:left],
        looks=None if federation.looks is None else federation.looks[:left],
    )
    return remaining, Validation(first.x[cut:], first.y[cut:])
