"""Real Flower processes for tests: a private home, free ports, and an end for all of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

from fedrms.deployment.ports import free_port

PROGRAMS = Path(sys.executable).parent
SIMULATION = "local"
"""Flower's name for a SuperLink of its own that simulates SuperNodes on Ray."""
THREE_CLIENTS = "num-supernodes=3 init-args-num-cpus=1 client-resources-num-cpus=1"
"""Options of a simulation: three clients, one after the other."""


class RealFlower:
    """Flower's programs with a home, ports and processes of their own.

    Parameters
    ----------
    folder : Path
        Private ``FLWR_HOME``; logs lie in it too.
    repository : Path
        The checkout whose ``fedrms`` the processes import.
    """

    def __init__(self, folder: Path, repository: Path) -> None:
        self.folder = folder
        self.repository = repository
        self.environment = os.environ | {
            "FLWR_HOME": str(folder),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
            "FLWR_LOCAL_CONTROL_API_PORT": str(free_port()),
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(repository),
        }
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def superlink(self) -> str:
        """Start a SuperLink, call it ``lab``, wait until it answers, and return its address."""
        port = free_port()
        self.start(
            "superlink",
            "flower-superlink",
            "--insecure",
            "--host=127.0.0.1",
            f"--port={port}",
        )
        (self.folder / "config.toml").write_text(
            '[superlink]\ndefault = "lab"\n[superlink.lab]\ninsecure = true\n'
            f'address = "127.0.0.1:{port}"\n[superlink.{SIMULATION}]\naddress = ":local:"\n'
        )
        self.wait_for("superlink", lambda: _answers(f"http://127.0.0.1:{port}/health"))
        return f"127.0.0.1:{port}"

    def supernode(self, address: str, partition: int, partitions: int) -> None:
        """Start a stock SuperNode for one partition."""
        self.start(
            f"supernode-{partition}",
            "flower-supernode",
            "--superlink",
            address,
            "--insecure",
            "--host=127.0.0.1",
            f"--port={free_port()}",
            "--node-config",
            f"partition-id={partition} num-partitions={partitions}",
        )

    def start(self, name: str, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a program of this environment; its output goes to a log of its own."""
        path = PROGRAMS / program
        command = [str(path) if path.exists() else program, *arguments]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._started[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, cwd=self.folder
            )
        return self._started[name]

    def log(self, name: str) -> str:
        """Return what a started program has written."""
        return (self.folder / f"{name}.log").read_text()

    def wait_for(self, name: str, happened, seconds: float = 60) -> None:
        """Wait until something has happened; fail with the program's log otherwise."""
        deadline = time.monotonic() + seconds
        while not happened():
            ended = self._started[name].poll() is not None
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"{name} {'ended' if ended else 'is late'}: {self.log(name)}")
            time.sleep(0.1)

    def run(self, app: Path, superlink: str, *options: str) -> str:
        """Submit an app with ``flwr run --stream`` and return what it prints."""
        done = subprocess.run(
            [str(PROGRAMS / "flwr"), "run", str(app), superlink, "--stream", *options],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> None:
        """End everything that lives in this home, and what ``flwr run`` left there."""
        left = [process for process in psutil.process_iter() if self._is_at_home(process)]
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)
        for process in psutil.wait_procs(left, timeout=15)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for process in self._started.values():
            process.wait(15)

    def _is_at_home(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error, OSError):
            return process.environ().get("FLWR_HOME") == str(self.folder)
        return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def accuracy(printed: str) -> float:
    """Return the accuracy that an example's server printed last, in percent."""
    found = re.findall(r"accuracy with \w+: ([\d.]+) %", printed)
    assert found, printed
    return float(found[-1])
