"""A person's own table: its owners are the clients, and nothing is done to it unasked."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import fedrms
from fedrms.errors import ConfigError

SITES = ["north", "east", "south", "west"]
QUICK = ["data=parquet", "rounds=2", "client.epochs=1", "model=softmax"]


def table(owners: list[str | int], rows: int = 40, seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(rows * len(owners), 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame["site"] = np.repeat(np.array(owners), rows)
    frame["label"] = (x[:, 0] + 0.1 * draw.normal(size=len(x)) > 0).astype(int)
    return frame


@pytest.fixture
def write(tmp_path: Path):
    def write_one(train: pd.DataFrame, test: pd.DataFrame | None = None) -> list[str]:
        train.to_parquet(tmp_path / "train.parquet", index=False)
        if test is not None:
            test.to_parquet(tmp_path / "test.parquet", index=False)
        return [*QUICK, f"data.path={tmp_path}"]

    return write_one


def noisy_sites() -> pd.DataFrame:
    """Return a table where every fifth label of the east and every second of the west is wrong."""
    frame = table(SITES).assign(right=lambda t: t.label)
    place = frame.groupby("site").cumcount()
    wrong = ((frame.site == "east") & (place % 5 == 0)) | (
        (frame.site == "west") & (place % 2 == 0)
    )
    return frame.assign(label=np.where(wrong, 1 - frame.label, frame.label))


def test_all_owners_are_the_clients_and_keep_their_names(write, tmp_path, caplog):
    owners = [f"o{i:02}" for i in range(30)]
    with caplog.at_level(logging.INFO, "fedrms"):
        result = fedrms.run(
            [*write(table(owners)), "data.client_column=site"], folder=tmp_path / "run"
        )
    assert sorted(set(result.clients.client)) == owners
    assert result.summary["clients"] == 30
    assert sorted(set(pd.read_parquet(tmp_path / "run/partition.parquet").client)) == owners
    assert "clients: 30" in (tmp_path / "run/.hydra/config.yaml").read_text()
    assert "min_available_nodes: 30" in (tmp_path / "run/.hydra/config.yaml").read_text()
    (line,) = [r.getMessage() for r in caplog.records if "data: 3 columns" in r.getMessage()]
    assert "3 columns (a, b, c), 3 numbers a row, predict 'label' (2 classes: 0, 1)" in line
    assert "30 clients, all that 'site' names: o00, o01," in line
    assert "no noise added, and how noisy the labels are is unknown" in line


def test_clients_say_how_many_owners_take_part(write, tmp_path, caplog):
    words = [*write(table(SITES)), "data.client_column=site", "clients=3"]
    with caplog.at_level(logging.INFO, "fedrms"):
        result = fedrms.run(words, folder=tmp_path / "run")
    assert set(result.clients.client) == {"east", "north", "south"}
    assert "3 of the 4 clients that 'site' names (clients=3)" in caplog.text
    assert "left out: west" in caplog.text
    with pytest.raises(ConfigError, match="5 clients, but the data set has 4"):
        fedrms.run([*words, "clients=5"], folder=tmp_path / "more")


def test_owners_that_are_numbers_keep_their_numbers(write, tmp_path):
    words = [*write(table([404, 17, 1001])), "data.client_column=site"]
    result = fedrms.run(words, folder=tmp_path / "run")
    assert sorted(set(result.clients.client)) == [17, 404, 1001]


@pytest.mark.parametrize("words", [["data=digits"], ["data=synthetic", "model=softmax"]])
def test_built_in_data_have_twenty_clients_where_nobody_says(tmp_path, words):
    result = fedrms.run([*words, "rounds=1", "client.epochs=1"], folder=tmp_path)
    assert sorted(set(result.clients.client)) == list(range(20))
    assert "true_noise" not in result.summary
    assert result.clients.true_noise.notna().all()


def test_a_table_without_owners_is_divided(write, tmp_path, caplog):
    frame = table(SITES, rows=60).drop(columns="site")
    with caplog.at_level(logging.INFO, "fedrms"):
        result = fedrms.run(write(frame), folder=tmp_path / "run")
    assert result.summary["clients"] == 20
    assert "20 clients made by partition=dirichlet" in caplog.text
    halves = frame.assign(label=frame.a / 2)
    assert fedrms.run(write(halves), folder=tmp_path / "two").summary["metric"] == "mse"


def test_where_the_truth_is_unknown_nobody_is_called_clean(write, tmp_path):
    result = fedrms.run([*write(table(SITES)), "data.client_column=site"], folder=tmp_path / "run")
    assert result.clients.true_noise.isna().all()
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["true_noise"] == "unknown"
    assert summary["objective_clean"] is None
    assert summary["noise_auroc"] is None
    assert result.rounds[["clean_weight_share", "false_penalty"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["strategy=oracle"], "strategy"),
        (["counterfactual=clean"], "counterfactual"),
        (["adversary=liars", "adversary.among=clean"], "adversary.among"),
    ],
)
def test_what_needs_the_truth_is_refused_without_it(write, tmp_path, words, key):
    common = [*write(table(SITES)), "data.client_column=site"]
    with pytest.raises(ConfigError) as caught:
        fedrms.run([*common, *words], folder=tmp_path / "run")
    assert caught.value.key == key


def test_real_noise_is_measured_by_the_column_of_true_labels(write, tmp_path, caplog):
    words = [
        *write(noisy_sites(), table(SITES, rows=10, seed=1).drop(columns="site")),
        *("data.client_column=site", "data.true_label_column=right"),
    ]
    with caplog.at_level(logging.INFO, "fedrms"):
        result = fedrms.run(words, folder=tmp_path / "run")
    level = result.clients.groupby("client").true_noise.last()
    assert level.to_dict() == pytest.approx({"east": 0.2, "north": 0, "south": 0, "west": 0.5})
    assert result.summary["true_noise"] == "measured"
    assert result.rounds.noise_auroc.notna().all()
    assert "by 'right', clients' labels differ in 0.0% to 50.0%" in caplog.text
    assert "3 columns (a, b, c)" in caplog.text
    assert "the test set has no column 'right'" in caplog.text
    oracle = fedrms.run([*words, "strategy=oracle"], folder=tmp_path / "oracle")
    weight = oracle.clients.groupby("client").weight.last()
    assert weight.to_dict() == pytest.approx({"east": 0, "north": 0.5, "south": 0.5, "west": 0})


def test_the_model_is_judged_by_the_true_labels(write, tmp_path):
    frame = noisy_sites()
    other = frame.assign(label=1 - frame.right)
    common = ["data.client_column=site", "data.true_label_column=right", "partition=natural"]
    told = fedrms.run([*write(frame, other), *common], folder=tmp_path / "run")
    right = fedrms.run(
        [*write(frame, other.assign(label=frame.right)), *common], folder=tmp_path / "r"
    )
    assert told.rounds.test_accuracy.tolist() == right.rounds.test_accuracy.tolist()


def test_a_truth_with_gaps_leaves_clients_unknown(write, tmp_path):
    frame = noisy_sites()
    right = frame.right.astype("Int64")
    right[(frame.site == "north") | (frame.index % 2 == 1)] = pd.NA
    words = [*write(frame.assign(right=right)), "data.client_column=site"]
    words += ["data.true_label_column=right", "data.test_fraction=0.1"]
    result = fedrms.run(words, folder=tmp_path / "run")
    level = result.clients.groupby("client").true_noise.last()
    assert np.isnan(level["north"])
    assert level["south"] == 0
    assert level["west"] == 1  # every second label is known, and every second is wrong
    with pytest.raises(ConfigError, match="not known of some clients"):
        fedrms.run([*words, "strategy=oracle"], folder=tmp_path / "oracle")


def test_targets_are_off_by_their_root_mean_square(write, tmp_path):
    frame = table(SITES).assign(right=lambda t: t.a)
    off = {"north": 0.0, "east": 0.5, "south": 1.0, "west": 2.0}
    sign = np.where(frame.groupby("site").cumcount() % 2, 1, -1)
    frame["label"] = frame.right + sign * frame.site.map(off)
    words = [*write(frame), "data.client_column=site", "data.true_label_column=right"]
    result = fedrms.run(words, folder=tmp_path / "run")
    level = result.clients.groupby("client").true_noise.last()
    assert level.to_dict() == pytest.approx(off, abs=1e-6)


def test_noise_that_is_asked_for_is_added_and_said(write, tmp_path, caplog):
    words = [*write(table(SITES)), "data.client_column=site", "noise=label", "noise.fraction=0.5"]
    with caplog.at_level(logging.INFO, "fedrms"):
        result = fedrms.run(words, folder=tmp_path / "run")
    assert sorted(result.clients.groupby("client").true_noise.last()) == [0, 0, 0.3, 0.8]
    assert "noise=label added to 2 of 4 clients, all other labels taken as right" in caplog.text
    assert "true_noise" not in result.summary
    with pytest.raises(ConfigError, match="feature may spoil features"):
        fedrms.run(
            [*write(noisy_sites()), "noise=feature", "data.true_label_column=right"],
            folder=tmp_path / "two",
        )


def test_a_client_without_test_rows_of_its_own_is_named(write, tmp_path, caplog):
    frame = table(SITES)
    test = frame[frame.site.isin(["north", "east"])][::4]
    fedrms.run([*write(frame, test), "data.client_column=site"], folder=tmp_path / "run")
    assert "no test rows of their own, so judged on all: south, west" in caplog.text
    fedrms.run([*write(test, frame), "data.client_column=site"], folder=tmp_path / "two")
    assert "test rows and no training rows, so no clients: south, west" in caplog.text


def test_messages_of_the_server_name_the_sites(write, tmp_path, caplog):
    words = [*write(table(SITES)), "data.client_column=site", "heterogeneity=dropout"]
    words += ["heterogeneity.dropout=0.5", "rounds=4"]
    with caplog.at_level(logging.INFO):
        result = fedrms.run(words, folder=tmp_path / "run")
    failed = result.clients[result.clients.failed]
    assert len(failed)
    for at, name in zip(failed["round"], failed.client, strict=True):
        assert f"Round {at}: client {name} left out" in caplog.text


def test_a_file_that_changed_is_read_again(write, tmp_path):
    one = fedrms.run(write(table(SITES)), folder=tmp_path / "one")
    two = fedrms.run(write(table(SITES, rows=60)), folder=tmp_path / "two")
    assert one.clients.num_examples.sum() < two.clients.num_examples.sum()


def test_the_arrow_folder_of_a_table_keeps_names_and_knows_no_truth(write, tmp_path, capsys):
    from fedrms.data.to_arrow import main

    write(table(SITES))
    main([str(tmp_path / "train.parquet"), str(tmp_path / "arrow"), "--client-column", "site"])
    assert "4 clients, all that 'site' names" in capsys.readouterr().out
    words = ["data=arrow", f"data.path={tmp_path / 'arrow'}", *QUICK[1:]]
    result = fedrms.run(words, folder=tmp_path / "run")
    assert set(result.clients.client) == set(SITES)
    assert result.clients.true_noise.isna().all()
    assert result.summary["true_noise"] == "unknown"
    assert pq.read_table(tmp_path / "run/clients.parquet").schema.field("client").type == "string"


def test_a_stopped_run_of_named_clients_goes_on(write, tmp_path):
    words = [*write(table(SITES)), "data.client_column=site"]
    whole = fedrms.run([*words, "rounds=4"], folder=tmp_path / "whole")
    fedrms.run([*words, "rounds=2"], folder=tmp_path / "part")
    part = fedrms.run([f"resume={tmp_path / 'part'}", "rounds=4"])
    pd.testing.assert_frame_equal(part.clients, whole.clients, check_exact=True)
