"""A long run in which clients drop out, restart and send rubbish: memory is flat, nothing is lost.

``python scripts/bench/soak.py`` trains 200 clients for 200 rounds. In every round a tenth of them
drops out, a twentieth has been restarted under a new node id, and a twentieth sends a bad
reply: as ordinary messages, through Flower's own interfaces. After a quarter of the rounds the
process is killed, and another one goes on. In the end every (round, client) has its row in the
tables, those and only those that failed are marked as failed, with the reason, and the process
holds no more than half way, but for the rows of its tables.

A process keeps much of what it has freed, the C library up to a gigabyte of it
(``fedrms.engines.allocator``). What it holds is measured after that has been given back.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import gc
import logging
import multiprocessing
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from flwr.serverapp import Grid
from restless_grid import SEED, RestlessGrid, fault_of, restarting

from fedrms.experiment import run
from fedrms.experiment.checkpoint import FOLDER, rounds_in
from fedrms.experiment.engine import Engine
from fedrms.experiment.parts import Parts, build_parts

LOOKS = 20
"""So often in a run memory is looked at."""


def resident() -> float:
    """Return the memory of this process, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def give_back() -> None:
    """Return to the system what is free."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def live(folder: Path, told: Path, clients: int, rounds: int) -> None:
    """Run the federation, from its last checkpoint if there is one, and note its memory."""
    done = max(rounds_in(folder / FOLDER), default=0)
    logging.getLogger("flwr").setLevel(logging.ERROR)  # or it names everybody who fails

    def look(server_round: int) -> None:
        if server_round > done and server_round % max(rounds // LOOKS, 1) == 0:
            before = resident()
            give_back()
            with told.open("a", newline="") as file:
                csv.writer(file).writerow(
                    [clients, rounds, 2 if done else 1, server_round, before, resident()]
                )

    def build(config: Mapping[str, Any]) -> Parts:
        parts = build_parts(config)

        def serve(main: Callable[[Grid], None]) -> None:
            parts.engine.serve(lambda grid: main(RestlessGrid(grid, clients, done, look)))
            look(rounds)

        return replace(parts, engine=Engine(serve, parts.engine.check))

    words = [
        *(f"clients={clients}", f"rounds={rounds}", f"seed={SEED}", "client.epochs=1"),
        *("heterogeneity=dropout", "heterogeneity.dropout=0.1", "checkpoint.every=10"),
    ]
    run([f"resume={folder}"] if done else words, folder=folder, build=build, brief=True)


def live_twice(folder: Path, told: Path, clients: int, rounds: int) -> tuple[int, int]:
    """Run it in a process that is killed, and another; return the rounds of table and checkpoint.

    Those are the rounds that the killed one has left, and the one that the other goes on from.
    """
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=live, args=(folder, told, clients, rounds))
    process.start()
    while max(rounds_in(folder / FOLDER), default=0) < rounds // 4:
        assert process.is_alive(), "it ended before it was killed"
        time.sleep(0.05)
    time.sleep(0.5)  # some rounds further
    process.kill()
    process.join()
    left = len(pd.read_parquet(folder / "rounds.parquet"))
    done = max(rounds_in(folder / FOLDER))
    assert process.exitcode == -signal.SIGKILL, "it ended before it was killed"
    assert done < rounds // 2, "it was killed too late"
    process = spawn.Process(target=live, args=(folder, told, clients, rounds))
    process.start()
    process.join()
    assert process.exitcode == 0, "the second one failed"
    return left, done


def check_tables(folder: Path, clients: int, rounds: int) -> tuple[int, int]:
    """Fail if a row is missing or wrong; return how many dropped out and sent bad replies."""
    table = pd.read_parquet(folder / "clients.parquet")
    everyone = {(t, client) for t in range(1, rounds + 1) for client in range(clients)}
    assert pd.read_parquet(folder / "rounds.parquet")["round"].tolist() == [*range(1, rounds + 1)]
    assert len(table) == len(everyone), "a client has no row, or two"
    assert set(table[["round", "client"]].itertuples(index=False, name=None)) == everyone
    assert table["participated"].all(), "somebody was forgotten"
    failed = table[table["failed"]]
    out = failed["failure"].str.contains("dropped out")
    dropped, bad = (
        set(rows[["round", "client"]].itertuples(index=False, name=None))
        for rows in (failed[out], failed[~out])
    )
    spoilt = {pair for pair in everyone - dropped if fault_of(*pair) is not None}
    assert bad == spoilt, "those that failed are not those that sent bad replies"
    assert failed["weight"].isna().all(), "a bad reply was averaged"
    assert table[~table["failed"]]["weight"].notna().all(), "a good reply was lost"
    return len(dropped), len(bad)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument(
        "--growth", type=float, default=10.0, help="MB allowed in the second half beside the tables"
    )
    parser.add_argument("--out", type=Path, help="CSV to append the memory in each process to")
    options = parser.parse_args()
    clients, rounds = options.clients, options.rounds
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as above:
        folder, told = Path(above) / "run", Path(above) / "memory.csv"
        told.write_text("clients,rounds,process,round,resident_mb,held_mb\n")
        left, done = live_twice(folder, told, clients, rounds)
        dropped, bad = check_tables(folder, clients, rounds)
        rows = pq.read_table(folder / "clients.parquet")
        memory = pd.read_csv(told)
    row_bytes = rows.nbytes / rows.num_rows
    second = memory[(memory["process"] == 2) & (memory["round"] >= rounds // 2)]
    middle, end = second["held_mb"].iloc[[0, -1]]
    looked = second["round"].iloc[-1] - second["round"].iloc[0]
    of_tables = row_bytes * clients * looked / 2**20
    restarts = sum(int(restarting(t, clients).sum()) for t in range(1, rounds + 1))
    print(
        f"{clients} clients, {rounds} rounds, {time.perf_counter() - started:.0f} s: "
        f"{dropped} dropped out, {bad} bad replies, {restarts} restarts; killed with {left} rounds "
        f"in the table, resumed after round {done}; {rows.num_rows} rows of {row_bytes:.0f} bytes, "
        f"none lost; held {middle:.1f} MB half way and {end:.1f} at the end, "
        f"{of_tables:.1f} of the growth of {end - middle:.1f} are the tables"
    )
    if options.out:
        memory.round(1).to_csv(options.out, mode="a", header=not options.out.exists(), index=False)
    assert end - middle - of_tables < options.growth, "memory grew beside the tables"


if __name__ == "__main__":
    main()
