"""A table's page: what was run and how, the numbers, and the figure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from fedrms.reproduce.answer import answer
from fedrms.reproduce.numbers import Numbers
from fedrms.reproduce.plan import Plan
from fedrms.reproduce.published import PERCENT, Published, beside
from fedrms.reproduce.tidy import Tidy
from fedrms.results.table import to_markdown

COLUMNS = {
    "client_mean": "mean over clients",
    "client_std": "std over clients",
    "client_variance_e4": "variance over clients x 1e4",
    "client_worst": "worst 10 % of clients",
    "client_best": "best 10 % of clients",
    "client_min": "worst client",
    "clean_protection": "clean clients, against a clean federation",
    "rare_protection": "rare clients, against a clean federation",
    "clean_weight_share": "weight on clean clients",
    "objective_clean": "share of all steps that clean clients had",
    "objective_clients": "effective clients in all steps",
    "false_penalty": "taken from clean clients",
    "false_penalty_easy": "taken from easy clients",
    "false_penalty_hard": "taken from hard clients",
    "false_penalty_rare": "taken from rare clients",
    "effective_sample_size": "effective clients",
    "least_clean_weight": "least weight of a clean client, 1 = its share",
    "usual_mean": "clients with the usual look",
    "other_mean": "clients that look different",
    "other_weight": "weight of those, 1 = their share",
    "noise_auroc": "noise AUROC",
    "noise_spearman": "rank correlation with the true noise",
}
"""What further columns are called on a page."""

_PERCENT = (
    *("client_mean", "client_std", "client_worst", "client_best", "client_min"),
    *("clean_protection", "rare_protection", "usual_mean", "other_mean"),
)


def page(
    plan: Plan,
    tidy: Tidy,
    numbers: Sequence[Numbers],
    notes: Sequence[str],
    *,
    command: str,
    figure: str,
    alt: str,
    data: Sequence[str],
    broken: Sequence[str],
    reference: Sequence[str] = (),
) -> str:
    """Write the page of a table, its runs, what came of them, and what that rests on.

    Beside the picture are its words (``alt``), the Parquet files relative to the page, runs that
    are missing with the reason (``broken``), and sentences on the best that any weights can do, one
    a scenario (``reference``).
    """
    parts = [
        f"# {plan.title}",
        plan.about.strip(),
        *answer(plan, numbers),
        f"![{alt}]({figure})",
        "## How it was made",
        *_how(plan, tidy, command, data),
        "\n".join(f"- {note}" for note in notes),
    ]
    if any(each.comparison["gap"].notna().any() for each in numbers):
        parts += ["## Share of the gap that is closed", _gap_words(plan), _gaps(plan, numbers)]
    for each in numbers:
        parts += [f"## {each.scenario}: {plan.scenarios[each.scenario]}"]
        parts += [to_markdown(each.comparison)]
        if len(each.further.columns):
            parts.append(_further(each))
    if plan.published is not None:
        parts += ["## Beside published numbers", *_beside(plan.published, tidy)]
    if reference:
        parts += ["## The best that weights can do", *reference]
    if broken:
        parts += ["## Runs that are missing", "\n".join(f"- {line}" for line in broken)]
    return "\n\n".join(part for part in parts if part) + "\n"


def duration(seconds: float) -> str:
    """Return a duration as a person would say it: ``45 s``, ``12 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _how(plan: Plan, tidy: Tidy, command: str, data: Sequence[str]) -> list[str]:
    summary = tidy.runs.summary
    seeds = ", ".join(str(seed) for seed in sorted(summary["seed"].unique()))
    tuned = ", ".join(map(str, plan.tuning_seeds))
    versions = sorted({_versions(text) for text in summary["versions"]})
    revisions = sorted({str(name) for name in summary["revision"]})
    sources = sorted({str(name) for name in summary["code"]})
    rows = [
        ("command", f"`{command}`"),
        ("seeds", f"{seeds}; settings were chosen on seeds {tuned}"),
        ("runs", f"{len(summary)}, {duration(summary['seconds'].sum())} of rounds"),
        ("versions", "; ".join(versions)),
        ("source", f"revision {', '.join(revisions)}, digest {', '.join(sources)}"),
        ("data", ", ".join(f"[{name}]({name})" for name in data)),
    ]
    table = ["| made | as |", "|:--|:--|", *(f"| {name} | {text} |" for name, text in rows)]
    words = (
        "A number is the mean over seeds of the last 5 rounds' mean, never of the best round, with "
        f"the standard deviation over seeds. Differences are to `{plan.baseline}` and paired: "
        "runs of one seed share the partition, the noise, the first model and the mini-batches."
    )
    return ["\n".join(table), words]


def _versions(text: str) -> str:
    return ", ".join(f"{name} {number}" for name, number in json.loads(text).items() if number)


def _gap_words(plan: Plan) -> str:
    oracles = " and ".join(f"`{name}`" for name in plan.oracles)
    which = "the better one of " if len(plan.oracles) > 1 else ""
    told = f"From `{plan.baseline}` (0 %) to {which}{oracles} (100 %), which knows the true noise."
    if plan.reference is None:
        told += (
            " Weights by the truth are a heuristic and no bound, so more than 100 % is possible."
        )
    return told


def _gaps(plan: Plan, numbers: Sequence[Numbers]) -> str:
    lines = [["strategy", *(each.scenario for each in numbers)], [":--", *["--:"] * len(numbers)]]
    for row in plan.strategies:
        gaps = [_gap(each, row) for each in numbers]
        if row != plan.baseline and set(gaps) != {"-"}:
            lines.append([row, *gaps])
    return _markdown(lines)


def _gap(each: Numbers, row: str) -> str:
    """Write a gap, with a question mark where the oracle's own lead is uncertain."""
    if row not in each.comparison.index or math.isnan(each.comparison["gap"][row]):
        return "-"
    gap, *ends = (float(each.comparison[name][row]) for name in ("gap", "gap_low", "gap_high"))
    return f"{gap:.0%}" + "?" * any(math.isinf(end) for end in ends)


def _further(each: Numbers) -> str:
    accuracy = each.comparison.attrs["metric"] == "accuracy"
    names = list(each.further.columns)
    in_percent = [accuracy and name in _PERCENT for name in names]
    header = [
        f"{COLUMNS.get(n, n.replace('_', ' '))}{' %' if p else ''}"
        for n, p in zip(names, in_percent, strict=True)
    ]
    lines = [["strategy", *header], [":--", *["--:"] * len(names)]]
    for row, values in zip(each.further.index, each.further.to_numpy().tolist(), strict=True):
        cells = [
            "-" if math.isnan(v) else f"{v * 100:.2f}" if p else f"{v:.4g}"
            for v, p in zip(values, in_percent, strict=True)
        ]
        lines.append([str(row), *cells])
    return _markdown(lines)


def _beside(published: Published, tidy: Tidy) -> list[str]:
    columns = [
        f"{COLUMNS.get(c, c)}{' %' if c in PERCENT else ''}".replace("final", "accuracy")
        for c in published.columns
    ]
    lines = [["method", "whose", *columns], [":--", ":--", *["--:"] * len(columns)]]
    words = f"Published: {published.source.strip()} Here: mean ± standard deviation over seeds."
    return [words, _markdown([*lines, *beside(published, tidy.table)])]


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
