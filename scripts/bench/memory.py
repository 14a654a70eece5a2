"""Memory of long runs: it is the same after 500 rounds as after 5,000, of 2,000 clients.

``python scripts/bench/memory.py`` runs each number of rounds in a new process: softmax regression
on made data, the default strategy; a twentieth of the clients trains in a round, and all have a row
in the table. Memory is what the process alone holds (USS), the highest of looks every tenth of a
second until three times: when a tenth of the rounds has passed, at the last round, and at the end,
after the last writing of the tables and the summary.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from table import markdown, write_csv

COLUMNS = {
    "clients": "{:,}",
    "rounds": "{:,}",
    "rows": "{:,}",
    "clients_parquet_mb": "{:.0f}",
    "seconds": "{:.0f}",
    "tenth_mb": "{:.0f}",
    "last_round_mb": "{:.0f}",
    "peak_mb": "{:.0f}",
}
WORDS = (
    *("data=synthetic", "data.features=5", "data.log_size_mean=0", "data.log_size_std=0.1"),
    *("client.epochs=1", "client.batch_size=64", "device=cpu", "evaluate_every=100"),
    "client.fraction=0.05",
)


def live(clients: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Run the federation in this process, and say what it took."""
    import torch

    from fedrms.experiment import run

    torch.set_num_threads(1)
    told = {"peak": 0.0}
    process = psutil.Process()

    def watch() -> None:
        while True:
            told["peak"] = max(told["peak"], process.memory_full_info().uss / 2**20)
            time.sleep(0.1)

    def note(server_round: int) -> None:
        if server_round in (rounds // 10, rounds):
            told["tenth" if server_round == rounds // 10 else "last"] = told["peak"]

    threading.Thread(target=watch, daemon=True).start()
    from fedrms.experiment.round_log import RoundLog

    finish = RoundLog.finish_round

    def finish_and_note(self: RoundLog, server_round: int, arrays: Any) -> Any:
        metrics = finish(self, server_round, arrays)
        note(server_round)
        return metrics

    RoundLog.finish_round = finish_and_note  # type: ignore[method-assign]
    began = time.perf_counter()
    result = run([*WORDS, f"clients={clients}", f"rounds={rounds}"], folder=folder, brief=True)
    return {
        "clients": clients,
        "rounds": rounds,
        "rows": clients * len(result.rounds),
        "clients_parquet_mb": (folder / "clients.parquet").stat().st_size / 2**20,
        "seconds": time.perf_counter() - began,
        "tenth_mb": told["tenth"],
        "last_round_mb": told["last"],
        "peak_mb": told["peak"],
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--rounds", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    parser.add_argument("--here", type=Path, help="run once, in this folder, and print JSON")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(live(options.clients, options.rounds[0], options.here)))
        return
    rows = []
    for rounds in options.rounds:
        with tempfile.TemporaryDirectory() as folder:
            words = [f"--clients={options.clients}", "--rounds", str(rounds), "--here", folder]
            done = subprocess.run(
                [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True
            )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    print(markdown(rows, COLUMNS))
    if options.out:
        write_csv(options.out, rows)


if __name__ == "__main__":
    main()
