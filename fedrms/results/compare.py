"""Strategies side by side, paired over what they share: the seed, the data, the noise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from fedrms.errors import ConfigError
from fedrms.options import counted, did_you_mean, few
from fedrms.results.comparison_rows import scenario_rows
from fedrms.results.intervals import BOOTSTRAP_FROM
from fedrms.results.outcomes import Metric, find_metric, outcomes, scored_by
from fedrms.results.runs import Runs
from fedrms.results.scenarios import place_runs
from fedrms.results.significance import ALPHA, TESTS, holm, seeds_needed

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: Final = (
    *("runs", "mean", "std"),
    *("pairs", "difference", "difference_std", "difference_low", "difference_high"),
    *("p", "p_corrected", "better"),
    *("gap", "gap_low", "gap_high"),
    "rounds_to_baseline",
    *("worst_client", "worst_client_difference"),
    *("client_worst", "client_best", "client_variance_e4"),
    *("noise_auroc", "seconds"),
)

BASELINE: Final = "fedavg"
"""The strategy that `compare` subtracts, where it ran and nothing else is said."""

ORACLE: Final = "oracle"
"""The strategy that `compare` takes for the oracle, where it ran."""

_NAMED: Final = 5
_UNFINISHED: Final = ("interrupted", "running", "failed")


def compare(
    runs: Runs,
    *,
    baseline: str | None = None,
    by: str = "strategy",
    metric: str | None = None,
    higher_is_better: bool | None = None,
    oracle: str | Sequence[str] = ORACLE,
    test: str = "sign_flip",
    ignore: Sequence[str] = (),
) -> pd.DataFrame:
    """Compare strategies by the mean over seeds, and by paired differences to a baseline.

    Two runs are a pair if every config value is the same but for those of `by` itself
    (``strategy``, ``strategy.*``, and ``server_optimizer`` with it). Settings other than
    the seed that vary make scenarios, which are compared each for itself. Of runs with one
    and the same config the last by name counts; runs that did not finish are left out.

    A final number is the mean over the last 5 evaluated rounds; no round is chosen by its
    result. The intervals are those of `fedrms.results.intervals`, the tests those of
    `fedrms.results.significance`; ``docs/analysis.md`` says how to read them.

    Parameters
    ----------
    runs : Runs
        What `load_runs` returned.
    baseline : str, optional
        The strategy to subtract, by default ``"fedavg"``; if that did not run, the columns that
        need it are NaN. So are they, with a warning, if it has several variants and none of
        them is named.
    by : str
        The config column whose values are compared.
    metric : str, optional
        ``"accuracy"``, ``"mse"``, or a column of ``rounds.parquet`` or ``summary.json``,
        such as ``"client_worst"``; by default the test metric, if the runs have but one.
    higher_is_better : bool, optional
        Needed only for a metric of your own.
    oracle : str or sequence of str
        Strategies that know the truth. Of several, or of the variants of one, each scenario
        takes the better by the mean over the seeds that all of them and the baseline have.
        That it is chosen on these seeds can only make `gap` smaller.
    test : str
        ``"sign_flip"`` assumes no distribution and needs `seeds_needed` seeds; ``"t"``
        assumes normal differences.
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

        - ``runs``: seeds; ``mean``, ``std``: of the final metric over seeds, with the
          sample's standard deviation;
        - ``pairs``: seeds that strategy and baseline share; ``difference``,
          ``difference_std``: of strategy minus baseline over these;
          ``difference_low``, ``difference_high``: 95 % interval of the mean difference;
        - ``p``: two-sided, paired over seeds; ``p_corrected``: by Holm's method for all
          comparisons of the table, over its scenarios too; ``better``: ``"yes"`` or
          ``"no"`` (better or worse than the baseline) at a family-wise error rate of 5 %,
          else ``"undecided"``; ``"baseline"``, and ``"-"`` without a pair;
        - ``gap``: share of the distance from baseline to oracle that the strategy closes, a
          ratio of means over the seeds that all three have (1 is all of it; more is
          possible); ``gap_low``, ``gap_high``: its 95 % interval by the same test, infinite
          where that cannot tell the oracle's lead from 0. NaN if the oracle is no better;
        - ``rounds_to_baseline``: median over the pairs of the first round whose metric
          reaches the baseline's final one; NaN if it is never;
        - ``worst_client``, ``worst_client_difference``; ``client_worst``, ``client_best``
          (of the worst and best share of clients), ``client_variance_e4``;
          ``noise_auroc``, ``seconds``: means over seeds.

        A run that diverged makes the means it enters NaN. ``attrs`` holds ``metric``,
        ``higher_is_better``, ``baseline``, ``by``, ``test``, ``test_metric``, ``fraction``
        (whether the metric is an accuracy), ``share`` (the config's share of worst and best
        clients), ``comparisons``, ``seeds_needed`` (fewer cannot bring ``p_corrected`` to
        .05) and ``notes``, sentences for below the table.

    Raises
    ------
    ConfigError
        If there is no column `by`, no finished run, several metrics to choose from, no such
        baseline, oracle or test, or a metric whose direction is not known.
    """
    if by not in runs.summary:
        raise ConfigError(
            "by", f"no run has a column {by!r}", f"choose from {', '.join(runs.config)}"
        )
    if test not in TESTS:
        raise ConfigError("test", f"there is no {test!r}", f"choose from {', '.join(TESTS)}")
    summary = _finished(runs.summary)
    found = find_metric(runs, summary, metric, higher_is_better)
    summary = scored_by(summary, found)
    own = [by, *(["server_optimizer"] if by == "strategy" else []), *ignore]
    levels, placed = place_runs(summary, runs.config, by=by, own=own)
    oracles = [oracle] if isinstance(oracle, str) else list(oracle)
    strategies = {name for p in placed.values() for name in (p.label, p.choice)}
    have = "; ".join(sorted({p.label for p in placed.values()}))
    if baseline is not None and baseline not in strategies:
        meant = did_you_mean(baseline, strategies)
        raise ConfigError("baseline", f"no run of {baseline}", f"{meant}choose from {have}")
    baseline = BASELINE if baseline is None else baseline
    unknown = [name for name in oracles if name not in strategies and name != ORACLE]
    if unknown:
        raise ConfigError("oracle", f"no run of {', '.join(unknown)}", f"choose from {have}")
    numbers = outcomes(summary, runs.rounds, found)
    keys: list[tuple[Any, ...]] = []
    rows: list[dict[str, Any]] = []
    notes = _repeated([str(run) for run in summary["run"] if str(run) not in placed])
    for scenario in dict.fromkeys(p.scenario for p in placed.values()):
        here = scenario_rows(
            {run: p for run, p in placed.items() if p.scenario == scenario},
            numbers,
            baseline=baseline,
            oracles=oracles,
            higher=found.higher_is_better,
            test=test,
        )
        keys += [(*scenario, label) for label in here.rows]
        rows += here.rows.values()
        where = ", ".join(f"{n}={v}" for n, v in zip(levels, scenario, strict=True))
        notes += [f"{where}: {note}" if where else note for note in here.notes]
    _decide(rows, found.higher_is_better)
    import pandas as pd  # most runs begin without it

    index = pd.MultiIndex.from_tuples(keys, names=[*levels, by])
    table = pd.DataFrame(rows, index=index, columns=list(COLUMNS))
    if not levels:
        table.index = index.get_level_values(by)
    share = set(summary["fairness.fraction"].dropna()) if "fairness.fraction" in summary else ()
    table.attrs["share"] = float(*share) if len(share) == 1 else None
    table.attrs.update(_attrs(rows, found, test, notes), baseline=baseline, by=by)
    return table


def _repeated(runs: list[str]) -> list[str]:
    """Say which runs a later one with the same strategy, settings and seed stands for."""
    if not runs:
        return []
    which = "a run is" if len(runs) == 1 else f"{len(runs)} runs are"
    return [
        f"{which} not counted, as a later one has the same strategy, settings and seed: "
        f"{few(runs, _NAMED)}"
    ]


def _finished(summary: pd.DataFrame) -> pd.DataFrame:
    if "status" not in summary:
        return summary
    unfinished = summary["status"].isin(_UNFINISHED)
    if unfinished.any():
        names = ", ".join(map(str, summary.loc[unfinished, "run"]))
        warnings.warn(f"not compared, as they did not finish: {names}", UserWarning, stacklevel=3)
    return summary[~unfinished]


def _compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["better"] != "baseline" and row["pairs"]]


def _decide(rows: list[dict[str, Any]], higher: bool) -> None:
    """Correct the p-values of a whole table, and say which differences are claims."""
    compared = _compared(rows)
    for row, p in zip(compared, holm([row["p"] for row in compared]), strict=True):
        row["p_corrected"] = p
        if p <= ALPHA:
            row["better"] = "yes" if (row["difference"] > 0) == higher else "no"


def _attrs(
    rows: list[dict[str, Any]], metric: Metric, test: str, notes: list[str]
) -> dict[str, Any]:
    compared = _compared(rows)
    needed = seeds_needed(len(compared), test)
    if compared:
        notes = [_how(compared, test, needed), *notes]
    if any(math.isinf(row[end]) for row in rows for end in ("gap_low", "gap_high")):
        notes.append("gap: ? not known, as these seeds cannot tell the oracle's lead from 0")
    return {
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "test_metric": metric.test_metric,
        "fraction": metric.fraction,
        "test": test,
        "comparisons": len(compared),
        "seeds_needed": needed,
        "notes": notes,
    }


def _how(compared: list[dict[str, Any]], test: str, needed: int) -> str:
    """Say what the intervals and the claims rest on, and whether there are seeds enough."""
    few, many = (f(row["pairs"] for row in compared) for f in (min, max))
    seeds = counted(few, "seed") if few == many else f"{few} to {many} seeds"
    student, bootstrap = "Student's t", "bootstrap-t"
    kind = student if many < BOOTSTRAP_FROM else bootstrap
    if few < BOOTSTRAP_FROM <= many:
        kind = f"{bootstrap}, of fewer than {BOOTSTRAP_FROM} seeds {student}"
    interval = f"95 % interval by {kind}" if many > 1 else "which has no interval"
    name = {"sign_flip": "exact sign-flip test", "t": "t-test"}[test]
    how = (
        f"difference: paired over {seeds}, {interval}; better: {name}, "
        f"Holm-corrected for {counted(len(compared), 'comparison')}, at .05"
    )
    return f"{how}; undecided with fewer than {needed} seeds" if few < needed else how
