"""Strategies side by side, paired over what they share: the seed, the data, the noise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from fedrms.errors import ConfigError
from fedrms.results.runs import Runs
from fedrms.results.scenarios import Placed, place_runs
from fedrms.results.summary import higher_is_better

COLUMNS: Final = (
    "runs",
    "mean",
    "std",
    "difference",
    "difference_std",
    "rounds_to_baseline",
    "worst_client",
    "worst_client_difference",
    "noise_auroc",
    "seconds",
)

_UNFINISHED: Final = ("interrupted", "failed")


@dataclass(frozen=True)
class _Outcome:
    """One run's numbers; `reach` is its test metric by round."""

    final: float
    worst: float
    noise_auroc: float
    seconds: float
    reach: pd.Series[float]


def compare(
    runs: Runs,
    *,
    baseline: str = "fedavg",
    by: str = "strategy",
    metric: str | None = None,
    ignore: Sequence[str] = (),
) -> pd.DataFrame:
    """Compare strategies by the mean over seeds, and by paired differences to a baseline.

    Two runs are a pair if every config value is the same but for those of `by` itself
    (``strategy``, ``strategy.*``, and ``server_optimizer`` with it). Settings other than
    the seed that vary make scenarios, which are compared each for itself. Of runs with one
    and the same config the last by name counts; interrupted runs are left out.

    Parameters
    ----------
    runs : Runs
        What `load_runs` returned.
    baseline : str
        The strategy to subtract; if it is absent, the columns that need it are NaN, and so
        are they, with a warning, if it has several variants and none of them is named.
    by : str
        The config column whose values are compared.
    metric : str, optional
        ``"accuracy"``, ``"mse"``; found out from the runs if they have but one.
    ignore : sequence of str
        Further config keys that belong to the strategies and must not separate pairs; a
        key stands for everything below it too. Example: ``["client.proximal_mu"]``.

    Returns
    -------
    DataFrame
        One row per strategy, the baseline first, then from best to worst; the index is
        `by`, preceded by the settings that tell the scenarios apart. Strategies of one
        name that differ in their own settings are rows of their own, named
        ``"fedrms, beta=0.5"``. Accuracies are fractions. Columns:

        - ``runs``: seeds; ``mean``, ``std``: of the final metric (mean of the last
          rounds) over seeds, with the sample's standard deviation;
        - ``difference``, ``difference_std``: of strategy minus baseline, over the seeds
          that both have;
        - ``rounds_to_baseline``: median over these seeds of the first round whose test
          metric reaches the baseline's final one; NaN if it is never;
        - ``worst_client``, ``worst_client_difference``, ``noise_auroc``, ``seconds``:
          means over seeds.

        A run that diverged makes the means it enters NaN. ``attrs`` holds ``metric``,
        ``higher_is_better``, ``baseline`` and ``by``.

    Raises
    ------
    ConfigError
        If there is no column `by`, no finished run, or several metrics to choose from.
    """
    if by not in runs.summary:
        raise ConfigError(
            "by", f"no run has a column {by!r}", f"choose from {', '.join(runs.config)}"
        )
    summary = _finished(runs.summary)
    metric = metric or _only_metric(summary)
    if f"final_{metric}" not in summary:
        raise ConfigError("metric", f"no run reports final_{metric}", _choose(summary))
    told = summary[f"final_{metric}"].notna()
    if "metric" in summary:
        told |= summary["metric"] == metric
    summary = summary[told]
    if summary.empty:
        raise ConfigError("metric", f"no finished run reports final_{metric}", _choose(summary))
    higher = _direction(summary, metric)
    own = [by, *(["server_optimizer"] if by == "strategy" else []), *ignore]
    levels, placed = place_runs(summary, runs.config, by=by, own=own)
    outcomes = _outcomes(summary, runs.rounds, metric)
    rows: list[tuple[tuple[Any, ...], dict[str, float]]] = []
    for scenario in dict.fromkeys(p.scenario for p in placed.values()):
        here = {run: p for run, p in placed.items() if p.scenario == scenario}
        rows += _scenario_rows(here, outcomes, baseline, higher)
    index = pd.MultiIndex.from_tuples([key for key, _ in rows], names=[*levels, by])
    table = pd.DataFrame([row for _, row in rows], index=index, columns=list(COLUMNS))
    if not levels:
        table.index = index.get_level_values(by)
    table.attrs = {"metric": metric, "higher_is_better": higher, "baseline": baseline, "by": by}
    return table


def _finished(summary: pd.DataFrame) -> pd.DataFrame:
    if "status" not in summary:
        return summary
    unfinished = summary["status"].isin(_UNFINISHED)
    if unfinished.any():
        names = ", ".join(map(str, summary.loc[unfinished, "run"]))
        warnings.warn(f"not compared, as they did not finish: {names}", UserWarning, stacklevel=3)
    return summary[~unfinished]


def _metrics(summary: pd.DataFrame) -> list[str]:
    finals = [c for c in summary if str(c).startswith("final_") and c != "final_loss"]
    return [str(c).removeprefix("final_") for c in finals]


def _choose(summary: pd.DataFrame) -> str:
    found = ", ".join(_metrics(summary))
    return f"choose from {found}" if found and len(summary) else "let a run finish first"


def _only_metric(summary: pd.DataFrame) -> str:
    found = _metrics(summary)
    if len(found) != 1:
        raise ConfigError("metric", f"the runs report {len(found)} metrics", _choose(summary))
    return found[0]


def _direction(summary: pd.DataFrame, metric: str) -> bool:
    if "higher_is_better" in summary and summary["higher_is_better"].notna().any():
        return bool(summary["higher_is_better"].dropna().iloc[0])
    return higher_is_better(metric)


def _outcomes(summary: pd.DataFrame, rounds: pd.DataFrame, metric: str) -> dict[str, _Outcome]:
    column = f"test_{metric}"
    curves: dict[str, pd.Series[float]] = {}
    if column in rounds:
        measured = rounds[rounds[column].notna()]
        for run, rows in measured.groupby("run", observed=True):
            curves[str(run)] = rows.set_index("round")[column].sort_index()
    nothing: pd.Series[float] = pd.Series(dtype=float)
    columns = [f"final_{metric}", f"worst_client_{metric}", "noise_auroc", "seconds"]
    numbers = summary.reindex(columns=columns).astype(float).to_numpy()
    return {
        str(run): _Outcome(final, worst, auroc, seconds, curves.get(str(run), nothing))
        for run, (final, worst, auroc, seconds) in zip(
            summary["run"], numbers.tolist(), strict=True
        )
    }


def _scenario_rows(
    placed: dict[str, Placed], outcomes: dict[str, _Outcome], baseline: str, higher: bool
) -> list[tuple[tuple[Any, ...], dict[str, float]]]:
    """Rows of one scenario, the baseline first, then by their mean."""
    by_label: dict[str, dict[Any, _Outcome]] = {}
    for run, place in placed.items():
        by_label.setdefault(place.label, {})[place.seed] = outcomes[run]
    reference = _baseline_label(placed, baseline)
    base = by_label.get(reference, {})
    rows = {label: _row(seeds, base, higher) for label, seeds in by_label.items()}
    scenario = next(iter(placed.values())).scenario

    def rank(label: str) -> tuple[bool, bool, float, str]:
        mean = rows[label]["mean"]
        worse = math.isnan(mean)
        return (label != reference, worse, 0.0 if worse else -mean if higher else mean, label)

    return [((*scenario, label), rows[label]) for label in sorted(rows, key=rank)]


def _baseline_label(placed: dict[str, Placed], baseline: str) -> str:
    labels = {place.label for place in placed.values()}
    if baseline in labels:
        return baseline
    variants = sorted({place.label for place in placed.values() if place.choice == baseline})
    if len(variants) > 1:
        warnings.warn(
            f"no differences: {baseline!r} may be any of {len(variants)} variants. Give one as "
            f"the baseline: {'; '.join(map(repr, variants))}",
            UserWarning,
            stacklevel=4,
        )
    return variants[0] if len(variants) == 1 else baseline


def _row(seeds: dict[Any, _Outcome], base: dict[Any, _Outcome], higher: bool) -> dict[str, float]:
    own = list(seeds.values())
    pairs = [(outcome, base[seed]) for seed, outcome in seeds.items() if seed in base]
    difference = [a.final - b.final for a, b in pairs]
    return {
        "runs": len(own),
        "mean": _mean([o.final for o in own]),
        "std": _std([o.final for o in own]),
        "difference": _mean(difference),
        "difference_std": _std(difference),
        "rounds_to_baseline": _median_round([_first(a.reach, b.final, higher) for a, b in pairs]),
        "worst_client": _mean([o.worst for o in own]),
        "worst_client_difference": _mean([a.worst - b.worst for a, b in pairs]),
        "noise_auroc": _mean([o.noise_auroc for o in own]),
        "seconds": _mean([o.seconds for o in own]),
    }


def _first(curve: pd.Series[float], target: float, higher: bool) -> float:
    """Return the first round at or beyond the target; infinity if there is none."""
    values = curve.to_numpy(dtype=float)
    reached = values >= target if higher else values <= target
    return float(curve.index[int(reached.argmax())]) if reached.any() else math.inf


def _median_round(rounds: list[float]) -> float:
    median = float(np.median(rounds)) if rounds else math.inf
    return median if math.isfinite(median) else math.nan


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _std(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
