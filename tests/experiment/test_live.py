"""What a terminal shows while a run is under way."""

import contextlib
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from fedrms.experiment.progress import LiveRounds


def shown(live, width=100):
    file = io.StringIO()
    Console(file=file, width=width).print(live)
    return file.getvalue()


def clients(**columns):
    return {
        "client": np.array(["a", "b", "c", "d"], dtype=object),
        "participated": np.array([True, True, True, False]),
        "failed": np.array([False, False, False, False]),
        "rms": np.array([0.5, 2.5, 1.0, 9.0]),
    } | columns


def test_it_shows_the_metric_the_speed_and_the_noisiest_who_took_part():
    live = LiveRounds("fedrms, seed 0", 10, "accuracy")
    live.update(4, {"round": 4, "test_accuracy": 0.8125, "seconds": 0.5}, clients())
    text = shown(live)
    assert "fedrms, seed 0" in text
    assert "4/10" in text
    assert "0.8125" in text
    assert " 6 " in text  # three clients in half a second
    assert "b (2.50), c (1.00), a (0.50)" in text
    assert "d (9" not in text


def test_a_round_that_is_not_scored_keeps_the_last_score():
    live = LiveRounds("x", 10, "accuracy")
    live.update(1, {"round": 1, "test_accuracy": 0.5, "seconds": 1.0}, clients())
    live.update(2, {"round": 2, "seconds": 1.0}, clients())
    assert "0.5000" in shown(live)


def test_failures_are_counted():
    live = LiveRounds("x", 10, "accuracy")
    failed = clients(failed=np.array([True, True, False, False]))
    live.update(1, {"round": 1, "seconds": 1.0}, failed)
    assert shown(live).splitlines()[-1].split()[1] == "2"


def test_a_strategy_without_estimates_has_no_noisiest():
    live = LiveRounds("x", 10, "accuracy")
    live.update(1, {"round": 1, "seconds": 1.0}, clients(rms=np.full(4, np.nan)))
    assert "noisiest" not in shown(live)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pty on Windows")
def test_a_run_on_a_terminal_shows_it(tmp_path, repository):
    import pty

    controller, terminal = pty.openpty()
    words = "['rounds=2', 'client.epochs=1', 'clients=5']"
    process = subprocess.Popen(
        [sys.executable, "-c", f"import fedrms; fedrms.run({words}, folder={str(tmp_path)!r})"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"PYTHONPATH": str(repository), "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(terminal)
    told = b""
    with contextlib.suppress(OSError):  # a terminal whose other end is closed
        while piece := os.read(controller, 4096):
            told += piece
    os.close(controller)
    assert process.wait(timeout=60) == 0, told.decode()
    assert "noisiest clients (rms)" in told.decode()
