import os
import signal
import subprocess
import sys

import pytest

SMALL = ("rounds=2", "clients=4", "client.epochs=1")


@pytest.fixture
def start(tmp_path, repository):
    """Start ``fedrms -m`` in a folder of its own, with the sweep in ``sweep``."""

    def run(*words):
        return subprocess.Popen(
            [sys.executable, "-m", "fedrms.cli", "-m", *SMALL, "hydra.sweep.dir=sweep", *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(repository)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return run


def end(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err
