"""How clients whose inputs look different fare beside the others."""

from __future__ import annotations

import math

import numpy as np

from fedrms.results.attribution import NAN, Array, _floats


def by_look(
    values: Array, weight: Array, num_examples: Array, other: Array, took_part: Array
) -> dict[str, float]:
    """Compare clients that look different with the others.

    Parameters
    ----------
    values : array ``[clients]``
        Test metric of each client on test rows that look like its own; NaN where not scored.
    weight, num_examples : array ``[clients]``
        Effective weights, NaN where unknown, and training examples.
    other, took_part : array of bool, ``[clients]``
        Who looks different, and who is in the round's cohort.

    Returns
    -------
    dict of str to float
        ``usual_mean`` and ``other_mean`` over clients, and ``other_weight``: the weight of those
        who look different over what their examples would have given them, 1 in FedAvg.
    """
    means = {
        name: float(values[which].mean()) if which.any() else NAN
        for name, which in (("usual_mean", ~other), ("other_mean", other))
    }
    known = took_part & ~np.isnan(_floats(weight))
    total, own = (math.fsum(_floats(num_examples)[who]) for who in (known, known & other))
    held = math.fsum(_floats(weight)[known & other])
    return means | {"other_weight": held * total / own if own > 0 else NAN}
