"""A folder in which a run is at work is read as such, while it goes on."""

import os
import signal

import pytest

import fedrms
from fedrms.results.report import write_report

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends a signal")

WORDS = ("clients=3", "client.epochs=1", "rounds=100000", "checkpoint.every=1")


@pytest.mark.long
def test_the_page_says_how_far_a_running_run_is(command, tmp_path):
    run = command(*WORDS, "hydra.run.dir=run")
    run.wait_for(3)
    runs = fedrms.load_runs(tmp_path / "run")
    assert runs.summary.status.tolist() == ["running"]
    done = int(runs.summary["summary.rounds"][0])
    assert done == len(runs.rounds) >= 3
    assert len(runs.clients) == 3 * done
    report = write_report([tmp_path / "run"], tmp_path / "page", static=False)
    told = next(line for line in report.problems if line.startswith("run: running, round "))
    assert told.endswith(" of 100000")
    assert told in report.page.read_text()
    run.process.send_signal(signal.SIGTERM)
    assert run.end()[0] == 143
    assert fedrms.load_runs(tmp_path / "run").summary.status.tolist() == ["interrupted"]


@pytest.mark.long
def test_a_run_that_goes_on_is_not_what_its_former_summary_says(command, tmp_path):
    words = [*WORDS[:2], "rounds=2", WORDS[3]]
    fedrms.run(words, folder=tmp_path / "run")
    assert fedrms.load_runs(tmp_path / "run").summary.status.tolist() == ["finished"]
    run = command("resume=run", "rounds=100000")
    run.wait_for(4)
    summary = fedrms.load_runs(tmp_path / "run").summary
    assert summary.status.tolist() == ["running"]
    assert summary["summary.rounds"][0] >= 4
    run.process.kill()
    run.end()
