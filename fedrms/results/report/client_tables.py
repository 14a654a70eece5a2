"""Tables about clients: gains by kind, everyone's numbers, alarms, failures."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from fedrms.results.client_finals import final_clients
from fedrms.results.report.settings import Setting
from fedrms.results.report.tables import ReportTable, first_rows, number, percent
from fedrms.results.run_words import run_words
from fedrms.results.summary import is_share, tells


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
                    "gained": int((one["gain"] > 1e-9).sum()),
                    "lost": int((one["gain"] < -1e-9).sum()),
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
        "rounds, and not because everyone became so.",
    )
    cells = shown.astype(object).map(lambda v: number(v, ".3g"))
    if found.empty:
        cells = pd.DataFrame({"alarms": ["none: no client became twice as noisy"]})
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
