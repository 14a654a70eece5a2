"""Whole runs with clients that lie."""

import numpy as np
import pandas as pd
import pytest

import fedrms
from fedrms.errors import ConfigError

SMALL = ["rounds=2", "client.epochs=1"]


def test_the_client_table_says_who_lies_and_what_was_claimed(tmp_path):
    lies = ["adversary=liars", "adversary.among=noisy", "adversary.fraction=0.5"]
    believing = "+strategy.law_options.corroboration=0"
    clients = fedrms.run([*SMALL, *lies, believing], folder=tmp_path).clients
    assert clients.groupby("round").adversary.sum().tolist() == [4, 4]
    assert (clients.true_noise[clients.adversary] > 0).all()
    told = clients[["loss_mean", "loss_variance", "loss_second_moment"]]
    assert (told[clients.adversary] == 0).all().all()
    assert (told[~clients.adversary] > 0).all().all()
    assert (clients.statistic[clients.adversary] < 0).all()  # less than clean clients lose


def test_the_default_takes_no_claim_of_nothing_for_less_than_clean_clients_lose(tmp_path):
    lies = ["adversary=liars", "adversary.among=noisy", "adversary.fraction=0.5"]
    clients = fedrms.run([*SMALL, *lies], folder=tmp_path).clients
    assert (clients.loss_mean[clients.adversary] == 0).all()
    assert (clients.statistic[clients.adversary] >= 0).all()


def test_everyone_is_honest_by_default(tmp_path):
    clients = fedrms.run(SMALL, folder=tmp_path).clients
    assert clients.adversary.dtype == bool
    assert not clients.adversary.any()


def test_in_the_first_round_honest_clients_report_what_they_report_without_liars(tmp_path):
    lies = ["adversary=liars", "adversary.update=flip", "adversary.clients=[0,5]"]
    plain = fedrms.run([*SMALL, "rounds=1"], folder=tmp_path / "plain").clients
    lied = fedrms.run([*SMALL, "rounds=1", *lies], folder=tmp_path / "lied").clients
    honest = ~lied.adversary
    assert honest.sum() == 18
    columns = ["num_examples", "loss_mean", "loss_second_moment", "update_norm", "true_noise"]
    pd.testing.assert_frame_equal(plain[columns][honest], lied[columns][honest])


def test_the_oracle_averages_no_adversary(tmp_path):
    lies = ["adversary=liars", "adversary.fraction=0.3", "adversary.among=clean"]
    clients = fedrms.run([*SMALL, *lies, "strategy=oracle"], folder=tmp_path).clients
    weighed = clients.weight > 0
    np.testing.assert_array_equal(weighed, (clients.true_noise == 0) & ~clients.adversary)
    assert clients.groupby("round").adversary.sum().tolist() == [4, 4]


def test_clients_of_a_population_lie_as_well(tmp_path):
    result = fedrms.run(
        [
            *("data=population", "clients=200", "client.fraction=0.2", "data.median_examples=20"),
            *(*SMALL, "adversary=liars", "adversary.fraction=0.5", "adversary.update=random"),
        ],
        folder=tmp_path,
    )
    clients = result.clients
    assert clients.groupby("client").adversary.nunique().max() == 1
    assert 0 < clients.adversary.mean() < 1
    assert (clients.loss_mean[clients.adversary] == 0).all()


@pytest.mark.parametrize("strategy", ["fedavg_flower", "krum"])
def test_strategies_of_flower_get_the_lies(tmp_path, strategy):
    """All clients flip, so the first step goes the other way."""
    lies = ["adversary=liars", "adversary.fraction=1", "adversary.loss=honest"]
    setting = ["rounds=1", "client.epochs=2", f"strategy={strategy}", "noise=none"]
    honest = fedrms.run(setting, folder=tmp_path / "honest").rounds.test_loss[0]
    lied = fedrms.run([*setting, *lies, "adversary.update=flip"], folder=tmp_path / "lied")
    assert honest < np.log(10) < lied.rounds.test_loss[0]


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["adversary.loss=big"], "adversary.loss"),
        (["adversary.loss=honest"], "adversary.loss"),
        (["adversary.update=none"], "adversary.update"),
        (["adversary.loss_share=2"], "adversary.loss_share"),
        (["adversary.update_factor=much"], "adversary.update_factor"),
        (["adversary.fraction=-1"], "adversary.fraction"),
        (["adversary.clients=[20]"], "adversary.clients"),
        (["+adversary.foo=1"], "adversary.foo"),
        (["adversary.name=devils"], "adversary"),
        (["adversary.among=noisy", "noise=none"], "adversary.among"),
    ],
)
def test_impossible_adversaries_name_their_key(overrides, key, tmp_path):
    with pytest.raises(ConfigError) as caught:
        fedrms.run([*SMALL, "adversary=liars", *overrides], folder=tmp_path)
    assert caught.value.key == key
