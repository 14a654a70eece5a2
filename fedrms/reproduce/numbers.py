"""The numbers of a table's page: what `compare` says, scenario by scenario."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fedrms.reproduce.plan import Plan
from fedrms.reproduce.tidy import Tidy
from fedrms.results.compare import compare


@dataclass(frozen=True)
class Numbers:
    """One scenario's numbers."""

    scenario: str  # its name in the plan
    comparison: pd.DataFrame
    """What `fedrms.compare` says, by the rows' names; claims are corrected for all comparisons of
    the table."""
    oracle: str | None  # the better one of the oracles; None without one
    further: pd.DataFrame
    """Mean over seeds of the plan's further columns, by row, of those there are."""


def numbers_of(plan: Plan, tidy: Tidy) -> tuple[list[Numbers], list[str]]:
    """Compare the finished runs; return each scenario's numbers, and what they rest on.

    That is sentences of `fedrms.compare`, on the whole table.
    """
    there = set(tidy.table["strategy"])
    oracles = [name for name in plan.oracles if name in there]
    ran = plan.baseline in set(tidy.runs.summary["row"])
    baseline = plan.baseline if ran else None
    whole = compare(tidy.runs, baseline=baseline, by="row", oracle=oracles, test=plan.test)
    attrs = {str(key): value for key, value in whole.attrs.items()}
    if whole.index.nlevels == 1:
        (only,) = tidy.table["scenario"].unique()
        whole = pd.concat({only: whole}, names=["scenario"])
    found = set(whole.index.get_level_values("scenario"))
    numbers = [
        _numbers(plan, tidy, scenario, whole.loc[[scenario]].droplevel("scenario"), attrs)
        for scenario in plan.scenarios
        if scenario in found
    ]
    return numbers, [str(note).replace("scenario=", "") for note in attrs["notes"]]


def _numbers(
    plan: Plan, tidy: Tidy, scenario: str, comparison: pd.DataFrame, attrs: dict[str, Any]
) -> Numbers:
    comparison = comparison.rename_axis("strategy")
    comparison.attrs.clear()
    comparison.attrs.update(attrs, notes=[])  # notes are told once, for the whole table
    rows = tidy.table[tidy.table["scenario"] == scenario]
    shown = [name for name in plan.columns if name in rows and rows[name].notna().any()]
    further = rows.groupby("strategy")[shown].mean().reindex(comparison.index)
    return Numbers(scenario, comparison, _better_oracle(plan, comparison), further)


def _better_oracle(plan: Plan, comparison: pd.DataFrame) -> str | None:
    """Return the oracle that ends the gap: the one that closes all of it."""
    for row in comparison.index:
        if row in plan.oracles and math.isclose(comparison["gap"][row], 1.0):
            return str(row)
    known = [row for row in comparison.index if row in plan.oracles]
    return str(known[0]) if known else None
