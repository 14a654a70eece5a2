"""Time what a round spends on evaluation, recording and progress.

``python scripts/bench/overhead.py`` runs whole experiments (``fedrms.run``) with 100 clients and
clocks in front of the functions that are not training. Processor time by default: these parts
run on the thread that waits for the clients, and with one core nothing else runs meanwhile.
The goal is less than 5 % of a round at cohort 100. One local epoch: with more, the share falls.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from table import markdown, write_csv

CASES = {
    "digits, softmax": ["data=digits", "model=softmax"],
    "mnist, softmax": ["data=mnist", "model=softmax"],
    "mnist, mlp": ["data=mnist", "model=mlp", "model.hidden=[200]"],
}
ROUNDS = {"digits, softmax": 60, "mnist, softmax": 20, "mnist, mlp": 12}
WARM = 4
"""Rounds that are not counted: shapes are traced in them."""
PARTS = ("evaluate", "scores", "fairness", "tables", "progress", "other")
COLUMNS = {
    "case": "{}",
    "round_ms": "{:.1f}",
    **dict.fromkeys((f"{part}_ms" for part in PARTS), "{:.2f}"),
    "share": "{:.1%}",
    "without_evaluate": "{:.1%}",
    "end_ms": "{:.0f}",
}


class Clocks:
    """Time spent in named parts, less what is spent in parts inside of them, by round."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._inside: list[float] = []
        self.now: dict[str, float] = defaultdict(float)
        self.rounds: list[dict[str, float]] = []
        self._round_began = clock()

    def time(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a clock around it."""

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = self._clock()
            self._inside.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                took = self._clock() - began
                self.now[part] += took - self._inside.pop()
                if self._inside:
                    self._inside[-1] += took

        return timed

    def on(self, owner: Any, name: str, part: str) -> None:
        """Put a clock in front of an attribute."""
        setattr(owner, name, self.time(part, getattr(owner, name)))

    def close_round(self) -> None:
        """File what was spent since the last round ended."""
        now = self._clock()
        self.rounds.append({**self.now, "round": now - self._round_began})
        self.now.clear()
        self._round_began = self._clock()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the first case, 16 rounds")
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--fairness", default="all", help="all, basic or none")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/mnist"))
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    import torch

    torch.set_num_threads(1)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    rows = []
    for case in options.case or list(CASES)[: 1 if options.quick else None]:
        rounds = options.rounds or (16 if options.quick else ROUNDS[case])
        rows.append(measure(case, rounds, options))
        if options.out:
            write_csv(options.out, rows)
    print(markdown(rows, COLUMNS))


def measure(case: str, rounds: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run one experiment and return the means over its rounds, in milliseconds.

    Means, because tables are written to disk in few of the rounds.
    """
    clocks = Clocks(time.process_time if options.clock == "cpu" else time.perf_counter)
    undo = _put_clocks(clocks)
    overrides = [*CASES[case], f"clients={options.clients}", f"rounds={rounds}"]
    overrides += ["client.epochs=1", "device=cpu", f"fairness={options.fairness}"]
    if "data=mnist" in overrides:
        overrides.append(f"data.path={options.data.resolve()}")
    import fedrms

    try:
        with tempfile.TemporaryDirectory() as folder:
            fedrms.run(overrides, folder=folder)
            clocks.close_round()
    finally:
        undo()
    counted, end = clocks.rounds[1 + WARM : -1], clocks.rounds[-1]
    mean = {
        part: 1e3 * statistics.fmean(row.get(part, 0.0) for row in counted)
        for part in (*PARTS, "round")
    }
    spent = sum(mean[part] for part in PARTS)
    return {
        "case": case,
        "clients": options.clients,
        "rounds": len(counted),
        "clock": options.clock,
        "round_ms": mean["round"],
        **{f"{part}_ms": mean[part] for part in PARTS},
        "share": spent / mean["round"],
        "without_evaluate": (spent - mean["evaluate"]) / mean["round"],
        "end_ms": 1e3 * end["round"],
    }


def _put_clocks(clocks: Clocks) -> Callable[[], None]:
    """Put clocks in front of what a round does besides training; return how to take them away."""
    from fedrms.data import Federation
    from fedrms.experiment import round_log
    from fedrms.results import Recorder

    places = [
        (round_log, "evaluate", "evaluate"),
        (Federation, "per_client_metric", "scores"),
        (round_log, "client_metrics", "fairness"),
        (round_log, "weighting_metrics", "fairness"),
        (Recorder, "add_clients", "tables"),
        (Recorder, "add_round", "tables"),
        (round_log.RoundLog, "observe", "other"),
        (round_log.RoundLog, "finish_round", "other"),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    for owner, name, part in places:
        clocks.on(owner, name, part)
    finish = round_log.RoundLog.finish_round

    def finish_round(self: Any, server_round: int, arrays: Any) -> Any:
        self._on_round = (
            clocks.time("progress", self._on_round) if not server_round else (self._on_round)
        )
        result = finish(self, server_round, arrays)
        clocks.close_round()
        return result

    round_log.RoundLog.finish_round = finish_round

    def undo() -> None:
        for owner, name, function in before:
            setattr(owner, name, function)

    return undo


if __name__ == "__main__":
    main()
