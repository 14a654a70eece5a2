"""What a comparison takes from each run: one final number per metric, and its curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fedrms.errors import ConfigError
from fedrms.results.runs import Runs
from fedrms.results.shown import test_finals
from fedrms.results.summary import (
    LAST_ROUNDS,
    _final_rounds,
    higher_is_better,
    is_share,
    tells,
)

if TYPE_CHECKING:
    import pandas as pd

OVER_CLIENTS: Final = ("client_worst", "client_best", "client_variance_e4")

_AS_TEST_METRIC: Final = ("client_mean", "client_worst", "client_best", "client_min")
_HIGHER: Final = (
    *("client_jain", "client_entropy", "client_cosine", "noise_auroc", "noise_spearman"),
    *("clean_weight_share", "effective_sample_size"),
)
_LOWER: Final = (
    *("client_std", "client_variance_e4", "client_gini", "test_loss", "seconds"),
    *("wall_seconds", "failed_client_rounds"),
)


@dataclass(frozen=True)
class Metric:
    """The compared number."""

    name: str  # as the caller gave it: ``"accuracy"``, ``"client_worst"``
    summary: str | None
    """The summary's column that holds its final value, or None: the mean of `rounds`."""
    rounds: str | None  # the rounds' column that holds its curve
    higher_is_better: bool  # its direction
    test_metric: str  # what the runs are scored by, ``"accuracy"``; empty if they have several

    @property
    def fraction(self) -> bool:
        """Whether it is a share of examples, to be shown in percent."""
        as_test = _follows_test_metric(self.name) or self.name == "client_std"
        return is_share(self.test_metric if as_test else self.name)


@dataclass(frozen=True)
class Outcome:
    """One run's numbers; `reach` is the metric by round."""

    final: float
    worst: float
    client_worst: float
    client_best: float
    client_variance_e4: float
    noise_auroc: float
    seconds: float
    reach: pd.Series[float]


def find_metric(runs: Runs, summary: pd.DataFrame, name: str | None, higher: bool | None) -> Metric:
    """Find where the runs keep a metric, and which way is better.

    It is refused where no run has it, or it was not named and there are several, or its direction
    is neither known nor given.
    """
    tested = _scored_by(summary)
    if name is None:
        if len(tested) != 1:
            raise ConfigError("metric", f"the runs report {len(tested)} metrics", _choose(summary))
        name = tested[0]
    alone = tested[0] if len(tested) == 1 else name if name in _test_metrics(summary) else ""
    if f"final_{name}" in summary:
        higher = _test_direction(name, summary) if higher is None else higher
        return Metric(name, f"final_{name}", f"test_{name}", higher, alone)
    by_round = _numbers(runs.rounds, name)
    if not by_round and (name in runs.config or not _numbers(summary, name)):
        raise ConfigError(
            "metric", f"no run reports final_{name}, or {name} by round", _choose(summary)
        )
    if higher is None:
        higher = _direction(name, summary)
    return Metric(name, None if by_round else name, name if by_round else None, higher, alone)


def scored_by(summary: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """Leave out the runs of another test metric; a run that diverged has this one all the same."""
    column = metric.summary
    if column is None or not column.startswith("final_"):
        return summary
    told = summary[column].notna()
    if "metric" in summary:
        told |= summary["metric"] == metric.name
    if not told.any():
        raise ConfigError("metric", f"no finished run reports {column}", _choose(summary))
    return summary[told]


def outcomes(summary: pd.DataFrame, rounds: pd.DataFrame, metric: Metric) -> dict[str, Outcome]:
    """Return each run's outcome, by the run's name."""
    read = {"run", "round", metric.rounds, *OVER_CLIENTS}
    few = [c for c in rounds if c in read or str(c).startswith("test_")]  # of all that are copied
    rounds = rounds[few]
    by_run = {str(run): rows for run, rows in rounds.groupby("run", observed=True)}
    worst = f"worst_client_{metric.test_metric}"
    names = [metric.summary or "", worst, "noise_auroc", "seconds"]
    numbers = summary.reindex(columns=names).astype(float).to_numpy()
    return {
        str(run): _outcome(by_run.get(str(run), rounds.head(0)), metric, *row)
        for run, row in zip(summary["run"], numbers.tolist(), strict=True)
    }


def _outcome(
    rounds: pd.DataFrame, metric: Metric, final: float, worst: float, auroc: float, seconds: float
) -> Outcome:
    last = _last_rounds(rounds)
    if metric.summary is None and metric.rounds is not None:
        final = _known_mean(last, metric.rounds)
    import pandas as pd  # most runs begin without it

    curve: pd.Series[float] = pd.Series(dtype=float)
    if metric.rounds in rounds:
        known = rounds[rounds[metric.rounds].notna()]
        curve = known.set_index("round")[metric.rounds]
    over_clients = {name: _known_mean(last, name) for name in OVER_CLIENTS}
    return Outcome(final, worst, noise_auroc=auroc, seconds=seconds, reach=curve, **over_clients)


def _last_rounds(rounds: pd.DataFrame) -> pd.DataFrame:
    """Return the rounds behind the final numbers; none if the run diverged."""
    columns = [c for c in rounds if str(c).startswith("test_") and c != "test_loss"]
    columns = [c for c in columns if rounds[c].notna().any()]
    if not columns:
        return rounds.head(0)
    trained = rounds[rounds["round"] > 0] if (rounds["round"] > 0).any() else rounds
    last = _final_rounds(trained, str(columns[0]), LAST_ROUNDS)
    return last.head(0) if last[columns[0]].isna().any() else last


def _known_mean(rounds: pd.DataFrame, column: str) -> float:
    """Average over the rounds in which a number is defined."""
    return float(rounds[column].mean()) if column in rounds and len(rounds) else math.nan


def _scored_by(summary: pd.DataFrame) -> list[str]:
    """Return what the runs are judged by: of several metrics that a run tells, the first."""
    if tells(summary, "metric"):
        judged = summary["metric"].dropna().astype(str).unique().tolist()
        return [name for name in judged if f"final_{name}" in summary]
    return _test_metrics(summary)


def _test_metrics(summary: pd.DataFrame) -> list[str]:
    return [column.removeprefix("final_") for column in test_finals(summary)]


def _choose(summary: pd.DataFrame) -> str:
    found = ", ".join(_test_metrics(summary))
    if not found or not len(summary):
        return "let a run finish first"
    return f"choose from {found}, or name a column of rounds.parquet"


def _numbers(frame: pd.DataFrame, name: str) -> bool:
    from pandas.api.types import is_numeric_dtype  # most runs begin without it

    return name in frame and is_numeric_dtype(frame[name])


def _test_direction(name: str, summary: pd.DataFrame) -> bool:
    if "higher_is_better" in summary:
        mine = summary[summary["metric"] == name] if "metric" in summary else summary
        if mine["higher_is_better"].notna().any():
            return bool(mine["higher_is_better"].dropna().iloc[0])
    return higher_is_better(name)


def _follows_test_metric(name: str) -> bool:
    return name in _AS_TEST_METRIC or name.endswith("_protection")


def _direction(name: str, summary: pd.DataFrame) -> bool:
    if name in _HIGHER:
        return True
    if name in _LOWER or name.startswith("false_penalty"):
        return False
    told: list[Any] = []
    if _follows_test_metric(name) and "higher_is_better" in summary:
        told = list(summary["higher_is_better"].dropna().unique())
    if len(told) != 1:
        raise ConfigError(
            "higher_is_better",
            f"not known for {name}",
            "give compare higher_is_better=True or False",
        )
    return bool(told[0])
