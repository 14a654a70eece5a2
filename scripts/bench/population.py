"""Cost of a round against the number of clients there are, at a cohort of one size.

Each population is a process that waits for a line before every round, so that round 2 of all
comes before round 3 of any. A round is a user's: sampling, making the cohort's rows, training,
the scaler, the model's test, the tables. All clients are of one size, so that rounds differ by
the population alone, and before round 1 the scaler already knows every client, as it would
after many rounds. Then the command itself runs once on each population, clients of all sizes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import numpy as np

POPULATIONS = (1_000, 10_000, 100_000, 1_000_000)
SETTINGS = ("client.epochs=1", "client.batch_size=10", "engine.threads=1", "device=cpu")
WARM_UP = 3
"""Rounds that are not counted: shapes are traced in them."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--populations", type=int, nargs="+", default=POPULATIONS)
    parser.add_argument("--cohort", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    parser.add_argument(
        "--arrow", type=Path, help="also write each as Arrow files here, and run it"
    )
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.cohort, options.rounds + WARM_UP)
        return
    os.sched_setaffinity(0, {options.core})
    os.environ.update(OMP_NUM_THREADS="1", FLWR_TELEMETRY_ENABLED="0")
    rows = interleaved(options.populations, options.cohort, options.rounds)
    for row in rows:
        clients = int(row["clients"])
        row |= {f"run_{k}": v for k, v in whole_run(overrides(clients, options.cohort)).items()}
        if options.arrow:
            mapped = [*write(clients, options.arrow / str(clients)), *SETTINGS]
            mapped += [f"clients={clients}", f"client.fraction={options.cohort / clients}"]
            row |= {f"arrow_{key}": value for key, value in whole_run(mapped).items()}
        print(json.dumps(row), flush=True)
    if options.out:
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def interleaved(populations: list[int], cohort: int, rounds: int) -> list[dict[str, Any]]:
    """Time rounds of all populations in turns, one process each."""
    started: list[tuple[subprocess.Popen[str], float]] = []
    for clients in populations:
        begun = time.perf_counter()
        command = [sys.executable, __file__, "--serve", str(clients), "--cohort", str(cohort)]
        process = subprocess.Popen(
            [*command, "--rounds", str(rounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ask(process)
        started.append((process, time.perf_counter() - begun))
    taken: list[list[dict[str, float]]] = [[] for _ in populations]
    for turn in range(rounds + WARM_UP):
        order = np.roll(np.arange(len(populations)), turn)
        for place in order:
            told = ask(started[place][0], go=True)
            if turn >= WARM_UP:
                taken[place].append(told)
    rows = []
    for clients, (process, startup), rounds_taken in zip(populations, started, taken, strict=True):
        end = ask(process, go=True)
        cpu, wall = (np.array([told[key] for told in rounds_taken]) for key in ("cpu", "seconds"))
        low, high = np.percentile(cpu, (25, 75))
        rows.append(
            {
                "clients": clients,
                "cohort": cohort,
                "startup_s": round(startup, 2),
                "round_cpu_s": round(float(np.median(cpu)), 4),
                "iqr": round(float(high - low), 4),
                "round_wall_s": round(float(np.median(wall)), 4),
                "over_smallest": 1.0,
                **end,
            }
        )
        process.wait()
    # Paired: rounds of one turn lie side by side in time.
    base = np.array([told["cpu"] for told in taken[0]])
    for row, rounds_taken in zip(rows, taken, strict=True):
        own = np.array([told["cpu"] for told in rounds_taken])
        row["over_smallest"] = round(float(np.median(own / base)), 3)
    return rows


def ask(process: subprocess.Popen[str], *, go: bool = False) -> dict[str, Any]:
    """Let a process take its next step, and return what it says."""
    assert process.stdin is not None
    assert process.stdout is not None
    if go:
        process.stdin.write("go\n")
        process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def serve(clients: int, cohort: int, rounds: int) -> None:
    """Run one population's rounds, each after a line on the input."""
    from flwr.app import ArrayRecord, ConfigRecord, MetricRecord

    from fedrms.engines import VectorGrid
    from fedrms.engines.observed import ObservedGrid
    from fedrms.experiment import compose_config
    from fedrms.experiment.build import build_settings, build_side, build_strategy
    from fedrms.experiment.config import plain
    from fedrms.experiment.round_log import RoundLog
    from fedrms.results import Recorder

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**values: float) -> None:
        print(json.dumps(values), file=out, flush=True)

    getLogger("flwr").setLevel(ERROR)
    config = plain(compose_config([*overrides(clients, cohort), "data.size_spread=0"]))
    side = build_side(config, "cpu")
    strategy: Any = build_strategy(config, side.federation)
    everyone = np.random.default_rng(0)
    strategy.scaler.load_state_dict(
        {
            "clients": np.arange(clients),
            "ema": everyone.lognormal(size=clients),
            "gathered": np.full(clients, 0.5),
            "last_round": np.zeros(clients),
        }
    )
    clock = [0.0, 0.0]
    with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder)) as recorder:
        log = RoundLog(
            side,
            strategy,
            recorder,
            fairness=config["fairness"],
            rounds=rounds,
            evaluate_every=1,
            on_round=lambda *_: None,
        )

        def between(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            scores = log.finish_round(server_round, arrays)
            if server_round:
                spent = time.perf_counter() - clock[0], time.process_time() - clock[1]
                say(seconds=spent[0], cpu=spent[1])
            else:
                say(ready=1)
            sys.stdin.readline()
            clock[:] = time.perf_counter(), time.process_time()
            return scores

        strategy.start(
            ObservedGrid(VectorGrid(side.task, side.module, side.federation), log.observe),
            ArrayRecord(side.module.state_dict()),
            num_rounds=rounds,
            train_config=ConfigRecord(build_settings(config).to_record()),
            evaluate_fn=between,
        )
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    say(peak_mb=round(int(peak[1]) / 1024), scaler_mb=round(strategy.scaler.nbytes / 1e6, 1))


def whole_run(choices: list[str]) -> dict[str, float]:
    """Run the command as a user does; start-up ends where round 1 begins."""
    command = [sys.executable, "-m", "fedrms.cli", *choices, "rounds=5"]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [*command, f"hydra.run.dir={folder}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        first = ""
        while "round 1/5" not in first:
            first = process.stderr.readline()
            if not first:
                raise SystemExit(f"{' '.join(command)} failed")
        finished = time.perf_counter() - begun
        process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    seconds = float(first.split(",")[-1].split()[0])
    return {
        "startup_s": round(finished - seconds, 2),
        "total_s": round(time.perf_counter() - begun, 2),
        "peak_mb": round(usage.ru_maxrss / 1024),
    }


def overrides(clients: int, cohort: int) -> list[str]:
    """Return the configuration of a population: that of the softmax workloads."""
    own = ["data=population", f"clients={clients}", f"client.fraction={cohort / clients}"]
    return [*own, *SETTINGS]


def write(clients: int, folder: Path) -> list[str]:
    """Write a population of small clients as Arrow files, and return what reads it."""
    from fedrms.data import build
    from fedrms.data.to_arrow import write_arrow

    data = {"name": "population", "median_examples": 10, "min_examples": 5, "max_examples": 50}
    partition, noise = {"name": "natural"}, {"name": "none"}
    write_arrow(build(seed=0, clients=clients, data=data, partition=partition, noise=noise), folder)
    return ["data=arrow", f"data.path={folder}", "model=softmax"]


if __name__ == "__main__":
    main()
