"""What is computed of clients: how they ended, what kind they are, alarms, and the bound."""

import math

import numpy as np
import pandas as pd
import pytest

import fedrms
from fedrms.results.alarms import noise_alarms
from fedrms.results.client_finals import final_clients
from fedrms.results.client_groups import client_groups
from fedrms.results.gauss_markov import gauss_markov_bound
from tests.report.made_runs import write_run


def clients_of(rms, rounds=None, **columns):
    """Return a table of one run from noise estimates ``[rounds, clients]``."""
    rms = np.asarray(rms, dtype=float)
    count, clients = rms.shape
    at = np.arange(1, count + 1) if rounds is None else rounds
    return pd.DataFrame(
        {
            "run": "a",
            "strategy": "fedrms",
            "round": np.repeat(at, clients),
            "client": np.tile(np.arange(clients), count),
            "rms": rms.ravel(),
            **columns,
        }
    )


def test_a_score_is_the_mean_of_the_last_five_evaluated_rounds():
    table = clients_of(np.ones((8, 1)), test_accuracy=[0.9, 0.9, 0.1, 0.2, 0.3, 0.4, 0.5, np.nan])
    assert final_clients(table)["score"].tolist() == pytest.approx([0.3])


def test_what_a_client_last_reported_counts_where_it_was_not_asked_again():
    table = clients_of([[1.0, 5.0], [2.0, np.nan]], participated=[True, True, True, False])
    final = final_clients(table)
    assert final["rms"].tolist() == [2.0, 5.0]
    assert final["rounds"].tolist() == [2, 1]


def test_clients_are_noisy_rare_hard_or_clean(runs):
    groups = client_groups(runs.clients, runs.partition)
    for _, one in groups.groupby("run", observed=True):
        assert one.sort_values("client")["group"].tolist() == [
            *("noisy", "noisy", "rare", "hard", "clean", "clean")
        ]


def test_a_client_that_misreports_is_a_liar_whatever_its_data(runs):
    lying = runs.clients.assign(adversary=runs.clients["client"].isin([0, 5]))
    groups = client_groups(lying, runs.partition)
    assert set(groups.loc[groups["group"] == "liar", "client"]) == {0, 5}


def test_without_the_baseline_no_client_is_called_hard(runs):
    groups = client_groups(runs.clients, runs.partition, baseline="absent")
    assert set(groups["group"]) == {"noisy", "rare", "clean"}


def test_without_truth_every_client_is_unknown(tmp_path):
    runs = fedrms.load_runs(write_run(tmp_path / "a", "fedrms", truth=False))
    assert set(client_groups(runs.clients)["group"]) == {"unknown"}


def test_an_alarm_names_the_client_the_round_and_the_factor():
    rms = np.ones((10, 4))
    rms[5:, 2] = 3.0
    found = noise_alarms(clients_of(rms))
    assert found.to_dict("records") == [
        {"run": "a", "client": 2, "round": 6, "factor": 3.0, "before": 1.0, "after": 3.0}
    ]


def test_everyone_becoming_noisier_is_no_alarm():
    rms = np.ones((10, 4))
    rms[5:] = 3.0
    assert noise_alarms(clients_of(rms)).empty


def test_everyone_else_becoming_better_is_no_alarm():
    rms = np.full((10, 4), 3.0)
    rms[5:, 1:] = 1.0
    assert noise_alarms(clients_of(rms)).empty


def test_a_single_bad_round_is_no_alarm():
    rms = np.ones((10, 4))
    rms[5, 2] = 9.0
    assert noise_alarms(clients_of(rms)).empty


def test_this_rounds_statistic_tells_sooner_than_its_average():
    rms = np.ones((10, 4))
    statistic = np.ones((10, 4))
    statistic[4:, 0] = 16.0
    found = noise_alarms(clients_of(rms, statistic=statistic.ravel()))
    assert found[["client", "round", "factor"]].to_numpy().tolist() == [[0, 5, 4.0]]


def test_the_bound_is_what_weighted_least_squares_reaches():
    sigma = np.array([0.2, 0.5, 1.0, 2.0])
    draw, errors, p, n = np.random.default_rng(0), [], 4, 200
    for _ in range(200):
        x = draw.standard_normal((len(sigma) * n, p))
        noise = np.repeat(sigma, n) * draw.standard_normal(len(sigma) * n)
        weight = np.repeat(sigma**-2, n)
        error = np.linalg.solve(x.T @ (weight[:, None] * x), x.T @ (weight * noise))
        errors.append(error @ error)  # E (x' error)^2 of a standard normal x
    table = pd.DataFrame({"client": range(4), "num_examples": n, "true_noise": sigma})
    assert gauss_markov_bound(table, p) == pytest.approx(np.mean(errors), rel=0.15)


@pytest.mark.parametrize("noise", [0.0, math.nan])
def test_there_is_no_bound_with_a_client_of_no_or_unknown_noise(noise):
    table = pd.DataFrame({"client": [0, 1], "num_examples": 5, "true_noise": [1.0, noise]})
    assert math.isnan(gauss_markov_bound(table, 3))


def test_shares_around_zero_raise_no_alarm_and_a_jump_in_wrong_labels_does():
    share = np.full((10, 4), 0.001)
    share[::2, 0] = -0.004
    share[1::2, 1] = 0.02
    share[6:, 3] = 0.3
    table = clients_of(np.maximum(share, 0.0), statistic=share.ravel())
    alarms = noise_alarms(table)
    assert alarms[["client", "round"]].to_numpy().tolist() == [[3, 7]]
    assert alarms["before"].tolist() == pytest.approx([0.051])
    assert alarms["after"].tolist() == pytest.approx([0.35])


def warming_up(noisy_from=1, rounds=24):
    """Shares of wrong labels as the default law sees them: they show as the model learns."""
    at = np.arange(1, rounds + 1)
    learned = 1 - np.exp(-(at - 1) / 3.0)
    shares = np.zeros((rounds, 6))
    shares[:, 0] = 0.8 * learned
    shares[:, 1] = 0.4 * learned * (at >= noisy_from)
    shares[:, 2:] = [-0.004, 0.004, 0.002, -0.002]
    losses = np.repeat(0.1 + 2.2 * (1 - learned), 6)
    table = clients_of(np.maximum(shares, 0.0), statistic=shares.ravel(), loss_mean=losses)
    return noise_alarms(table)


def test_estimates_that_warm_up_are_no_alarm_and_a_later_change_is():
    assert warming_up().empty
    found = warming_up(noisy_from=16)
    assert found[["client", "round"]].to_numpy().tolist() == [[1, 16]]


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("options", [[], ["client.lr=0.03"], ["strategy=fedrms_deadzone"]])
def test_real_runs_alarm_exactly_where_noise_changes(seed, options, tmp_path):
    change = ["rounds=34", "noise.drift=[{round: 18, levels: shuffle}]"]
    for name, drift in (("still", []), ("drifting", change)):
        fedrms.run([f"seed={seed}", *options, *drift], folder=tmp_path / name, brief=True)
    assert noise_alarms(fedrms.load_runs(tmp_path / "still").clients).empty
    clients = fedrms.load_runs(tmp_path / "drifting").clients
    found = noise_alarms(clients)
    noise = clients.pivot_table("true_noise", "client", "round")
    noisier = set(noise.index[noise[34] >= 2 * noise[1] + 0.1])
    assert set(found["client"]) <= set(noise.index[noise[34] > noise[1]])
    assert len(set(found["client"]) & noisier) >= 0.7 * len(noisier) > 0
    assert found["round"].between(17, 19).all()


def test_the_figure_and_the_tables_mean_the_same_by_auroc(tmp_path):
    fedrms.run(["client.steps=1", "rounds=4", "client.lr=0.02"], folder=tmp_path, brief=True)
    runs = fedrms.load_runs(tmp_path)
    picture = fedrms.plots.scale_against_noise(runs.clients)
    told = runs.summary["noise_auroc"].iloc[0]
    assert 0 < told < 1
    assert f"AUROC {told:.3f}" in picture.alt


def test_a_clients_usual_swings_are_no_alarm():
    rms = np.ones((30, 4))
    rms[2:18:4, 1] = 4.0  # a hard example, now right and now wrong
    rms[[21, 23, 24, 25, 26], 1] = 4.0
    assert noise_alarms(clients_of(rms)).empty
