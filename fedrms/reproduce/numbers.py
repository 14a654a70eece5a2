"""The numbers of a table's page: `compare` in each scenario, and the gap to the oracle."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pandas as pd

from fedrms.reproduce.plan import Plan
from fedrms.reproduce.tidy import Tidy
from fedrms.results.compare import compare


@dataclass(frozen=True)
class Numbers:
    """One scenario's numbers.

    Attributes
    ----------
    scenario : str
        Its name in the plan.
    comparison : DataFrame
        What `fedrms.compare` says, by the rows' names.
    oracle : str or None
        The better one of the oracles; None without one.
    gap : mapping of str to float
        Share of the way from the baseline to the oracle, by row; NaN where the oracle is
        no better than the baseline.
    further : DataFrame
        Mean over seeds of the plan's further columns, by row, of those there are.
    """

    scenario: str
    comparison: pd.DataFrame
    oracle: str | None
    gap: dict[str, float]
    further: pd.DataFrame


def numbers_of(plan: Plan, tidy: Tidy) -> list[Numbers]:
    """Compare the finished runs, scenario by scenario, in the plan's order."""
    there = set(tidy.runs.summary["scenario"])
    return [_numbers(plan, tidy, scenario) for scenario in plan.scenarios if scenario in there]


def _numbers(plan: Plan, tidy: Tidy, scenario: str) -> Numbers:
    summary = tidy.runs.summary
    here = replace(tidy.runs, summary=summary[summary["scenario"] == scenario])
    comparison = compare(here, baseline=plan.baseline, by="row")
    comparison.index.name = "strategy"
    rows = tidy.table[tidy.table["scenario"] == scenario]
    shown = [name for name in plan.columns if name in rows and rows[name].notna().any()]
    further = rows.groupby("strategy")[shown].mean().reindex(comparison.index)
    oracle = _better_oracle(plan, comparison)
    return Numbers(scenario, comparison, oracle, _gap(comparison, oracle), further)


def _better_oracle(plan: Plan, comparison: pd.DataFrame) -> str | None:
    """Return the oracle with the best mean: `compare` sorts from best to worst."""
    known = [row for row in comparison.index if row in plan.oracles]
    return str(known[0]) if known else None


def _gap(comparison: pd.DataFrame, oracle: str | None) -> dict[str, float]:
    sign = 1.0 if comparison.attrs["higher_is_better"] else -1.0
    lead = math.nan if oracle is None else sign * float(comparison["difference"][oracle])
    return {
        str(row): sign * float(difference) / lead if lead > 0 else math.nan
        for row, difference in comparison["difference"].items()
    }
