"""Which runs differ by the strategy alone, which by the seed, which by the scenario."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pandas as pd


_LABELS: Final = frozenset(
    {"run", "name", "experiment", "tags", "note", "tracker", "checkpoint", "resume"}
)
"""Config keys, with all below them, that only label a run or say where else it is kept."""


@dataclass(frozen=True)
class Placed:
    """Where one run stands in a comparison."""

    scenario: tuple[Any, ...]  # the values of the settings that tell the scenarios apart
    seed: tuple[Any, ...]
    """The values of the seeds; runs of one scenario with the same seeds are a pair."""
    choice: str  # the strategy's name
    label: str  # the name, with those of the strategy's own settings that vary under this name


def place_runs(
    summary: pd.DataFrame, config: Sequence[str], *, by: str, own: Sequence[str]
) -> tuple[list[str], dict[str, Placed]]:
    """Sort runs, a row each, into scenarios, seeds and strategies.

    ``by`` is the column whose values are compared, and ``own`` are those that belong to the
    strategy, with everything below them. The levels are the settings that tell the scenarios apart:
    as few as will do, the first ones first. Of runs that agree in everything, only the last is
    placed.
    """
    values = {name: [_key(v) for v in summary[name]] for name in config if name in summary}
    varying = [
        n for n, column in values.items() if len(set(column)) > 1 and n.split(".")[0] not in _LABELS
    ]
    mine = [n for n in varying if n != by and _below(n, own)]
    others = [n for n in varying if n != by and n not in mine]
    seeds = [n for n in others if n.split(".")[-1] == "seed" or n.endswith("_seed")]
    shared = [n for n in others if n not in seeds]
    mine = [n for n in mine if not any(_copies(values[n], values[m]) for m in others)]
    levels = _fewest(shared, values, len(summary))
    choices = [str(choice) for choice in summary[by]]
    labels = _label(choices, mine, values, by)
    placed: dict[tuple[Any, ...], tuple[str, Placed]] = {}
    for row, run in enumerate(summary["run"]):
        place = Placed(
            scenario=tuple(values[n][row] for n in levels),
            seed=tuple(values[n][row] for n in seeds),
            choice=choices[row],
            label=labels[row],
        )
        placed[(place.scenario, place.seed, place.label)] = (str(run), place)
    return levels, dict(placed.values())


def _key(value: Any) -> Any:
    """Make a value comparable: what is not set is one value, equal to itself."""
    return "-" if value is None or value != value else value


def _copies(column: list[Any], source: list[Any]) -> bool:
    """Tell whether a strategy's setting only passes on one that is shared."""
    return all(v in ("-", w) for v, w in zip(column, source, strict=True))


def setting_text(value: Any) -> str:
    """Write the value of a setting, of a number no more digits than it has."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _below(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in prefixes)


def _fewest(names: Sequence[str], values: dict[str, list[Any]], rows: int) -> list[str]:
    """Keep a column only if it tells apart what the columns before it do not."""
    kept: list[str] = []
    groups: list[tuple[Any, ...]] = [()] * rows
    for name in names:
        finer = [(*group, value) for group, value in zip(groups, values[name], strict=True)]
        if len(set(finer)) > len(set(groups)):
            kept, groups = [*kept, name], finer
    return kept


def _label(
    choices: list[str], mine: Sequence[str], values: dict[str, list[Any]], by: str
) -> list[str]:
    """Name the strategies, adding settings only where one name stands for several."""
    labels = list(choices)
    for choice in dict.fromkeys(choices):
        rows = [row for row, name in enumerate(choices) if name == choice]
        differing = _fewest(mine, {n: [values[n][r] for r in rows] for n in mine}, len(rows))
        for row in rows:
            told = [f"{n.removeprefix(by + '.')}={setting_text(values[n][row])}" for n in differing]
            labels[row] = ", ".join([choice, *told])
    return labels
