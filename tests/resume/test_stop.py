"""The ``fedrms`` command, stopped by a signal or by a full disk, says how to go on, and does."""

import json
import os
import resource
import signal

import pandas as pd
import pytest

import fedrms

from ..small_disk import fill, small_disk
from .conftest import assert_identical

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")

SMALL = ("clients=5", "client.epochs=1", "client.batch_size=64", "evaluate_every=5")
LONG = (*SMALL, "rounds=120", "checkpoint.every=1", "hydra.run.dir=run")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    options = [*SMALL, "rounds=120", "checkpoint.every=0"]
    return fedrms.run(options, folder=tmp_path_factory.mktemp("whole") / "run").folder


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_a_run_which_says_how_to_go_on(number, code, command, tmp_path, whole):
    run = command(*LONG)
    run.wait_for(3)
    run.process.send_signal(number)
    returned, _, said = run.end()
    assert returned == code
    assert "is kept; go on with: fedrms resume=run" in said
    assert said.rstrip().endswith("fedrms: stopped; what was computed is kept")
    assert "Traceback" not in said
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "interrupted"
    assert len(pd.read_parquet(tmp_path / "run/rounds.parquet")) >= 3
    assert not list((tmp_path / "run").rglob("*.part"))

    returned, printed, said = command("resume=run", "engine.threads=1").end()
    assert returned == 0, said
    assert "run goes on after round" in said
    assert "results: run" in printed
    assert_identical(whole, tmp_path / "run")
    log = (tmp_path / "run/run.log").read_text()
    assert log.count("is kept; go on with") == log.count("goes on after round") == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.long
def test_a_checkpoint_that_finds_no_room_leaves_the_former_one_and_the_run_goes_on(
    command, tmp_path
):
    run = command(*LONG, "rounds=40")
    run.wait_for(2)
    limit = (tmp_path / "run/checkpoint/round-000002.safetensors").stat().st_size - 2048
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    returned, printed, said = run.end()
    assert returned == 0, said
    assert said.count("could not be written: [Errno 27] File too large") == 1
    assert "is kept. The run goes on and tries again" in said
    assert "final accuracy" in printed
    assert len(pd.read_parquet(tmp_path / "run/rounds.parquet")) == 40
    assert not list((tmp_path / "run").rglob("*.part"))


@pytest.fixture
def disk(tmp_path):
    """A disk of 1 MB at ``run``; needs the right to mount one."""
    with small_disk(tmp_path / "run") as there:
        if not there:
            pytest.skip("may not mount a disk")
        yield tmp_path / "run"


@pytest.mark.long
def test_a_full_disk_ends_in_one_message_and_the_run_goes_on_once_there_is_room(
    disk, command, tmp_path, whole
):
    run = command(*LONG)
    run.wait_for(2)
    filler = fill(disk)
    returned, _, said = run.end()
    assert returned == 1, said
    assert "fedrms: the results cannot be written to" in said
    assert "No space left on device" in said
    assert "go on with: fedrms resume=run" in said
    assert "Traceback" not in said
    filler.unlink()
    returned, _, said = command("resume=run", "checkpoint.every=50").end()
    assert returned == 0, said
    assert_identical(whole, tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize("where", ["file/run", "file"])
def test_a_folder_that_cannot_be_made_ends_in_one_message(where, command, tmp_path):
    (tmp_path / "file").write_text("in the way")
    returned, _, said = command(*SMALL, f"hydra.run.dir={where}").end()
    assert returned == 2
    assert said.startswith("fedrms: hydra.run.dir: cannot be written to: ")
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 2


@pytest.mark.long
def test_a_multirun_is_not_resumed_as_one(command):
    returned, _, said = command("-m", "resume=one,two").end()
    assert returned == 2
    assert "fedrms: resume: goes on with one run" in said
    assert len(said.strip().splitlines()) == 2
