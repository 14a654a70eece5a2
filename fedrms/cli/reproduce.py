"""``fedrms-reproduce``: make a table of results again, from its runs to its page."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from fedrms.cli.ending import FAILED, ending_well, next_command
from fedrms.cli.parser import Parser
from fedrms.errors import ConfigError, RunError

if TYPE_CHECKING:
    from fedrms.reproduce.jobs import Job
    from fedrms.reproduce.plan import Plan


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the ``fedrms-reproduce`` command.

    Exits with 2 where the table cannot be run, with 1 where some of its runs broke, and with
    130, 143 or 129 where a signal stopped it; finished runs are kept, and the same command goes on.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    with ending_well("fedrms-reproduce", stopped="start it again to go on"):
        sys.exit(_reproduce(options))


def _parser() -> Parser:
    parser = Parser(
        prog="fedrms-reproduce",
        description="Run a table (conf/reproduce/TABLE.yaml), every strategy in every scenario on "
        "every seed, and write its page, figure and data. Runs that are there already, from the "
        "same configuration and code, are not run again.",
    )
    parser.add_argument("table", help="a name under conf/reproduce")
    parser.add_argument("--quick", action="store_true", help="a look in 3 minutes, on other seeds")
    parser.add_argument("--scenarios", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--strategies", nargs="+", metavar="ROW", help="only these, and fedavg")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="in place of its own")
    parser.add_argument("--jobs", type=int, help="worker processes (default: the usable cores)")
    parser.add_argument(
        "--out",
        type=Path,
        help="where the page goes (default: docs/results for the whole table; below the runs, "
        "outputs/reproduce, for a part of it or a quick look)",
    )
    parser.add_argument(
        "--runs", type=Path, help="where runs are kept (default: outputs/reproduce/TABLE)"
    )
    parser.add_argument("--only-report", action="store_true", help="write from finished runs")
    parser.add_argument(
        "--only-figure", action="store_true", help="draw it again from the data beside the page"
    )
    return parser


def _reproduce(options: argparse.Namespace) -> int:
    from fedrms.reproduce.plan import read_plan

    whole = read_plan(options.table)
    plan = whole.quickened() if options.quick else whole
    strategies = options.strategies
    if strategies is not None:
        strategies = list(dict.fromkeys([plan.baseline, *strategies]))
    plan = plan.narrow(scenarios=options.scenarios, strategies=strategies, seeds=options.seeds)
    if options.jobs is not None and options.jobs < 1:
        raise ConfigError("--jobs", f"is {options.jobs}", "set 1 or more")

    from fedrms.experiment.machine import usable_cores
    from fedrms.reproduce.jobs import list_jobs
    from fedrms.reproduce.report import write_report
    from fedrms.results.plots.static import require_matplotlib

    require_matplotlib()
    if options.only_figure:
        return _draw(whole, options.out or Path("docs") / "results")
    base = options.runs or Path("outputs") / "reproduce" / plan.name
    folder = base / ("quick" if options.quick else "full")
    out = options.out or (Path("docs") / "results" if plan == whole else folder)
    jobs = list_jobs(plan, folder / "runs")
    workers = options.jobs or usable_cores()
    errors = [] if options.only_report else _run(plan.name, jobs, workers)
    for line in errors:
        print(f"fedrms-reproduce: {line}", file=sys.stderr)
    try:
        report = write_report(plan, jobs, out, _command(options), errors)
    except FileNotFoundError as error:
        raise RunError(f"{plan.name}: {error}") from error
    print(f"page: {os.path.relpath(report.page)}")
    print(next_command("fedrms-report", os.path.relpath(folder / "runs")))
    return FAILED if errors else 0


def _draw(plan: Plan, out: Path) -> int:
    from fedrms.reproduce.report import draw_again

    try:
        print(f"figure: {os.path.relpath(draw_again(plan, out))}")
    except FileNotFoundError as error:
        raise RunError(f"{plan.name}: {error}") from error
    return 0


def _run(name: str, jobs: Sequence[Job], workers: int) -> list[str]:
    """Run the jobs that are not there yet, say how it goes, and return what broke."""
    from fedrms.reproduce.page import duration
    from fedrms.reproduce.workers import run_jobs

    open_jobs = [job for job in jobs if not job.finished]
    print(f"{name}: {len(jobs)} runs, {len(jobs) - len(open_jobs)} there already", flush=True)
    errors = []
    started = time.monotonic()
    with closing(run_jobs(open_jobs, workers)) as outcomes:  # else a closed pipe ends no worker
        for done, outcome in enumerate(outcomes, start=1):
            left = (time.monotonic() - started) / done * (len(open_jobs) - done)
            told = outcome.error.splitlines()[0] if outcome.error else f"{outcome.seconds:.1f} s"
            said = f"[{done}/{len(open_jobs)}] {outcome.job}: {told}; {duration(left)} to go"
            print(said, flush=True)
            if outcome.error:
                errors.append(f"{outcome.job}: {' '.join(outcome.error.split())}")
    return errors


def _command(options: argparse.Namespace) -> str:
    """Return the command that makes this table, without what does not change its numbers."""
    words = [f"scripts/reproduce/{options.table}"]
    if options.quick:
        words.append("--quick")
    for flag in ("scenarios", "strategies", "seeds"):
        values = getattr(options, flag)
        if values:
            words += [f"--{flag}", *(shlex.quote(str(value)) for value in values)]
    return " ".join(words)


if __name__ == "__main__":
    main()
