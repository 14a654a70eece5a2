"""Whole runs in which the server recovers how many labels of each client are wrong."""

import numpy as np
import pandas as pd
import pytest

import fedrms

ALIKE = [
    *("data=population", "clients=10", "rounds=30", "client.lr=0.5", "fairness=none"),
    *("data.alpha=0", "data.beta=0"),
    *("data.median_examples=1000", "data.max_examples=1000", "data.size_spread=0"),
]
"""Clients of a thousand examples of one concept."""
HALF = "noise.fraction=0.5"
"""Each is noisy with this probability: 30 to 80 % of its labels are then wrong."""


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 2])
def test_the_noise_estimate_becomes_the_flip_rate_of_every_client(seed, tmp_path):
    clients = fedrms.run([*ALIKE, HALF, f"seed={seed}"], folder=tmp_path).clients
    error = (clients.rms - clients.true_noise).abs().groupby(clients["round"]).max()
    assert error[30] < 0.08
    # It is learned: a model at random loses alike on right and wrong labels.
    assert error[1] > 0.3
    # And clients differ: levels all over the range, so that no one guess would do.
    noisy = clients.true_noise[(clients["round"] == 30) & (clients.true_noise > 0)]
    assert noisy.nunique() >= 4
    assert np.ptp(noisy) > 0.2


def test_a_clean_run_estimates_no_noise_where_clients_are_alike(tmp_path):
    clients = fedrms.run([*ALIKE, "noise=none", "rounds=10"], folder=tmp_path).clients
    assert clients.rms.max() < 0.05


def test_clean_clients_with_classes_of_their_own_are_not_taken_for_noisy(tmp_path):
    """Their losses are many times those of the other clean clients."""
    options = ["partition=minority", "noise=none", "clients=10", "rounds=10", "fairness=none"]
    clients = fedrms.run(options, folder=tmp_path).clients
    last = clients[clients["round"] == 10].sort_values("loss_mean")
    assert last.loss_mean.iloc[-3] > 5 * last.loss_mean.iloc[-4]
    assert last.rms.max() < 0.05


def test_nine_in_ten_intervals_of_90_percent_hold_the_rate(tmp_path):
    options = ["data=digits", "partition=iid", "noise.fraction=0.4", "fairness=none"]
    runs = [
        fedrms.run([*options, f"seed={seed}"], folder=tmp_path / str(seed)).clients
        for seed in (10, 11, 12)
    ]
    last = pd.concat([clients[clients["round"] == 25] for clients in runs])
    held = last.true_noise.between(last.rms_low, last.rms_high)
    assert held.mean() >= 0.85
    assert held[last.true_noise > 0].mean() >= 0.8
    # And they say something: at most two fifths of the range of rates, near 0 of clean ones.
    assert (last.rms_high - last.rms_low).max() < 0.4
    assert last.rms_high[last.true_noise == 0].max() < 0.15
