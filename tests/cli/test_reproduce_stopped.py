"""What is left of ``fedrms-reproduce`` when it is stopped: no process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

SEEDS = [str(seed) for seed in range(100)]  # far more than are run here
PATIENCE = 120.0


@pytest.fixture
def started(tmp_path):
    """Start the command in processes of its own, and wait for its first run to finish."""
    words = ["-m", "fedrms.cli.reproduce", "digits", "--strategies", "fedavg", "--seeds", *SEEDS]
    process = subprocess.Popen(
        [sys.executable, *words, "--jobs", "1", "--runs", tmp_path, "--out", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # who tests may ignore it
    )
    while b"[1/" not in process.stdout.readline():
        assert process.poll() is None
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def children(of: int) -> list[int]:
    text = Path(f"/proc/{of}/task/{of}/children").read_text()
    return [int(word) for word in text.split()]


def lives(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def left_of(processes: list[int]) -> list[int]:
    """Wait for processes to end, and return and kill those that do not."""
    end = time.monotonic() + PATIENCE
    while any(map(lives, processes)) and time.monotonic() < end:
        time.sleep(0.05)
    left = [process for process in processes if lives(process)]
    for process in left:
        os.kill(process, signal.SIGKILL)
    return left


@pytest.mark.parametrize(
    ("sent", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_a_signal_to_the_command_alone_ends_its_workers(started, sent, code):
    workers = children(started.pid)
    assert workers
    started.send_signal(sent)
    assert started.wait(PATIENCE) == code
    assert left_of(workers) == []


def test_nothing_goes_on_where_nobody_reads_what_is_printed(started):
    workers = children(started.pid)
    started.stdout.close()
    assert started.wait(PATIENCE) != 0
    assert left_of(workers) == []
