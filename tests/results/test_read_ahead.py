"""Runs that are read as they finish are compared as those that are read in the end."""

import shutil

import pandas as pd
import pytest

from fedrms.results import compare, load_runs
from fedrms.results.runs import ReadAhead


def read_all(runs):
    while runs.read_one():
        pass


def test_runs_read_ahead_are_compared_as_those_read_in_the_end(tmp_path, make_run):
    ahead = ReadAhead()
    for job in (10, 2, 0):
        make_run(f"sweep/{job}", [0.5, 0.1 * job], seed=job)
        ahead.add(tmp_path / "sweep" / str(job))
    read_all(ahead)
    make_run("sweep/3", [0.5], seed=3)  # nobody told of this one
    runs, read = ahead.load(tmp_path / "sweep"), load_runs(tmp_path / "sweep")
    pd.testing.assert_frame_equal(runs.summary, read.summary)
    pd.testing.assert_frame_equal(runs.rounds, read.rounds)
    assert runs.clients.empty
    pd.testing.assert_frame_equal(compare(runs), compare(read))


def test_a_run_that_changes_after_it_was_read_is_read_again(tmp_path, make_run):
    ahead = ReadAhead()
    make_run("sweep/0", [0.5])
    ahead.add(tmp_path / "sweep/0")
    read_all(ahead)
    shutil.rmtree(tmp_path / "sweep/0")
    make_run("sweep/0", [0.7])
    assert ahead.load(tmp_path / "sweep").summary["final_accuracy"].tolist() == [0.7]


def test_a_run_whose_files_were_cut_is_left_out_by_name(tmp_path, make_run):
    ahead = ReadAhead()
    make_run("sweep/0", [0.5])
    path = make_run("sweep/1", [0.5]) / "clients.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    for job in (0, 1, 2):  # there is no job 2
        ahead.add(tmp_path / "sweep" / str(job))
    read_all(ahead)
    with pytest.warns(UserWarning, match=r"sweep/1/clients\.parquet: unreadable"):
        runs = ahead.load(tmp_path / "sweep")
    assert runs.summary["run"].tolist() == ["0"]
