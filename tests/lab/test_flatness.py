"""Flat minima: the verdicts, and where a path meets a loss."""

import numpy as np
import pytest

from fedrms.lab.alone import alone
from fedrms.lab.flatness import TARGET, meet


@pytest.mark.long
def test_the_verdicts_hold_on_the_quick_size(quick):
    outcomes = {key: verdict.outcome for key, verdict in quick("flatness").verdicts.items()}
    assert outcomes["flatter than SGD"] == "does not hold"
    assert outcomes["Adam as well"] != "holds"
    assert outcomes["generalises"] == "does not hold"
    assert outcomes["flat is general"] != "holds"
    assert outcomes["noisy clients"] != "holds"


def test_adaptive_methods_end_where_the_largest_eigenvalue_is_larger(quick):
    numbers = quick("flatness").verdicts["flatter than SGD"].numbers
    assert numbers["ratio of top eigenvalue, middle"] > 1.1
    assert numbers["ratio of top eigenvalue, fast"] > 1.1


def test_all_models_are_compared_at_the_same_loss():
    client = alone("flatness", "data.examples_per_client=50")
    start = client.starts([0])[0]
    assert meet(client, np.stack([start, start])) == (None, float("inf"))
    below = np.zeros_like(start)
    labels = client.train["y"].numpy()
    only = labels == 3
    client.train.update({name: column[only] for name, column in client.train.items()})
    below[-10 + 3] = 10.0  # a bias for the one class that is left
    at, steps = meet(client, np.stack([start, below]))
    assert 0 < steps < 10
    params = client.tree(at.double().numpy())
    loss = client.task.losses(client.apply, params, client.train).mean()
    assert loss.item() == pytest.approx(TARGET, rel=1e-3)
