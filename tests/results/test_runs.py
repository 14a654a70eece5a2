"""Runs on disk as DataFrames: what is found, how it is named, and what is left out."""

import time

import pandas as pd
import pytest

from fedrms.results import load_runs


def test_a_tree_becomes_three_tables_led_by_run_and_config(tmp_path, make_run):
    make_run("sweep/1", [0.5], strategy="fedrms", seed=7, strategy__beta=0.9)
    make_run("sweep/0", [0.1, 0.2], noise="label")
    runs = load_runs(tmp_path)
    assert runs.summary["run"].tolist() == ["sweep/0", "sweep/1"]
    assert list(runs.summary)[:4] == ["run", "strategy", "noise", "data"]
    assert runs.summary["strategy"].tolist() == ["fedavg", "fedrms"]
    assert runs.summary["noise"].tolist() == ["label", "none"]
    assert runs.summary["seed"].tolist() == [0, 7]
    assert runs.summary["strategy.beta"].isna().tolist() == [True, False]
    assert runs.summary["final_accuracy"].tolist() == pytest.approx([0.15, 0.5])
    assert list(runs.rounds)[:6] == ["run", "strategy", "noise", "data", "seed", "round"]
    assert runs.rounds["test_accuracy"].tolist() == [0.1, 0.2, 0.5]
    assert runs.rounds["strategy"].tolist() == ["fedavg", "fedavg", "fedrms"]
    assert runs.clients["run"].tolist() == ["sweep/0"] * 4 + ["sweep/1"] * 2
    for name in ("run", "strategy", "noise", "data", "seed"):
        assert isinstance(runs.clients[name].dtype, pd.CategoricalDtype)


def test_jobs_are_in_the_order_of_their_numbers(tmp_path, make_run):
    for job in (10, 2, 0):
        make_run(f"sweep/{job}", [0.5])
    assert load_runs(tmp_path).summary["run"].tolist() == ["sweep/0", "sweep/2", "sweep/10"]


def test_config_is_flat_with_lists_as_json_and_no_targets_or_names(tmp_path, make_run):
    make_run("a", [0.5], client__optimizer__lr=0.05, fairness__metrics=["client_gini"])
    summary = load_runs(tmp_path).summary
    assert summary["client.optimizer.lr"].tolist() == [0.05]
    assert summary["fairness.metrics"].tolist() == ['["client_gini"]']
    assert not {"strategy._target_", "strategy.name", "hparams", "hydra/launcher"} & set(summary)


def test_references_in_the_config_are_resolved(tmp_path, make_run):
    make_run("a", [0.5], seed=3, partition__seed="${seed}", title="s${partition.seed}-${now:%H}")
    summary = load_runs(tmp_path).summary
    assert summary["partition.seed"].tolist() == [3]
    assert summary["title"].tolist() == ["s3-${now:%H}"]


def test_an_outcome_named_like_a_config_key_stands_beside_it(tmp_path, make_run):
    make_run("a", [0.5, 0.6], rounds=25)
    runs = load_runs(tmp_path)
    assert runs.summary["rounds"].tolist() == [25]
    assert runs.summary["summary.rounds"].tolist() == [2]
    assert "rounds" in runs.config
    assert "summary.rounds" not in runs.config


def test_the_clients_table_keeps_client_for_the_ids(tmp_path, make_run):
    folder = make_run("a", [0.5])
    notes = folder / ".hydra" / "hydra.yaml"
    notes.write_text(notes.read_text().replace("data: digits", "client: sgd"))
    runs = load_runs(tmp_path)
    assert runs.summary["client"].tolist() == ["sgd"]
    assert runs.clients["client"].tolist() == [0, 1]
    assert "client" not in runs.rounds


def test_a_run_given_by_itself_is_named_by_its_folder(tmp_path, make_run):
    assert load_runs(make_run("alone", [0.5])).summary["run"].tolist() == ["alone"]


def test_several_roots_are_named_from_their_common_folder_and_counted_once(tmp_path, make_run):
    a, b = make_run("x/one", [0.5]), make_run("y/one", [0.6])
    runs = load_runs([str(b), a, tmp_path / "x"])
    assert runs.summary["run"].tolist() == ["x/one", "y/one"]


def test_a_run_without_hydra_notes_has_its_tables(tmp_path, make_run):
    folder = make_run("bare", [0.5])
    for file in (folder / ".hydra").iterdir():
        file.unlink()
    runs = load_runs(tmp_path)
    assert runs.config == ()
    assert runs.rounds["test_accuracy"].tolist() == [0.5]


def test_without_hydras_choices_the_groups_tell_their_names(tmp_path, make_run):
    folder = make_run("bare", [0.5], strategy="fedrms")
    (folder / ".hydra" / "hydra.yaml").unlink()
    assert load_runs(tmp_path).summary["strategy"].tolist() == ["fedrms"]


def test_an_interrupted_run_is_summarised_from_its_tables(tmp_path, make_run):
    make_run("cut", [0.2, 0.4], finished=False)
    make_run("done", [0.5])
    summary = load_runs(tmp_path).summary
    assert summary["status"].tolist() == ["interrupted", "finished"]
    assert summary["final_accuracy"].tolist() == pytest.approx([0.3, 0.5])


@pytest.mark.parametrize(
    "name",
    [
        "rounds.parquet",
        "clients.parquet",
        "summary.json",
        ".hydra/config.yaml",
        ".hydra/hydra.yaml",
    ],
)
def test_a_half_written_file_leaves_out_its_run_and_is_named(tmp_path, make_run, name):
    make_run("good", [0.5])
    broken = make_run("broken", [0.5]) / name
    half = broken.read_bytes()[: broken.stat().st_size // 2]
    broken.write_bytes(half + b"\n: [" if name.endswith("config.yaml") else half)
    with pytest.warns(UserWarning, match=r"broken.*left out") as caught:
        runs = load_runs(tmp_path)
    assert str(broken) in str(caught[0].message)
    assert runs.summary["run"].tolist() == ["good"]


def test_only_broken_runs_are_an_error(tmp_path, make_run):
    (make_run("broken", [0.5]) / "rounds.parquet").write_bytes(b"PAR1")
    with (
        pytest.warns(UserWarning, match="rounds.parquet"),
        pytest.raises(FileNotFoundError, match="unreadable"),
    ):
        load_runs(tmp_path)


def test_an_absent_or_empty_folder_says_what_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_runs(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no run in here"):
        load_runs(tmp_path)


def test_leftovers_of_a_killed_write_are_not_read(tmp_path, make_run):
    (make_run("a", [0.5]) / ".rounds.parquet.part").write_bytes(b"PAR1 half")
    assert len(load_runs(tmp_path).summary) == 1


def test_number_and_text_ids_meet_as_text(tmp_path, make_run):
    make_run("a", [0.5])
    from fedrms.results import Recorder

    with Recorder(tmp_path / "b") as recorder:
        recorder.add_clients({"round": 1, "client": ["hospital"]})
        recorder.add_round({"round": 1})
    assert load_runs(tmp_path).clients["client"].tolist() == ["0", "1", "hospital"]


@pytest.mark.long
def test_fifty_runs_load_in_far_less_than_a_second_each(tmp_path, make_run):
    for i in range(50):
        make_run(f"{i:02d}", [0.5] * 5, seed=i)
    start = time.perf_counter()
    assert len(load_runs(tmp_path).summary) == 50
    assert time.perf_counter() - start < 5
