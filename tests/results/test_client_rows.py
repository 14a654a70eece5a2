"""Rows of clients that are on disk give the table that rows in memory would give."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedrms.results import Recorder, client_rows, seal
from fedrms.results.seal import AlteredError, read_table


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(client_rows, "ROWS_PER_GROUP", 7)


def add(recorder, server_round, clients=3, **columns):
    ids = {"round": server_round, "client": np.arange(clients)}
    recorder.add_clients(ids | {"rms": np.full(clients, server_round)} | columns)
    recorder.add_round({"round": server_round, "seconds": 1.0})


def content(folder):
    return (folder / "clients.parquet").read_bytes()


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(client_rows, "ROWS_PER_GROUP", 1000)
    recorder = Recorder(tmp_path, flush_seconds=1e9)
    before, most = pa.total_allocated_bytes(), 0
    for server_round in range(1, 201):
        add(recorder, server_round, clients=250)
        if server_round == 100:
            recorder.flush()
        most = max(most, pa.total_allocated_bytes() - before)
    recorder.flush()
    assert len(recorder.clients()) == 50_000
    assert most < 1_500_000  # all rows have 150 bytes each, 7.5 MB
    assert pq.ParquetFile(tmp_path / "clients.parquet").num_row_groups == 50
    assert [path.name for path in tmp_path.glob("*")] == ["clients.parquet", "rounds.parquet"]


@pytest.mark.parametrize("flushes", [(), (1, 2, 3), (4, 7), (9,)])
def test_what_appears_later_is_in_every_row_wherever_it_is(flushes, small_groups, tmp_path):
    """A column, another metric, names for numbers: as if all had been known at the first round."""
    recorder = Recorder(tmp_path / "told", flush_seconds=1e9)
    for server_round in range(1, 11):
        further = {"work": np.arange(3.0)} if server_round > 3 else {}
        if server_round == 5:
            recorder.measure("mse")
        if server_round == 8:
            recorder.use_text_ids()
        if server_round > 7:
            further |= {"client": ["0", "1", "2"]}
        add(recorder, server_round, **further)
        if server_round in flushes:
            recorder.flush()
    recorder.close()
    known = Recorder(tmp_path / "known", metric="mse", flush_seconds=1e9)
    for server_round in range(1, 11):
        work = np.arange(3.0) if server_round > 3 else np.full(3, np.nan)
        add(known, server_round, client=["0", "1", "2"], work=work)
    known.close()
    assert content(tmp_path / "told") == content(tmp_path / "known")
    assert recorder.digest() == known.digest()


def test_text_that_appears_later_is_null_before(small_groups, tmp_path):
    recorder = Recorder(tmp_path)
    add(recorder, 1)
    add(recorder, 2, domain=["usual", "turned", "usual"])
    told = recorder.clients()["domain"]
    assert told.isna().tolist() == [True] * 3 + [False] * 3
    assert told.tolist()[3:] == ["usual", "turned", "usual"]


@pytest.mark.parametrize("last", [0, 2, 4, 7, 8])
def test_rows_up_to_a_round_are_taken_up_from_the_file(last, small_groups, tmp_path):
    with Recorder(tmp_path / "whole") as whole:
        for server_round in range(1, 9):
            add(whole, server_round)
            if server_round == last:
                digest = whole.digest()
    with Recorder(tmp_path / "cut") as recorder:
        for server_round in range(1, 9):
            add(recorder, server_round, rms=np.full(3, server_round))
    with Recorder(tmp_path / "cut", resume_round=last) as recorder:
        assert recorder.clients()["round"].tolist() == np.repeat(range(1, last + 1), 3).tolist()
        assert last == 0 or recorder.digest() == digest
        for server_round in range(last + 1, 9):
            add(recorder, server_round)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_some_columns_come_in_pieces(small_groups, tmp_path):
    recorder = Recorder(tmp_path)
    for server_round in range(1, 9):
        add(recorder, server_round)
        if server_round == 5:
            recorder.flush()
    pieces = list(recorder.client_pieces(["round", "rms"]))
    assert len(pieces) > 3
    assert all(list(piece) == ["round", "rms"] for piece in pieces)
    assert [r for piece in pieces for r in piece["rms"]] == recorder.clients()["rms"].tolist()


def test_a_file_that_is_altered_while_the_run_goes_on_is_told_by_name(small_groups, tmp_path):
    recorder = Recorder(tmp_path, flush_seconds=1e9)
    add(recorder, 1, clients=100)
    recorder.flush()
    altered = bytearray(content(tmp_path))
    altered[len(altered) // 4] ^= 1
    (tmp_path / "clients.parquet").write_bytes(altered)  # the same file, not another of this name
    add(recorder, 2)
    with pytest.raises(AlteredError, match=r"clients\.parquet cannot be read"):
        recorder.flush()


def test_a_file_that_somebody_deletes_is_written_again(tmp_path):
    recorder = Recorder(tmp_path, flush_seconds=1e9)
    add(recorder, 1)
    recorder.flush()
    (tmp_path / "clients.parquet").unlink()
    add(recorder, 2)
    recorder.close()
    assert pq.read_table(tmp_path / "clients.parquet")["round"].to_pylist() == [1, 1, 1, 2, 2, 2]


def test_a_file_of_another_metric_is_taken_up(small_groups, tmp_path):
    """A loop that is resumed learns only from its file what is measured."""
    with Recorder(tmp_path, metric="mse") as before:
        for server_round in range(1, 5):
            add(before, server_round, test_mse=np.arange(3.0))
    recorder = Recorder(tmp_path, resume_round=3)
    recorder.measure("mse")
    assert recorder.clients()["test_mse"].tolist() == [0.0, 1.0, 2.0] * 3
    assert "test_accuracy" not in recorder.clients()


def broken_off(work, at):
    """Do some work, and break it off at one of the lines that keep rows; say whether it was."""
    left = at

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename not in (client_rows.__file__, seal.__file__):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.long
def test_rows_are_sound_wherever_a_signal_breaks_them_off(small_groups, tmp_path):
    def work(recorder):
        for server_round in range(1, 7):
            if server_round == 4:
                recorder.measure("mse")
            further = {"work": np.arange(3.0)} if server_round > 4 else {}
            add(recorder, server_round, **further)
            if server_round == 2:
                recorder.flush()

    at, going_on = 1, True
    while going_on:
        folder = tmp_path / str(at)
        recorder = Recorder(folder, flush_seconds=1e9)
        going_on = broken_off(lambda told=recorder: work(told), at)
        recorder.add_clients({"round": 9, "client": [7]})
        recorder.add_round({"round": 9})
        recorder.flush()
        written = read_table(folder / "clients.parquet")  # refuses another digest
        rounds = written["round"].to_pylist()
        last = rounds[-2] if len(rounds) > 1 else 0
        assert rounds == [r for r in range(1, last + 1) for _ in range(3)] + [9]
        assert len(recorder.clients()) == len(rounds)
        at += 7
    assert at > 500
