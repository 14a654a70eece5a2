"""Tables about runs: the comparison, fairness, the configuration, the commands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from fedrms.results.report.metric_words import metric_words
from fedrms.results.report.settings import Setting
from fedrms.results.report.tables import ReportTable, first_rows, number, percent
from fedrms.results.summary import LAST_ROUNDS, is_share, metric_text, tells
from fedrms.results.table import comparison_cells

_ROUNDING: Final = 1e-15
"""A metric over clients below it is 0 but for rounding."""
_PLAIN: Final = frozenset({"round", "seconds", "run", "label", "seed", "strategy"})
_MOST_COMMANDS: Final = 60


def comparison(table: pd.DataFrame) -> ReportTable:
    """Lay out what :func:`fedrms.compare` returned, with the notes it carries."""
    notes, cells = table.attrs.get("notes", []), comparison_cells(table)
    if not notes and table["runs"].max() > 1:
        notes = ["± is one standard deviation over seeds"]
    title = f"Comparison in {table.attrs['metric']} with {table.attrs['baseline']}, "
    compared = bool(table["pairs"].any())
    if not compared:
        cells = cells.loc[:, (cells != "-").any()]
    return ReportTable(
        name="comparison",
        title=title + "paired over seeds" if compared else f"Final {table.attrs['metric']}",
        numbers=table.reset_index(),
        cells=cells,
        line="fedrms.compare(runs)",
        note=" ".join([*(f"{note.removesuffix('.')}." for note in notes), *_meant(cells)]),
        strategy=str(table.attrs.get("by", "strategy")),
    )


def _meant(cells: pd.DataFrame) -> list[str]:
    """Explain the columns that are there."""
    said = []
    if any(str(name).startswith("gap") for name in cells):
        said.append(
            "gap: the share of the way from the baseline to the oracle; above 100 % where it is "
            "beyond it."
        )
    if "noise AUROC" in cells:
        said.append(
            "noise AUROC: how often more noise is estimated for a noisy client than for a clean "
            "one; also read off where a strategy does not use it, as fedavg."
        )
    return said


def fairness(rounds: pd.DataFrame, setting: Setting) -> list[ReportTable]:
    """Lay out every metric over clients that the runs recorded, at their end."""
    first = list(rounds.columns).index("round") if "round" in rounds else 0
    names = [
        str(c)
        for c in rounds.columns[first:]
        if c not in _PLAIN
        and not str(c).startswith("test_")
        and pd.api.types.is_numeric_dtype(rounds[c])
        and rounds[c].notna().any()
    ]
    if not names:
        return []
    column = f"test_{setting.metric}"
    scored = rounds[rounds[column].notna()] if column in rounds else rounds
    ends = scored.sort_values("round").groupby("run", observed=True, sort=False).tail(LAST_ROUNDS)
    of_run = ends.groupby(["label", "run"], observed=True, sort=False)[names].mean()
    grouped = of_run.groupby("label", observed=True, sort=False)
    order = [label for label in setting.labels if label in set(rounds["label"])]
    mean, spread = grouped.mean().reindex(order), grouped.std().reindex(order)
    in_percent = {f"client_{n}" for n in ("mean", "std", "worst", "best", "min")}
    fraction = is_share(setting.metric)
    share = setting.runs.summary.get("fairness.fraction", pd.Series([0.1])).dropna()
    part = float(share.iloc[0]) if len(share) else 0.1
    told = [metric_words(name, setting.metric, part) for name in names]
    cells: dict[str, list[str]] = {"over clients": told}
    for label in mean.index:
        middle, width = mean.loc[label].to_numpy(), spread.loc[label].to_numpy()
        cells[str(label)] = [
            percent(m, w) if fraction and name in in_percent else _spread(m, w)
            for name, m, w in zip(names, middle.tolist(), width.tolist(), strict=True)
        ]
    numbers = pd.concat([mean.add_suffix("_mean"), spread.add_suffix("_std")], axis=1)
    return [
        ReportTable(
            name="fairness",
            title="Metrics over clients, and weights against the truth",
            numbers=numbers.reset_index(),
            cells=pd.DataFrame(cells),
            line=f'runs.rounds.dropna(subset="{column}").groupby("run", observed=True)'
            f".tail({LAST_ROUNDS})"
            f'.groupby("strategy", observed=True)[{names[:2]!r}].mean()',
            note="Mean over the last five evaluated rounds, then over runs, ± one standard "
            "deviation over runs. A client is scored on test rows of its own classes, so the mean "
            f"over clients is not quite the {setting.metric} of the model. In this order, the "
            f"columns are {', '.join(names)}: "
            "outputs/README.md, which comes with fedrms, defines them.",
        )
    ]


def _spread(mean: float, spread: float) -> str:
    """Format a mean to the second digit of its spread; what is left of equal numbers is 0."""
    mean = 0.0 if abs(mean) < _ROUNDING else mean
    if math.isnan(spread):
        return number(mean)
    if spread <= 1e-12 * abs(mean) or spread < _ROUNDING:
        return f"{number(mean)} ± 0"
    digits = max(0, 1 - math.floor(math.log10(spread)))
    return f"{mean:.{digits}f} ± {spread:.{digits}f}"


def configuration(setting: Setting) -> list[ReportTable]:
    """Lay out what was the same in all runs, what varied, and the commands."""
    runs = setting.runs
    config = [name for name in runs.config if name in runs.summary]
    known = {name: runs.summary[name].map(lambda v: number(v, ".6g")) for name in config}
    same = {name: v.iloc[0] for name, v in known.items() if len(set(v)) == 1 and v.iloc[0] != "-"}
    varied = [name for name, v in known.items() if len(set(v)) > 1]
    tables = []
    if varied:
        shown = pd.DataFrame({"run": runs.summary["run"], **{n: known[n] for n in varied}})
        numbers = runs.summary[["run", *varied]]
        tables.append(
            ReportTable(
                "varied",
                "What varies between the runs",
                numbers,
                shown.head(200).astype(str),
                "runs.summary[list(runs.config)]",
                searchable=True,
                note=""
                if len(shown) <= 200
                else f"The first 200 of {len(shown)}; all are in the CSV.",
            )
        )
    if same:
        both = pd.DataFrame({"key": list(same), "value": list(same.values())})
        line = "runs.summary[list(runs.config)].iloc[0]"
        tables.append(ReportTable("config", "The full configuration", both, both, line))
    if tells(runs.summary, "command"):
        wanted = ("run", "command", "git_revision", "summary.device")
        columns = [c for c in wanted if c in runs.summary]
        numbers = runs.summary[columns]
        shown, note = first_rows(
            numbers,
            "Run it in the folder that relative paths in it start from, at this revision of the "
            "source.",
            _MOST_COMMANDS,
        )
        tables.append(
            ReportTable(
                "commands",
                "The command of each run",
                numbers,
                shown.map(number),
                'runs.summary[["run", "command"]]',
                note=note,
                searchable=True,
            )
        )
    return tables


def outcome_sentences(setting: Setting, focus: str) -> list[str]:
    """Say how the strategy in focus ended, and against the baseline."""
    row, metric = setting.row(focus), setting.metric
    if row is None:
        return []
    accuracy = is_share(metric)
    unit = "percentage points" if accuracy else f"in {metric}"
    scale = 100 if accuracy else 1
    seeds = f"{row['runs']:.0f} seeds"
    ends = f"{row['mean']:.2%}" if accuracy else f"{row['mean']:.4g}"
    over = "with one seed" if row["runs"] == 1 else f"mean of {seeds}"
    said = [f"{focus} ends at a test {metric} of {ends}, {over}."]
    if setting.baseline and focus != setting.baseline and not math.isnan(row["difference"]):
        form = "+.2f" if accuracy else "+.3g"
        known = _spread_of(row, scale, form)
        judged = ""
        if isinstance(row.get("better"), str) and row["better"] in ("yes", "no", "undecided"):
            p = row.get("p_corrected", math.nan)
            told = "undecided" if row["better"] == "undecided" else "significant"
            judged = f" (paired test, corrected p = {p:.3g}: {told})"
        said.append(
            f"That is {row['difference'] * scale:{form}} {unit}{known} against {setting.baseline}, "
            f"paired over seeds{judged}."
        )
        worst = row["worst_client_difference"]
        if not math.isnan(worst) and abs(worst) > 1e-12:
            said.append(_worst(row, metric, worst, scale, form))
    auroc = row["noise_auroc"]
    if not math.isnan(auroc):
        said.append(
            f"Of a noisy and a clean client it estimates more noise for the noisy one in "
            f"{auroc:.1%} of all pairs (AUROC)."
        )
    return said


def _worst(row: Mapping[Any, Any], metric: str, change: float, scale: float, form: str) -> str:
    """Say how the worst-served client fares, before and now."""
    now, name = float(row["worst_client"]), metric.replace("_", " ")
    unit = " points" if scale > 1 else ""
    said = f"The {name} of the client that is served worst changes by {change * scale:{form}}{unit}"
    if row["pairs"] != row["runs"]:
        return f"{said}."
    before, after = (metric_text(metric, v, ".4g") for v in (now - change, now))
    return f"{said}, from {before} to {after}."


def _spread_of(row: Mapping[Any, Any], scale: float, form: str) -> str:
    """Say how sure a difference is: its interval where there is one, its deviation else."""
    low, high = row.get("difference_low", math.nan), row.get("difference_high", math.nan)
    if math.isfinite(low) and math.isfinite(high):
        return f" (95 % interval {low * scale:{form}} to {high * scale:{form}})"
    deviation = row["difference_std"]
    return "" if math.isnan(deviation) else f" ± {deviation * scale:{form.removeprefix('+')}}"
