"""Which checkpoint a run goes on from, and what it refuses."""

import json
import logging
import shutil

import pandas as pd
import pytest

import fedrms
from fedrms.errors import ConfigError, RunError
from fedrms.experiment import checkpoint, compose_config
from fedrms.experiment.checkpoint import Checkpoints, latest, name_of, rounds_in
from fedrms.experiment.config import plain
from fedrms.results.own_folder import take
from fedrms.results.seal import read_text, sealed_text

from .conftest import assert_identical

SMALL = ("clients=5", "client.epochs=1", "client.batch_size=64", "checkpoint.every=1")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs of 4 and of 3 rounds, and one of another seed."""
    folder = tmp_path_factory.mktemp("made")
    for name, options in (("four", []), ("three", ["rounds=3"]), ("other", ["seed=1"])):
        fedrms.run([*SMALL, "rounds=4", *options], folder=folder / name)
    return folder


@pytest.fixture
def three(made, tmp_path):
    """A copy of the run of 3 rounds, to be gone on with."""
    shutil.copytree(made / "three", tmp_path / "run")
    return tmp_path / "run"


def at(folder, server_round):
    return folder / "checkpoint" / name_of(server_round)


def go_on(folder, *words):
    return fedrms.run([f"resume={folder}", "rounds=4", *words])


def test_the_last_ones_are_kept(made):
    assert rounds_in(made / "four" / "checkpoint") == [3, 4]


def test_a_truncated_checkpoint_is_refused_and_the_one_before_it_used(made, three, caplog):
    at(three, 3).write_bytes(at(three, 3).read_bytes()[:-1])
    go_on(three)
    assert "round-000003.safetensors is refused: it is truncated" in caplog.text
    assert "going on from round 2" in caplog.text
    assert at(three, 3).with_suffix(".refused").exists()
    assert_identical(made / "four", three)


def test_a_checkpoint_of_another_run_is_refused_and_the_one_before_it_used(made, three, caplog):
    shutil.copy(at(made / "other", 3), at(three, 3))
    go_on(three)
    assert "it is of another run: seed is 1 there and 0 here" in caplog.text
    assert_identical(made / "four", three)


def test_a_checkpoint_of_another_format_is_refused(made, three, caplog, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 4)
    with pytest.raises(RunError, match="it has format 3, and this version of fedrms reads 4"):
        go_on(three)


def test_where_none_is_whole_the_run_does_not_begin_again_unasked(made, three):
    for server_round in (2, 3):
        at(three, server_round).write_bytes(b"")
    before = (three / "clients.parquet").read_bytes()
    with pytest.raises(RunError, match=r"no checkpoint in .* can be used") as caught:
        go_on(three)
    assert "delete that folder to begin again" in str(caught.value)
    assert (three / "clients.parquet").read_bytes() == before
    shutil.rmtree(three / "checkpoint")
    go_on(three)
    assert_identical(made / "four", three)


def test_tables_that_do_not_go_with_the_checkpoint_are_refused(three):
    rounds = pd.read_parquet(three / "rounds.parquet")
    rounds.iloc[:2].to_parquet(three / "rounds.parquet")
    with pytest.raises(RunError, match="holds 2 of 3 rounds"):
        go_on(three)


def test_a_finished_run_says_so_and_is_left_as_it_is(made, three, caplog):
    before = {path: path.stat().st_mtime_ns for path in three.rglob("*.parquet")}
    with caplog.at_level(logging.INFO, "fedrms"):
        result = fedrms.run([f"resume={three}"])
    assert "is finished after 3 rounds; rounds=N prolongs it" in caplog.text
    assert result.summary["status"] == "finished"
    assert len(result.rounds) == 3
    changed = {p for p, time in before.items() if p.stat().st_mtime_ns != time}
    assert changed <= {three / "partition.parquet"}


def test_a_run_stopped_between_its_last_round_and_its_summary_is_ended(made, tmp_path):
    shutil.copytree(made / "four", tmp_path / "run")
    for name in ("summary.json", "model.safetensors"):
        (tmp_path / "run" / name).unlink()
    result = fedrms.run([f"resume={tmp_path / 'run'}"])
    assert_identical(made / "four", tmp_path / "run")
    told = json.loads((made / "four" / "summary.json").read_text())
    for key in ("final_accuracy", "objective_clean", "status", "rounds", "failed_client_rounds"):
        assert result.summary[key] == told[key]


def test_a_prolonged_run_is_known_by_its_new_number_of_rounds(three):
    go_on(three)
    summary = fedrms.load_runs(three).summary
    assert summary["rounds"].tolist() == [4]
    assert "rounds=4" in summary["command"].item()
    assert "rounds=3" not in summary["command"].item()


def test_times_before_the_stop_count(three):
    before = json.loads((three / "summary.json").read_text())["wall_seconds"]
    assert go_on(three).summary["wall_seconds"] > 0.9 * before


@pytest.mark.parametrize(
    ("word", "key", "remedy"),
    [
        ("seed=3", "seed", "start a run of its own"),
        ("strategy=fedavg", "strategy", "start a run of its own"),
        ("rounds=2", "rounds", "raise it to prolong"),
        ("checkpoint.evry=2", "checkpoint.evry", "did you mean checkpoint.every?"),
        ("engine.precision=bf16", "engine.precision", "start a run of its own"),
        ("engine.threadz=1", "engine.threadz", "engine.threads"),
        ("~tracker", "tracker", "leave it away"),
    ],
)
def test_what_would_change_results_is_refused(three, word, key, remedy):
    with pytest.raises(ConfigError) as caught:
        fedrms.run([f"resume={three}", word])
    assert caught.value.key == key
    assert remedy in caught.value.remedy


def test_what_cannot_change_results_may_be_set_anew(made, three):
    go_on(three, "engine.threads=1", "checkpoint.keep=1", "tracker=none", "engine=vector")
    assert rounds_in(three / "checkpoint") == [4]
    assert_identical(made / "four", three)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(ConfigError, match="there is no run in") as caught:
        fedrms.run([f"resume={tmp_path}"])
    assert caught.value.key == "resume"


def test_of_a_multirun_the_jobs_are_resumed(made):
    with pytest.raises(ConfigError, match="there is no run in") as caught:
        fedrms.run([f"resume={made}"])
    assert f"resume={made / 'four'}" in caught.value.remedy


def test_a_run_that_is_under_way_is_not_joined(three):
    with take(three), pytest.raises(ConfigError, match="a run is under way in"):
        go_on(three)


def test_a_comparison_with_the_clean_clients_cannot_be_prolonged(three):
    path = three / ".hydra" / "config.yaml"
    text = read_text(path).replace("counterfactual: none", "counterfactual: clean")
    path.write_text(sealed_text(text))
    shutil.rmtree(three / "checkpoint")
    with pytest.raises(ConfigError, match="cannot be raised with counterfactual=clean"):
        go_on(three)


def test_a_counterfactual_stays_the_same_when_its_run_goes_on(tmp_path, monkeypatch):
    options = [*SMALL, "rounds=3", "counterfactual=clean"]
    whole = fedrms.run(options, folder=tmp_path / "whole").folder
    write = Checkpoints.write

    def write_and_stop(self, server_round, collect):
        write(self, server_round, collect)
        if server_round == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "write", write_and_stop)
        with pytest.raises(KeyboardInterrupt):
            fedrms.run(options, folder=tmp_path / "run")
    trained = list((tmp_path / "run" / ".counterfactual").iterdir())
    fedrms.run([f"resume={tmp_path / 'run'}"])
    assert list((tmp_path / "run" / ".counterfactual").iterdir()) == trained
    assert_identical(whole, tmp_path / "run")


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("checkpoint.every=often", "checkpoint.every"),
        ("checkpoint.every=-1", "checkpoint.every"),
        ("checkpoint.keep=0", "checkpoint.keep"),
        ("+checkpoint.foo=1", "checkpoint.foo"),
    ],
)
def test_wrong_options_are_named(word, key, tmp_path):
    with pytest.raises(ConfigError) as caught:
        fedrms.run([*SMALL, word], folder=tmp_path)
    assert caught.value.key == key


def due(every, rounds, monkeypatch, seconds, took=0.0):
    """The rounds that get a checkpoint, where each takes some seconds and a write `took`."""
    clock = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    config = plain(compose_config([f"checkpoint.every={every}", f"rounds={rounds}"]))

    def collect():
        clock[0] += took
        raise OSError("nothing is written here")

    def rounds_due(folder):
        chosen = Checkpoints(folder, config)
        for server_round in range(rounds + 1):
            clock[0] += seconds
            if chosen.due(server_round):
                yield server_round
                chosen.write(server_round, collect)

    return rounds_due


def test_a_number_means_every_so_many_rounds_and_the_last(tmp_path, monkeypatch):
    assert list(due(3, 8, monkeypatch, 1.0)(tmp_path)) == [3, 6, 8]
    assert list(due(0, 8, monkeypatch, 1.0)(tmp_path)) == []


def test_auto_waits_three_seconds_then_ten_or_a_hundred_times_the_last_write(tmp_path, monkeypatch):
    assert list(due("auto", 40, monkeypatch, 1.0)(tmp_path)) == [2, 12, 22, 32, 40]
    assert list(due("auto", 4, monkeypatch, 30.0)(tmp_path)) == [1, 2, 3, 4]
    assert list(due("auto", 40, monkeypatch, 10.0, took=2.0)(tmp_path)) == [1, 21, 40]


def test_a_folder_without_checkpoints_has_none(tmp_path):
    assert latest(tmp_path, plain(compose_config([]))) is None
