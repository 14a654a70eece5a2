"""Jobs in worker processes: real runs, one of which breaks."""

from dataclasses import replace

import pytest

from fedrms.reproduce import read_plan
from fedrms.reproduce.jobs import list_jobs
from fedrms.reproduce.workers import run_jobs


@pytest.mark.long
def test_a_run_that_breaks_is_told_of_and_the_others_go_on(tmp_path):
    quick = read_plan("digits").quickened()
    broken = ("strategy=fedrms", "client.lr=1e30")  # every client diverges
    plan = replace(quick, seeds=(0,), strategies=quick.strategies | {"fedrms": broken})
    fine, breaks = list_jobs(plan, tmp_path)
    outcomes = {outcome.job.strategy: outcome for outcome in run_jobs([breaks, fine], 1)}
    assert outcomes["fedavg"].error is None
    assert fine.finished
    assert "no client finished any round" in outcomes["fedrms"].error
    assert not breaks.finished
    assert "no client finished any round" in (breaks.folder / "run.log").read_text()


def test_no_job_needs_no_worker():
    assert list(run_jobs([], 2)) == []
