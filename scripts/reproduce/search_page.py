"""What ``search_default`` writes: a tidy table, and the page with the shares of the gap."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import pandas as pd
from search_cells import BASELINE, DEFAULT, ORACLES, SCENARIOS, VARIANTS, Cell

ABOUT = """
Variants of how a client's noise is told and what it is scaled by, in the scenarios of the tables
at a small size. It repeats, in one command, the search that the default law came from: the default
beside its ablations, laws on two moments, and ways that were tried in its place. All of it is on
tuning seeds: it says why the default is what it is, and is no evidence for how well it does.
"""

LEAST_LEAD = 0.5
"""Percentage points that an oracle has to lead by, for shares of its lead to be told."""

WHAT = {
    "excess (default)": "excess over what clean clients lose, class by class",
    "excess, ratio": "observed over expected loss in place of the excess in chance losses",
    "excess, no tilt": "clients with classes that the model has yet to learn count no more",
    "excess, all of it noise": "the variance of losses is not asked whether it bears an excess out",
    "excess, fixed eps": "eps .05 for every size of the cohort and at every misfit",
    "excess, mean reference": "clean clients' loss on a class: trust-weighted mean",
    "excess, reference .1": "clean clients' loss on a class: quantile .1 instead of .25",
    "excess, clean share .2": "a fifth of the clients needs to be clean instead of a tenth",
    "excess, every claim believed": "updates are not asked whether they bear a claim out",
    "excess, corroboration 4": "an update four times too long contradicts a claim, not twice",
    "excess, all classes pooled": "one reference for all classes",
    "learned hardness": "expected loss from a regression of clients' mean losses on class mixes",
    "dead zone": "the law without losses by class: one moment while training",
    "rmsprop": "1 / rms of the same moment",
    "literal text": "1 / rms of the variance at the received model",
    "random effects, median tau": "1 / (rms^2 + tau^2), tau^2 the median of rms^2",
    "random effects, DL tau": "mean loss shrunk by its standard error, tau^2 by DerSimonian-Laird",
    "population reference": "second moment above the cohort's lower quartile",
    "mixture on log r": "probability of the lower of two Gaussians on log r, if BIC wants two",
    "agreement of updates": "cosine of an update with the sum of the others; no losses at all",
}
"""What each variant is; the code is in search_excess.py and search_moments.py."""

Done = Sequence[tuple[Cell, dict[str, float]]]


def tidy(done: Done) -> pd.DataFrame:
    """Return a row a run: ``scenario``, ``variant``, ``seed``, ``accuracy``, ``worst_client``,
    ``cpu_seconds``.
    """
    rows = [
        {
            "scenario": cell.scenario,
            "variant": cell.variant,
            "seed": cell.seed,
            **{key: numbers[key] for key in ("accuracy", "worst_client", "cpu_seconds")},
        }
        for cell, numbers in done
    ]
    frame = pd.DataFrame(rows)
    by_plan = [frame[key].map(list(order).index) for key, order in _orders()]
    order = pd.concat([*by_plan, frame["seed"]], axis=1).sort_values(
        ["scenario", "variant", "seed"]
    )
    return frame.loc[order.index].reset_index(drop=True)


def compared(frame: pd.DataFrame, scenario: str) -> pd.DataFrame:
    """Compare the variants of a scenario with FedAvg, paired over seeds.

    Returns
    -------
    DataFrame
        By variant: ``difference`` and ``spread`` in percentage points, mean and standard
        deviation over seeds; ``gap`` and ``gap_spread``, the same as shares of the better
        oracle's mean lead, NaN without an oracle that leads; ``worst`` the mean difference of
        the worst client.
    """
    here = frame[frame["scenario"] == scenario]
    accuracy = here.pivot_table(index="seed", columns="variant", values="accuracy")
    worst = here.pivot_table(index="seed", columns="variant", values="worst_client")
    over = 100.0 * accuracy.sub(accuracy[BASELINE], axis=0)
    result = pd.DataFrame({"difference": over.mean(), "spread": over.std(ddof=1)})
    lead = max((over[name].mean() for name in ORACLES if name in over), default=0.0)
    share = 1.0 / lead if lead > 0.0 else float("nan")
    result["gap"], result["gap_spread"] = result["difference"] * share, result["spread"] * share
    result["worst"] = 100.0 * worst.sub(worst[BASELINE], axis=0).mean()
    return result.reindex([name for name in VARIANTS if name in result.index])


def page(frame: pd.DataFrame, command: str, missing: Sequence[Cell] = ()) -> str:
    """Write the page; scenarios without the default or FedAvg are left out of its tables."""
    needed = {BASELINE, DEFAULT}
    held = frame.groupby("scenario")["variant"].agg(set)
    scenarios = [name for name in SCENARIOS if name in held and needed <= held[name]]
    tables = {name: compared(frame, name) for name in scenarios}
    seeds = ", ".join(str(seed) for seed in sorted(frame["seed"].unique()))
    minutes = frame["cpu_seconds"].sum() / 60.0
    parts = [
        "# The search for the default law",
        ABOUT.strip(),
        f"Made by `{command} --data FOLDER`; tuning seeds {seeds}; {len(frame)} runs, "
        f"{minutes:.0f} minutes of one core. Data: [Parquet](data/search.parquet), "
        "[CSV](data/search.csv), a row a run.",
        "Accuracy is the mean of the last five rounds, on clean test images. The table has the "
        "share of the way from `fedavg` to the better oracle, mean ± standard deviation over "
        "seeds, in %. Columns marked pp have the difference to `fedavg` in percentage points: "
        f"nobody is cleaner than others there, or the oracle leads by less than {LEAST_LEAD}. "
        "`lowest` is the lowest share of a row, for a default has to do well everywhere; - was not "
        "run or makes no sense.",
        _lines([["variant", *map(_head, tables, tables.values()), "lowest"], *_shares(tables)]),
        "What the gap is made of, in percentage points, and the worst clients:",
        _lines(
            [["scenario", "oracle's lead", "default's", "worst client, default"], *_leads(tables)]
        ),
        "## The variants",
        _lines([["variant", "what it is"], *([name, what] for name, what in WHAT.items())]),
        "## The scenarios",
        _lines([["scenario", "configuration"], *_settings(scenarios)]),
    ]
    if missing:
        count = Counter((cell.scenario, cell.seed) for cell in missing)
        lines = [f"- {name}, seed {seed}: {number}" for (name, seed), number in count.items()]
        parts += ["## Runs that are missing", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _shares(tables: dict[str, pd.DataFrame]) -> list[list[str]]:
    lines = []
    for name in VARIANTS:
        if name == BASELINE:
            continue
        cells = [_cell(table, name) for table in tables.values()]
        shares = [t["gap"][name] for t in tables.values() if name in t.index and not _in_points(t)]
        lines.append([name, *cells, f"{100 * min(shares):.0f}" if shares else "-"])
    return lines


def _cell(table: pd.DataFrame, name: str) -> str:
    if name not in table.index:
        return "-"
    row = table.loc[name]
    if _in_points(table):
        return f"{row['difference']:+.2f}" + _spread(row["spread"], ".2f")
    return f"{100 * row['gap']:.0f}" + _spread(100 * row["gap_spread"], ".0f")


def _spread(value: float, form: str) -> str:
    return "" if math.isnan(value) else f" ± {value:{form}}"


def _head(scenario: str, table: pd.DataFrame) -> str:
    return f"{scenario}, pp" if _in_points(table) else scenario


def _in_points(table: pd.DataFrame) -> bool:
    leads = [table["difference"][name] for name in ORACLES if name in table.index]
    return max(leads, default=0.0) < LEAST_LEAD


def _leads(tables: dict[str, pd.DataFrame]) -> list[list[str]]:
    lines = []
    for scenario, table in tables.items():
        leads = [table["difference"][name] for name in ORACLES if name in table.index]
        default = table.loc[DEFAULT]
        best = f"{max(leads):+.2f}" if leads else "-"
        lines.append([scenario, best, f"{default['difference']:+.2f}", f"{default['worst']:+.1f}"])
    return lines


def _settings(scenarios: Sequence[str]) -> list[list[str]]:
    return [[name, f"`{' '.join(SCENARIOS[name])}`"] for name in scenarios]


def _orders() -> list[tuple[str, Sequence[str]]]:
    return [("scenario", list(SCENARIOS)), ("variant", list(VARIANTS))]


def _lines(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    text = len(head) == 2
    rule = [":--", *[":--" if text else "--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *body])
