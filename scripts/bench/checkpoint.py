"""Time what checkpoints cost: ``python scripts/bench/checkpoint.py`` runs whole experiments.

A clock in front of ``Checkpoints.write``, which puts tables and state on disk and waits until they
are there. ``each_round`` is the share of a run's time with ``checkpoint.every=1``, ``auto`` that of
the default.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from table import markdown

CASES = {
    "digits, 20 clients (default)": [],
    "digits, 100 clients, Adam": ["clients=100", "server_optimizer=adam"],
    "digits, wide (1.1 M parameters), Adam": [
        *("model.hidden=[1024,1024]", "rounds=8", "server_optimizer=adam"),
    ],
    "population of 100,000, a tenth a round": [
        *("data=population", "clients=100000", "client.fraction=0.1", "rounds=4"),
    ],
}
COLUMNS = {
    "case": "{}",
    "file_kb": "{:.0f}",
    "write_ms": "{:.1f}",
    "round_ms": "{:.1f}",
    "each_round": "{:.1%}",
    "auto": "{:.2%}",
}


def main() -> None:
    """Run the cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(CASES))
    options = parser.parse_args()
    logging.disable(logging.INFO)
    names = [options.only] if options.only else list(CASES)
    print(markdown([measure(name) for name in names], COLUMNS))


def measure(name: str) -> dict[str, Any]:
    """Run one case twice and return its row."""
    often = run([*CASES[name], "checkpoint.every=1"])
    seldom = run(CASES[name])
    write = statistics.median(often["writes"])
    return {
        "case": name,
        "file_kb": often["bytes"] / 1e3,
        "write_ms": 1e3 * write,
        "round_ms": 1e3 * (often["seconds"] - sum(often["writes"])) / often["rounds"],
        "each_round": sum(often["writes"]) / often["seconds"],
        "auto": sum(seldom["writes"]) / seldom["seconds"],
    }


def run(overrides: list[str]) -> dict[str, Any]:
    """Run once; return the seconds of every write, of all rounds, and the size of a file."""
    import fedrms
    from fedrms.experiment.checkpoint import Checkpoints

    writes: list[float] = []
    plain = Checkpoints.write

    def timed(self: Checkpoints, *args: Any) -> None:
        began = time.perf_counter()
        plain(self, *args)
        writes.append(time.perf_counter() - began)

    Checkpoints.write = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            result = fedrms.run(overrides, folder=folder)
            newest = max(Path(folder).glob("checkpoint/round-*"))
            size = newest.stat().st_size
    finally:
        Checkpoints.write = plain  # type: ignore[method-assign]
    # A write falls into the time of the round after it, the last one into none.
    seconds = float(result.rounds["seconds"].sum()) + writes[-1]
    return {"writes": writes, "seconds": seconds, "rounds": len(result.rounds), "bytes": size}


if __name__ == "__main__":
    main()
