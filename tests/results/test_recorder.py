"""Tables on disk: their schema, their bytes, and what a killed run leaves behind."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from fedrms.results import Recorder
from fedrms.results.atomic import replace_file

CLIENT_TYPES = {
    "round": "int32",
    "client": "int64",
    "num_examples": "int64",
    "loss_mean": "double",
    "loss_variance": "double",
    "loss_second_moment": "double",
    "statistic": "double",
    "ema": "double",
    "rms": "double",
    "rms_error": "double",
    "rms_low": "double",
    "rms_high": "double",
    "scale": "double",
    "weight": "double",
    "objective_share": "double",
    "update_norm": "double",
    "test_accuracy": "double",
    "true_noise": "double",
    "adversary": "bool",
    "failed": "bool",
    "failure": "string",
    "participated": "bool",
}


def record(recorder, rounds, clients=3):
    for t in rounds:
        recorder.add_clients({"round": t, "client": np.arange(clients), "rms": np.full(clients, t)})
        recorder.add_round({"round": t, "test_accuracy": 0.1 * t, "seconds": 1.0})


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_client_columns_have_the_documented_order_and_types(tmp_path):
    with Recorder(tmp_path) as recorder:
        recorder.add_clients({"round": 1, "client": [4, 7]})
    schema = pq.read_schema(tmp_path / "clients.parquet")
    assert {f.name: str(f.type) for f in schema} == CLIENT_TYPES
    assert schema.names == list(CLIENT_TYPES)


def test_text_ids_stay_text_and_regression_renames_the_metric(tmp_path):
    with Recorder(tmp_path, metric="mse") as recorder:
        recorder.add_clients({"round": 1, "client": ["b", "a"], "test_mse": [2.0, 1.0]})
        recorder.add_round({"round": 1, "test_mse": 0.5})
    schema = pq.read_schema(tmp_path / "clients.parquet")
    assert str(schema.field("client").type) == "string"
    assert "test_mse" in schema.names
    assert "test_accuracy" not in schema.names
    assert pq.read_schema(tmp_path / "rounds.parquet").names[1] == "test_mse"


def test_missing_values_are_filled_in_as_unknown(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.add_clients(
        {
            "round": 1,
            "client": [0, 1],
            "num_examples": [np.nan, 20.0],
            "failed": [True, False],
            "failure": ["out of memory", None],
        }
    )
    frame = recorder.clients()
    assert frame["num_examples"].tolist() == [0, 20]
    assert frame["rms"].isna().all()
    assert frame["participated"].all()
    assert frame["failure"].isna().tolist() == [False, True]
    recorder.add_round({"round": 1})
    recorder.add_round({"round": 2, "test_loss": 0.5, "client_gini": 0.25})
    rounds = recorder.rounds()
    assert rounds["client_gini"].isna().tolist() == [True, False]
    assert list(rounds) == ["round", "test_accuracy", "test_loss", "seconds", "client_gini"]


def test_further_columns_are_kept_as_numbers_at_the_end(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.add_clients({"round": 1, "client": [0]})
    recorder.add_clients({"round": 2, "client": [0], "rare": np.array([True])})
    frame = recorder.clients()
    assert list(frame) == [*CLIENT_TYPES, "rare"]
    assert frame["rare"].isna().tolist() == [True, False]
    assert frame["rare"].iloc[1] == 1.0


def test_rows_are_stored_in_the_order_of_the_ids(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.add_clients({"round": 1, "client": [2, 0, 1], "rms": [0.2, 0.0, 0.1]})
    assert recorder.clients()["rms"].tolist() == [0.0, 0.1, 0.2]


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ({"client": [0]}, "round"),
        ({"round": 1}, "client"),
        ({"round": 1, "client": [0, 1], "rms": [1.0]}, "rms"),
        ({"round": 1, "client": [0], "rms": ["high"]}, "rms"),
        ({"round": 1, "client": [0.5]}, "client"),
    ],
)
def test_wrong_columns_are_refused_by_name(tmp_path, columns, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        Recorder(tmp_path).add_clients(columns)


def test_ids_cannot_change_from_numbers_to_text(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.add_clients({"round": 1, "client": [0]})
    with pytest.raises(ValueError, match=r"^client: "):
        recorder.add_clients({"round": 2, "client": ["zero"]})


def test_wrong_round_rows_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"^round: "):
        Recorder(tmp_path).add_round({"test_loss": 1.0})
    with pytest.raises(ValueError, match=r"^test_loss: 'low'"):
        Recorder(tmp_path).add_round({"round": 1, "test_loss": "low"})


def test_the_same_rows_give_the_same_bytes_however_often_they_were_flushed(tmp_path):
    for name, flush_seconds in (("often", 0.0), ("once", 1e9)):
        recorder = Recorder(tmp_path / name, flush_seconds=flush_seconds)
        record(recorder, range(1, 30))
        if name == "often":
            for _ in range(3):
                recorder.flush()
        recorder.close()
    assert files(tmp_path / "often") == files(tmp_path / "once")


def test_row_groups_beyond_one_do_not_depend_on_flushes(tmp_path, monkeypatch):
    monkeypatch.setattr("fedrms.results.client_rows.ROWS_PER_GROUP", 7)
    for name in ("often", "once"):
        with Recorder(tmp_path / name, flush_seconds=1e9) as recorder:
            for t in range(1, 10):
                record(recorder, [t])
                if name == "often":
                    recorder.flush()
    assert files(tmp_path / "often") == files(tmp_path / "once")
    assert pq.ParquetFile(tmp_path / "once" / "clients.parquet").num_row_groups == 4


def test_a_resumed_run_ends_with_the_tables_of_one_that_was_never_stopped(tmp_path):
    with Recorder(tmp_path / "whole") as recorder:
        record(recorder, range(1, 11))
    with Recorder(tmp_path / "resumed") as recorder:
        record(recorder, range(1, 8))
    with Recorder(tmp_path / "resumed", resume_round=5) as recorder:
        record(recorder, range(6, 11))
    assert files(tmp_path / "resumed") == files(tmp_path / "whole")


def test_flushes_are_rare_when_writing_is_slow(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("fedrms.results.recorder.time.monotonic", lambda: clock[0])
    writes = []

    def slow(path, write):
        writes.append(path.name)
        clock[0] += 0.5  # two files a flush: one second
        replace_file(path, write)

    monkeypatch.setattr("fedrms.results.seal.replace_file", slow)
    monkeypatch.setattr("fedrms.results.client_rows.replace_file", slow)
    recorder = Recorder(tmp_path, flush_seconds=5.0)
    for t in range(1, 41):
        recorder.add_round({"round": t})
        clock[0] += 1.0
    # first at 0 s (takes 1 s), then every 20 s of work, not every 5 s
    assert writes.count("rounds.parquet") == 2


def test_a_run_without_rows_leaves_empty_tables(tmp_path):
    Recorder(tmp_path).close()
    assert len(pd.read_parquet(tmp_path / "rounds.parquet")) == 0
    assert len(pd.read_parquet(tmp_path / "clients.parquet")) == 0


def test_tables_are_flushed_when_the_run_fails(tmp_path):
    def run():
        with Recorder(tmp_path, flush_seconds=1e9) as recorder:
            record(recorder, range(1, 4))
            raise RuntimeError("client 2 vanished")

    with pytest.raises(RuntimeError, match="vanished"):
        run()
    assert pd.read_parquet(tmp_path / "rounds.parquet")["round"].tolist() == [1, 2, 3]


CHILD = """
import sys
from pathlib import Path
import numpy as np
from fedrms.results import Recorder
recorder = Recorder(Path(sys.argv[1]), flush_seconds=1e9)
for t in range(1, 1_000_000):
    recorder.add_clients({"round": t, "client": np.arange(500), "rms": np.random.rand(500)})
    recorder.add_round({"round": t, "test_accuracy": 0.5})
    recorder.flush()  # the child does little else than write, so the kill hits a write
    print(t, flush=True)
"""


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
@pytest.mark.parametrize("after", [0.0, 0.0501, 0.1137])
def test_a_killed_run_leaves_readable_tables_of_all_that_was_flushed(tmp_path, after):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with child.stdout as lines:
        flushed = next(t for t in map(int, lines) if t == 20)
        time.sleep(after)
        os.kill(child.pid, signal.SIGKILL)
        flushed += len(lines.read().splitlines())
    child.wait()
    rounds = pd.read_parquet(tmp_path / "rounds.parquet")["round"].tolist()
    sizes = pd.read_parquet(tmp_path / "clients.parquet").groupby("round").size()
    assert rounds == list(range(1, len(rounds) + 1))
    assert flushed <= len(rounds) <= len(sizes) <= flushed + 1
    assert sizes.eq(500).all()
