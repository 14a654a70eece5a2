"""Tables of an app's rounds by one argument, as simulations write them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Error, MetricRecord

import fedrms
from fedrms.errors import ConfigError
from fedrms.server import FedRMS

from .by_hand import HandClient, HandGrid, grid_of, losses_told, record, train_round

ZERO = record(w=[0.0])


def clients(**noisy: Any) -> list[HandClient]:
    """Three clients; the last one loses much, and says so."""
    return [
        HandClient(k, record(w=[1.0]), losses=losses_told(mean), evaluation={"accuracy": score})
        for k, (mean, score) in enumerate([(0.2, 0.75), (0.2, 0.5), (1.8, 0.25)])
    ]


def scored(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    return MetricRecord({"accuracy": server_round / 10, "loss": 1.0 - server_round / 10})


def test_both_tables_hold_what_the_round_did(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strategy = FedRMS(record=tmp_path / "app", seed=5)
    with caplog.at_level("INFO"):
        strategy.start(grid_of(clients()), ZERO, num_rounds=2, evaluate_fn=scored)
    told = [message.getMessage() for message in caplog.records if message.levelname == "INFO"]
    assert f"next: fedrms-report {tmp_path / 'app'}" in told
    runs = fedrms.load_runs(tmp_path / "app")
    assert runs.summary["status"].tolist() == ["finished"]
    assert runs.summary[["strategy", "seed", "strategy.law"]].to_numpy().tolist() == [
        ["fedrms", 5, "excess"]
    ]
    assert runs.rounds["test_accuracy"].tolist() == [0.1, 0.2]
    assert runs.rounds["test_loss"].tolist() == [0.9, 0.8]
    assert runs.rounds["clients_accuracy"].tolist() == pytest.approx([0.5, 0.5])
    assert runs.rounds["client_min"].tolist() == [0.25, 0.25]
    last = runs.clients[runs.clients["round"] == 2]
    assert last["client"].tolist() == [0, 1, 2]
    assert last["test_accuracy"].tolist() == [0.75, 0.5, 0.25]
    assert last["num_examples"].tolist() == [10, 10, 10]
    assert last["loss_mean"].tolist() == pytest.approx([0.2, 0.2, 1.8])
    assert strategy.diagnostics is not None
    for name, values in strategy.diagnostics.columns.items():
        assert last[name].tolist() == values.tolist()


def test_without_scores_of_the_server_those_of_the_clients_are_the_test(tmp_path: Path) -> None:
    FedRMS(record=tmp_path).start(grid_of(clients()), ZERO, num_rounds=1)
    runs = fedrms.load_runs(tmp_path)
    assert runs.rounds["test_accuracy"].tolist() == pytest.approx([0.5])
    assert runs.summary["final_accuracy"].tolist() == pytest.approx([0.5])


@pytest.mark.parametrize(
    ("told", "metric", "best"),
    [
        ({"eval_acc": 0.5, "eval_loss": 1.0}, "accuracy", True),
        ({"auc": 0.5}, "auc", True),
        ({"test-mae": 0.5}, "mae", False),
        ({"loss": 0.5}, "loss", False),
    ],
)
def test_the_metric_is_the_one_that_the_app_reports(
    told: dict[str, float], metric: str, best: bool, tmp_path: Path
) -> None:
    strategy = FedRMS(record=tmp_path, fraction_evaluate=0.0)
    strategy.start(
        grid_of(clients()),
        ZERO,
        num_rounds=3,  # no score before the last round
        evaluate_fn=lambda at, arrays: MetricRecord(told) if at == 3 else None,
    )
    summary = fedrms.load_runs(tmp_path).summary.iloc[0]
    assert summary["metric"] == metric
    assert summary[f"final_{metric}"] == 0.5
    assert bool(summary["higher_is_better"]) is best


def test_a_client_that_fails_has_a_row_with_the_reason(tmp_path: Path) -> None:
    made = clients()
    made[1].error = Error(2, "out of memory")
    FedRMS(record=tmp_path).start(grid_of(made), ZERO, num_rounds=1)
    rows = fedrms.load_runs(tmp_path).clients
    failed = rows[rows["failed"]]
    assert failed["failure"].tolist() == ["out of memory"]
    assert failed["num_examples"].tolist() == [0]
    assert sorted(rows["client"]) == [0, 2, 3]  # who never said who it is has its node's number


def test_names_after_numbers_are_written(tmp_path: Path) -> None:
    made = clients()
    made[0].error = Error(2, "later")
    made[0].name = "north"
    strategy = FedRMS(record=tmp_path)
    for server_round in (1, 2):
        train_round(strategy, grid_of(made), ZERO, server_round)
        made[0].error = None
    strategy.end_record()
    rows = fedrms.load_runs(tmp_path).clients
    assert rows[rows["round"] == 2]["client"].tolist() == ["1", "2", "north"]


def test_a_later_run_overwrites_nothing(tmp_path: Path) -> None:
    for rounds in (1, 2, 3):
        FedRMS(record=tmp_path / "app").start(grid_of(clients()), ZERO, num_rounds=rounds)
    runs = fedrms.load_runs(tmp_path / "app")
    assert runs.summary[["run", "summary.rounds"]].to_numpy().tolist() == [
        ["app", 1],
        ["run-2", 2],
        ["run-3", 3],
    ]


def test_a_loop_that_goes_on_goes_on_in_the_tables(tmp_path: Path) -> None:
    first = FedRMS(record=tmp_path)
    for server_round in (1, 2, 3):
        train_round(first, grid_of(clients()), ZERO, server_round)
    first.end_record()
    second = FedRMS(record=tmp_path)
    second.load_state_dict(first.state_dict())
    for server_round in (3, 4):  # the last checkpoint was that of round 2
        train_round(second, grid_of(clients()), ZERO, server_round)
    second.end_record()
    runs = fedrms.load_runs(tmp_path)
    assert runs.rounds["round"].tolist() == [1, 2, 3, 4]
    assert len(runs.clients) == 12


def test_a_folder_in_use_is_refused_before_any_client_trains(tmp_path: Path) -> None:
    class Asks(HandGrid):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            grid = grid_of(clients())
            with pytest.raises(ConfigError) as caught:
                FedRMS(record=tmp_path).start(grid, ZERO, num_rounds=1)
            assert caught.value.key == "record"
            assert str(tmp_path) in caught.value.problem
            assert grid.sent == []
            return super().send_and_receive(messages, timeout=timeout)

    made = {2 + k: client for k, client in enumerate(clients())}
    FedRMS(record=tmp_path).start(Asks(made), ZERO, num_rounds=1)
    FedRMS(record=tmp_path).start(grid_of(clients()), ZERO, num_rounds=1)  # free again


def test_a_folder_that_cannot_be_written_to_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError, match="record: cannot be written to"):
        FedRMS(record=tmp_path / "file").start(grid_of(clients()), ZERO, num_rounds=1)


def test_a_run_that_breaks_off_keeps_its_rounds_and_says_why(tmp_path: Path) -> None:
    def breaks(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        if server_round == 2:
            raise ValueError("no test set")
        return scored(server_round, arrays)

    with pytest.raises(ValueError, match="no test set"):
        FedRMS(record=tmp_path).start(grid_of(clients()), ZERO, num_rounds=3, evaluate_fn=breaks)
    runs = fedrms.load_runs(tmp_path)
    assert runs.summary["status"].tolist() == ["interrupted"]
    assert json.loads((tmp_path / "summary.json").read_text())["error"] == "ValueError: no test set"
    assert runs.rounds["round"].tolist() == [1, 2]
    assert runs.rounds["test_accuracy"].tolist() == pytest.approx([0.1, np.nan], nan_ok=True)


def test_a_strategy_that_never_starts_leaves_nothing(tmp_path: Path) -> None:
    FedRMS(record=tmp_path / "app")
    assert not (tmp_path / "app").exists()


def test_uniform_weights_are_called_fedavg(tmp_path: Path) -> None:
    for law in ("uniform", "excess"):
        strategy = FedRMS(law=law, record=tmp_path / law)
        strategy.start(grid_of(clients()), ZERO, num_rounds=2, evaluate_fn=scored)
    runs = fedrms.load_runs(tmp_path)
    assert runs.summary["strategy"].tolist() == ["fedrms", "fedavg"]


def test_fedrms_report_shows_it(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("plotly")
    for law in ("uniform", "excess"):
        strategy = FedRMS(law=law, record=tmp_path / law)
        strategy.start(grid_of(clients()), ZERO, num_rounds=3, evaluate_fn=scored)
    from fedrms.results.report import write_report

    report = write_report([tmp_path], tmp_path / "page", static=False)
    assert report.problems == []
    assert "fedrms" in report.page.read_text()


def test_the_tables_are_no_run_to_resume(tmp_path: Path) -> None:
    FedRMS(record=tmp_path).start(grid_of(clients()), ZERO, num_rounds=1)
    with pytest.raises(ConfigError, match=r"resume: .* holds the tables of a Flower app"):
        fedrms.run([f"resume={tmp_path}"])


def test_a_loop_that_just_ends_leaves_its_tables(tmp_path: Path) -> None:
    code = """
import sys
from tests.server.by_hand import grid_of, train_round
from tests.server.test_record import ZERO, clients
from fedrms.engines.flower_border import become_server
from fedrms.server import FedRMS
become_server(run_id=1)
strategy = FedRMS(record=sys.argv[1])
for server_round in (1, 2):
    train_round(strategy, grid_of(clients()), ZERO, server_round)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)
    assert fedrms.load_runs(tmp_path).rounds["round"].tolist() == [1, 2]
