"""Whole runs of the federations that results are told about: what their tables must show."""

import numpy as np
import pytest

import fedrms

SMALL = ["rounds=2", "client.epochs=1"]


@pytest.mark.parametrize(("order", "sign"), [("by_size", 1), ("against_size", -1)])
def test_sizes_that_go_with_the_noise_or_against_it(tmp_path, order, sign):
    setting = ["partition=quantity", "partition.spacing=log", "partition.min_examples=20"]
    setting += ["partition.max_examples=120", "noise.fraction=1", f"noise.order={order}"]
    clients = fedrms.run([*SMALL, *setting], folder=tmp_path).clients
    first = clients[clients["round"] == 1]
    sizes = np.sort(first.num_examples)
    assert sizes[[0, -1]].tolist() == [20, 120]
    rising = first.sort_values("num_examples").true_noise.to_numpy()[::sign]
    np.testing.assert_allclose(rising, np.linspace(0.3, 0.8, 20))


def test_everyone_equally_noisy(tmp_path):
    setting = ["noise.fraction=1", "noise.low=0.4", "noise.high=0.4"]
    result = fedrms.run([*SMALL, *setting], folder=tmp_path)
    np.testing.assert_allclose(result.clients.true_noise, 0.4)
    assert result.rounds.noise_auroc.isna().all()


def test_fedcorrs_clients_and_noise(tmp_path):
    setting = ["partition=fedcorr", "noise=fedcorr", "noise.relabel=any"]
    clients = fedrms.run([*SMALL, *setting], folder=tmp_path).clients
    noisy = clients.true_noise[clients.true_noise > 0]
    assert noisy.min() >= 0.45
    assert noisy.max() <= 0.9
    assert clients.num_examples[clients["round"] == 1].sum() == 1347


def test_a_cumulative_memory_is_the_mean_of_a_clients_statistics(tmp_path):
    setting = ["strategy=fedrms_deadzone", "strategy.memory=cumulative"]
    clients = fedrms.run([*SMALL, *setting], folder=tmp_path).clients
    mean = clients.groupby("client").statistic.mean()
    last = clients[clients["round"] == 2].set_index("client")
    np.testing.assert_allclose(last.ema, mean)
    np.testing.assert_allclose(last.rms, np.sqrt(mean))


def test_synthetic_clients_are_scored_on_test_rows_of_their_own(tmp_path):
    setting = ["data=synthetic", "data.log_size_std=0.5", "noise=none", "clients=10"]
    result = fedrms.run([*SMALL, *setting], folder=tmp_path)
    last = result.clients[result.clients["round"] == 2].set_index("client").test_accuracy
    held = fedrms.data.build(
        seed=0,
        clients=10,
        data={"name": "synthetic", "log_size_std": 0.5},
        partition={"name": "natural"},
        noise={"name": "none"},
    )
    rows = np.bincount(held.test_groups)
    hits = last * rows  # whole numbers: each is a count of right answers
    np.testing.assert_allclose(hits, np.rint(hits), atol=1e-9)
    everyone = result.rounds.test_accuracy.iloc[-1]
    np.testing.assert_allclose(hits.sum() / rows.sum(), everyone)
    assert result.rounds.client_mean.iloc[-1] == pytest.approx(last.mean())
