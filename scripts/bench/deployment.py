"""Seconds a round of a real deployment: stock and warm clients, Flower's own waits and ours.

``python scripts/bench/deployment.py`` starts a server and clients on the loopback interface
(``fedrms-server``, ``fedrms-client``), federation after federation, the ways in turns. A round is
one training of every client, the digits and a small perceptron; the server scores the model. The
first round of each federation is not counted: clients read their data in it.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from table import markdown, write_csv

WAITS = Path(__file__).resolve().parent / "waits"
OURS = {command: ("-m", f"fedrms.cli.{command}") for command in ("server", "client")}
FLOWERS = {command: (str(WAITS / "flower_waits.py"), command) for command in OURS}
WAYS = {
    "SuperNode, Flower's waits": (FLOWERS, "client.warm=false"),
    "SuperNode": (OURS, "client.warm=false"),
    "warm client": (OURS, "client.warm=true"),
}
"""How a federation is started, and what its clients are told."""
LEARNING = ("client.epochs=1", "noise=none", "partition=iid")
COLUMNS = {
    "clients_are": "{}",
    "clients": "{:.0f}",
    "rounds": "{:.0f}",
    "seconds": "{:.2f}",
    "fastest": "{:.2f}",
    "slowest": "{:.2f}",
    "over_stock": "{:.1f}x",
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5, help="of a federation, with the first")
    parser.add_argument("--repeats", type=int, default=3, help="federations of each kind")
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: the first is not counted; ask for two or more")
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.repeats):
        for way in WAYS:
            times[way] += federation(way, options.clients, options.rounds)
            print(f"{way}: " + " ".join(f"{seconds:.2f}" for seconds in times[way]), flush=True)
    stock = statistics.median(times["SuperNode, Flower's waits"])
    rows: list[dict[str, Any]] = [
        {
            "clients_are": way,
            "clients": options.clients,
            "rounds": len(seconds),
            "seconds": statistics.median(seconds),
            "fastest": min(seconds),
            "slowest": max(seconds),
            "over_stock": stock / statistics.median(seconds),
        }
        for way, seconds in times.items()
    ]
    print(markdown(rows, COLUMNS))
    if options.out:
        write_csv(options.out, rows)


def federation(way: str, clients: int, rounds: int) -> list[float]:
    """Run one federation and return the seconds of its rounds, without the first."""
    programs, kind = WAYS[way]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"server.address=127.0.0.1:{probe.getsockname()[1]}"
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(WAITS)])),
    }
    common = (address, f"clients={clients}", f"rounds={rounds}", *LEARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def start(command: str, run: str, *words: str) -> subprocess.Popen[bytes]:
            line = [sys.executable, *programs[command], *common, f"hydra.run.dir={run}", *words]
            with (folder / f"{run}.txt").open("wb") as said:
                return subprocess.Popen(
                    line, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT
                )

        served = start("server", "run", "server.trial=true", f"server.min_clients={clients}")
        started = [
            start("client", f"client-{i}", kind, f"client.partition={i}") for i in range(clients)
        ]
        try:
            if served.wait(900) != 0:
                sys.exit((folder / "run.txt").read_text())
        finally:
            for process in [*started, served]:
                process.terminate()
            for process in [*started, served]:
                process.wait(60)
        seconds = pd.read_parquet(folder / "run" / "rounds.parquet").seconds
    return [float(value) for value in seconds[1:]]


if __name__ == "__main__":
    main()
