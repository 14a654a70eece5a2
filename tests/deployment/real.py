"""Start real servers and clients, and find what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from fedrms.deployment.ports import free_port

MARK = "FEDRMS_TEST_MARK"
"""Environment variable that everything a test starts inherits."""


class Site:
    """Everything that one test starts, found again by a mark in its environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.mark = uuid.uuid4().hex
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.environment = os.environ | {
            MARK: self.mark,
            "TMPDIR": str(self.temporary),
            "OMP_NUM_THREADS": "1",
        }

    def start(self, command: str, *words: str, name: str) -> Command:
        """Start one of the commands in the site's folder."""
        return Command(self, [sys.executable, "-m", f"fedrms.cli.{command}", *words], name)

    def server(self, *words: str, name: str = "server") -> Command:
        """Start ``fedrms-server`` at the site's address."""
        where = (f"server.address={self.address}", f"hydra.run.dir={self.folder / name}")
        return self.start("server", *where, *words, name=name)

    def client(self, *words: str, name: str) -> Command:
        """Start ``fedrms-client`` for the site's address."""
        where = (f"server.address={self.address}", f"hydra.run.dir={self.folder / name}")
        return self.start("client", *where, *words, name=name)

    def processes(self) -> list[psutil.Process]:
        """Return everything that was started here, by whomever, and still lives."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def left_behind(self) -> list[str]:
        """Return living processes and files in the temporary folder, after a short wait."""
        _, alive = psutil.wait_procs(self.processes(), timeout=5)
        homes = self.temporary.glob("fedrms-*")  # PyTorch has a cache of its own there
        return [" ".join(process.cmdline()) for process in alive] + [str(path) for path in homes]

    def end(self) -> None:
        """Kill whatever still lives."""
        for process in self.processes():
            process.kill()

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            marked = process.environ().get(MARK) == self.mark
            return marked and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            return False


class Command:
    """A running command, and what it has said."""

    def __init__(self, site: Site, words: list[str], name: str) -> None:
        self._said = site.folder / f"{name}.txt"
        with self._said.open("wb") as output:
            self.process = subprocess.Popen(
                words,
                cwd=site.folder,
                env=site.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        """Everything it has printed."""
        return self._said.read_text(errors="replace")

    def until(self, text: str, seconds: float = 600) -> None:
        """Wait until it has printed something."""
        wait_for(lambda: text in self.said or self.process.poll() is not None, f"{text!r}", seconds)
        assert text in self.said, self.said

    def wait(self, seconds: float = 600) -> int:
        """Wait for its end and return its exit status."""
        return self.process.wait(seconds)

    def interrupt(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(120)

    def child(self, program: str) -> psutil.Process:
        """Return the youngest process of a program that it started, at any depth."""
        found: list[psutil.Process] = []

        def there() -> bool:
            own = psutil.Process(self.process.pid).children(recursive=True)
            found[:] = [one for one in own if _runs(one, program)]
            return bool(found)

        wait_for(there, program, 60)
        return max(found, key=psutil.Process.create_time)


def wait_for(true: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)


def kill_training(client: Command, output: Path) -> None:
    """Kill the program that trains the first round of a client, whose SuperNode writes to `output`.

    It is the second that the SuperNode starts; the first one has said who the client is.
    """
    begins = "Start `flwr-clientapp` process"
    client.until("Connected")
    wait_for(lambda: output.read_text(errors="replace").count(begins) > 1, "a training", 600)
    time.sleep(1)  # from the line to the process; training takes longer, for it imports PyTorch
    client.child("flwr-clientapp").send_signal(signal.SIGKILL)


@contextmanager
def site_in(folder: Path) -> Iterator[Site]:
    """Yield a site, and end what is left of it."""
    site = Site(folder)
    try:
        yield site
    finally:
        site.end()


def _runs(process: psutil.Process, program: str) -> bool:
    try:
        return any(Path(word).name == program for word in process.cmdline()[:3])
    except psutil.Error:
        return False
