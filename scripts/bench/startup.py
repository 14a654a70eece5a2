"""Time from a command's start to the end of its first round, in new processes, in turns.

``python scripts/bench/startup.py`` compares the ``fedrms`` command with Flower's Ray simulation
(``runners/flower.py``) on a run of the same size: the defaults (digits, 20 clients, 64-64-10)
and MNIST with 100 clients (784-200-10, 600 examples each, one epoch). Processes are new; files are
in the page cache from the first turn on, which is not counted. With the defaults, fedrms trains
eight epochs and Flower one. Modules are read as bytecode, as those of an installed package are,
whatever the environment says: the first turn writes it. ``cpu`` is processor time, which others on
the machine change less; ``times_torch`` is it over that of ``import torch`` alone, which nothing
can be sooner than.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import workloads
from contender import QUIET, Contender, EngineError
from roster import ENGINES, absence
from table import markdown, write_csv

CASES = {
    "defaults": ("digits-20", []),
    "mnist-mlp-100": (
        "mlp-100",
        [
            *("data=mnist", "clients=100", "partition=iid", "noise=none", "model.hidden=[200]"),
            *("client.epochs=1", "client.batch_size=32"),
        ],
    ),
}
"""Flower's workload and the command's overrides, by case."""
COMMAND = (sys.executable, "-c", "from fedrms.cli.simulate import main; main()")
TORCH = "import torch"
FINISHED = "round 1/"
"""What the command logs when the first of ten rounds has finished."""
COLUMNS = {
    "case": "{}",
    "command": "{}",
    "repeats": "{:.0f}",
    "seconds": "{:.2f}",
    "fastest": "{:.2f}",
    "slowest": "{:.2f}",
    "cpu": "{:.2f}",
    "over_flower": "{:.1f}x",
    "times_torch": "{:.2f}",
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the defaults alone, twice")
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--repeats", type=int, help="after the first, which is not counted")
    parser.add_argument("--no-flower", action="store_true", help="only the fedrms command")
    parser.add_argument("--data", type=Path, default=workloads.MNIST, help="folder of MNIST")
    parser.add_argument("--cores", type=int, default=1, help="how many a command may use")
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    options = parser.parse_args()
    folder = Path(os.environ.get("FEDRMS_BENCH_DIR", ".bench")).resolve()
    bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    os.environ.update(bytecode)
    cores = tuple(sorted(os.sched_getaffinity(0))[-options.cores :])
    why = "not asked for" if options.no_flower else absence(ENGINES["Flower (Ray)"], folder)
    if why:
        print(f"Flower (Ray): absent ({why})")
    rows: list[dict[str, Any]] = []
    for case in options.case or list(CASES)[: 1 if options.quick else None]:
        workload, overrides = CASES[case]
        path = workloads.ensure(folder / "workloads", workload, options.data)
        seconds: dict[str, list[tuple[float, float]]] = {"fedrms": [], TORCH: []}
        if not why:
            seconds["Flower (Ray)"] = []
        for turn in range(1 + (options.repeats or (2 if options.quick else 5))):
            for command, times in seconds.items():
                if command == "fedrms":
                    took = first_round([*overrides, *_data(overrides, options.data)], cores)
                elif command == TORCH:
                    took = import_torch(cores)
                else:
                    took = first_of_flower(folder, path, cores)
                print(f"{case}, {command}: {took[0]:.2f} s", file=sys.stderr, flush=True)
                if turn:
                    times.append(took)
        flower = _median(seconds["Flower (Ray)"], 0) if not why else float("nan")
        torch = _median(seconds[TORCH], 1)
        rows += [_row(case, command, times, flower, torch) for command, times in seconds.items()]
        if options.out:
            write_csv(options.out, rows)
    print(markdown(rows, COLUMNS))


def first_round(overrides: list[str], cores: tuple[int, ...]) -> tuple[float, float]:
    """Start the ``fedrms`` command, end it when it has finished its first round.

    Returns
    -------
    wall, cpu : float
        Seconds until then.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(len(cores)))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        process = subprocess.Popen(
            [*COMMAND, "rounds=10", f"hydra.run.dir={folder}/run", "device=cpu", *overrides],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **QUIET, **threads, "FLWR_HOME": folder},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        assert process.stderr is not None
        last = ""
        for last in process.stderr:
            if FINISHED in last:
                break
        took = time.perf_counter() - began
        process.kill()
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = -signal.SIGKILL
        if FINISHED in last:
            return took, used.ru_utime + used.ru_stime
    raise SystemExit(f"fedrms {' '.join(overrides)} ended before its first round: {last}")


def import_torch(cores: tuple[int, ...]) -> tuple[float, float]:
    """Return how long a process takes that imports PyTorch and ends, as :func:`first_round`."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(len(cores)))
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", TORCH],
        env={**os.environ, **threads},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{TORCH} ended with {process.returncode}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


def first_of_flower(folder: Path, path: Path, cores: tuple[int, ...]) -> float:
    """Do the same with Flower's simulation."""
    contender = Contender(ENGINES["Flower (Ray)"], folder, path, 2, cores)
    try:
        contender.round()
        return contender.first, contender.first_cpu
    except EngineError as problem:
        raise SystemExit(f"Flower failed: {problem}") from None
    finally:
        contender.stop()


def _data(overrides: list[str], folder: Path) -> list[str]:
    return [f"data.path={folder.resolve()}"] if "data=mnist" in overrides else []


def _median(times: list[tuple[float, float]], which: int) -> float:
    return statistics.median(pair[which] for pair in times)


def _row(
    case: str, command: str, times: list[tuple[float, float]], flower: float, torch: float
) -> dict[str, Any]:
    return {
        "case": case,
        "command": command,
        "repeats": len(times),
        "seconds": _median(times, 0),
        "fastest": min(times)[0],
        "slowest": max(times)[0],
        "cpu": _median(times, 1),
        "over_flower": flower / _median(times, 0),
        "times_torch": _median(times, 1) / torch,
    }


if __name__ == "__main__":
    main()
