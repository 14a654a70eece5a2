"""Numbers that a paper printed, beside those of this table's runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from fedrms.errors import ConfigError

PERCENT: Final = ("final", "client_mean", "client_worst", "client_best", "client_min")
"""Columns in percent, where the metric is an accuracy."""


@dataclass(frozen=True)
class Published:
    """What a paper printed of one scenario."""

    source: str  # the paper, its table, and how its runs differ from ours
    scenario: str  # the scenario that it is compared with
    rows: Mapping[str, Mapping[str, Any]]
    """By the paper's name of a method: ``ours``, the row of the plan that it is compared with, and
    by the name of a column of ``<table>.parquet`` the mean and its spread, as printed; None for a
    spread that was not."""

    @property
    def columns(self) -> list[str]:
        """The columns of any row, in the order of their first appearance."""
        return list(dict.fromkeys(c for row in self.rows.values() for c in row if c != "ours"))


def read_published(
    where: str,
    values: Mapping[str, Any],
    scenarios: Sequence[str],
    strategies: Sequence[str],
) -> Published:
    """Check the part ``published`` of a plan: ``source``, ``scenario`` and ``rows`` that it has.

    A number needs a spread, or None for one that was not printed.
    """
    key = f"{where}: published"
    missing = {"source", "scenario", "rows"} - set(values)
    if missing:
        raise ConfigError(key, f"lacks {', '.join(sorted(missing))}", "name it")
    if values["scenario"] not in scenarios:
        raise ConfigError(
            key, f"there is no scenario {values['scenario']!r}", f"there are {list(scenarios)}"
        )
    for name, row in values["rows"].items():
        if row.get("ours") not in strategies:
            raise ConfigError(
                f"{key}: {name}: ours",
                f"there is no row {row.get('ours')!r}",
                f"there are {list(strategies)}",
            )
        for column, pair in row.items():
            if column != "ours" and not (isinstance(pair, list) and len(pair) == 2):
                raise ConfigError(f"{key}: {name}: {column}", f"is {pair!r}", "set [mean, spread]")
    return Published(values["source"], values["scenario"], values["rows"])


def beside(published: Published, table: pd.DataFrame) -> list[list[str]]:
    """Return the cells of a table of two rows a method: as printed, and of these runs, a row each.

    They are method, whose, and a cell a column; mean ± std over seeds.
    """
    here = table[table["scenario"] == published.scenario]
    lines = []
    for name, row in published.rows.items():
        mine = here[here["strategy"] == row["ours"]]
        printed, own = [name, "published"], [f"`{row['ours']}`", "here"]
        for column in published.columns:
            printed.append(_printed(*row[column]) if column in row else "-")
            own.append(_mean(mine, column))
        lines += [printed, own]
    return lines


def _printed(mean: float, spread: float | None) -> str:
    return f"{mean:g}" if spread is None else f"{mean:g} ± {spread:g}"


def _mean(runs: pd.DataFrame, column: str) -> str:
    if column not in runs or runs[column].isna().all():
        return "-"
    percent = column in PERCENT and (runs["metric"] == "accuracy").all()
    values = runs[column] * (100.0 if percent else 1.0)
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    told = f"{mean:.1f}" if percent else f"{mean:.4g}"
    return told if math.isnan(spread) else f"{told} ± {spread:.2g}"
