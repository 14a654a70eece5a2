"""Architecture search by proxies: rankings whose tau can be derived by hand."""

import pandas as pd
import pytest

from fedrms.lab import nas
from fedrms.lab.proxies import space


@pytest.mark.long
def test_the_verdicts_hold_on_the_quick_size(quick):
    outcomes = {key: verdict.outcome for key, verdict in quick("nas").verdicts.items()}
    assert outcomes == {
        "preferred rates differ": "holds",
        "one rate for all": "holds",
        "optimizers reorder": "holds in part",
        "RMSProp predicts better": "does not hold",
        "noisy clients": "does not hold",
    }


def test_the_space_has_no_skips_around_a_single_layer():
    found = space((1, 3), (4,))
    assert len(found) == len(set(found)) == 2 + 4
    assert not any(depth == 1 and residual for depth, _, _, residual in found)


def scores(part, optimizer, rate, repetition, accuracies):
    return [
        {
            "part": part,
            "architecture": name,
            "optimizer": optimizer,
            "rate": rate,
            "repetition": repetition,
            "validation": accuracy,
            "test": accuracy,
        }
        for name, accuracy in zip("abcd", accuracies, strict=True)
    ]


@pytest.fixture
def table():
    rows = []
    for repetition in (0, 1):
        rows += scores("proxy", "gd", 1.0, repetition, [0.4, 0.3, 0.2, 0.1])
        rows += scores("proxy", "gd", 9.0, repetition, [0.1, 0.1, 0.1, 0.1])
        rows += scores("proxy", "rmsprop", 0.1, repetition, [0.4, 0.3, 0.1, 0.2])
    for repetition in (2, 3):
        rows += scores("full", "gd", 1.0, repetition, [0.9, 0.8, 0.7, 0.5])
        rows += scores("full", "rmsprop", 0.1, repetition, [0.6, 0.6, 0.6, 0.6])
    federated = [
        {"part": "federated", "architecture": name, "strategy": s, "repetition": 0, "test": value}
        for s, values in (("fedavg", [1, 2, 3, 4]), ("fedrms", [4, 3, 2, 1]))
        for name, value in zip("abcd", values, strict=True)
    ]
    return pd.DataFrame(rows + federated)


def test_the_ranking_after_full_training_takes_each_at_its_best(table):
    assert nas.fully_trained(table).to_dict() == {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}


def test_one_swap_of_neighbours_among_four_leaves_two_thirds(table):
    mean = nas.taus(table).groupby("pair")["tau"].mean()
    assert mean["sgd, sgd"] == pytest.approx(1.0)
    assert mean["sgd, rmsprop"] == pytest.approx((5 - 1) / 6)
    assert mean["sgd, full"] == pytest.approx(1.0)
    assert mean["rmsprop, full"] == pytest.approx(4 / 6)
    assert mean["fedavg, full"] == pytest.approx(-1.0)
    assert mean["fedrms, full"] == pytest.approx(1.0)
