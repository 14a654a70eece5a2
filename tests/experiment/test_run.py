"""A whole run, from overrides to tables."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scipy.stats import spearmanr

import fedrms
from fedrms.errors import ConfigError, RunError
from fedrms.weighting.excess_scaler import OPTIONS

SMALL = ["rounds=2", "client.epochs=1"]


def model(folder: Path) -> np.ndarray:
    arrays = load_file(folder / "model.safetensors")
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def test_a_run_leaves_every_file_with_the_documented_columns(tmp_path):
    result = fedrms.run([*SMALL, "rounds=6"], folder=tmp_path)

    assert {"summary.json", "rounds.parquet", "clients.parquet", "model.safetensors"} <= {
        path.name for path in tmp_path.iterdir()
    }
    rounds, clients = (pd.read_parquet(tmp_path / f"{n}.parquet") for n in ("rounds", "clients"))
    assert list(rounds.columns[:4]) == ["round", "test_accuracy", "test_loss", "seconds"]
    assert set(clients.columns) >= {
        *("round", "client", "num_examples", "loss_mean", "loss_variance", "loss_second_moment"),
        *("statistic", "ema", "rms", "scale", "weight", "update_norm", "test_accuracy"),
        *("true_noise", "failed"),
    }
    assert len(rounds) == 6
    assert len(clients) == 6 * 20
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["final_accuracy"] == pytest.approx(rounds.test_accuracy[-5:].mean())
    assert summary["rounds"] == 6
    assert summary["status"] == "finished"
    assert summary["versions"]["flwr"].startswith("1.")
    assert result.summary["noise_auroc"] == summary["noise_auroc"]


def test_what_the_tables_say_about_a_client_hangs_together(tmp_path):
    clients = fedrms.run([*SMALL, "strategy=fedrms_deadzone"], folder=tmp_path).clients

    second = clients.loss_mean**2 + clients.loss_variance
    np.testing.assert_allclose(clients.loss_second_moment, second, rtol=1e-9)
    np.testing.assert_allclose(clients.statistic, clients.loss_second_moment)
    last = clients[clients["round"] == 2]
    np.testing.assert_allclose(last.rms, np.sqrt(last.ema / (1 - 0.9**2)))
    np.testing.assert_allclose(last.weight.sum(), 1.0)
    expected = last.num_examples * last.scale
    np.testing.assert_allclose(last.weight, expected / expected.sum())


def test_the_noise_of_the_law_excess_rises_with_a_clients_share_above_the_clean_ones(tmp_path):
    clients = fedrms.run(SMALL, folder=tmp_path).clients

    share = clients.groupby("client").statistic.apply(
        lambda s: 0.5 * 0.5 * s.iloc[0] + 0.5 * s.iloc[1]
    )
    last = clients[clients["round"] == 2].set_index("client")
    np.testing.assert_allclose(last.ema, share)
    assert spearmanr(last.rms, share)[0] > 0.8  # further is what chance explains of small shares
    corrected = share / (1 - 0.5**2)
    above = corrected - np.quantile(corrected, OPTIONS["clean_share"], method="inverted_cdf")
    assert 0 <= last.rms.min() < last.rms.max() < above.max() + 0.01
    assert (last.rms_error > 0).all()
    weight = last.num_examples * last.scale
    np.testing.assert_allclose(last.weight, weight / weight.sum())


def test_a_clients_share_in_the_objective_is_that_of_its_weights_so_far(tmp_path):
    options = ["rounds=4", "client.epochs=1", "client.fraction=0.5", "server_optimizer=sgd"]
    options += ["strategy.law=rmsprop", "server_optimizer.lr=0.5", "heterogeneity=dropout"]
    options += [
        "server_optimizer.scheduler={_target_: torch.optim.lr_scheduler.ExponentialLR, gamma: 0.8}"
    ]
    result = fedrms.run(options, folder=tmp_path)
    step = result.clients.weight.fillna(0) * 0.8 ** (result.clients["round"] - 1)
    so_far = step.groupby(result.clients.client).cumsum()
    share = so_far / so_far.groupby(result.clients["round"]).transform("sum")
    np.testing.assert_allclose(result.clients.objective_share, share)
    last = result.clients["round"] == 4
    clean = last & (result.clients.true_noise == 0)
    assert result.summary["objective_clean"] == pytest.approx(share[clean].sum())
    assert result.summary["objective_clients"] == pytest.approx(1 / (share[last] ** 2).sum())


def test_fedavg_minimises_by_examples(tmp_path):
    result = fedrms.run([*SMALL, "strategy=fedavg", "partition=quantity"], folder=tmp_path)
    last = result.clients[result.clients["round"] == 2]
    np.testing.assert_allclose(last.objective_share, last.num_examples / last.num_examples.sum())
    row = result.rounds.iloc[-1]
    assert row.objective_clean == pytest.approx(row.objective_clean_examples)


def test_the_same_seed_twice_gives_identical_tables_and_weights(tmp_path):
    for name in ("one", "two"):
        fedrms.run([*SMALL, "heterogeneity=mixed", "client.fraction=0.5"], folder=tmp_path / name)

    one, two = tmp_path / "one", tmp_path / "two"
    for table in ("clients", "rounds"):
        pd.testing.assert_frame_equal(
            *(
                pd.read_parquet(folder / f"{table}.parquet").drop(
                    columns="seconds", errors="ignore"
                )
                for folder in (one, two)
            ),
            check_exact=True,
        )
    assert (one / "clients.parquet").read_bytes() == (two / "clients.parquet").read_bytes()
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()


def test_a_large_table_of_clients_is_read_when_asked_for_and_refused_once_it_is_another(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sys.modules["fedrms.experiment.result"], "READ_AT_ONCE", 0)
    one, other, gone = (fedrms.run(SMALL, folder=tmp_path / name) for name in ("1", "2", "3"))
    written = pd.read_parquet(tmp_path / "1" / "clients.parquet")
    pd.testing.assert_frame_equal(one.clients, written)
    fedrms.run([f"resume={tmp_path / '1'}", "rounds=3"])
    pd.testing.assert_frame_equal(one.clients, written)
    fedrms.run([f"resume={tmp_path / '2'}", "rounds=3"])
    (tmp_path / "3" / "clients.parquet").unlink()
    for result in (other, gone):
        with pytest.raises(RunError, match=r"clients\.parquet is not what this run left there"):
            _ = result.clients


def test_a_small_table_of_clients_outlives_its_folder(tmp_path):
    result = fedrms.run(SMALL, folder=tmp_path / "1")
    written = pd.read_parquet(tmp_path / "1" / "clients.parquet")
    shutil.rmtree(tmp_path / "1")
    pd.testing.assert_frame_equal(result.clients, written)


def test_another_seed_gives_another_run(tmp_path):
    one = fedrms.run([*SMALL, "seed=1"], folder=tmp_path / "1")
    two = fedrms.run([*SMALL, "seed=2"], folder=tmp_path / "2")
    assert not np.array_equal(model(one.folder), model(two.folder))
    assert not one.clients.true_noise.equals(two.clients.true_noise)


def test_strategies_share_partition_noise_model_and_batches(tmp_path):
    """Only then is a difference between two strategies paired."""
    runs = [
        fedrms.run([*SMALL, "rounds=1", f"strategy={name}"], folder=tmp_path / name)
        for name in ("fedavg", "fedrms", "fedrms_deadzone", "median_flower")
    ]
    columns = ["num_examples", "true_noise", "update_norm"]
    for other in runs[1:]:
        pd.testing.assert_frame_equal(runs[0].clients[columns], other.clients[columns])
    losses = [run.clients.loss_second_moment for run in runs]
    for place in (2, 3):  # fedrms reports losses of the received model, the others while training
        pd.testing.assert_series_equal(losses[0], losses[place])


def test_flowers_own_fedavg_gives_the_model_that_ours_gives(tmp_path):
    ours = fedrms.run([*SMALL, "strategy=fedavg"], folder=tmp_path / "ours")
    flowers = fedrms.run([*SMALL, "strategy=fedavg_flower"], folder=tmp_path / "flowers")
    np.testing.assert_allclose(model(ours.folder), model(flowers.folder), atol=1e-6)


def test_noisy_clients_are_recognised_and_pulled_down(tmp_path):
    result = fedrms.run(["rounds=12"], folder=tmp_path)
    last = result.clients[result.clients["round"] == 12]
    noisy = last.true_noise > 0
    assert result.summary["noise_auroc"] == 1.0
    assert last.scale[noisy].max() < last.scale[~noisy].min()
    assert noisy.mean() == 0.4
    assert last.weight[noisy].sum() < 0.2
    assert result.rounds.clean_weight_share.iloc[-1] > 0.8


def test_with_noisy_clients_fedrms_ends_above_fedavg(tmp_path):
    final = {
        name: fedrms.run([f"strategy={name}", "seed=1"], folder=tmp_path / name).summary[
            "final_accuracy"
        ]
        for name in ("fedavg", "fedrms")
    }
    assert final["fedrms"] > final["fedavg"] + 0.01


def test_heteroscedastic_regression_reaches_the_gauss_markov_bound(tmp_path):
    """SCIENCE: 1/rms of the loss is 1/sigma^2, the best linear unbiased weight."""
    setting = [
        *("data=regression", "rounds=40", "client.epochs=2", "client.batch_size=10"),
        *("client.lr=0.02", "strategy.decay=0.5"),
    ]
    choices = {
        "fedavg": ["strategy=fedavg"],
        "fedrms": ["strategy=fedrms", "strategy.law=rmsprop"],
        "oracle": ["strategy=oracle", "strategy.mode=inverse_variance"],
    }
    mse = {
        name: np.mean(
            [
                fedrms.run(
                    [*choice, *setting, f"seed={seed}"], folder=tmp_path / f"{name}{seed}"
                ).summary["final_mse"]
                for seed in (0, 1, 2)
            ]
        )
        for name, choice in choices.items()
    }
    assert mse["fedrms"] <= 1.15 * mse["oracle"]
    assert mse["fedavg"] > 10 * mse["fedrms"]


def test_a_client_with_broken_data_is_recorded_and_the_run_goes_on(tmp_path, monkeypatch):
    from fedrms import data

    build = data.build

    def with_broken_client(**options):
        federation = build(**options)
        for stage in federation.stages:
            stage.x[federation.offsets[3] : federation.offsets[4]] = np.nan
        return federation

    monkeypatch.setattr(data, "build", with_broken_client)
    for strategy in ("fedrms", "median_flower"):
        result = fedrms.run([*SMALL, "seed=77", f"strategy={strategy}"], folder=tmp_path / strategy)
        failed = result.clients[result.clients.failed]
        assert failed.client.tolist() == [3, 3]
        assert failed.failure.str.contains("client 3.*not finite").all()
        assert result.summary["failed_client_rounds"] == 2
        assert np.isfinite(model(result.folder)).all()


def test_a_run_in_which_nobody_answers_says_so_and_keeps_its_tables(tmp_path):
    with pytest.raises(RunError, match="no client finished any round"):
        fedrms.run([*SMALL, "heterogeneity=dropout", "heterogeneity.dropout=1"], folder=tmp_path)
    clients = pd.read_parquet(tmp_path / "clients.parquet")
    assert clients.failed.all()
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "interrupted"


def test_a_fault_in_the_middle_keeps_what_was_computed(tmp_path, monkeypatch):
    from fedrms.server import FedRMS

    plain = FedRMS.aggregate_train

    def breaks(self, server_round, replies):
        if server_round == 3:
            raise RuntimeError("boom")
        return plain(self, server_round, replies)

    monkeypatch.setattr(FedRMS, "aggregate_train", breaks)
    with pytest.raises(RuntimeError, match="boom"):
        fedrms.run([*SMALL, "rounds=5"], folder=tmp_path)
    assert pd.read_parquet(tmp_path / "rounds.parquet")["round"].tolist() == [1, 2]
    assert (tmp_path / "model.safetensors").exists()
    runs = fedrms.load_runs(tmp_path)
    assert runs.summary.status.tolist() == ["interrupted"]


def test_drift_moves_the_noise_in_the_tables_and_in_the_data(tmp_path):
    clients = fedrms.run(
        ["rounds=3", "client.epochs=1", "noise.drift=[{round: 3, levels: shuffle}]"],
        folder=tmp_path,
    ).clients
    levels = clients.pivot_table(index="round", columns="client", values="true_noise")
    assert levels.loc[1].equals(levels.loc[2])
    assert not levels.loc[2].equals(levels.loc[3])
    assert sorted(levels.loc[2]) == sorted(levels.loc[3])


def test_the_model_is_scored_only_when_asked(tmp_path):
    rounds = fedrms.run([*SMALL, "rounds=5", "evaluate_every=2"], folder=tmp_path).rounds
    assert rounds.test_accuracy.notna().tolist() == [False, True, False, True, True]


def test_a_runs_folder_can_be_loaded_with_its_configuration(tmp_path):
    fedrms.run([*SMALL, "strategy=fedavg", "partition.alpha=0.1"], folder=tmp_path / "a")
    summary = fedrms.load_runs(tmp_path).summary
    assert summary.strategy.tolist() == ["fedavg"]
    assert summary["partition.alpha"].tolist() == [0.1]


def test_a_memory_budget_changes_where_models_wait_and_not_the_run(tmp_path):
    """A kilobyte holds no model of this run: every client's waits on disk."""
    plain = fedrms.run(SMALL, folder=tmp_path / "plain")
    tight = fedrms.run([*SMALL, "engine.memory=1KiB"], folder=tmp_path / "tight")
    np.testing.assert_allclose(model(tight.folder), model(plain.folder), rtol=1e-4, atol=1e-5)
    pd.testing.assert_frame_equal(
        tight.clients[["client", "weight", "scale"]], plain.clients[["client", "weight", "scale"]]
    )


@pytest.mark.long
def test_bfloat16_is_less_exact_and_learns_the_same(tmp_path):
    options = [*SMALL, "model=cnn", "client.epochs=2", "rounds=6"]
    plain = fedrms.run(options, folder=tmp_path / "plain")
    half = fedrms.run([*options, "engine.precision=bf16"], folder=tmp_path / "bf16")
    apart = np.linalg.norm(model(half.folder) - model(plain.folder))
    assert 1e-4 < apart / np.linalg.norm(model(plain.folder)) < 0.2
    accuracy = [result.rounds.test_accuracy.iloc[-1] for result in (half, plain)]
    assert abs(accuracy[0] - accuracy[1]) < 0.1


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["roundz=5"], "roundz"),
        (["+foo=1"], "foo"),
        (["rounds=0"], "rounds"),
        (["clients=5000"], "clients"),
        (["client.lr=-1"], "client.lr"),
        (["client.fraction=0"], "client.fraction"),
        (["+client.foo=1"], "client.foo"),
        (["+engine.foo=1"], "engine.foo"),
        (["+noise.foo=1"], "noise.foo"),
        (["+strategy.foo=1"], "strategy.foo"),
        (["strategy.law=foo"], "strategy.law"),
        (["strategy.statistic=foo"], "strategy.statistic"),
        (["strategy.decay=1"], "strategy.decay"),
        (["noise=target"], "noise"),
        (["noise.order=by_work"], "noise.order"),
        (["data=mnist"], "data.path"),
        (["data=mnist", "data.path=/nowhere"], "data.path"),
        (["partition=natural"], "partition"),
        (["data=regression", "model=cnn"], "model"),
        (["strategy=krum", "server_optimizer=adam"], "server_optimizer"),
        (["server_optimizer=adam", "server_optimizer.lr=-1"], "server_optimizer"),
        (["partition.balanced=false", "partition.alpha=0.01"], "partition.alpha"),
        (["fairness.metrics=[foo]"], "fairness.metrics"),
        (["device=tpu"], "device"),
        (["engine.executor=foo"], "engine.executor"),
        (["engine.precision=half"], "engine.precision"),
        (["engine.memory=much"], "engine.memory"),
        (["engine.compiled=2"], "engine.compiled"),
        (["engine.chunk_clients=0"], "engine.chunk_clients"),
    ],
)
def test_bad_input_names_the_key_before_training(overrides, key, tmp_path):
    with pytest.raises(ConfigError) as caught:
        fedrms.run(overrides, folder=tmp_path / "run")
    assert caught.value.key == key
    assert caught.value.remedy
    assert not (tmp_path / "run" / "rounds.parquet").exists()
