"""What a site costs: memory and processor time of warm clients, and what they cost their server.

    python scripts/bench/site.py [--clients 3] [--rounds 12] [--rows 100] [--idle 60]

A server with TLS and keys and `fedrms-client` processes on the loopback interface train on data
of a few rows. Told are, for one site, the memory of all its processes and its processor time a
round (training, polling, heartbeats and watching included; the first rounds are not counted), and
for the server the processor time that a client costs that waits for a server with too few clients.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from family import family, megabytes, seconds

from fedrms.deployment.ports import free_port

UNCOUNTED = 4
LEARNING = ("model=softmax", "client.epochs=1", "data=parquet", "data.classes=[no,yes]")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    numbers = (("clients", 3), ("rounds", 12), ("rows", 100), ("idle", 60))
    for name, value in numbers:
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Run two federations: one that trains, and one that waits."""
    names = [f"site-{number}" for number in range(options.clients)]
    write_tables(folder, names, options.rows)
    python("certs", f"out={folder / 'certs'}", f"clients={','.join(names)}").wait()
    busy = Federation(folder / "busy", folder, names, f"rounds={options.rounds}", options.clients)
    try:
        begun = busy.wait_for(f"round {UNCOUNTED}/", busy.sites)
        time.sleep(0.2)
        ended = busy.wait_for(f"round {options.rounds - 1}/", busy.sites)
        memory = [megabytes(site) for site in busy.sites]
        parts = [
            f"{Path(one.cmdline()[0]).name} {' '.join(one.cmdline()[1:3])[:40]}: "
            f"{one.memory_info().rss / 2**20:.0f}"
            for one in family(busy.sites[0])
        ]
    finally:
        busy.end()
    rounds = options.rounds - 1 - UNCOUNTED
    spent = [(after - before) / rounds for before, after in zip(begun, ended, strict=True)]
    print(f"a site: {statistics.median(memory):.0f} MB in all ({'; '.join(parts)})")
    print(f"a round: {statistics.median(spent):.3f} processor seconds of a site")
    idle = Federation(folder / "idle", folder, names, "rounds=1", options.clients + 1)
    try:
        idle.wait_for(f"{options.clients} of {options.clients + 1}", [])
        time.sleep(10)
        before = [seconds(one) for one in (idle.server, *idle.sites)]
        time.sleep(options.idle)
        after = [seconds(one) for one in (idle.server, *idle.sites)]
    finally:
        idle.end()
    shares = [(b - a) / options.idle for a, b in zip(before, after, strict=True)]
    print(f"idle: {statistics.median(shares[1:]):.2%} of a core of a site")
    print(f"idle: {shares[0]:.2%} of a core of the server with {options.clients} clients")


class Federation:
    """A server and its sites."""

    def __init__(
        self, folder: Path, shared: Path, names: list[str], rounds: str, least: int
    ) -> None:
        folder.mkdir()
        address = f"127.0.0.1:{free_port()}"
        tls = (f"server.tls={shared / 'certs'}", f"server.auth={shared / 'certs' / 'clients'}")
        self.said = folder / "server.txt"
        self.server = psutil.Process(
            python(
                "server",
                *LEARNING,
                rounds,
                *tls,
                f"data.path={shared / 'server'}",
                f"server.min_clients={least}",
                f"server.address={address}",
                f"hydra.run.dir={folder / 'run'}",
                output=self.said,
            ).pid
        )
        self.sites = [
            psutil.Process(
                python(
                    "client",
                    *LEARNING,
                    f"data.path={shared / name}",
                    f"client.id={name}",
                    f"client.tls={shared / 'certs' / 'ca.crt'}",
                    f"server.address={address}",
                    f"client.key={shared / 'certs' / name}",
                    "client.warm=true",
                    "engine.threads=1",
                    f"hydra.run.dir={folder / name}",
                    output=folder / f"{name}.txt",
                ).pid
            )
            for name in names
        ]

    def wait_for(self, text: str, of: list[psutil.Process], longest: float = 300) -> list[float]:
        """Wait until the server says something; return the seconds of processes then."""
        deadline = time.monotonic() + longest
        while text not in self.said.read_text(errors="replace"):
            if time.monotonic() > deadline or not self.server.is_running():
                sys.exit(f"no {text!r}:\n{self.said.read_text()[-3000:]}")
            time.sleep(0.02)
        return [seconds(one) for one in of]

    def end(self) -> None:
        """Stop all, in order."""
        for process in (*self.sites, self.server):
            if process.is_running():
                process.terminate()
        psutil.wait_procs([*self.sites, self.server], timeout=60)


def write_tables(folder: Path, names: list[str], rows: int) -> None:
    """Write a folder of data for each site, and one for the server."""
    draw = np.random.default_rng(0)
    for name in (*names, "server"):
        x = draw.standard_normal((rows * 5 // 4, 20)).astype(np.float32)
        frame = pd.DataFrame(x, columns=[f"x{column}" for column in range(20)])
        frame["label"] = np.where(x[:, 0] > 0, "yes", "no")
        (folder / name).mkdir()
        frame.to_parquet(folder / name / "train.parquet")


def python(command: str, *words: str, output: Path | None = None) -> subprocess.Popen[bytes]:
    """Start one of fedrms' commands."""
    with (output or Path(os.devnull)).open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", f"fedrms.cli.{command}", *words],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )


if __name__ == "__main__":
    main()
