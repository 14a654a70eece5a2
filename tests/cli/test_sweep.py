"""``fedrms -m``: jobs side by side, failures that cost no other job, and sweeps that go on."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

import fedrms

from .conftest import SMALL, end

POSIX = pytest.mark.skipif(os.name != "posix", reason="sends signals")

REASONS = {
    "exit": "ended the program (SystemExit: 0)",
    "os_exit": "its process ended with exit code 0",
    "interrupt": "KeyboardInterrupt",
    "deep": "maximum recursion depth exceeded",
    "mute": "RuntimeError",
    "private": "PrivateError: of its own",
    "unwritable": "half a \\udcff character",
    "long": "xxxx...",
    "memory": "MemoryError",
}
"""What is said of each fault of ``odd_models.py``."""
SEARCH = ("hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", "hydra.sweeper.n_jobs=1")


@pytest.mark.long
def test_jobs_that_fail_are_named_in_the_end_and_the_others_are_compared(start, tmp_path):
    code, _, err = end(start("client.batch_size=16,0,32", "client.lr=0.1,1e30", "noise=none"))
    assert code == 1
    statuses = [
        json.loads((tmp_path / f"sweep/{job}/summary.json").read_text())["status"]
        if (tmp_path / f"sweep/{job}/summary.json").exists()
        else None
        for job in range(6)
    ]
    assert statuses == ["finished", "interrupted", None, None, "finished", "interrupted"]
    assert len(fedrms.compare(fedrms.load_runs(tmp_path / "sweep"))) == 2
    told = [line for line in err.splitlines() if line.startswith("fedrms: job")]
    assert [line.split()[2] for line in told] == ["1", "2", "3", "5"]
    assert "no client finished any round" in told[0]
    assert "client.batch_size: is 0" in told[1]
    assert told[2].endswith("as job 2 did")
    written = (tmp_path / "sweep/comparison.md").read_text()
    assert "job 3 failed (client.batch_size=0 client.lr=1e+30)" in written
    assert "Traceback" not in err
    assert "fedrms: not compared, as they did not finish: 1, 5" in err
    assert "UserWarning" not in err


@pytest.mark.long
def test_jobs_are_to_the_bit_what_they_are_one_by_one_and_are_not_run_again(start, tmp_path):
    code, _, err = end(start("seed=0,1", "strategy=fedavg,fedrms"))
    assert code == 0, err
    for job, words in enumerate(
        (["seed=0", "strategy=fedavg"], ["seed=0"], ["seed=1", "strategy=fedavg"], ["seed=1"])
    ):
        alone = fedrms.run([*SMALL, *words], folder=tmp_path / f"alone{job}").folder
        for name in ("model.safetensors", "clients.parquet", "partition.parquet"):
            assert (tmp_path / f"sweep/{job}" / name).read_bytes() == (alone / name).read_bytes()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/*.parquet")}
    (tmp_path / "sweep/2/summary.json").unlink()
    code, out, err = end(start("seed=0,1", "strategy=fedavg,fedrms"))
    assert code == 0, err
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/*.parquet")}
    assert {path.parent.name for path in before if after[path] != before[path]} == {"2"}
    assert "undecided" in out
    code, _, err = end(start("seed=0,2", "strategy=fedavg,fedrms"))
    assert code == 2
    assert "hydra.sweep.dir: sweep holds another multirun" in err


@pytest.mark.long
@POSIX
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_what_there_is_and_the_same_command_goes_on(number, code, start, tmp_path):
    words = ("rounds=3000", "checkpoint.every=5", "seed=0,1,2", "evaluate_every=1000")
    sweep = start(*words)
    began = time.monotonic()
    while not list(tmp_path.glob("sweep/0/checkpoint/round-*")):
        assert time.monotonic() - began < 120
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.05)
    workers = psutil.Process(sweep.pid).children(recursive=True)
    assert workers
    sweep.send_signal(number)
    returned, out, err = end(sweep)
    assert returned == code
    assert "0 of 3 jobs have ended; go on with: fedrms -m" in out
    assert "Traceback" not in err
    assert not any(worker.is_running() for worker in workers)
    summary = json.loads((tmp_path / "sweep/0/summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert summary["rounds"] >= 5


@pytest.mark.long
@pytest.mark.parametrize("further", [(), SEARCH], ids=["sweep", "search"])
def test_errors_of_any_kind_cost_their_own_job_alone(further, start, tmp_path):
    if further:
        pytest.importorskip("optuna")
    shutil.copy(Path(__file__).parent / "odd_models.py", tmp_path)
    faults = f"+model.fault=choice({','.join([*REASONS, 'none'])})"
    words = ["model._target_=odd_models.Odd", faults, *further]
    code, out, err = end(start(*words))
    assert code == 1, err
    told = [line for line in err.splitlines() if line.startswith("fedrms: job")]
    assert len(told) >= len(REASONS)
    for fault, reason in REASONS.items():
        (line,) = {line.partition(" failed ")[2] for line in told if f"fault={fault})" in line}
        assert reason in line, line
        assert line.isprintable()
        assert len(line) < 1200
    assert "fedrms " in out  # the table
    written = (tmp_path / "sweep/comparison.md").read_text()
    assert all(line.removeprefix("fedrms: ") in written for line in told)
    assert "raised" not in err.replace("raised by", "")  # a callback's, of which Hydra warns


@pytest.mark.long
@POSIX
def test_a_worker_that_is_killed_costs_its_own_job_alone(start, tmp_path):
    sweep = start("rounds=400,2,3", "checkpoint.every=1")
    began = time.monotonic()
    while not list(tmp_path.glob("sweep/0/checkpoint/round-*")):
        assert time.monotonic() - began < 120
        time.sleep(0.01)
    for worker in psutil.Process(sweep.pid).children():
        opened = list(Path(f"/proc/{worker.pid}/fd").iterdir())
        if any(each.exists() and each.samefile(tmp_path / "sweep/0") for each in opened):
            worker.kill()
    code, _, err = end(sweep)
    assert code == 1
    assert "job 0 failed (rounds=400): its process was ended by SIGKILL" in err
    assert (tmp_path / "sweep/1/summary.json").exists()
    assert (tmp_path / "sweep/2/summary.json").exists()


@pytest.mark.long
@POSIX
def test_workers_end_with_a_parent_that_is_killed(start, tmp_path):
    sweep = start("rounds=100000", "seed=0,1", "checkpoint.every=1")
    began = time.monotonic()
    while not list(tmp_path.glob("sweep/*/checkpoint/round-*")):
        assert time.monotonic() - began < 120
        time.sleep(0.05)
    workers = psutil.Process(sweep.pid).children(recursive=True)
    sweep.kill()
    sweep.communicate()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


@pytest.mark.long
def test_another_launcher_runs_each_job_in_a_folder_of_its_own(start, tmp_path):
    code, out, err = end(start("seed=0,1", "rounds=1", "hydra/launcher=basic"))
    assert code == 0, err
    assert fedrms.load_runs(tmp_path / "sweep").summary.status.tolist() == ["finished"] * 2
    assert "results: sweep" in out
