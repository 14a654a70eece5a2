"""Time what checkpoints cost: ``python scripts/bench/checkpoint.py`` runs whole experiments.

Clocks in front of ``Checkpoints.write``, which puts tables and state on disk and waits until they
are there, in runs with ``checkpoint.every=1``. ``cpu_ms`` is processor time; the rest of
``write_ms`` is the disk's. ``every`` is the number of rounds after which a write takes 1 % of the
time.
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
    "digits, wide (0.3 M parameters), Adam": [
        *("model.hidden=[4096]", "rounds=4", "clients=10", "client.epochs=1"),
        "server_optimizer=adam",
    ],
    "population of 100,000, a tenth a round": [
        *("data=population", "clients=100000", "client.fraction=0.1", "rounds=4"),
    ],
}
COLUMNS = {
    "case": "{}",
    "file_kb": "{:.0f}",
    "write_ms": "{:.1f}",
    "cpu_ms": "{:.1f}",
    "round_ms": "{:.1f}",
    "every": "{:.0f}",
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
    """Run one case and return its row."""
    import fedrms
    from fedrms.experiment.checkpoint import Checkpoints

    writes: list[float] = []
    busy: list[float] = []
    plain = Checkpoints.write

    def timed(self: Checkpoints, *args: Any) -> None:
        began, worked = time.perf_counter(), time.process_time()
        plain(self, *args)
        writes.append(time.perf_counter() - began)
        busy.append(time.process_time() - worked)

    Checkpoints.write = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            result = fedrms.run([*CASES[name], "checkpoint.every=1"], folder=folder)
            newest = max(Path(folder).glob("checkpoint/round-*"))
            size = newest.stat().st_size
    finally:
        Checkpoints.write = plain  # type: ignore[method-assign]
    # A write falls into the time of the round after it, the last one into none.
    rounds = float(result.rounds["seconds"].sum()) + writes[-1] - sum(writes)
    write, a_round = statistics.median(writes), rounds / len(result.rounds)
    return {
        "case": name,
        "file_kb": size / 1e3,
        "write_ms": 1e3 * write,
        "cpu_ms": 1e3 * statistics.median(busy),
        "round_ms": 1e3 * a_round,
        "every": 100 * write / a_round,
    }


if __name__ == "__main__":
    main()
