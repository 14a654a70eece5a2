"""``fedrms``: run one simulation, or a Hydra multirun of them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from fedrms import __version__
from fedrms.cli.comparison import compare_jobs
from fedrms.cli.ending import ending_well, next_command, stop
from fedrms.cli.folders import taken, with_hydra
from fedrms.cli.foreign_folder import foreign_folder_checked
from fedrms.cli.lab import main as lab
from fedrms.cli.lab import verdict_words
from fedrms.cli.options import help_page
from fedrms.cli.resume import resume
from fedrms.cli.search import is_search, refuse_useless_score
from fedrms.cli.sweep import every_job_failed, exit_code
from fedrms.conf_folder import conf_folder
from fedrms.errors import ConfigError, FedRMSError
from fedrms.words import check_words, flags_first, resume_folder, without_resume


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the ``fedrms`` command.

    Exits with 2, and one message that names the key and the remedy, where the
    configuration cannot run; with 1 where a run broke.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # The group is in the defaults, so Hydra would refuse to add it: it means the same here.
    words = [w.removeprefix("+") if w.startswith("+experiment=") else w for w in words]
    asked = next((word for word in words if word in ("--help", "-h")), None)
    if asked:
        topic = words[words.index(asked) + 1 :] or [w for w in words if not w.startswith("-")]
        with ending_well("fedrms", words):
            print(help_page(conf_folder(), topic[0] if topic else None), flush=True)
        return
    if "--version" in words:
        print(f"fedrms {__version__}")
        return
    logging.raiseExceptions = False  # a full disk ends in one message, not one for each log line
    with ending_well("fedrms", words):
        check_words(without_resume(words), flags=True)
        folder = resume_folder(words)
        verdict = verdict_words(words)
    if verdict is not None:
        lab(verdict)
        return
    if folder is not None:
        with ending_well("fedrms", words):
            result = resume(words, folder)
            show_outcome(result.summary, result.folder)
        return
    sys.argv = ["fedrms", *flags_first(words)]
    simulate = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(
        run_job
    )
    with ending_well("fedrms", words):
        try:
            with foreign_folder_checked(words), _without_a_best_trial():
                simulate()
            code = exit_code()
            if code:
                sys.exit(code)
        except OSError as error:
            if isinstance(error, HydraException):  # a choice that is not there is an OSError, too
                raise
            if HydraConfig.initialized() and Path(HydraConfig.get().runtime.output_dir).is_dir():
                raise  # the run's own
            stop(
                "fedrms",
                ConfigError("hydra.run.dir", f"cannot be written to: {error}", "choose another"),
            )


def run_job(config: DictConfig) -> float:
    """Run one job and return what a sweeper optimises.

    The score of the validation clients, where there are any, else the final test metric.
    """
    from fedrms.experiment import run
    from fedrms.results.own_folder import take

    job = HydraConfig.get()
    multirun = job.mode != RunMode.RUN
    shared = job.sweep.dir if multirun else None
    try:
        own = taken()
        if multirun and own.path == Path(job.sweep.dir):  # another launcher than that of fedrms
            own = take(Path(job.runtime.output_dir))
        result = run(with_hydra(config), folder=own, brief=multirun, shared=shared)
    except FedRMSError as error:
        if multirun:
            raise  # the launcher names it, and goes on with other jobs
        stop("fedrms", error)  # Hydra would print a line of its own
    if not multirun:
        show_outcome(result.summary, result.folder)
        experiment = str(job.runtime.choices.get("experiment"))
        if experiment.startswith("lab/"):
            print(f"one run; figure and verdict: fedrms-lab {experiment.removeprefix('lab/')}")
    metric = result.summary["metric"]
    chosen_by = f"validation_{metric}" if f"validation_{metric}" in result.summary else None
    score = float(result.summary[chosen_by or f"final_{metric}"])
    if multirun and is_search(job):
        refuse_useless_score(job.sweeper.direction, score, result.summary)
    return score


def headline(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a summary that a person wants on the terminal, the scores first.

    The effective objective has a line of its own before it.
    """
    from fedrms.results.objective import OBJECTIVE

    hidden = {
        *("versions", "git_revision", "error", "device", "metric", "higher_is_better"),
        *("wall_seconds", "counterfactual_run", "files", "worst_client_note"),
        *OBJECTIVE,
    }
    known = {
        key: value
        for key, value in summary.items()
        if key not in hidden and value is not None and value == value  # a NaN is not
    }
    first = [key for key in known if key.startswith(("final_", "validation_", "worst_"))]
    last = [key for key in known if key in ("rounds", "seconds", "clients", "status")]
    rest = [key for key in known if key not in (*first, *last)]
    return {key: known[key] for key in (*first, *rest, *last)}


def show_outcome(summary: Mapping[str, Any], folder: Path, notes: Sequence[str] = ()) -> None:
    """Print how a run ended, notes on that, where its files are, and what to do with them."""
    from fedrms.results.counted_less import counted_less
    from fedrms.results.table import show, summary_table

    show(summary_table(headline(summary)))
    notes = [*notes, *counted_less(folder)]
    print(*notes, sep="\n", end="\n" * bool(notes))
    print(f"results: {os.path.relpath(folder)}")
    print(next_command("fedrms-report", os.path.relpath(folder)))


@contextmanager
def _without_a_best_trial() -> Iterator[None]:
    """Go on to the end where Optuna finds no trial to call the best one."""
    try:
        yield
    except ValueError:
        if not every_job_failed():
            raise
        compare_jobs(taken().path)


if __name__ == "__main__":
    main()
