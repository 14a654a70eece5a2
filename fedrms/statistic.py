"""What clients report of their losses and of themselves: each statistic declared once.

Clients make it under its key, the server checks what it can be, tables have it as a column.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Valid(Enum):
    """What a number can be; all are finite."""

    ANY = "any number"
    LOSS = "0 or more where losses are"
    SQUARE = "0 or more"


@dataclass(frozen=True)
class Statistic:
    """A number that clients report."""

    key: str  # in the ``MetricRecord`` of a reply
    column: str | None = None  # in the table of clients; None for one that tables do not have
    valid: Valid = Valid.ANY  # what it can be: clients that report anything else are left out


def of_losses(name: str, *, in_tables: bool = True, valid: Valid = Valid.ANY) -> Statistic:
    """Return a statistic of a client's losses by its name, such as ``second_moment``."""
    column = f"loss_{name}" if in_tables else None
    return Statistic(f"{LOSSES}{name.replace('_', '-')}", column, valid)


LOSSES = "loss-"
"""How the key of a statistic of losses begins."""

MOMENTS = {
    "mean": of_losses("mean", valid=Valid.LOSS),
    "variance": of_losses("variance", valid=Valid.SQUARE),
    "second_moment": of_losses("second_moment", valid=Valid.SQUARE),
    "mad": of_losses("mad", in_tables=False, valid=Valid.SQUARE),
}
"""By their names in :func:`fedrms.client.loss_moments.stacked_moments`."""

BY_CLASS = {
    "count": Statistic("loss-count-by-class", valid=Valid.SQUARE),
    "mean": Statistic("loss-mean-by-class", valid=Valid.LOSS),
    "variance": Statistic("loss-variance-by-class", valid=Valid.SQUARE),
    "chance": Statistic("loss-chance-by-class", valid=Valid.SQUARE),
    "unitless": Statistic("loss-unitless-by-class", valid=Valid.SQUARE),
    "unitless_variance": Statistic("loss-unitless-variance-by-class", valid=Valid.SQUARE),
}
"""Lists ``[classes]``: examples, their mean loss, its variance, their mean loss by chance, and mean
and variance of what :mod:`fedrms.client.unitless_losses` makes of them in regression."""

EXAMPLES = Statistic("num-examples", "num_examples")
TRAIN_LOSS = Statistic("train-loss", valid=Valid.LOSS)
UPDATE_NORM = Statistic("update-norm", "update_norm")

REPORTED = {
    each.column: each.key
    for each in (EXAMPLES, *MOMENTS.values(), UPDATE_NORM)
    if each.column is not None
}
"""Columns of the table of clients that they report themselves, and their keys."""

DECIDED = ("statistic", "ema", "rms", "rms_error", "rms_low", "rms_high", "scale", "weight")
"""Columns that the strategy decides."""
