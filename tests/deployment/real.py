"""Start real servers and clients, and find what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import uvicorn

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
        alive = [process for process in alive if self._is_ours(process)]
        return [" ".join(process.cmdline()) for process in alive] + [str(path) for path in homes]

    def told(self, characters: int = 1500) -> str:
        """Return the ends of everything that was printed or logged here."""
        files = [*sorted(self.folder.glob("*.txt")), *sorted(self.folder.glob("*/super*.log"))]
        parts = [(file, file.read_text(errors="replace")[-characters:]) for file in files]
        return "\n".join(f"--- {file.relative_to(self.folder)}\n{text}" for file, text in parts)

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
        self.site = site
        self.name = name
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
        deadline = time.monotonic() + seconds
        while text not in self.said and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert text in self.said, f"no {text!r} within {seconds:g} s:\n{self.site.told()}"

    def wait(self, seconds: float = 600) -> int:
        """Wait for its end and return its exit status."""
        return self.process.wait(seconds)

    def interrupt(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(120)

    def child(self, program: str) -> psutil.Process:
        """Return the youngest process of a program that it started, at any depth."""
        wait_for(lambda: bool(self.children(program)), program, 60)
        return max(self.children(program), key=psutil.Process.create_time)

    def children(self, program: str) -> list[psutil.Process]:
        """Return the processes of a program that it started, at any depth.

        A process that has just been forked still has its parent's words; it is left out.
        """
        own = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in own if _runs(one, program) and not _runs(one.parent(), program)]


def wait_for(true: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)


def kill_training(client: Command) -> None:
    """Kill the program that trains the first round of a client, while it trains.

    It is the second that the client starts; the first one has said who the client is. PyTorch
    is loaded after the order has arrived. A program that dies before that is started again by
    Flower, or, dying just as it fetches its order, never answered for.
    """
    begins = "Start `flwr-clientapp` process"  # which the program itself says
    log = client.site.folder / client.name / "supernode.log"

    def trains() -> bool:
        if log.read_text(errors="replace").count(begins) < 2:
            return False
        program = client.child("flwr-clientapp")
        return any("libtorch_cpu" in Path(map.path).name for map in program.memory_maps())

    client.until("Connected")
    wait_for(trains, "a training", 600)
    client.child("flwr-clientapp").kill()


@contextmanager
def site_in(folder: Path) -> Iterator[Site]:
    """Yield a site, and end what is left of it."""
    site = Site(folder)
    try:
        yield site
    finally:
        site.end()


def _runs(process: psutil.Process | None, program: str) -> bool:
    try:
        words = process.cmdline()[:3] if process is not None else []
        return any(Path(word).name == program for word in words)
    except psutil.Error:
        return False


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an ASGI app from a thread, and say where."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
