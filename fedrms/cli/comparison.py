"""Before a Hydra multirun, whether its seeds can decide; after it, the comparison of its runs."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from fedrms.cli.ending import next_command, stop
from fedrms.cli.sweep import finished_runs, tell_failures
from fedrms.errors import FedRMSError, RunError
from fedrms.options import counted

_OWN: Final = ("strategy", "server_optimizer")


class ComparisonTable(Callback):
    """Print the paired comparison of a multirun's runs, and write it beside them."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Say beforehand if the seeds are too few to decide; Hydra calls this before the jobs."""
        if str(config.hydra.sweeper["_target_"]).endswith(".BasicSweeper"):
            note = too_few_seeds(list(config.hydra.overrides.task))
            if note is not None:
                print(f"fedrms: {note}", file=sys.stderr)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table; Hydra calls this when the last job has ended."""
        try:
            compare_jobs(Path(config.hydra.sweep.dir))
        except (OSError, FedRMSError) as error:  # Hydra would warn, and end well
            folder, remedy = config.hydra.sweep.dir, "make room, then compare: fedrms-report"
            stop("fedrms", RunError(f"{folder}: no comparison: {error} -> {remedy} {folder}"))


def compare_jobs(folder: Path) -> None:
    """Compare what a multirun has finished, and name the jobs that failed."""
    from fedrms.results import compare
    from fedrms.results.atomic import write_file
    from fedrms.results.foreign_text import to_csv
    from fedrms.results.table import comparison_notes, comparison_table, show, to_markdown

    failed, told, files = tell_failures(), [], {}
    try:
        runs = finished_runs(folder)
    except FileNotFoundError:
        runs = None
    if runs is not None and (runs.summary["status"] == "finished").any():
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            table = compare(runs)
        console = Console()
        show(comparison_table(table, console.width if console.is_terminal else 80), console)
        print(comparison_notes(table))
        text = "\n".join([to_markdown(table), *(f"\n{line}" for line in failed)])
        files = {"comparison.md": text + "\n", "comparison.csv": to_csv(table, index=True)}
    print(f"results: {os.path.relpath(folder)}", flush=True)
    if runs is not None:
        print(next_command("fedrms-report", os.path.relpath(folder)), flush=True)
    for line in [*(str(warning.message) for warning in told), *failed]:
        print(f"fedrms: {line}", file=sys.stderr)
    for name, content in files.items():  # last: a full disk may be why jobs failed
        write_file(folder / name, content)


def too_few_seeds(words: Sequence[str], baseline: str = "fedavg") -> str | None:
    """Return a warning where no result of a multirun's seeds could be called decided, or None."""
    from fedrms.experiment.config import parsed
    from fedrms.results.significance import seeds_needed

    swept = {
        each.key_or_group: [str(value) for value in each.sweep_string_iterator()]
        for each in parsed(words)
        if each.is_sweep_override()
    }
    strategies = swept.get("strategy", [])
    if baseline not in strategies or len(strategies) < 2:
        return None
    own = [len(v) for key, v in swept.items() if key.split(".")[0] in _OWN and key != "strategy"]
    scenarios = [len(v) for key, v in swept.items() if key.split(".")[0] not in (*_OWN, "seed")]
    comparisons = (len(strategies) - 1) * math.prod(own) * math.prod(scenarios)
    seeds, needed = len(swept.get("seed", [""])), seeds_needed(comparisons)
    if seeds >= needed:
        return None
    return (
        f"{counted(seeds, 'seed')} cannot decide {counted(comparisons, 'comparison')} with "
        f"{baseline}, whatever comes out; 'seed=range({needed})' can"
    )
