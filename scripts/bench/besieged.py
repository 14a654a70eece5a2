"""Seconds of a round of real clients, with strangers at the gate and without, in turns.

    python scripts/bench/besieged.py [--strangers 2000] [--halves 60] [--seconds 20] [--turns 6]

A server with TLS and keys and three warm clients train without an end. In every other turn
strangers from twenty loopback addresses hold idle connections, and others begin a request by TLS
and send half of its body; who is thrown out comes again. They run on the same machine at the
lowest priority, so that their own work is not the clients' wait. Told are the seconds between two
rounds, the processor seconds of the server's processes in one, and the memory of the gate's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import resource
import ssl
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import psutil
from family import seconds
from strangers import HALF, stranger
from table import markdown, write_csv

from tests.deployment.real import Command, Site, site_in
from tests.deployment.trial import Trial, last_round

NAMES = ("a", "b", "c")
TRIAL = ("seed=3", "clients=3", "rounds=100000", "client.epochs=1", "model=softmax")
SETTLE = 12.0
"""Seconds at the start of a turn that are not counted: strangers come, or are thrown out."""
COLUMNS = {
    "strangers": "{}",
    "rounds": "{:.0f}",
    "seconds": "{:.3f}",
    "middle_half": "{}",
    "processor_seconds": "{:.3f}",
    "gate_mb": "{:.0f}",
    "ratio": "{:.2f}",
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name, value in (("strangers", 2000), ("halves", 60), ("seconds", 20), ("turns", 6)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    options = parser.parse_args()
    # What is started here may hold as many connections as a machine's server would.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as folder, site_in(Path(folder)) as site:
        rows = measure(site, options)
    print(markdown(rows, COLUMNS))
    if options.out:
        write_csv(options.out, rows)


def measure(site: Site, options: argparse.Namespace) -> list[dict[str, object]]:
    """Train, and let strangers come and go."""
    server = federation(site)
    gate = psutil.Process(server.process.pid)
    waits: dict[bool, list[float]] = {False: [], True: []}
    spent: dict[bool, list[float]] = {False: [], True: []}
    memory: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(2 * options.turns):
        besieged = turn % 2 == 1
        with crowd(options, site.port) if besieged else contextlib.nullcontext():
            time.sleep(SETTLE)
            before, times = seconds(gate), rounds(server, options.seconds)
            held = len(gate.net_connections())
            spent[besieged].append((seconds(gate) - before) / max(1, len(times)))
            memory[besieged].append(gate.memory_info().rss / 2**20)
        waits[besieged] += [after - before for before, after in pairwise(times)]
        print(
            f"strangers {besieged}: {statistics.median(waits[besieged]):.3f} s a round, {held} "
            f"connections, {memory[besieged][-1]:.0f} MB",
            flush=True,
        )
    told = f"{options.strangers} idle, {options.halves} with half a body"
    alone = statistics.mean(waits[False])
    return [
        {
            "strangers": told if besieged else "none",
            "rounds": len(waits[besieged]),
            "seconds": statistics.mean(waits[besieged]),
            "middle_half": "{:.3f} to {:.3f}".format(*statistics.quantiles(waits[besieged])[::2]),
            "processor_seconds": statistics.mean(spent[besieged]),
            "gate_mb": max(memory[besieged]),
            "ratio": statistics.mean(waits[besieged]) / alone,
        }
        for besieged in (False, True)
    ]


def federation(site: Site) -> Command:
    """Start the server and its clients, and wait until they train."""
    trial = Trial(site, NAMES, *TRIAL)
    server = trial.server("server.min_clients=3")
    for name in NAMES:
        trial.client(name, "client.warm=true")
    server.until("round 8/")
    return server


def rounds(server: Command, seconds: float) -> list[float]:
    """Return when rounds ended, of all that do within some seconds."""
    until, seen, times = time.monotonic() + seconds, last_round(server), []
    while (now := time.monotonic()) < until:
        if (latest := last_round(server)) > seen:
            times.append(now)
            seen = latest
        time.sleep(0.005)
    return times


@contextlib.contextmanager
def crowd(options: argparse.Namespace, port: int):
    """Have strangers, for the time of a ``with`` block."""
    of = (options.strangers, options.halves, port)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=be_strangers, args=of, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def be_strangers(idle: int, halves: int, port: int) -> None:
    """Run all strangers in a process of their own."""
    os.nice(19)
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE

    async def everyone() -> None:
        quiet = (stranger(number, port, b"") for number in range(idle))
        loud = (stranger(number, port, HALF, careless) for number in range(halves))
        await asyncio.gather(*quiet, *loud)

    asyncio.run(everyone())


if __name__ == "__main__":
    main()
