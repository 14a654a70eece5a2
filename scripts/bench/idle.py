"""What waiting clients cost their server: processor time of all its processes, told apart.

    python scripts/bench/idle.py [--clients 0 3 20 100] [--seconds 60] [--label TEXT] [--out CSV]

A server with TLS and keys waits for more clients than there are. Clients ask it as warm clients do
that have long been idle (:class:`fedrms.deployment.warm_client.Waits`), each with a key of its own
and Flower's own connection: polls, heartbeats, and the look at ``/health`` of ``fedrms-client``. A
hundred share a process and an address of the loopback interface. Their own cost is not counted.
With 0 clients the row is what the server's processes cost by themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from family import family, megabytes
from httpcore._backends.sync import SyncBackend
from table import markdown, write_csv

from fedrms.cli import certs
from fedrms.deployment import supernode
from fedrms.deployment.options import Address
from fedrms.deployment.ports import free_port
from fedrms.deployment.probe import server_answers
from fedrms.deployment.warm_client import SLOWEST, Waits, key_pair

LONG = 3600.0
"""Seconds that a client says to have been idle."""
TOGETHER = 100
"""Clients of a process and of an address; the gate takes 256 connections of one."""
PARTS = ("flower-superlink", "flower-superexec", "flwr-serverapp", "undertaker", "server")
COLUMNS = {
    "what": "{}",
    "clients": "{:.0f}",
    "core": "{:.2%}",
    "per_client": "{:.3%}",
    **dict.fromkeys(PARTS, "{:.2%}"),
    "megabytes": "{:.0f}",
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[0, 3, 20, 100])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--label", default="now")
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), options)
    print(markdown(rows, COLUMNS))
    if options.out:
        write_csv(options.out, rows)


def measure(folder: Path, options: argparse.Namespace) -> list[dict[str, object]]:
    """Measure one server with more and more clients."""
    most = max(options.clients)
    names = [f"site-{number}" for number in range(max(most, 1))]
    with contextlib.redirect_stdout(None):
        certs.main([f"out={folder / 'certs'}", f"clients={','.join(names)}"])
    address = Address("127.0.0.1", free_port())
    joined: list[Any] = []
    rows: list[dict[str, object]] = []
    with server(folder, address, most + 1) as process, contextlib.ExitStack() as processes:
        for number in options.clients:
            for first in range(len(joined), number, TOGETHER):
                some = names[first : min(first + TOGETHER, number)]
                of = (folder / "certs", some, address, f"127.0.0.{2 + first // TOGETHER}")
                joined += [processes.enter_context(clients(*of))] * len(some)
            for value in set(joined):
                value.wait()
            time.sleep(20)
            before, began = spent(process), time.monotonic()
            time.sleep(options.seconds)
            after, lasted = spent(process), time.monotonic() - began
            shares = {part: (after[part] - before[part]) / lasted for part in PARTS}
            row = {"what": options.label, "clients": number, "core": sum(shares.values())}
            if rows and number:
                row["per_client"] = (sum(shares.values()) - float(str(rows[0]["core"]))) / number
            rows.append(row | shares | {"megabytes": megabytes(process)})
            print(markdown(rows[-1:], COLUMNS).splitlines()[-1], flush=True)
    return rows


@contextlib.contextmanager
def clients(certificates: Path, names: list[str], address: Address, own: str):
    """Run some clients from one address in a process, yield what is set once all joined."""
    context = multiprocessing.get_context("spawn")
    joined = context.Event()
    of = (certificates, names, address, own, joined)
    process = context.Process(target=be_clients, args=of, daemon=True)
    process.start()
    try:
        yield joined
    finally:
        process.kill()
        process.join()


def be_clients(
    certificates: Path, names: list[str], address: Address, own: str, joined: Any
) -> None:
    """Be clients, each in a thread."""
    os.nice(10)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    plain = SyncBackend.connect_tcp
    SyncBackend.connect_tcp = lambda self, **to: plain(self, **{**to, "local_address": own})
    here = threading.Semaphore(0)
    for name in names:
        threading.Thread(target=wait_as_client, args=(certificates, name, address, here)).start()
        time.sleep(0.2)
    for _ in names:
        here.acquire()
    joined.set()


@contextlib.contextmanager
def server(folder: Path, address: Address, least: int):
    """Run a server that waits, and yield its process."""
    said = folder / "server.txt"
    with said.open("wb") as output:
        process = psutil.Popen(
            [
                *(sys.executable, "-m", "fedrms.cli.server", "model=softmax", "rounds=1"),
                *("data=none", "data.shape=[20]", "data.classes=[no,yes]"),
                *(f"server.address={address}", f"server.min_clients={least}"),
                *(f"server.wait_seconds={LONG}", f"server.tls={folder / 'certs'}"),
                *(f"server.auth={folder / 'certs' / 'clients'}", f"hydra.run.dir={folder / 'run'}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        while "Waiting for clients" not in said.read_text(errors="replace"):
            if process.poll() is not None:
                sys.exit(f"the server ended:\n{said.read_text(errors='replace')[-3000:]}")
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def wait_as_client(certificates: Path, name: str, address: Address, here: Any) -> None:
    """Ask for messages as a client does that has long been idle."""
    from flwr.supernode.fleet_http_connection import http_request_response

    authority = certificates / "ca.crt"
    keys = key_pair(certificates / name)
    with http_request_response(str(address), False, authority.read_bytes(), keys) as node:
        receive, waits = node[1], Waits()
        here.release()
        look = time.monotonic() + random.uniform(0, SLOWEST)
        probe = time.monotonic() + random.uniform(0, supernode.PROBE_EVERY)
        while True:
            time.sleep(max(0.0, min(look, probe) - time.monotonic()))
            if time.monotonic() >= look:
                assert receive() is None
                look = time.monotonic() + waits.until_next_look(LONG)
            if time.monotonic() >= probe:
                server_answers(address, authority)
                probe = time.monotonic() + supernode.PROBE_EVERY


def spent(process: psutil.Process) -> dict[str, float]:
    """Return the processor seconds of a server's processes, by what they are."""
    found = dict.fromkeys(PARTS, 0.0)
    for one in family(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            words, times = " ".join(one.cmdline()[:4]), one.cpu_times()
            part = next((part for part in PARTS if part in words), "server")
            found[part] += times.user + times.system
    return found


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
