"""The runs of a table: what each is started with, and whether it is there already."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fedrms.errors import ConfigError
from fedrms.experiment import compose_config
from fedrms.experiment.config import plain
from fedrms.reproduce.code_version import code_version
from fedrms.reproduce.plan import Plan
from fedrms.results.atomic import write_file
from fedrms.results.summary import SUMMARY_FILE

JOB_FILE: Final = "job.json"


@dataclass(frozen=True)
class Job:
    """One run of a table."""

    scenario: str
    strategy: str
    """Names in the plan."""
    seed: int  # the run's seed
    overrides: tuple[str, ...]  # what ``fedrms`` is started with
    folder: Path  # where it writes
    fingerprint: str  # of its configuration and of the code

    def __str__(self) -> str:
        """Name it for a person."""
        return f"{self.scenario}, {self.strategy}, seed {self.seed}"

    @property
    def shared(self) -> Path:
        """Where runs of one scenario and seed share what does not depend on the strategy."""
        return self.folder.parent.parent / f".shared-{code_version()}"

    @property
    def finished(self) -> bool:
        """Whether the run is there, complete, from this configuration and this code."""
        told = _read(self.folder / JOB_FILE)
        if told.get("fingerprint") != self.fingerprint:
            return False
        return bool(_read(self.folder / SUMMARY_FILE).get("status") == "finished")

    def sign(self, revision: str | None) -> None:
        """Note beside a finished run what it was made from."""
        told = {
            "fingerprint": self.fingerprint,
            "code_version": code_version(),
            "revision": revision,
            "overrides": list(self.overrides),
        }
        text = json.dumps(told, indent=2) + "\n"
        write_file(self.folder / JOB_FILE, text)


def list_jobs(plan: Plan, folder: Path) -> list[Job]:
    """Compose every run of a table, seed by seed, so that a part of it can be compared early.

    Runs of one scenario and seed follow each other: a worker builds their data once. They are in
    ``<folder>/<scenario>/<strategy>/<seed>``.
    """
    digests = {
        (scenario, strategy): config_of(plan, scenario, strategy)
        for scenario in plan.scenarios
        for strategy in plan.rows(scenario)
    }
    return [
        Job(
            scenario=scenario,
            strategy=strategy,
            seed=seed,
            overrides=tuple(plan.overrides_of(scenario, strategy, seed)),
            folder=folder / scenario / slug(strategy) / str(seed),
            fingerprint=_fingerprint(config, seed),
        )
        for seed in plan.seeds
        for (scenario, strategy), config in digests.items()
    ]


def read_job(folder: Path) -> dict[str, Any]:
    """Return what `Job.sign` noted beside a run."""
    return _read(folder / JOB_FILE)


def config_of(plan: Plan, scenario: str, strategy: str) -> dict[str, Any]:
    """Compose a row's configuration at seed 0."""
    try:
        config = compose_config(plan.overrides_of(scenario, strategy, 0))
        return plain(config)
    except ConfigError as error:
        key = f"{plan.name}, {scenario}, {strategy}: {error.key}"
        raise ConfigError(key, error.problem, error.remedy) from error


def _fingerprint(config: dict[str, Any], seed: int) -> str:
    """Digest a configuration; where the data lies does not matter."""
    data = {key: value for key, value in config["data"].items() if key != "path"}
    noise = {key: value for key, value in config["noise"].items() if key != "path"}
    told = config | {"seed": seed, "data": data, "noise": noise, "code": code_version()}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def slug(name: str) -> str:
    """Return a row's name as that of a folder."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
