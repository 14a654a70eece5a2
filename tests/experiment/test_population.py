"""Whole runs on populations: their tables, their summary, their limits."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

import fedrms
from fedrms.data import build
from fedrms.data.to_arrow import write_arrow
from fedrms.errors import ConfigError

SMALL = [
    *("data=population", "client.epochs=1", "rounds=3", "data.features=8", "data.classes=4"),
    *("data.median_examples=20", "data.test_examples=100"),
]


def test_the_client_table_has_rows_for_the_cohort_of_each_round(tmp_path):
    result = fedrms.run([*SMALL, "clients=50", "client.fraction=0.2"], folder=tmp_path)

    clients = pd.read_parquet(tmp_path / "clients.parquet")
    assert clients.groupby("round").size().tolist() == [10, 10, 10]
    assert clients.participated.all()
    assert not clients.failed.any()
    assert clients[["rms", "weight", "loss_mean", "test_accuracy"]].notna().all().all()
    np.testing.assert_allclose(clients.groupby("round").weight.sum(), 1.0)
    assert clients.client.nunique() > 10
    assert result.summary["clients"] == 50


def test_fairness_is_over_the_clients_of_the_cohort(tmp_path):
    result = fedrms.run([*SMALL, "clients=50", "client.fraction=0.2"], folder=tmp_path)
    by_round = result.clients.groupby("round").test_accuracy
    np.testing.assert_allclose(result.rounds.client_mean, by_round.mean())
    np.testing.assert_allclose(result.rounds.client_min, by_round.min())
    worst = result.summary["worst_client_accuracy"]
    assert worst == pytest.approx(by_round.min().mean())


def test_clients_that_drop_out_have_their_row_and_their_reason(tmp_path):
    clients = fedrms.run(
        [*SMALL, "clients=50", "client.fraction=0.4", "heterogeneity=dropout"], folder=tmp_path
    ).clients
    assert clients.groupby("round").size().tolist() == [20, 20, 20]
    failed = clients[clients.failed]
    assert 0 < len(failed) < 30
    assert failed.failure.str.contains("dropped out").all()
    assert (failed.num_examples > 0).all()
    assert failed.weight.isna().all()


def test_the_tables_hold_the_level_and_the_size_of_each_client(tmp_path):
    clients = fedrms.run(
        [*SMALL, "clients=40", "noise.drift=[{round: 3, levels: shuffle}]"], folder=tmp_path
    ).clients
    held = build(
        seed=0,
        clients=40,
        data={"name": "population", "median_examples": 20},
        partition={"name": "natural"},
        noise={"name": "label", "drift": [{"round": 3, "levels": "shuffle"}]},
    )
    for server_round, rows in clients.groupby("round"):
        np.testing.assert_array_equal(rows.true_noise, held.true_noise(server_round))
        np.testing.assert_array_equal(rows.num_examples, held.sizes)


def test_the_oracle_averages_only_the_clean_clients_of_a_population(tmp_path):
    clients = fedrms.run([*SMALL, "clients=40", "strategy=oracle"], folder=tmp_path).clients
    assert (clients.weight[clients.true_noise > 0] == 0).all()
    assert (clients.weight[clients.true_noise == 0] > 0).all()


@pytest.mark.parametrize("strategy", ["fedavg_flower", "median_flower"])
def test_flowers_strategies_run_on_a_population(tmp_path, strategy):
    result = fedrms.run(
        [*SMALL, "clients=30", "client.fraction=0.2", f"strategy={strategy}"], folder=tmp_path
    )
    assert result.clients.groupby("round").size().tolist() == [6, 6, 6]
    assert result.clients.update_norm.notna().all()


def test_the_arrow_folder_of_a_population_gives_the_populations_tables(tmp_path):
    held = build(
        seed=0,
        clients=30,
        data={"name": "population", "features": 8, "classes": 4, "test_examples": 100},
        partition={"name": "natural"},
        noise={"name": "none"},
    )
    folder = write_arrow(held, tmp_path / "written")
    common = ["clients=30", "client.fraction=0.3", "rounds=2", "client.epochs=1", "model=softmax"]
    common += ["noise=label"]  # to a person's own file nothing is added unless it is asked for
    made = ["data=population", "data.features=8", "data.classes=4", "data.test_examples=100"]
    one = fedrms.run([*common, *made], folder=tmp_path / "one")
    two = fedrms.run([*common, "data=arrow", f"data.path={folder}"], folder=tmp_path / "two")
    pd.testing.assert_frame_equal(one.clients, two.clients, check_exact=True)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]


def test_a_run_over_a_million_clients_holds_what_a_run_over_a_thousand_does(tmp_path):
    def peak(clients):
        tracemalloc.start()
        try:
            fedrms.run(
                [*SMALL, f"clients={clients}", f"client.fraction={20 / clients}"],
                folder=tmp_path / str(clients),
            )
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1_000)  # what is imported and cached on first use
    # A byte for each of a million clients would be 1 MB.
    assert peak(1_000_000) - peak(1_001) < 1e6


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["partition=iid"], "partition"),
        (["noise=file"], "noise"),
        (["noise.levels=[0.1]"], "noise.levels"),
        (["data.alpha=-1"], "data.alpha"),
        (["+data.foo=1"], "data.foo"),
        (["data=arrow"], "data.path"),
    ],
)
def test_bad_input_names_the_key_before_training(overrides, key, tmp_path):
    with pytest.raises(ConfigError) as caught:
        fedrms.run(["data=population", *overrides], folder=tmp_path / "run")
    assert caught.value.key == key
    assert caught.value.remedy
