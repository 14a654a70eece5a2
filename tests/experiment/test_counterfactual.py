"""A run against the federation of its clean clients: whole runs, compared through their tables."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import fedrms
from fedrms.engines.observed import ObservedGrid
from fedrms.errors import ConfigError, RunError
from fedrms.experiment import compose_config
from fedrms.experiment.counterfactual import clean_reference
from fedrms.experiment.parts import build_parts

from ..engines.by_hand import AppGrid, run_strategy

SMALL = ["rounds=3", "client.epochs=1", "partition=minority"]
CLEAN = [*SMALL, "counterfactual=clean"]


def kept(folder: Path) -> list[Path]:
    """The counterfactuals below a folder."""
    return sorted((folder / ".counterfactual").iterdir())


def model(folder: Path) -> np.ndarray:
    arrays = load_file(folder / "model.safetensors")
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def test_protection_is_the_difference_of_the_two_runs_tables(tmp_path):
    result = fedrms.run(CLEAN, folder=tmp_path)
    (folder,) = kept(tmp_path)
    here, there = result.clients, pd.read_parquet(folder / "clients.parquet")
    gain = here.test_accuracy - there.test_accuracy
    clean = here.true_noise == 0
    by_round = gain[clean].groupby(here["round"]).mean()
    np.testing.assert_allclose(result.rounds.clean_protection, by_round)
    assert result.summary["clean_protection"] == pytest.approx(by_round.mean())

    rare = build_parts(compose_config(SMALL)).side.federation.rare
    by_round = gain[here.client.isin(np.flatnonzero(rare))].groupby(here["round"]).mean()
    np.testing.assert_allclose(result.rounds.rare_protection, by_round)
    assert result.summary["rare_protection"] == pytest.approx(by_round.mean())
    assert by_round.abs().min() > 0
    assert (tmp_path / result.summary["counterfactual_run"]).resolve() == folder.resolve()


def test_the_clean_federation_is_the_oracle_that_averages_clean_clients(tmp_path):
    """Weight 0 for the noisy, and not asking them: two ways to one model."""
    run = fedrms.run([*CLEAN, "client.fraction=0.6"], folder=tmp_path / "run")
    oracle = fedrms.run(
        [*SMALL, "client.fraction=0.6", "strategy=oracle"], folder=tmp_path / "oracle"
    )
    (folder,) = kept(run.folder)
    np.testing.assert_allclose(model(folder), model(oracle.folder), rtol=1e-4, atol=1e-6)
    asked = pd.read_parquet(folder / "clients.parquet").query("participated")
    assert (asked.true_noise == 0).all()
    same = oracle.clients.query("participated and true_noise == 0")
    assert asked.client.tolist() == same.client.tolist()


def test_fedavg_without_noise_is_its_own_counterfactual(tmp_path):
    result = fedrms.run([*CLEAN, "noise=none", "strategy=fedavg"], folder=tmp_path)
    np.testing.assert_allclose(result.rounds.clean_protection, 0, atol=1e-12)


@pytest.mark.parametrize("strategy", ["fedrms", "fedavg_flower"])
def test_a_run_is_the_same_with_its_counterfactual(strategy, tmp_path):
    """Flower's strategies sample with a global generator, which must not be moved on."""
    options = [f"strategy={strategy}", "client.fraction=0.5"]
    plain = fedrms.run([*SMALL, *options], folder=tmp_path / "plain")
    beside = fedrms.run([*CLEAN, *options], folder=tmp_path / "beside")
    np.testing.assert_array_equal(model(beside.folder), model(plain.folder))
    pd.testing.assert_frame_equal(beside.clients, plain.clients)
    assert not (plain.folder / ".counterfactual").exists()
    assert "clean_protection" not in plain.rounds


def test_strategies_share_one_and_seeds_do_not(tmp_path):
    for name in ("fedavg", "fedrms", "fedavg_flower"):
        fedrms.run([*CLEAN, f"strategy={name}"], folder=tmp_path / name, shared=tmp_path)
    (first,) = kept(tmp_path)
    written = (first / "clients.parquet").stat().st_mtime_ns
    fedrms.run([*CLEAN, "seed=1"], folder=tmp_path / "seed1", shared=tmp_path)
    assert len(kept(tmp_path)) == 2
    assert (first / "clients.parquet").stat().st_mtime_ns == written
    runs = fedrms.load_runs(tmp_path)
    assert runs.summary["run"].tolist() == ["fedavg", "fedavg_flower", "fedrms", "seed1"]
    assert runs.summary.clean_protection.notna().all()
    assert fedrms.load_runs(tmp_path / ".counterfactual").summary["seed"].nunique() == 2


def test_of_two_processes_that_train_the_same_one_the_first_is_kept(tmp_path):
    made = fedrms.run(CLEAN, folder=tmp_path / "other")
    (others,) = kept(made.folder)
    parts = build_parts(compose_config(CLEAN))

    def finish_second(config, folder, narrow):
        shutil.copytree(others, tmp_path / ".counterfactual" / others.name)
        folder.mkdir()
        (folder / "mine").touch()

    found = clean_reference(parts, tmp_path, finish_second)
    assert found is not None
    assert found.folder == tmp_path / ".counterfactual" / others.name
    assert sorted(found.federation.scores) == [1, 2, 3]
    assert [path.name for path in kept(tmp_path)] == [others.name]


def test_one_that_breaks_leaves_nothing_behind(tmp_path):
    def breaks(config, folder, narrow):
        folder.mkdir()
        raise RunError("no worker is left")

    with pytest.raises(RunError, match="clean clients alone: no worker is left"):
        clean_reference(build_parts(compose_config(CLEAN)), tmp_path, breaks)
    assert kept(tmp_path) == []


def test_a_grid_that_does_not_tell_who_is_who_is_asked_once(tmp_path):
    """As Flower's own; one message a client, through the app."""
    result = fedrms.run(CLEAN, folder=tmp_path)
    (folder,) = kept(tmp_path)
    side = build_parts(compose_config(CLEAN)).side
    asked = []

    class Grid(AppGrid):
        def send_and_receive(self, messages, *, timeout=None):
            messages = list(messages)
            asked.extend(message.metadata.message_type for message in messages)
            return super().send_and_receive(messages)

    def run_there(config, where, narrow):
        parts = build_parts(config)
        grid = Grid(side.task, side.module, side.federation)
        window = ObservedGrid(grid, lambda observation: None, narrow=narrow(grid))
        final = run_strategy(parts.strategy, window, side.module, parts.settings, rounds=3)
        np.testing.assert_allclose(
            np.concatenate([final.arrays[name].numpy().ravel() for name in sorted(final.arrays)]),
            model(folder),
            rtol=1e-3,
            atol=1e-5,
        )
        shutil.copytree(folder, where)

    clean_reference(build_parts(compose_config(CLEAN)), tmp_path / "app", run_there)
    clean = result.clients.query("round == 1 and true_noise == 0")
    assert asked.count("train") == 3 * len(clean)
    assert asked.count("query.whoami") == 2 * 20  # the strategy, and whoever picks its messages


def test_under_drift_only_clients_that_stay_clean_are_clean(tmp_path):
    drift = "noise.drift=[{round: 3, levels: shuffle}, {round: 4, levels: shuffle}]"
    result = fedrms.run([*CLEAN, "noise.spare_rare=false", drift], folder=tmp_path)
    here = result.clients
    (folder,) = kept(tmp_path)
    there = pd.read_parquet(folder / "clients.parquet")
    noise = here.pivot_table(index="client", columns="round", values="true_noise")
    stays_clean = noise.index[noise.max(axis=1) == 0]  # the change in round 4 is not reached
    assert 0 < len(stays_clean) < (noise[1] == 0).sum()
    assert set(there.query("participated").client) == set(stays_clean)
    last = (here["round"] == 3) & here.client.isin(stays_clean)
    gain = (here.test_accuracy - there.test_accuracy)[last].mean()
    assert result.rounds.clean_protection.iloc[-1] == pytest.approx(gain)


def test_the_penalty_is_that_of_rare_hard_and_easy_clients_by_the_tables(tmp_path):
    # scales below 1 that are not made up for: everyone loses something
    options = ["strategy.law=random_effects", "strategy.normalize=none", "rounds=6"]
    result = fedrms.run([*CLEAN, *options], folder=tmp_path)
    (folder,) = kept(tmp_path)
    there = pd.read_parquet(folder / "clients.parquet")
    last = result.clients[result.clients["round"] == 6].set_index("client")
    rare = build_parts(compose_config(SMALL)).side.federation.rare
    clean = last.true_noise == 0
    final = there[there["round"] > 1].groupby("client").test_accuracy.mean()
    hard = final[clean & ~rare].nsmallest(2).index  # a quarter of 9
    lost = (last.num_examples / last.num_examples.sum() - last.weight).clip(lower=0)
    row = result.rounds.iloc[-1]
    assert row.false_penalty_rare == pytest.approx(lost[rare].sum())
    assert row.false_penalty_hard == pytest.approx(lost[hard].sum())
    assert row.false_penalty_easy == pytest.approx(lost[clean & ~rare].drop(hard).sum())
    assert row.false_penalty == pytest.approx(lost[clean].sum())
    assert lost[clean].min() > 0


def test_an_error_metric_is_compared_the_other_way_round(tmp_path):
    options = ["data=regression", "noise=target", "noise.fraction=0.5", "noise.high=3"]
    options += ["rounds=5", "counterfactual=clean", "strategy=fedavg"]
    result = fedrms.run(options, folder=tmp_path)
    (folder,) = kept(tmp_path)
    there = pd.read_parquet(folder / "rounds.parquet")
    lost = result.rounds.test_mse - there.test_mse  # one test set for all clients
    np.testing.assert_allclose(result.rounds.clean_protection, -lost)
    assert lost.abs().min() > 0


def test_a_population_is_compared_by_cohorts(tmp_path):
    options = ["data=population", "clients=200", "client.fraction=0.1", "evaluate_every=2"]
    options += ["rounds=4", "counterfactual=clean"]
    result = fedrms.run(options, folder=tmp_path)
    (folder,) = kept(tmp_path)
    both = result.clients.merge(
        pd.read_parquet(folder / "clients.parquet"), on=["round", "client"], suffixes=("", "_there")
    ).query("true_noise == 0")
    gain = (both.test_accuracy - both.test_accuracy_there).groupby(both["round"]).mean()
    known = result.rounds.clean_protection.notna()
    assert result.rounds["round"][known].tolist() == [2, 4]
    np.testing.assert_allclose(result.rounds.clean_protection[known], gain[[2, 4]])


def test_an_adversary_with_clean_data_is_not_clean(tmp_path):
    """It takes no part in the clean federation, and its share and score count for nobody."""
    lies = ["adversary=liars", "adversary.among=clean", "adversary.fraction=0.4"]
    result = fedrms.run([*CLEAN, *lies, "adversary.update=flip"], folder=tmp_path)
    (folder,) = kept(tmp_path)
    here, there = result.clients, pd.read_parquet(folder / "clients.parquet")
    clean = (here.true_noise == 0) & ~here.adversary
    assert here[here.adversary].true_noise.eq(0).all()
    assert set(there.query("participated").client) == set(here[clean].client)

    gain = (here.test_accuracy - there.test_accuracy)[clean].groupby(here["round"]).mean()
    np.testing.assert_allclose(result.rounds.clean_protection, gain)
    last = here[clean & (here["round"] == 3)]
    assert result.rounds.objective_clean.iloc[-1] == pytest.approx(last.objective_share.sum())
    share = here.num_examples[clean].sum() / here.num_examples.sum()
    assert result.rounds.objective_clean_examples.iloc[-1] == pytest.approx(share)
    assert result.rounds.clean_weight_share.iloc[-1] == pytest.approx(last.weight.sum())


def test_where_all_clean_clients_lie_there_is_no_counterfactual(tmp_path, caplog):
    logging.getLogger("fedrms").propagate = True
    lies = ["adversary=liars", "adversary.among=clean", "adversary.fraction=1"]
    result = fedrms.run([*CLEAN, *lies, "rounds=1"], folder=tmp_path)
    assert "no client is clean in all of the 1 rounds" in caplog.text
    assert "clean_protection" not in result.summary


def test_where_nobody_is_clean_a_warning_says_so_and_the_run_goes_on(tmp_path, caplog):
    logging.getLogger("fedrms").propagate = True
    options = ["data=regression", "noise=target", "noise.fraction=1", "rounds=1"]
    result = fedrms.run([*options, "counterfactual=clean"], folder=tmp_path)
    assert "no client is clean in all of the 1 rounds" in caplog.text
    assert "clean_protection" not in result.summary
    assert not (tmp_path / ".counterfactual").exists()


def test_a_cohort_without_a_clean_client_leaves_the_clean_model_as_it_was(tmp_path):
    levels = [0.0] + [0.5] * 3
    options = [*("clients=4", "client.fraction=0.25", "rounds=4"), f"noise.levels={levels}"]
    result = fedrms.run([*CLEAN, *options, "partition=iid"], folder=tmp_path)
    (folder,) = kept(tmp_path)
    asked = result.clients.query("participated").set_index("round").client
    accuracy = pd.read_parquet(folder / "rounds.parquet").set_index("round").test_accuracy
    without = [t for t in (2, 3, 4) if asked[t] != 0]
    assert without
    for t in without:
        assert accuracy[t] == accuracy[t - 1]


def test_another_word_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError) as caught:
        fedrms.run([*SMALL, "counterfactual=noisy"], folder=tmp_path)
    assert caught.value.key == "counterfactual"
    assert "none, clean" in caught.value.remedy
