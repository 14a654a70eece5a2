"""What can be done about noisy clients, in a sentence for all whom it concerns."""

from __future__ import annotations

import math
from typing import Final

import pandas as pd

from fedrms.options import few
from fedrms.results.plots.client_weights import weight_table
from fedrms.results.summary import is_share

MUCH_LESS: Final = 0.75
"""A weight below this share of the former one is worth a word."""

_MOST_NAMES: Final = 20


def to_do(ended: pd.DataFrame, alarms: pd.DataFrame | None, metric: str) -> list[str]:
    """Return what to do about the clients of one strategy's first run, a sentence an advice.

    Parameters
    ----------
    ended : DataFrame
        How its clients ended.
    alarms : DataFrame, optional
        Who became noisier, and when.
    metric : str
        What models are judged by.
    """
    run = ended["run"].iloc[0]
    one = ended[ended["run"] == run]
    one = one[one["weight"].notna()]
    clean = set(one.loc[one["true_noise"] == 0, "client"].astype(str))  # the estimate is wrong
    changed: dict[str, int] = {}
    if alarms is not None:
        its = alarms[alarms["run"].astype(str) == str(run)]
        changed = dict(zip(its["client"].astype(str), its["round"].astype(int), strict=True))
    whom: dict[str, list[str]] = {}
    for row in weight_table(one).sort_values("noise", ascending=False).to_dict("records"):
        name = str(row["client"])
        said = advice(
            noise=float(row["noise"]),
            low=float(row["noise_low"]),
            lowered=bool(row["after"] < MUCH_LESS * row["before"]),
            changed_at=changed.get(name),
            labels=is_share(metric),
        )
        if said and name not in clean:
            whom.setdefault(said, []).append(name)
    return [f"{_names(names)}: {said}" for said, names in whom.items()]


def _names(names: list[str]) -> str:
    told = few(names, _MOST_NAMES)
    numbers = all(name.isdigit() for name in names[:_MOST_NAMES])
    return f"Client{'s' * (len(names) > 1)} {told}" if numbers else told


def advice(
    *, noise: float, low: float, lowered: bool, changed_at: int | None, labels: bool
) -> str | None:
    """Return what to do about one client; None where there is nothing to be done.

    Parameters
    ----------
    noise, low : float
        As estimated, and the lower end of its 90 % interval; NaN where they are not known.
    lowered : bool
        Whether it weighs much less than by its data.
    changed_at : int or None
        The round from which on it is noisier.
    labels : bool
        Whether its targets are labels, and not numbers.
    """
    if changed_at is not None:
        who = "who labels" if labels else "a unit"
        return f"Ask what changed about round {changed_at}: a device, a form, {who}."
    if not lowered or math.isnan(noise):
        return None
    if low <= 0:
        return "Wait: more rounds, or more rows, have to show whether the data are wrong at all."
    if labels:
        return "Have a second person check a sample of the labels, class by class."
    return "Check the unit of the targets, then a sample of them against their source."
