"""Time whole rounds of fedrms and its peers side by side on one core.

``python scripts/bench/engines.py --quick`` takes a few minutes. Every engine is a process of
its own, pinned to the same core, with one thread; round 2 of all engines is followed by round 3
of all engines, and so on. Flower runs its rounds as a block before the others, because its
workers poll while they wait. Correctness comes first: the ceiling against autograd, fedrms
against the naive loop on the same batches, and the final accuracy of everyone.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ceiling
import numpy as np
import torch
import workloads
from contender import ENGINES, Contender, EngineError, absence

QUICK = {"softmax-100": 6, "mlp-10": 5}
"""Rounds of the workloads that ``--quick`` runs."""
SAME_WEIGHTS = 1e-3
"""Largest allowed distance from the naive loop, as a share of how far the model moved."""
TIMES_NAIVE_ERROR = 4.0
"""Or else: how far fedrms may be from float64, in terms of the naive loop's own distance.

A rounding error that flips a ReLU or a maximum grows; both are then as wrong as float32 is.
"""
CEILING_ERROR = 1e-6
"""Largest allowed difference of the ceiling from float64 autograd; the data is float32."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two workloads, few rounds")
    parser.add_argument("--workload", action="append", choices=workloads.SPECS)
    parser.add_argument("--engine", action="append", choices=ENGINES, help="by default all")
    parser.add_argument("--rounds", type=int, help="rounds each, the first among them")
    parser.add_argument("--flower-rounds", type=int, default=4, help="most rounds of Flower")
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    parser.add_argument("--show", type=Path, nargs="+", help="only print tables from such files")
    parser.add_argument("--data", type=Path, default=workloads.MNIST, help="folder of MNIST")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="what is compared; processor time is the fairer one where others share the core",
    )
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    options = parser.parse_args()
    if options.show:
        print(markdown([row for path in options.show for row in read_csv(path)]))
        return
    folder = Path(os.environ.get("FEDRMS_BENCH_DIR", ".bench")).resolve()
    names = options.engine or list(ENGINES)
    absent = {n: why for n in names if (why := absence(ENGINES[n], folder))}
    for name, why in absent.items():
        print(f"{name}: absent ({why})")
    chosen = options.workload or (list(QUICK) if options.quick else list(workloads.SPECS))
    rows: list[dict[str, Any]] = []
    for name in chosen:
        path = workloads.ensure(folder / "workloads", name, options.data)
        rounds = options.rounds or (QUICK.get(name) if options.quick else None)
        rounds = rounds or workloads.SPECS[name].rounds
        bench = Bench(folder, path, rounds, options.core, options.flower_rounds, options.clock)
        bench.check()
        rows += bench.run([n for n in names if n not in absent])
        if options.out:
            write_csv(options.out, rows)
    print(f"\n{platform.processor() or platform.machine()}, torch {torch.__version__}\n")
    print(markdown(rows))


class Bench:
    """One workload."""

    def __init__(
        self, folder: Path, path: Path, rounds: int, core: int, flower: int, clock: str
    ) -> None:
        self._folder, self._path, self._core = folder, path, core
        self._workload = workloads.load(path)
        self._rounds, self._clock = max(rounds, 2), clock
        self._flower_rounds = max(
            2, min(rounds, 2 if self._workload.spec.clients > 400 else flower)
        )
        self._accuracies: dict[int, float] = {}

    def check(self) -> None:
        """Hold the ceiling and fedrms to plain loops.

        Raises
        ------
        SystemExit
            If a number is not what it must be: nothing is timed then.
        """
        torch.set_num_threads(1)
        error = ceiling.check(self._workload)
        _say(f"{self._workload.name}: ceiling differs from autograd by {error:.1e} (float64)")
        if error > CEILING_ERROR:
            raise SystemExit("the ceiling computes something else")
        like_fedrms = ("--batches", "fedrms")
        ours = self._weights("fedrms")
        theirs = self._weights("naive loop", *like_fedrms)
        start = np.concatenate([value.ravel() for value in self._workload.initial.values()])
        moved, apart = np.linalg.norm(theirs - start), np.linalg.norm(ours - theirs)
        _say(f"  fedrms is {apart / moved:.1e} of the way from the naive loop after two rounds")
        if apart <= SAME_WEIGHTS * moved:
            return
        exact = self._weights("naive loop", *like_fedrms, "--dtype", "float64")
        ours_off, theirs_off = np.linalg.norm(ours - exact), np.linalg.norm(theirs - exact)
        _say(f"  from float64: fedrms {ours_off / moved:.1e}, naive {theirs_off / moved:.1e}")
        if not ours_off <= TIMES_NAIVE_ERROR * theirs_off:
            raise SystemExit("fedrms and the naive loop disagree on the same batches")

    def _weights(self, name: str, *extra: str) -> np.ndarray:
        """Return the model of an engine after two rounds, as one vector."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "weights.npz")
            self._alone(name, 2, save=file, extra=extra)
            with np.load(file) as saved:
                return np.concatenate([saved[n].ravel() for n in self._workload.initial])

    def run(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Time the engines and return a row each."""
        blocks = {n: self._flower_rounds for n in names if ENGINES[n].own_block}
        finished: dict[str, Contender] = {}
        for name, rounds in blocks.items():
            contender = self._start(name, rounds)
            if contender is not None and self._rest({name: contender}, rounds):
                finished[name] = contender
        running = {}
        for name in names:
            if name not in blocks and (contender := self._start(name, self._rounds)):
                running[name] = contender
        self._rest(running, self._rounds)
        finished |= running
        rows = [self._row(n, finished[n]) for n in names if n in finished]
        self._compare(rows)
        return rows

    def _start(self, name: str, rounds: int) -> Contender | None:
        contender = Contender(ENGINES[name], self._folder, self._path, rounds, self._core)
        try:
            contender.round()
        except EngineError as problem:
            contender.stop()
            _say(f"  {name} failed: {problem}")
            return None
        _say(f"  {name}: first round after {contender.first:.1f} s")
        return contender

    def _rest(self, running: dict[str, Contender], rounds: int) -> bool:
        """Run rounds 2 and on in turns; drop an engine that fails."""

        def drop(name: str, problem: EngineError) -> None:
            running.pop(name).stop()
            _say(f"  {name} failed: {problem}")

        for number in range(1, rounds):
            order = list(running)
            for name in order[number % len(order) :] + order[: number % len(order)]:
                try:
                    running[name].round()
                except EngineError as problem:
                    drop(name, problem)
        for name in list(running):
            try:
                running[name].finish()
            except EngineError as problem:
                drop(name, problem)
        return bool(running)

    def _alone(
        self, name: str, rounds: int, save: Path | None = None, extra: tuple[str, ...] = ()
    ) -> Contender:
        contender = Contender(
            *(ENGINES[name], self._folder, self._path, rounds, self._core), save=save, extra=extra
        )
        try:
            for _ in range(rounds):
                contender.round()
            contender.finish()
        except EngineError as problem:
            contender.stop()
            raise SystemExit(f"{name} failed: {problem}") from None
        return contender

    def _row(self, name: str, contender: Contender) -> dict[str, Any]:
        seconds = np.array(contender.cpu if self._clock == "cpu" else contender.seconds)
        low, middle, high = np.percentile(seconds, (25, 50, 75))
        return {
            "workload": self._workload.name,
            "engine": name,
            "rounds": len(seconds) + 1,
            "seconds": middle,
            "iqr": high - low,
            "fastest": seconds.min(),
            "wall_seconds": np.median(contender.seconds),
            "cpu_seconds": np.median(contender.cpu),
            "clock": self._clock,
            "first_round": contender.first,
            "clients_per_second": self._workload.spec.clients / middle,
            "peak_mb": contender.peak_mb,
            "accuracy": contender.accuracy,
        }

    def _compare(self, rows: list[dict[str, Any]]) -> None:
        """Add the ratios, and say whose accuracy is not that of the naive loop."""
        seconds = {row["engine"]: row["seconds"] for row in rows}
        flower = seconds.get("Flower (Ray)", np.nan)
        others = [s for n, s in seconds.items() if ENGINES[n].peer and n != "Flower (Ray)"]
        best = min(others, default=np.nan)
        for row in rows:
            row["over_flower"] = flower / row["seconds"]
            row["over_best_peer"] = best / row["seconds"]
            row["over_naive"] = seconds.get("naive loop", np.nan) / row["seconds"]
            row["of_ceiling"] = seconds.get("ceiling", np.nan) / row["seconds"]
        known = {r["rounds"]: r["accuracy"] for r in rows if r["engine"] == "naive loop"}
        noise = 4 * np.sqrt(0.25 / len(self._workload.test_y))
        for row in rows:
            if row["rounds"] not in known:
                known[row["rounds"]] = self._alone("naive loop", row["rounds"]).accuracy
            expected = known[row["rounds"]]
            row["naive_accuracy"] = expected
            if not abs(row["accuracy"] - expected) <= noise:
                _say(f"  {row['engine']}: accuracy {row['accuracy']:.3f}, naive {expected:.3f}!")


COLUMNS = {
    "engine": "{}",
    "seconds": "{:.4f}",
    "iqr": "{:.4f}",
    "clients_per_second": "{:.3g}",
    "first_round": "{:.1f}",
    "peak_mb": "{:.0f}",
    "accuracy": "{:.3f}",
    "over_flower": "{:.1f}x",
    "over_best_peer": "{:.1f}x",
    "over_naive": "{:.1f}x",
    "of_ceiling": "{:.0%}",
}


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return a table a workload."""
    text = []
    for name in dict.fromkeys(row["workload"] for row in rows):
        text += [f"### {name}", "", "| " + " | ".join(c.replace("_", " ") for c in COLUMNS) + " |"]
        text.append("|---" + "|---:" * (len(COLUMNS) - 1) + "|")
        for row in sorted((r for r in rows if r["workload"] == name), key=lambda r: r["seconds"]):
            cells = [form.format(row[column]) for column, form in COLUMNS.items()]
            text.append("| " + " | ".join("-" if "nan" in c else c for c in cells) + " |")
        text.append("")
    return "\n".join(text)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write every column of every row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Read what :func:`write_csv` wrote."""
    words = ("workload", "engine", "clock")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v if k in words else float(v) for k, v in row.items()} for row in rows]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
