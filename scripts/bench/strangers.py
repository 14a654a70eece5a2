"""What strangers at the gate cost: idle connections, bodies that stop half-way, and many pollers.

    python scripts/bench/strangers.py [--strangers 2000] [--halves 60] [--clients 20] [--seconds 20]

The gate runs in a process of its own before a server that answers at once. Clients poll it once a
second each; strangers come from twenty loopback addresses and come back when they are thrown out.
In the end 500 clients poll every 30 seconds, as a warm client does that has long been idle. Told
are the clients' latency, and the gate's time and memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import random
import resource
import time

import httpx
import numpy as np
import psutil
import uvicorn

from fedrms.deployment.gate import Gate
from fedrms.deployment.options import Address
from fedrms.deployment.ports import free_port

PATH = "/v1/fleet/pull-messages"
HALF = b"POST /v1/fleet/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000


async def answer(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 200})


def serve_inside(port):
    uvicorn.run(answer, port=port, log_level="critical", lifespan="off")


def serve_gate(port, inside):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    url = f"http://127.0.0.1:{inside}"
    with Gate(Address("127.0.0.1", port), url, tls=None, authority=None, signed=False):
        while True:
            time.sleep(1)


async def stranger(number, port, said, encrypted=None):
    """Hold a connection, with TLS or without, and come again when it is closed."""
    while True:
        with contextlib.suppress(OSError):
            source = (f"127.0.0.{2 + number % 20}", 0)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=source, ssl=encrypted
            )
            writer.write(said)
            await reader.read()
            writer.close()
        await asyncio.sleep(0.5)


def be_strangers(idle, halves, port):
    """Run all strangers in a process of their own."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)

    async def everyone():
        said = [b""] * idle + [HALF] * halves
        await asyncio.gather(*(stranger(n, port, what) for n, what in enumerate(said)))

    asyncio.run(everyone())


async def poll(number, port, every, until, latencies):
    """Ask again and again; what meets a closing connection is repeated, as Flower does."""
    source = httpx.AsyncHTTPTransport(local_address=f"127.0.0.{30 + number % 20}")
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=60, transport=source
    ) as client:
        await asyncio.sleep(every * random.random())
        while time.monotonic() < until:
            started = time.monotonic()
            while True:
                with contextlib.suppress(httpx.TransportError):
                    assert (await client.post(PATH, content=b"x" * 100)).status_code == 200
                    break
            latencies.append(time.monotonic() - started)
            await asyncio.sleep(max(0.0, every - latencies[-1]))


async def measure(port, gate, clients, seconds, every=1.0):
    """Return median and 95th percentile of the latency in ms, share of a core, and megabytes."""
    latencies = []
    before, started = gate.cpu_times(), time.monotonic()
    until = started + seconds
    await asyncio.gather(*(poll(n, port, every, until, latencies) for n in range(clients)))
    after, spent = gate.cpu_times(), time.monotonic() - started
    used = after.user + after.system - before.user - before.system
    middle, high = np.quantile(latencies, [0.5, 0.95]) * 1000
    return middle, high, used / spent, gate.memory_info().rss / 2**20


async def run(options):
    inside, port = free_port(), free_port()
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=serve_inside, args=(inside,), daemon=True),
        context.Process(target=serve_gate, args=(port, inside), daemon=True),
    ]
    for process in processes:
        process.start()
    gate = psutil.Process(processes[1].pid)
    while True:
        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient(verify=False) as client:
                if (await client.post(f"http://127.0.0.1:{port}{PATH}")).status_code == 200:
                    break
        await asyncio.sleep(0.2)
    rows = {"clients alone": await measure(port, gate, options.clients, options.seconds)}
    crowd = context.Process(
        target=be_strangers, args=(options.strangers, options.halves, port), daemon=True
    )
    crowd.start()
    await asyncio.sleep(8)
    name = f"and {options.strangers} idle strangers, {options.halves} half bodies"
    rows[name] = await measure(port, gate, options.clients, options.seconds)
    connections = len(gate.net_connections())
    crowd.kill()
    await asyncio.sleep(3)
    rows["500 clients, idle for long"] = await measure(port, gate, 500, 30, 30.0)
    for what, (middle, high, core, memory) in rows.items():
        latency = f"latency {middle:.1f} ms (95 %: {high:.1f})"
        print(f"{what}: {latency}, {core:.1%} of a core, {memory:.0f} MB")
    print(f"the gate held {connections} connections at the end of the second")
    for process in processes:
        process.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name, value in (("strangers", 2000), ("halves", 60), ("clients", 20), ("seconds", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    asyncio.run(run(parser.parse_args()))
