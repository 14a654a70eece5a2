"""What a federation loses without one of its clients."""

from __future__ import annotations

import numpy as np
import pytest

import fedrms
from fedrms.cli import leave_out as command
from fedrms.cli import report
from fedrms.errors import ConfigError
from fedrms.experiment import left_out
from fedrms.experiment.config import plain
from fedrms.experiment.counterfactual import UNRECORDED
from fedrms.experiment.kept import kept_config
from fedrms.experiment.left_out import leave_out

SMALL = ["data=digits", "clients=4", "rounds=4", "client.epochs=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("run") / "run"
    fedrms.run(SMALL, folder=where)
    return where


def test_the_run_without_a_client_is_that_of_the_others(folder):
    row = leave_out(folder, ["2"])[0]
    asked = fedrms.load_runs(folder).left_out
    assert (row.client, asked["client"].tolist()) == ("2", ["2"])
    assert row.final == pytest.approx(fedrms.load_runs(folder).summary["final_accuracy"].iloc[0])
    assert row.lost == pytest.approx(row.final - row.final_without)
    assert row.final_without != row.final


def test_a_client_alone_is_the_only_one_that_trains_and_trains_in_every_round(tmp_path):
    fedrms.run([*SMALL, "client.fraction=0.5"], folder=tmp_path)
    config = {**plain(kept_config(tmp_path)), **UNRECORDED}
    rows = left_out._trained_alone(config, tmp_path, 2).clients
    trained = rows[rows["participated"]]
    assert trained["client"].tolist() == [2] * 4
    assert trained["round"].tolist() == [1, 2, 3, 4]
    assert trained["weight"].tolist() == [1.0] * 4
    assert trained["test_accuracy"].iloc[-1] > trained["test_accuracy"].iloc[0]


def test_alone_and_together_are_told_on_the_same_test_rows(folder):
    row = leave_out(folder, ["3"])[0]
    rounds = fedrms.load_runs(folder).clients.query("client == 3")["test_accuracy"]
    assert row.together == pytest.approx(rounds.mean())  # of four rounds, all evaluated
    assert 0 < row.alone <= 1
    kept = fedrms.load_runs(folder).left_out.iloc[0]
    assert (kept["alone"], kept["together"]) == (row.alone, row.together)


def test_all_that_is_left_beside_the_run_is_the_table(folder):
    before = {path.name for path in folder.iterdir()}
    rows = leave_out(folder, most=2)
    assert len(rows) == 2
    assert {path.name for path in folder.iterdir()} - before <= {"left_out.parquet"}
    assert len(fedrms.load_runs(folder).summary) == 1


def test_an_error_is_better_when_it_is_lower(tmp_path):
    fedrms.run(
        ["data=regression", "model=linear", "noise=target", "clients=4", "rounds=3"],
        folder=tmp_path / "run",
    )
    row = leave_out(tmp_path / "run", ["0"])[0]
    assert row.lost == pytest.approx(row.final_without - row.final)


@pytest.mark.parametrize("client", ["7", "nobody"])
def test_a_client_that_is_not_there_is_named(folder, client):
    with pytest.raises(ConfigError, match=f"there is no client '{client}'"):
        leave_out(folder, [client])


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no run"):
        leave_out(tmp_path)


def test_the_report_shows_it_on_the_card(folder, capsys):
    command.main([str(folder), "--clients", "0", "1", "2", "3"])
    told = capsys.readouterr().out
    assert told.count("without client") == 4
    assert told.count("if it trains alone") == 4
    assert "weighed down" not in told, "Flower's log of each run"
    report.main([str(folder), "--no-figures"])
    page = (folder / "report.html").read_text()
    lost = fedrms.load_runs(folder).left_out.set_index("client")["lost"]
    assert np.isfinite(lost).all()
    if lost.max() > 0:
        assert "the federation would miss it most" in page
        assert f"the federation is {100 * lost.max():.1f} points worse" in page
        assert "in the federation" in page


def test_a_name_that_is_not_there_costs_no_run_and_what_was_measured_is_kept(folder, monkeypatch):
    (folder / "left_out.parquet").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match="there is no client 'nobody'"):
        leave_out(folder, ["1", "nobody"])
    assert not (folder / "left_out.parquet").exists()
    measured = left_out._final_without

    def then_stopped(config, where, client, column):
        if client == 2:
            raise KeyboardInterrupt
        return measured(config, where, client, column)

    monkeypatch.setattr(left_out, "_final_without", then_stopped)
    with pytest.raises(KeyboardInterrupt):
        leave_out(folder, ["1", "2"])
    assert fedrms.load_runs(folder).left_out["client"].tolist() == ["1"]
