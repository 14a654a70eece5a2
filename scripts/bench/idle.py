"""What waiting clients cost their server: processor time of all its processes, told apart.

    python scripts/bench/idle.py [--clients 0 3 20 100] [--seconds 60] [--label TEXT] [--out CSV]

A server with TLS and keys waits for more clients than there are. Clients ask it as warm clients do
that have long been idle (:class:`fedrms.deployment.warm_client.Waits`): each signs with a key of
its own, beats and polls by the clock of Flower's client over its kind of connection, and looks at
``/health`` as ``fedrms-client`` does. A hundred share an address of the loopback interface. Their
own cost is not counted. With 0 clients the row is what the server's processes cost by themselves.
Requests are those that were answered in a second: a client that waits makes one in 13 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import random
import ssl
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from family import family, megabytes
from flwr.proto.fleet_pb2 import ActivateNodeRequest, ActivateNodeResponse, PullMessagesRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata
from table import markdown, write_csv

from fedrms.cli import certs
from fedrms.deployment import supernode
from fedrms.deployment.options import Address
from fedrms.deployment.ports import free_port
from fedrms.deployment.presence import KEEPS
from fedrms.deployment.signatures import KEY, SIGNATURE, SIGNED_AT
from fedrms.deployment.warm_client import KEPT_SECONDS, Waits, key_pair

VERSION = dict(RuntimeVersionMetadata.from_local_component("SuperNode").as_metadata())
TYPES, PROTO = ("content-type", "accept"), "application/protobuf"
LONG = 3600.0
"""Seconds that a client says to have been idle."""
WAITS = Waits().until_next_look(LONG)
TOGETHER = 100
"""Clients of a process and of an address; the gate takes 256 connections of one."""
PARTS = ("flower-superlink", "flower-superexec", "flwr-serverapp", "undertaker", "server")
COLUMNS = {
    "what": "{}",
    "clients": "{:.0f}",
    "core": "{:.2%}",
    "per_client": "{:.3%}",
    "requests": "{:.1f}",
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
    there, answered = 0, multiprocessing.get_context("spawn").Value("L", 0)
    rows: list[dict[str, object]] = []
    with server(folder, address, most + 1) as process, contextlib.ExitStack() as processes:
        for number in options.clients:
            if further := names[there:number]:
                processes.enter_context(clients(folder / "certs", further, address, answered))
                there = number
            time.sleep(20)
            before, asked, began = spent(process), answered.value, time.monotonic()
            time.sleep(options.seconds)
            after, lasted = spent(process), time.monotonic() - began
            shares = {part: (after[part] - before[part]) / lasted for part in PARTS}
            row = {"what": options.label, "clients": number, "core": sum(shares.values())}
            if rows and number:
                row["per_client"] = (sum(shares.values()) - float(str(rows[0]["core"]))) / number
            row["requests"] = (answered.value - asked) / lasted
            rows.append(row | shares | {"megabytes": megabytes(process)})
            print(markdown(rows[-1:], COLUMNS).splitlines()[-1], flush=True)
    return rows


@contextlib.contextmanager
def clients(certificates: Path, names: list[str], address: Address, answered: Any):
    """Run some clients in a process from when all have joined."""
    context = multiprocessing.get_context("spawn")
    joined = context.Event()
    of = (certificates, names, address, joined, answered)
    process = context.Process(target=be_clients, args=of, daemon=True)
    process.start()
    try:
        while not joined.wait(1):
            if not process.is_alive():
                sys.exit("the clients have ended")
        yield
    finally:
        process.kill()
        process.join()


def be_clients(
    certificates: Path, names: list[str], address: Address, joined: Any, answered: Any
) -> None:
    """Be clients that join one after the other."""
    trust = ssl.create_default_context(cafile=certificates / "ca.crt")

    async def all_of_them() -> None:
        asking = []
        for name in names:
            client = Client(certificates / name, address, trust, int(name.split("-")[1]))
            await client.join()
            asking.append(asyncio.create_task(client.ask(answered)))
        joined.set()
        await asyncio.gather(*asking)

    asyncio.run(all_of_them())


class Client(httpx.Auth):
    """A client that waits."""

    def __init__(self, key: Path, address: Address, trust: ssl.SSLContext, number: int) -> None:
        self._private, public = key_pair(key)
        self._public = public_key_to_bytes(public)
        own = f"127.0.0.{2 + number // TOGETHER}"
        kept = httpx.Limits(max_keepalive_connections=2, keepalive_expiry=KEPT_SECONDS)
        from_here = httpx.AsyncHTTPTransport(local_address=own, verify=trust, limits=kept)
        self._http = httpx.AsyncClient(
            base_url=f"https://{address}",
            transport=from_here,
            timeout=30,
            auth=self,
            headers={KEEPS: "yes"},
        )
        # fedrms-client looks at the server's health from a process of its own.
        self._looks = httpx.AsyncClient(
            base_url=f"https://{address}",
            transport=httpx.AsyncHTTPTransport(local_address=own, verify=trust),
        )

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:
        """Sign a request."""
        told = datetime.now(UTC).isoformat()
        signature = sign_message(self._private, told.encode())
        of = ((KEY, self._public), (SIGNATURE, signature))
        signed = {name: b64encode(value).decode() for name, value in of}
        request.headers.update(signed | {SIGNED_AT: told} | VERSION | dict.fromkeys(TYPES, PROTO))
        yield request

    async def join(self) -> None:
        """Become a node."""
        activate = ActivateNodeRequest(public_key=self._public, heartbeat_interval=30)
        said = b""
        while not said:
            with contextlib.suppress(httpx.TransportError):
                said = await self._post("activate-node", activate)
        self._node = Node(node_id=ActivateNodeResponse.FromString(said).node_id)

    async def ask(self, answered: Any) -> None:
        """Beat, poll and look at the server's health for ever."""
        beat = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=30)
        poll = PullMessagesRequest(node=self._node)
        await asyncio.gather(
            every(20.0, answered, lambda: self._post("send-node-heartbeat", beat)),
            every(WAITS, answered, lambda: self._post("pull-messages", poll)),
            every(supernode.PROBE_EVERY, answered, lambda: self._looks.get("/health")),
        )

    async def _post(self, path: str, request: Any) -> bytes:
        answer = await self._http.post(f"/v1/fleet/{path}", content=request.SerializeToString())
        answer.raise_for_status()
        return answer.content


async def every(seconds: float, answered: Any, ask: Callable[[], Awaitable[object]]) -> None:
    """Ask again and again, first after a part of the time, and count the answers."""
    await asyncio.sleep(seconds * random.random())
    while True:
        with contextlib.suppress(httpx.HTTPError):
            await ask()
            with answered.get_lock():
                answered.value += 1
        await asyncio.sleep(seconds * random.uniform(0.9, 1.1))


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
