"""What the report is about: its runs, sorted into settings that can be compared in themselves."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import pandas as pd

from fedrms.errors import ConfigError
from fedrms.results.compare import BASELINE, compare
from fedrms.results.plots.client_view import gain_table
from fedrms.results.runs import Runs
from fedrms.results.scenarios import place_runs
from fedrms.results.shown import test_finals

_OWN: Final = ("strategy", "server_optimizer")
_LEVEL_WORDS: Final = 60


@dataclass(frozen=True, eq=False)
class Setting:
    """Runs that differ by their strategy and their seed only.

    Attributes
    ----------
    title : str
        What sets it apart: ``"noise=label, partition.alpha=0.3"``; empty if it is the only one.
    runs : Runs
        Its runs; every table has the further column ``label``: the strategy, with those of its
        own settings that vary.
    metric : str
        ``"accuracy"``, ``"mse"``.
    higher_is_better : bool
        Of the metric.
    baseline : str
        The label to compare with; empty if it did not run.
    comparison : DataFrame or None
        What :func:`fedrms.compare` says of it; None if no run finished.
    """

    title: str
    runs: Runs
    metric: str
    higher_is_better: bool
    baseline: str
    comparison: pd.DataFrame | None

    @property
    def labels(self) -> list[str]:
        """The strategies, the baseline first, then from best to worst."""
        found = list(dict.fromkeys(self.runs.summary["label"]))
        if self.comparison is None:
            return found
        ranked = [str(label) for label in self.comparison.index.get_level_values(-1)]
        return [*[n for n in ranked if n in found], *[n for n in found if n not in ranked]]

    def row(self, label: str) -> dict[str, Any] | None:
        """Return what the comparison says of a strategy; None if it does not know it."""
        if self.comparison is None:
            return None
        records = self.comparison.to_dict("records")
        by_label = {str(key): one for key, one in zip(self.comparison.index, records, strict=True)}
        return {str(name): value for name, value in by_label.get(label, {}).items()} or None

    def gains(self, groups: pd.DataFrame, label: str) -> pd.DataFrame:
        """Pair each client with itself under the baseline, which must have run."""
        return gain_table(
            groups,
            label,
            baseline=self.baseline,
            by="label",
            higher_is_better=self.higher_is_better,
        )


@dataclass(frozen=True, eq=False)
class Sorted:
    """All settings, and what has to be said about the runs.

    Attributes
    ----------
    settings : list of Setting
    comparisons : list of DataFrame
        One a metric: the comparison of all settings with it.
    problems : list of str
        Sentences for people: which runs are left out, and why.
    """

    settings: list[Setting]
    comparisons: list[pd.DataFrame]
    problems: list[str]


def sort_runs(runs: Runs, baseline: str = "fedavg") -> Sorted:
    """Sort runs by metric and setting.

    Interrupted runs are left out where others of their metric finished, and shown alone as
    far as they went where none did.

    Parameters
    ----------
    runs : Runs
        What `load_runs` returned.
    baseline : str
        The strategy to compare with.
    """
    settings: list[Setting] = []
    comparisons: list[pd.DataFrame] = []
    problems: list[str] = []
    metrics = _metrics(runs.summary)
    problems += [
        f"{run}: no round was recorded, so there is nothing to show"
        for run in runs.summary["run"][metrics == ""]
    ]
    known = [metric for metric in dict.fromkeys(metrics) if metric]
    if len(known) > 1:
        problems.append(
            f"the runs are of {len(known)} kinds ({', '.join(known)}); each is compared with its "
            "own kind only"
        )
    for metric in known:
        part = select(runs, runs.summary["run"][metrics == metric])
        part = _usable(part, metric, problems)
        comparison = _comparison(part, metric, baseline, problems)
        if comparison is not None:
            comparisons.append(comparison)
        settings += _settings(part, metric, baseline, comparison)
    return Sorted(settings, comparisons, problems)


def select(runs: Runs, names: Any) -> Runs:
    """Return the runs of these names."""
    wanted = set(map(str, names))
    if wanted.issuperset(runs.summary["run"].astype(str)):
        return runs

    def of(table: pd.DataFrame) -> pd.DataFrame:
        if "run" not in table:
            return table
        chosen = table[table["run"].isin(wanted)].copy()
        for name in chosen.columns:
            if isinstance(chosen[name].dtype, pd.CategoricalDtype):
                chosen[name] = chosen[name].cat.remove_unused_categories()
        return chosen

    return replace(
        runs,
        summary=of(runs.summary).reset_index(drop=True),
        rounds=of(runs.rounds),
        clients=of(runs.clients),
        partition=of(runs.partition),
        left_out=of(runs.left_out),
    )


def _metrics(summary: pd.DataFrame) -> pd.Series[str]:
    """Return each run's test metric; empty where it has none."""
    if "metric" in summary:
        return summary["metric"].fillna("").astype(str)
    metrics = pd.Series("", index=summary.index)
    for name in test_finals(summary):
        metrics[summary[name].notna()] = name.removeprefix("final_")
    return metrics


def _usable(runs: Runs, metric: str, problems: list[str]) -> Runs:
    finished = runs.summary["status"] == "finished"
    if not finished.any():
        problems.append(
            f"no run with {metric} finished; what is shown is as far as they went: "
            f"{_named(runs.summary['run'])}"
        )
    for _, row in runs.summary[~finished].iterrows():
        error, how = row.get("error"), "interrupted"
        if row["status"] == "running":
            how = f"running, round {_done(row)} of {row.get('rounds')}"
        why = f": {error}" if isinstance(error, str) and error else ""
        left_out = "; its tables are kept, and left out here" if finished.any() else ""
        problems.append(f"{row['run']}: {how}{why}{left_out}")
    if not finished.any():
        return runs
    return select(runs, runs.summary["run"][finished])


def _done(row: pd.Series) -> int:
    rounds = row.get("summary.rounds")
    return 0 if rounds is None or pd.isna(rounds) else int(rounds)


def _comparison(runs: Runs, metric: str, baseline: str, problems: list[str]) -> pd.DataFrame | None:
    if not (runs.summary["status"] == "finished").any():
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            named = None if baseline == BASELINE else baseline
            table = compare(runs, baseline=named, metric=metric)
        except ConfigError as error:
            problems.append(f"no comparison: {error}")
            return None
    problems += [str(warning.message) for warning in caught if warning.category is UserWarning]
    return table


def _settings(
    runs: Runs, metric: str, baseline: str, comparison: pd.DataFrame | None
) -> Iterator[Setting]:
    summary = runs.summary
    if "strategy" in summary:
        levels, placed = place_runs(summary, runs.config, by="strategy", own=_OWN)
        scenario = {run: place.scenario for run, place in placed.items()}
        label = {run: place.label for run, place in placed.items()}
    else:  # without its config a run is a setting of its own
        levels, scenario = ["run"], {str(run): (str(run),) for run in summary["run"]}
        label = {str(run): str(run) for run in summary["run"]}
    higher = (
        bool(summary["higher_is_better"].dropna().all()) if "higher_is_better" in summary else True
    )
    for values in dict.fromkeys(scenario.values()):
        names = [run for run, place in scenario.items() if place == values]
        chosen = _labelled(select(runs, names), label)
        title = ", ".join(f"{n}={v}" for n, v in zip(levels, values, strict=True))
        if len(title) > _LEVEL_WORDS:
            title = title[: _LEVEL_WORDS - 1] + "…"
        found = set(chosen.summary["label"])
        yield Setting(
            title=title if len(set(scenario.values())) > 1 else "",
            runs=chosen,
            metric=metric,
            higher_is_better=higher,
            baseline=baseline if baseline in found else "",
            comparison=_rows_of(comparison, levels, values),
        )


def _rows_of(
    comparison: pd.DataFrame | None, levels: list[str], values: tuple[Any, ...]
) -> pd.DataFrame | None:
    if comparison is None or not levels or comparison.index.nlevels == 1:
        return comparison
    kept = [key[:-1] == values for key in comparison.index]
    rows = comparison[kept].droplevel(list(range(len(levels))))
    rows.attrs = dict(comparison.attrs)
    return rows


def _labelled(runs: Runs, label: dict[str, str]) -> Runs:
    def of(table: pd.DataFrame) -> pd.DataFrame:
        if "run" not in table:
            return table
        labelled = table.copy()
        labelled.insert(1, "label", table["run"].astype(str).map(label))
        return labelled

    return replace(runs, summary=of(runs.summary), rounds=of(runs.rounds), clients=of(runs.clients))


def _named(names: pd.Series[str]) -> str:
    shown = list(map(str, names[:5]))
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
