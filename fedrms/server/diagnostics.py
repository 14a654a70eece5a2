"""What the server did with each client of a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fedrms.replies.client_index import ClientId


@dataclass(frozen=True)
class Diagnostics:
    """What the server did with each client of a round.

    Attributes
    ----------
    server_round : int
    clients : list
        ``[cohort]`` ids whose updates were combined.
    columns : mapping
        ``statistic``, ``ema`` and ``rms`` (shares of the chance loss under the law ``excess``;
        loss squared, loss squared and loss under the others), ``scale`` and ``weight`` (the
        share of the combined update), each ``[cohort]``. Under ``excess`` also ``rms_error``, the
        standard error of ``rms``, and ``rms_low`` and ``rms_high``, between which it is nine
        times of ten; in regression ``other_units``, 1 where these explain a client's excess.
    failures : mapping
        Reason by client id of those left out.
    lr : float
        The server's learning rate in the round.
    """

    server_round: int
    clients: list[ClientId]
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    failures: Mapping[ClientId, str] = field(default_factory=dict)
    lr: float = 1.0
