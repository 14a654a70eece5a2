"""Time whole rounds of fedrms and its peers side by side on one core.

``python scripts/bench/engines.py --quick`` takes a few minutes. Every engine is a process of
its own, pinned to the same core, with one thread; they take turns, in rotating order, and are
compared by processor time. The ceiling is the fastest of those written by hand. Where rounds
are short a turn has several, and its first is not counted: it finds the caches full of the others'
data, which rounds of a real run do not. Flower runs its rounds as a block before the others,
because its workers poll while they wait. Correctness comes first: the ceiling against autograd,
fedrms against the naive loop on the same batches, and the final accuracy of everyone.

``--cores 2`` gives every engine two cores and tells it to use two threads; ``--device cuda``
runs those that can on a GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import workloads
from contender import Contender, EngineError
from correctness import check_ceiling, check_fedrms
from machine import processor
from roster import ENGINES, absence
from table import engines_markdown, read_csv, write_csv

QUICK = {"softmax-100": 9, "mlp-10": 7}
"""Rounds of the workloads that ``--quick`` runs."""
WARM = 3
"""First rounds that are not counted, of engines that trace or compile in them; Flower does not."""


def main() -> None:
    """Run the command."""
    options = parsed()
    if options.show:
        print(engines_markdown([row for path in options.show for row in read_csv(path)]))
        return
    folder = Path(os.environ.get("FEDRMS_BENCH_DIR", ".bench")).resolve()
    names = options.engine or list(ENGINES)
    absent = {n: why for n in names if (why := absence(ENGINES[n], folder, options.device))}
    for name, why in absent.items():
        print(f"{name}: absent ({why})")
    chosen = options.workload or (list(QUICK) if options.quick else list(workloads.SUITE))
    rows: list[dict[str, Any]] = []
    for name in chosen:
        path = workloads.ensure(folder / "workloads", name, options.data, options.cifar10)
        rounds = options.rounds or (QUICK.get(name, 5) if options.quick else None)
        bench = Bench(folder, path, rounds or workloads.SPECS[name].rounds, options)
        present = [n for n in names if n not in absent and bench.runs(n)]
        if not options.no_check:
            bench.check(present)
        rows += bench.run(present)
        if options.out:
            write_csv(options.out, rows)
    print(f"\n{processor()}\n")
    print(engines_markdown(rows))


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two workloads, few rounds")
    parser.add_argument("--workload", action="append", choices=workloads.SPECS)
    parser.add_argument("--engine", action="append", choices=ENGINES, help="by default all")
    parser.add_argument("--rounds", type=int, help="rounds each, the warm ones among them")
    parser.add_argument("--flower-rounds", type=int, default=4, help="most rounds of Flower")
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    parser.add_argument("--show", type=Path, nargs="+", help="only print tables from such files")
    parser.add_argument("--data", type=Path, default=workloads.MNIST, help="folder of MNIST")
    parser.add_argument("--cifar10", type=Path, default=workloads.CIFAR10, help="and of CIFAR-10")
    parser.add_argument("--no-check", action="store_true", help="skip what comes before timing")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        help="what is compared; by default processor time, the fairer one where others share the "
        "core, and wall-clock time with more cores or a GPU",
    )
    parser.add_argument("--cores", type=int, default=1, help="cores an engine may use")
    parser.add_argument("--core", type=int, help="the first of them; by default the last there are")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    here = sorted(os.sched_getaffinity(0))
    first = here[-options.cores] if options.core is None else options.core
    options.cores = tuple(here[here.index(first) :][: options.cores])
    alone = len(options.cores) == 1 and options.device == "cpu"
    options.clock = options.clock or ("cpu" if alone else "wall")
    if options.clock == "cpu" and not alone:
        parser.error("processor time does not show what more cores or a GPU gain: --clock wall")
    return options


class Bench:
    """One workload."""

    def __init__(self, folder: Path, path: Path, rounds: int, options: argparse.Namespace) -> None:
        self._folder, self._path, self._options = folder, path, options
        self._workload = workloads.load(path)
        self._rounds = max(rounds, 2)
        most = 2 if self._workload.spec.clients > 400 else options.flower_rounds
        self._flower_rounds = max(2, min(rounds, most))

    def runs(self, name: str) -> bool:
        """Say whether an engine is for this workload's model."""
        return not (only := ENGINES[name].models) or self._workload.spec.model in only

    def check(self, names: list[str]) -> None:
        """Hold the ceiling and fedrms to plain loops; nothing is timed if they differ."""
        for line in check_ceiling(self._workload):
            _say(line)

        def save(name: str, rounds: int, file: Path, extra: tuple[str, ...]) -> None:
            self._alone(name, rounds, save=file, extra=extra)

        try:
            for line in check_fedrms(self._workload, save, bf16="fedrms bf16" in names):
                _say(line)
        except EngineError as problem:
            raise SystemExit(f"the check failed: {problem}") from None

    def run(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Time the engines and return a row each."""
        blocks = {n: self._flower_rounds for n in names if ENGINES[n].own_block}
        finished: dict[str, Contender] = {}
        for name, rounds in blocks.items():
            contender = self._start(name, rounds)
            if contender is not None and self._rest({name: contender}, rounds, turn=1):
                finished[name] = contender
        running = {}
        for name in names:
            if name not in blocks and (contender := self._start(name, self._rounds)):
                running[name] = contender
        self._rest(running, self._rounds, self._workload.spec.turn)
        finished |= running
        rows = [self._row(n, finished[n]) for n in names if n in finished]
        self._compare(rows)
        return rows

    def _contender(self, name: str, rounds: int, extra: tuple[str, ...] = (), **how: Any) -> Any:
        if self._options.device != "cpu":
            extra = (*extra, "--device", self._options.device)
        where = (self._folder, self._path, rounds, self._options.cores)
        return Contender(ENGINES[name], *where, extra=extra, **how)

    def _start(self, name: str, rounds: int) -> Contender | None:
        contender = self._contender(name, rounds)
        try:
            contender.round()
        except EngineError as problem:
            contender.stop()
            _say(f"  {name} failed: {problem}")
            return None
        _say(f"  {name}: first round after {contender.first:.1f} s")
        return contender

    def _rest(self, running: dict[str, Contender], rounds: int, turn: int) -> bool:
        """Run rounds 2 and on, some in a turn; drop an engine that fails."""

        def drop(name: str, problem: EngineError) -> None:
            running.pop(name).stop()
            _say(f"  {name} failed: {problem}")

        for number, first in enumerate(range(1, rounds, turn)):
            order = list(running)
            for name in order[number % len(order) :] + order[: number % len(order)]:
                try:
                    for after in range(min(turn, rounds - first)):
                        running[name].round(counted=turn == 1 or after > 0)
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
        contender = self._contender(name, rounds, extra, save=save)
        try:
            for _ in range(rounds):
                contender.round()
            contender.finish()
        except EngineError as problem:
            contender.stop()
            raise EngineError(f"{name}: {problem}") from None
        return contender

    def _row(self, name: str, contender: Contender) -> dict[str, Any]:
        times = contender.cpu if self._options.clock == "cpu" else contender.seconds
        warm = 1 if ENGINES[name].own_block else min(WARM, len(times))
        seconds = np.array(times[warm - 1 :])
        low, middle, high = np.percentile(seconds, (25, 50, 75))
        return {
            "workload": self._workload.name,
            "engine": name,
            "cores": len(self._options.cores),
            "device": self._options.device,
            "rounds": contender.rounds,
            "warm": warm,
            "seconds": middle,
            "iqr": high - low,
            "fastest": seconds.min(),
            "wall_seconds": np.median(contender.seconds[warm - 1 :]),
            "cpu_seconds": np.median(contender.cpu[warm - 1 :]),
            "clock": self._options.clock,
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
        hand = {n: s for n, s in seconds.items() if ENGINES[n].by_hand}
        for row in rows:
            rounded = row["engine"].endswith("bf16")
            like = [s for n, s in hand.items() if n.endswith("bf16") == rounded]
            ceiling = min(like, default=np.nan)
            row["over_flower"] = flower / row["seconds"]
            row["over_best_peer"] = best / row["seconds"]
            row["over_naive"] = seconds.get("naive loop", np.nan) / row["seconds"]
            row["of_ceiling"] = ceiling / row["seconds"]
            if row["engine"].startswith("fedrms,"):
                row["of_bare"] = row["seconds"] / seconds.get("fedrms", np.nan)
        known = {r["rounds"]: r["accuracy"] for r in rows if r["engine"] == "naive loop"}
        noise = 4 * np.sqrt(0.25 / len(self._workload.test_y))
        for row in rows:
            if row["rounds"] not in known:
                known[row["rounds"]] = self._alone("naive loop", row["rounds"]).accuracy
            expected = known[row["rounds"]]
            row["naive_accuracy"] = expected
            if not abs(row["accuracy"] - expected) <= noise:
                _say(f"  {row['engine']}: accuracy {row['accuracy']:.3f}, naive {expected:.3f}!")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
