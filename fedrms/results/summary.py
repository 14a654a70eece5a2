"""One run in a few numbers: its final quality, its worst client, its cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fedrms.results.atomic import write_file
from fedrms.results.fairness import PROTECTION
from fedrms.results.objective import OBJECTIVE
from fedrms.results.seal import sealed_json

if TYPE_CHECKING:
    import pandas as pd

SUMMARY_FILE: Final = "summary.json"

LAST_ROUNDS: Final = 5
"""Evaluated rounds that every final number is the mean of."""

_LOWER_IS_BETTER: Final = frozenset({"mse", "rmse", "mae", "loss", "error", "cost", "regret"})

_SHARES: Final = frozenset({"accuracy", "balanced_accuracy", "exact_match"})


def higher_is_better(metric: str) -> bool:
    """Guess from a metric's name whether more is better; false for errors and losses."""
    return _LOWER_IS_BETTER.isdisjoint(metric.split("_"))


def is_share(metric: str) -> bool:
    """Say whether a metric is a share of examples, which tables and figures show in percent."""
    return metric in _SHARES or metric.startswith("recall_")


def tells(table: pd.DataFrame, column: str) -> bool:
    """Say whether a table has a column in which something is known."""
    return column in table and bool(table[column].notna().any())


def metric_text(metric: str, value: float, form: str = ".3g") -> str:
    """Write a value of a metric for people: shares in percent."""
    return f"{value:.1%}" if is_share(metric) else f"{value:{form}}"


def change_text(metric: str, change: float) -> str:
    """Write how much a metric changed for people: shares in points."""
    return f"{100 * change:.1f} points" if is_share(metric) else f"{change:.3g}"


def client_columns(metric: str) -> list[str]:
    """Return the columns of the clients' table that `summarise` reads."""
    return ["round", "client", "failed", f"test_{metric}"]


def summarise(
    rounds: pd.DataFrame,
    clients: pd.DataFrame | Iterable[pd.DataFrame],
    metric: str = "accuracy",
    higher_is_better: bool = True,
    last: int = LAST_ROUNDS,
    further: Sequence[str] = (),
) -> dict[str, Any]:
    """Summarise a run by its last rounds, never by its best one.

    Parameters
    ----------
    rounds, clients : DataFrame
        The tables of one run, as `Recorder.rounds` and `Recorder.clients` return them. That of
        the clients may come in pieces, of which `client_columns` are read.
    metric : str
        Test metric, ``"accuracy"`` or ``"mse"``.
    higher_is_better : bool
        Decides which client is the worst.
    last : int
        Rounds to average over. Rounds without an evaluation, and round 0 (before
        training), do not count.
    further : sequence of str
        Other test metrics that a person asked for.

    Returns
    -------
    dict
        ``final_<metric>`` (of further ones too), ``final_loss`` and ``noise_auroc``: means over
        the last evaluated rounds; ``worst_client_<metric>``: the worst client of each of these
        rounds, averaged; ``rounds``, ``clients``: how many; ``seconds``: total time;
        ``failed_client_rounds``: failures of one client in one round; ``metric`` and
        ``higher_is_better``: as given. Where the rounds have them, ``clean_protection`` and
        ``rare_protection``, means over the last evaluated rounds, and ``objective_clean``,
        ``objective_clean_examples`` and ``objective_clients`` after the last round. NaN
        where not known, and where the run diverged: an evaluation was due in the end, and
        gave no number.
    """
    column = f"test_{metric}"
    trained = rounds[rounds["round"] > 0] if (rounds["round"] > 0).any() else rounds
    final = _final_rounds(trained, column, last)
    diverged = bool(trained[column].notna().any() and final[column].isna().any())
    totals = _client_totals(clients, column, higher_is_better)
    worst = math.nan if diverged else _worst_client(final, totals.worst, last)
    others = {f"final_{name}": _mean(final, f"test_{name}") for name in further if name != metric}
    others |= {name: _mean(final, name) for name in PROTECTION if name in rounds}
    others |= {name: _last(rounds, name) for name in OBJECTIVE if name in rounds}
    return {
        f"final_{metric}": _mean(final, column),
        "final_loss": _mean(final, "test_loss"),
        f"worst_client_{metric}": worst,
        "noise_auroc": _mean(final, "noise_auroc", known_only=True),
        "rounds": int((rounds["round"] > 0).sum()),
        "seconds": float(rounds["seconds"].sum()),
        "clients": len(totals.ids),
        "failed_client_rounds": totals.failed,
        "metric": metric,
        "higher_is_better": higher_is_better,
        **others,
    }


def write_summary(folder: Path, mapping: Mapping[str, Any]) -> Path:
    """Write ``summary.json`` atomically, with sorted keys, and return its path.

    NaN and infinities become null, NumPy scalars and arrays plain JSON, paths text.

    Raises
    ------
    TypeError
        If a value has no form in JSON.
    """
    path = Path(folder) / SUMMARY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    text = sealed_json(_plain(mapping)) + "\n"
    write_file(path, text)
    return path


def _final_rounds(rounds: pd.DataFrame, column: str, last: int) -> pd.DataFrame:
    """Return the last evaluated rounds, or the unevaluated last one of a diverged run."""
    if rounds.empty:
        return rounds
    evaluated = rounds[rounds[column].notna()]
    if evaluated.empty:
        return rounds.tail(1)
    at = evaluated["round"].to_numpy()
    spacing = int(np.diff(at).max()) if len(at) > 1 else max(int(at[0]), 1)
    overdue = int(rounds["round"].iloc[-1]) - int(at[-1]) >= spacing
    return rounds.tail(1) if overdue else evaluated.tail(last)


@dataclass
class _Totals:
    """What is told of clients over all rounds, and the worst one of each."""

    ids: set[Any] = field(default_factory=set)
    failed: int = 0
    worst: dict[int, float] = field(default_factory=dict)


def _client_totals(
    clients: pd.DataFrame | Iterable[pd.DataFrame], column: str, higher: bool
) -> _Totals:
    import pandas as pd

    totals, worse = _Totals(), min if higher else max
    for piece in [clients] if isinstance(clients, pd.DataFrame) else clients:
        totals.ids.update(piece["client"].unique().tolist())
        totals.failed += int(piece["failed"].sum())
        measured = piece[piece[column].notna() & (piece["round"] > 0)]
        by_round = measured.groupby("round")[column]
        for row in (by_round.min() if higher else by_round.max()).reset_index().to_numpy():
            at, value = int(row[0]), float(row[1])
            totals.worst[at] = worse(value, totals.worst.get(at, value))
    return totals


def _worst_client(final: pd.DataFrame, worst: Mapping[int, float], last: int) -> float:
    if tells(final, "client_min"):
        return _mean(final, "client_min", known_only=True)
    latest = [worst[at] for at in sorted(worst)][-last:]
    return float(np.mean(latest)) if latest else math.nan


def _mean(frame: pd.DataFrame, column: str, *, known_only: bool = False) -> float:
    """Average a column; an unknown entry makes the mean unknown unless told otherwise."""
    if column not in frame or frame.empty:
        return math.nan
    return float(frame[column].mean(skipna=known_only))


def _last(frame: pd.DataFrame, column: str) -> float:
    return float(frame[column].iloc[-1]) if len(frame) else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
