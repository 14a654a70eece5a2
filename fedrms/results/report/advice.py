"""What a site can do about its noise, in a sentence for its card."""

from __future__ import annotations

import math


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
        return f"Ask the site what changed about round {changed_at}: a device, a form, {who}."
    if not lowered or math.isnan(noise):
        return None
    if low <= 0:
        return "Wait: more rounds, or more rows, have to show whether its data are wrong at all."
    back = "Once they are mended, its weight comes back by itself."
    if labels:
        return f"Have a second person check a sample of its labels, class by class. {back}"
    return f"Check the unit of its targets, then a sample of them against their source. {back}"
