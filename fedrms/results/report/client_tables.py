"""Tables about clients: gains by kind, everyone's numbers, alarms, failures."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import pandas as pd

from fedrms.results.client_finals import final_clients
from fedrms.results.report.settings import Setting
from fedrms.results.report.tables import ReportTable, first_rows, number, percent
from fedrms.results.run_words import kind_words, run_words
from fedrms.results.summary import change_text, is_share, tells

_HALF: Final = 0.5
_EQUAL: Final = 1e-9
"""Scores that lie no farther apart are the same but for rounding."""


def gains(groups: pd.DataFrame, setting: Setting, labels: list[str]) -> ReportTable:
    """Lay out, by strategy and kind of client, how many gained and by how much."""
    rows = []
    for label in labels:
        if label == setting.baseline:
            continue
        pairs = setting.gains(groups, label)
        kinds = list(pairs.groupby("group"))
        for kind, one in [("all", pairs), *(kinds if len(kinds) > 1 else [])]:
            rows.append(
                {
                    "strategy": label,
                    "clients": kind,
                    "count": len(one),
                    "gained": int((one["gain"] > _EQUAL).sum()),
                    "lost": int((one["gain"] < -_EQUAL).sum()),
                    "mean_gain": float(one["gain"].mean()) if len(one) else math.nan,
                    "worst_loss": float(one["gain"].min()) if len(one) else math.nan,
                }
            )
    numbers = pd.DataFrame(rows)
    share = is_share(setting.metric)
    cells = numbers.astype(object).map(number)
    for name in ("mean_gain", "worst_loss"):
        cells[name] = [number(100.0 * v, "+.2f") if share else number(v) for v in numbers[name]]
    return ReportTable(
        name="gains-by-kind",
        title=f"Clients that gained and lost against {setting.baseline}",
        numbers=numbers,
        cells=cells.rename(columns=_header),
        line='fedrms.plots.gain_table(fedrms.plots.client_groups(runs.clients), "fedrms")',
        note="A client is paired with itself at the same seed; positive is better."
        + (" Gains are in percentage points." if share else ""),
        strategy="strategy",
    )


def found_and_missed(ended: pd.DataFrame, focus: str) -> list[str]:
    """Say how many noisy clients lost most of their weight, and how many clean ones did.

    Parameters
    ----------
    ended : DataFrame
        How the clients of one strategy ended, by run, with their ``group``.
    focus : str
        The strategy.
    """
    rows = ended[ended["weight"].notna()]
    by_run = rows.groupby("run", observed=True)
    before = rows["num_examples"] / by_run["num_examples"].transform("sum")
    after = rows["weight"] / by_run["weight"].transform("sum")
    halved, noisy = after < _HALF * before, rows["group"] == "noisy"
    clean = rows["group"].isin(("clean", "hard", "rare"))
    if not halved.any():
        return []
    seeds = rows["run"].nunique()
    over = f", counted over {seeds} seeds" if seeds > 1 else ""
    return [
        f"With {focus}, {(halved & noisy).sum()} of {noisy.sum()} noisy clients lost more than "
        f"half of their weight, {(noisy & ~halved).sum()} did not; of {clean.sum()} clean ones "
        f"{(halved & clean).sum()} lost as much{over}."
    ]


def gained_and_lost(pairs: pd.DataFrame, setting: Setting) -> str:
    """Say how many clients gained and lost against the baseline, and how much at most."""
    gain = pairs["gain"]
    won, lost = int((gain > _EQUAL).sum()), gain < -_EQUAL
    seeds = pairs["seed"].nunique() if "seed" in pairs else 1
    many = f" ({pairs['client'].nunique()} clients, {seeds} seeds)" if seeds > 1 else ""
    said = f"Against {setting.baseline}, {won} of {len(pairs)} clients{many} gained"
    if not lost.any():
        return f"{said} and none lost."
    much = change_text(setting.metric, -gain.min())
    noisy = int((lost & (pairs["group"] == "noisy")).sum())
    known = f"; {noisy} of those are noisy" if (pairs["group"] == "noisy").any() else ""
    return f"{said} and {lost.sum()} lost, at most {much} of {setting.metric}{known}."


def every_client(groups: pd.DataFrame, metric: str, focus: str) -> ReportTable | None:
    """Lay out the clients of one run as they ended, the worst first."""
    mine = groups[groups["label"] == focus]
    if mine.empty:
        return None
    run = mine["run"].iloc[0]
    columns = ["client", "group", "score", "num_examples", "true_noise", "rms", "scale", "weight"]
    columns = [c for c in (*columns, "rounds", "failures") if tells(mine, c)]
    if set(mine["group"].astype(str)) == {"unknown"}:
        columns.remove("group")
    numbers = mine[mine["run"] == run].sort_values("score", kind="stable")[columns]
    numbers = numbers.rename(columns={"score": f"final_{metric}"})
    shown, note = first_rows(numbers, f"{run_words(mine)}.")
    cells = shown.astype(object).map(lambda v: number(v, ".3g"))
    if "group" in shown:
        cells["group"] = cells["group"].map(kind_words)
    if "weight" in shown:
        cells["weight"] = [percent(v) for v in shown["weight"]]
    if is_share(metric) and f"final_{metric}" in shown:
        cells[f"final_{metric}"] = [percent(v) for v in shown[f"final_{metric}"]]
    return ReportTable(
        name="clients",
        title=f"Every client of {focus}",
        numbers=numbers,
        cells=cells.rename(columns=_header),
        line="fedrms.plots.final_clients(runs.clients)",
        note=note,
        searchable=True,
    )


def _header(column: str) -> str:
    """Return what a column is called on the page."""
    plain = {"rms": "estimated noise", "scale": "weight per example", "num_examples": "examples"}
    return plain.get(column, column.replace("_", " "))


def alarms(found: pd.DataFrame) -> ReportTable:
    """Lay out the alarms of :func:`fedrms.results.alarms.noise_alarms`."""
    shown, note = first_rows(
        found,
        "From the server's estimates alone: twice as noisy as in all rounds before, for three "
        "rounds, and not because everyone became so. The rise of the first rounds does not count: "
        "the estimate of a noise that was there all along settles then.",
    )
    cells = shown.astype(object).map(lambda v: number(v, ".3g"))
    if found.empty:
        cells = pd.DataFrame({"alarms": ["none: no client became twice as noisy later on"]})
    return ReportTable(
        name="alarms",
        title="Clients that became noisier",
        numbers=found,
        cells=cells,
        line="fedrms.plots.noise_alarms(runs.clients)",
        note=note,
        searchable=not found.empty,
    )


def estimates(clients: pd.DataFrame) -> ReportTable:
    """Lay out each client's estimated noise and its trend, where the truth is not known."""
    final = final_clients(clients)
    run = final["run"].iloc[0]
    rows = clients[(clients["run"] == run) & clients["rms"].notna()]
    middle = rows.groupby("round")["rms"].transform("median")
    relative = rows["rms"] / middle.where(middle > 0)  # most may be clean: nothing to divide by
    rows = rows.assign(relative=relative).sort_values("round")
    grouped = rows.groupby("client", observed=True)["relative"]
    half = grouped.cumcount() / grouped.transform("size") >= 0.5
    trend = (
        rows[half].groupby("client", observed=True)["relative"].median()
        / rows[~half].groupby("client", observed=True)["relative"].median()
    )
    mine = final[final["run"] == run].set_index("client")
    columns = [c for c in ("num_examples", "rms", "scale", "weight", "rounds") if c in mine]
    usual = float(mine["rms"].median())
    numbers = mine[columns].assign(
        times_the_median=mine["rms"] / (usual or np.nan),
        trend=trend.reindex(mine.index).replace([np.inf, -np.inf], np.nan),
    )
    numbers = numbers.dropna(axis="columns", how="all")
    numbers = numbers.sort_values("rms", ascending=False).reset_index()
    shown, note = first_rows(
        numbers,
        f"{run_words(final)}."
        + (" Times the median: over the median client's." * ("times_the_median" in numbers))
        + (
            " Trend: its noise over the median's, in the second half of the rounds over the first."
            * ("trend" in numbers)
        ),
    )
    return ReportTable(
        name="estimates",
        title="Estimated noise of each client",
        numbers=numbers,
        cells=shown.astype(object).map(number).rename(columns=_header),
        line='runs.clients.groupby(["run", "client"], observed=True)[["rms", "scale"]].last()',
        note=note,
        searchable=True,
    )


def failures(clients: pd.DataFrame) -> ReportTable | None:
    """Lay out which clients failed, how often and why; None if none did."""
    if "failed" not in clients or not clients["failed"].fillna(False).astype(bool).any():
        return None
    rows = clients[clients["failed"].fillna(False).astype(bool)]
    reason = rows["failure"].astype(object).where(rows["failure"].notna(), "no reason given")
    numbers = (
        rows.assign(reason=reason.astype(str))
        .groupby(["label", "client", "reason"], observed=True)["round"]
        .agg(["count", "min", "max"])
        .reset_index()
        .rename(columns={"label": "strategy", "count": "times", "min": "first", "max": "last"})
        .sort_values("times", ascending=False, kind="stable")
    )
    shown, note = first_rows(numbers, "First and last are rounds.")
    return ReportTable(
        name="failures",
        title="Clients whose updates could not be used, and why",
        numbers=numbers,
        cells=shown.astype(object).map(number),
        line='runs.clients.query("failed").groupby(["strategy", "client", "failure"], '
        'observed=True)["round"].agg(["count", "min", "max"])',
        note=note,
        strategy="strategy",
        searchable=True,
    )
