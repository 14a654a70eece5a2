"""What a table is made of: ``conf/reproduce/<table>.yaml``, read and checked."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from fedrms.conf_folder import conf_folder
from fedrms.errors import ConfigError
from fedrms.reproduce.published import Published, read_published

FIRST_REPORT_SEED: Final = 100
"""Seeds below are for tuning and tests; a reported table uses none of them."""

FIGURES: Final = ("differences", "curves")


@dataclass(frozen=True)
class Plan:
    """A table: every strategy in every scenario, on every seed."""

    name: str  # the table; its scenarios are ``conf/experiment/<name>/<scenario>.yaml``
    title: str
    about: str
    """What heads its page: a line, and a paragraph."""
    scenarios: Mapping[str, str]  # what a scenario is called on the page, by name
    strategies: Mapping[str, tuple[str, ...]]
    """The overrides that make a row of the table, by the row's name."""
    seeds: tuple[int, ...]  # of the reported table, 100 or more
    tuning_seeds: tuple[int, ...]  # what anything was chosen on, below 100
    quick: Mapping[str, Any]
    """What the quick form has in place of the above, and its further ``overrides``."""
    baseline: str = "fedavg"  # the row that others are compared with
    focus: str = "fedrms"  # the row that the table is about
    oracles: tuple[str, ...] = ()
    """Rows that know the truth; the better one is the far end of the gap."""
    leave_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Rows that say nothing in a scenario, such as an oracle where nobody is noisy."""
    columns: tuple[str, ...] = ()
    """Further columns of ``rounds.parquet`` to show, averaged over the last 5 rounds."""
    counterfactual: str = "none"
    """``clean``: each run is compared with a federation of the clean clients alone."""
    reference: str | None = None  # ``gauss_markov``: the best linear fit is told beside the table
    figure: str = "differences"
    """``differences`` (to the baseline, a dot a seed) or ``curves`` (over rounds)."""
    figure_strategies: tuple[str, ...] = ()  # the rows it shows; empty = all
    overrides: tuple[str, ...] = ()  # of all runs, after those of a strategy
    test: str = "sign_flip"  # the paired test of :func:`fedrms.compare`: ``sign_flip`` or ``t``
    published: Published | None = None  # numbers that a paper printed, to stand beside ours

    def rows(self, scenario: str) -> tuple[str, ...]:
        """Return the strategies that run in a scenario."""
        left_out = self.leave_out.get(scenario, ())
        return tuple(name for name in self.strategies if name not in left_out)

    def overrides_of(self, scenario: str, strategy: str, seed: int) -> list[str]:
        """Return what one run is started with, as on the command line of ``fedrms``."""
        choice = [f"experiment={self.name}/{scenario}", *self.strategies[strategy]]
        beside = [f"counterfactual={self.counterfactual}", *self.overrides]
        return [*choice, *beside, f"seed={seed}"]

    def narrow(
        self,
        *,
        scenarios: Sequence[str] | None = None,
        strategies: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Plan:
        """Return the same table with a part of its scenarios, strategies or seeds.

        Raises
        ------
        ConfigError
            For a name that the table does not have, with those it has.
        """
        rows = self.strategies if strategies is None else strategies
        return replace(
            self,
            scenarios=_chosen("--scenarios", scenarios, self.scenarios),
            strategies=_chosen("--strategies", strategies, self.strategies),
            seeds=self.seeds if seeds is None else tuple(dict.fromkeys(seeds)),
            oracles=tuple(name for name in self.oracles if name in rows),
            figure_strategies=tuple(name for name in self.figure_strategies if name in rows),
        )

    def quickened(self) -> Plan:
        """Return the quick form: a look at the table in under 3 minutes, on tuning seeds."""
        small = self.narrow(
            scenarios=self.quick.get("scenarios"),
            strategies=self.quick.get("strategies"),
            seeds=self.quick.get("seeds", self.tuning_seeds),
        )
        return replace(small, overrides=tuple(self.quick.get("overrides", ())))


def plan_names() -> list[str]:
    """Return the tables there are."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def read_plan(name: str) -> Plan:
    """Read a table's plan.

    Raises
    ------
    ConfigError
        If there is no such table, or a name in it fits nothing.
    """
    import yaml  # type: ignore[import-untyped,unused-ignore]

    path = _folder() / f"{name}.yaml"
    if name not in plan_names():
        raise _unknown("table", name, plan_names())
    values = yaml.safe_load(path.read_text())
    known = {f.name for f in fields(Plan)} - {"name"}
    for key in values:
        if key not in known:
            raise _unknown(f"reproduce/{name}.yaml", key, sorted(known))
    values["strategies"] = {row: tuple(words) for row, words in values["strategies"].items()}
    values["leave_out"] = {s: tuple(rows) for s, rows in values.get("leave_out", {}).items()}
    for key in ("seeds", "tuning_seeds", "oracles", "columns", "figure_strategies", "overrides"):
        if key in values:
            values[key] = tuple(values[key])
    if "published" in values:
        values["published"] = read_published(
            f"reproduce/{name}.yaml",
            values["published"],
            list(values["scenarios"]),
            list(values["strategies"]),
        )
    plan = Plan(name=name, **values)
    _check(plan)
    return plan


def _folder() -> Path:
    return conf_folder() / "reproduce"


def _check(plan: Plan) -> None:
    where = f"reproduce/{plan.name}.yaml"
    rows = [plan.baseline, plan.focus, *plan.oracles, *plan.figure_strategies]
    for row in [*rows, *(row for left_out in plan.leave_out.values() for row in left_out)]:
        if row not in plan.strategies:
            raise _unknown(f"{where}: strategies", row, list(plan.strategies))
    for scenario in plan.leave_out:
        if scenario not in plan.scenarios:
            raise _unknown(f"{where}: scenarios", scenario, list(plan.scenarios))
    if plan.figure not in FIGURES:
        raise _unknown(f"{where}: figure", plan.figure, FIGURES)
    if min(plan.seeds) < FIRST_REPORT_SEED or max(plan.tuning_seeds) >= FIRST_REPORT_SEED:
        raise ConfigError(
            f"{where}: seeds",
            f"{plan.seeds} to report and {plan.tuning_seeds} to tune on",
            f"report seeds from {FIRST_REPORT_SEED} on, tune on those below",
        )
    quick = plan.quickened()
    if plan.baseline not in quick.strategies or max(quick.seeds) >= FIRST_REPORT_SEED:
        raise ConfigError(
            f"{where}: quick", "lacks the baseline, or has seeds to report", "mend the quick form"
        )


def _chosen(key: str, names: Iterable[str] | None, all_of: Mapping[str, Any]) -> dict[str, Any]:
    """Return the named part of a mapping, in the mapping's order."""
    wanted = list(all_of if names is None else names)
    for name in wanted:
        if name not in all_of:
            raise _unknown(key, name, list(all_of))
    return {name: value for name, value in all_of.items() if name in wanted}


def _unknown(key: str, name: str, names: Sequence[str]) -> ConfigError:
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return ConfigError(
        key, f"there is no {name!r}", f"{hint}there are {', '.join(map(repr, names))}"
    )
