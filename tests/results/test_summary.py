"""A run in a few numbers, by hand."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from fedrms.results import Recorder, summarise, write_summary
from fedrms.results.seal import read_json


def tables(tmp_path, accuracies, *, client_rows=True, **columns):
    recorder = Recorder(tmp_path, flush_seconds=1e9)
    for t, accuracy in enumerate(accuracies):
        row = {"round": t, "test_accuracy": accuracy, "test_loss": 1.0, "seconds": 0.5}
        recorder.add_round(row | {name: values[t] for name, values in columns.items()})
        if client_rows and t:
            recorder.add_clients(
                {
                    "round": t,
                    "client": [0, 1],
                    "test_accuracy": [accuracy - 0.1, accuracy + 0.1],
                    "failed": [t == 2, False],
                }
            )
    return recorder.rounds(), recorder.clients()


def test_a_run_is_summarised_by_its_last_five_rounds(tmp_path):
    got = summarise(*tables(tmp_path, [0.0, 0.9, 0.1, 0.2, 0.3, 0.4, 0.5]))
    assert got == {
        "final_accuracy": pytest.approx(0.3),
        "final_loss": 1.0,
        "worst_client_accuracy": pytest.approx(0.2),
        "noise_auroc": pytest.approx(math.nan, nan_ok=True),
        "rounds": 6,
        "seconds": 3.5,
        "clients": 2,
        "failed_client_rounds": 1,
        "metric": "accuracy",
        "higher_is_better": True,
    }


def test_the_worst_client_of_an_error_is_the_highest(tmp_path):
    with Recorder(tmp_path, metric="mse") as recorder:
        recorder.add_clients({"round": 1, "client": [0, 1], "test_mse": [0.1, 3.0]})
        recorder.add_round({"round": 1, "test_mse": 0.5})
    got = summarise(recorder.rounds(), recorder.clients(), "mse", higher_is_better=False)
    assert got["final_mse"] == 0.5
    assert got["worst_client_mse"] == 3.0


def test_the_worst_of_all_clients_beats_the_worst_of_the_cohort(tmp_path):
    got = summarise(*tables(tmp_path, [0.5, 0.5, 0.5], client_min=[0.0, 0.2, 0.4]))
    assert got["worst_client_accuracy"] == pytest.approx(0.3)


def test_rounds_without_an_evaluation_do_not_count(tmp_path):
    nan = math.nan
    rounds, clients = tables(tmp_path, [nan, nan, 0.1, nan, 0.3, nan], client_rows=False)
    assert summarise(rounds, clients)["final_accuracy"] == pytest.approx(0.2)


def test_a_run_that_diverged_has_no_final_value(tmp_path):
    rounds, clients = tables(tmp_path, [0.1, 0.8, 0.9, 0.9, math.nan])
    got = summarise(rounds, clients)
    assert math.isnan(got["final_accuracy"])
    assert math.isnan(got["worst_client_accuracy"])


def test_noise_auroc_is_the_mean_over_the_final_rounds(tmp_path):
    aurocs = [math.nan, 0.0, 0.5, 1.0]
    got = summarise(*tables(tmp_path, [0.1, 0.2, 0.3, 0.4], noise_auroc=aurocs), last=2)
    assert got["noise_auroc"] == 0.75


def test_protection_is_the_mean_over_the_final_rounds(tmp_path):
    columns = {"clean_protection": [0.0, 9.0, -0.1, -0.3], "rare_protection": [0.0, 0.1, 0.2, 0.6]}
    got = summarise(*tables(tmp_path, [0.1, 0.2, 0.3, 0.4], **columns), last=2)
    assert got["clean_protection"] == pytest.approx(-0.2)
    assert got["rare_protection"] == pytest.approx(0.4)


def test_the_objective_is_that_of_the_last_round(tmp_path):
    rounds, clients = tables(tmp_path, [0.1, 0.2, 0.3], objective_clean=[0.0, 0.9, 0.7])
    assert summarise(rounds, clients)["objective_clean"] == 0.7


@pytest.mark.parametrize("cuts", [(), (1,), (3, 4), (2, 5, 9)])
@pytest.mark.parametrize("higher", [True, False])
def test_a_table_of_clients_in_pieces_gives_the_same(cuts, higher, tmp_path):
    rounds, clients = tables(tmp_path, [0.0, 0.9, 0.1, 0.2, 0.3, 0.4, 0.5])
    ends = [0, *cuts, len(clients)]
    pieces = [clients.iloc[a:b] for a, b in itertools.pairwise(ends)]
    whole = summarise(rounds, clients, higher_is_better=higher)
    assert summarise(rounds, iter(pieces), higher_is_better=higher) == pytest.approx(
        whole, nan_ok=True
    )


def test_a_run_without_rounds_is_unknown_not_an_error(tmp_path):
    recorder = Recorder(tmp_path)
    got = summarise(recorder.rounds(), recorder.clients())
    assert got["rounds"] == 0
    assert math.isnan(got["final_accuracy"])


def test_the_summary_file_is_stable_json_with_null_for_unknown(tmp_path):
    values = {
        "b": np.float64(0.1),
        "a": float("nan"),
        "c": np.int64(3),
        "list": np.array([1.0, np.inf]),
        "nested": {"y": True, "x": Path("here")},
    }
    path = write_summary(tmp_path / "run", values)
    text = path.read_text()
    write_summary(tmp_path / "run", dict(reversed(values.items())))
    assert path.read_text() == text
    assert [p.name for p in path.parent.iterdir()] == ["summary.json"]
    assert list(json.loads(text)) == ["a", "b", "c", "list", "nested", "sha256"]
    assert read_json(path) == {
        "a": None,
        "b": 0.1,
        "c": 3,
        "list": [1.0, None],
        "nested": {"x": "here", "y": True},
    }
