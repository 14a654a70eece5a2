"""Figures of who is noisy, and what the server made of it."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pandas as pd

from fedrms.results.alarms import noise_alarms
from fedrms.results.attribution import noise_auroc, noise_spearman
from fedrms.results.client_finals import final_clients, test_metric
from fedrms.results.in_order import with_rows
from fedrms.results.plots import of_runs as tables
from fedrms.results.plots.curves import names_of, thinned
from fedrms.results.plots.of_runs import of_runs
from fedrms.results.plots.palette import DASHES, GROUPS, QUALITATIVE, SYMBOLS, on_scale
from fedrms.results.plots.picture import ColorBar, Line, Mark, Panel, Picture, Points, thin
from fedrms.results.run_words import run_words, short_name
from fedrms.results.summary import LAST_ROUNDS

MOST_LINES = 60
"""Clients with a line of their own; of more, bands and some of them."""

_AXES: Final = {
    "scale": "scale: weight per example",
    "rms": "estimated noise",
    "weight": "share of the weight",
}

_APART: Final = tuple(color for color in QUALITATIVE[1:] if color != "#b5651d")
"""Colors of lines that lie on each other: no two oranges."""

MOST_POINTS = 1500
"""Points of a figure; of more, evenly spaced ones."""


@of_runs(tables.ours)
def scale_over_rounds(clients: pd.DataFrame, *, value: str = "scale") -> Picture:
    """Draw every client's scale over the rounds, colored by its true noise: the idea itself.

    Parameters
    ----------
    clients : DataFrame
        ``runs.clients`` of one run. With several runs the first that knows it is drawn. More
        than 60 clients are drawn as bands of the clean and of the noisy ones, with some
        clients in them.
    value : str
        The column: ``scale``, ``rms`` or ``weight``.
    """
    known_rows = with_rows(clients[clients[value].notna()], f"a known {value}")
    rows = thinned(known_rows[known_rows["run"] == known_rows["run"].iloc[0]])
    noise = rows.groupby("client", observed=True)["true_noise"].max()
    known = bool(noise.notna().any())
    top = float(noise.max()) if known and noise.max() > 0 else 1.0
    order = noise.sort_values(kind="stable", na_position="first").index
    shown = order if len(order) <= MOST_LINES else pd.Index(thin(order.to_numpy(), 24))
    marks: list[Mark] = []
    if len(order) > MOST_LINES:
        marks += _bands(rows, noise, value)
    by_client = dict(iter(rows[rows["client"].isin(shown)].groupby("client", observed=True)))
    for client in shown:
        its = by_client[client]
        level = float(noise[client])
        said = f"client {client}" + (f", true noise {level:.3g}" if known else "")
        marks.append(
            Line(
                its["round"].to_numpy(),
                its[value].to_numpy(),
                color=on_scale(level, 0.0, top),
                width=1.4,
                hover=said,
            )
        )
    last = rows.groupby("client", observed=True)[value].last()
    many = len(order) > MOST_LINES
    said = f"{len(order)} clients, " + ("as bands." if many else "one line each.")
    if known and (noise > 0).any() and (noise == 0).any():
        said += (
            f" At the end the median {value} is {last[noise == 0].median():.3g} for clean clients "
            f"and {last[noise > 0].median():.3g} for noisy ones."
        )
    cut = f"{len(shown)} of {len(order)} clients; bands hold 80 % of their kind."
    return Picture(
        name=f"{value}-over-rounds",
        title={
            "scale": "Scale of every client",
            "rms": "Estimated noise of every client",
            "weight": "Weight of every client",
        }.get(value, value),
        alt=f"{value.capitalize()} of clients by round. {said}",
        panels=[Panel(marks, x_label="round", y_label=_AXES.get(value, value))],
        table=rows[["round", "client", "true_noise", value]],
        line=f'runs.clients.pivot_table("{value}", "round", ["run", "client"], observed=True)',
        note=f"{run_words(rows)}." + (f" {cut}" if many else ""),
        color_bar=ColorBar("true noise", 0.0, top) if known else None,
    )


@of_runs(tables.clients)
def scale_against_noise(clients: pd.DataFrame, *, by: str = "strategy") -> Picture:
    """Draw each client's last scale against its true noise, with how well the two agree.

    Parameters
    ----------
    clients : DataFrame
        ``runs.clients``; rows without a scale or true noise, and strategies that scale all
        clients alike, are passed over.
    by : str
        The column that tells the panels apart.
    """
    final = final_clients(clients)
    final = final[final["scale"].notna() & final["true_noise"].notna()]
    spread = final.groupby(by, observed=True)["scale"].agg(["min", "max"])
    varying = spread["min"] < spread["max"]
    names = [name for name in names_of(final, by) if varying.get(name, False)]
    final = final[final[by].astype(str).isin(names)]
    panels, said, rows = [], [], []
    for name in names:
        one = final[final[by].astype(str) == name]
        auroc, spearman = _agreement(clients[clients[by].astype(str) == name])
        rows.append({by: name, "noise_auroc": auroc, "noise_spearman": spearman})
        told = ", ".join(
            text
            for text, number in (
                (f"AUROC {auroc:.3f}", auroc),
                (f"Spearman {spearman:.3f}", spearman),
            )
            if math.isfinite(number)
        )
        said.append(f"{name}: {told or 'no agreement can be measured'}")
        some = one.iloc[thin(np.arange(len(one)), MOST_POINTS)]
        text = [f"client {c}, run {r}" for c, r in zip(some["client"], some["run"], strict=True)]
        points = Points(
            some["true_noise"].to_numpy(),
            some["scale"].to_numpy(),
            color=GROUPS["noisy"],
            values=some["true_noise"].to_numpy(),
            symbol=SYMBOLS[0],
            text=text,
        )
        panels.append(Panel([points], title=name, x_label="true noise", y_label=_AXES["scale"]))
    top = float(final["true_noise"].max()) if len(final) else 1.0
    return Picture(
        name="scale-against-noise",
        title="Scale against true noise",
        alt="Last scale of each client against its true noise. " + "; ".join(said) + ".",
        panels=panels,
        table=final[[by, "run", "client", "true_noise", "rms", "scale"]].reset_index(drop=True),
        line='runs.clients.groupby(["run", "client"], observed=True)'
        '[["true_noise", "rms", "scale"]].last()',
        note="AUROC: chance that a noisy client's estimate is above a clean one's; Spearman: rank "
        "correlation of estimate and true noise; both are means over the last evaluated rounds, "
        "as in the tables, and over runs.",
        color_bar=ColorBar("true noise", 0.0, top if top > 0 else 1.0),
    )


def _agreement(clients: pd.DataFrame) -> tuple[float, float]:
    """Return what the tables call so: means over the last evaluated rounds, then over runs."""
    return _means([_of_run(one) for _, one in clients.groupby("run", observed=True)])


def _of_run(clients: pd.DataFrame) -> tuple[float, float]:
    metric = test_metric(clients)
    scored = clients[clients[metric].notna()] if metric else clients
    last = np.sort(scored["round"].unique())[-LAST_ROUNDS:]
    took_part = clients["participated"] if "participated" in clients else clients["rms"].notna()
    if "failed" in clients:
        took_part = took_part & ~clients["failed"].astype(bool)
    kept = clients[took_part & clients["round"].isin(last)]
    pairs = []
    for _, one in kept.groupby("round"):
        noise = one["true_noise"].to_numpy(dtype=float)
        noisy = np.where(np.isnan(noise), np.nan, noise > 0)
        rms = one["rms"].to_numpy(dtype=float)
        pairs.append((noise_auroc(rms, noisy), noise_spearman(rms, noise)))
    return _means(pairs)


def _means(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """Average AUROC and rank correlation, each where it is known."""
    known = ([pair[at] for pair in pairs if math.isfinite(pair[at])] for at in (0, 1))
    auroc, spearman = (float(np.mean(each)) if each else math.nan for each in known)
    return auroc, spearman


@of_runs(tables.ours)
def noise_over_rounds(clients: pd.DataFrame, alarms: pd.DataFrame | None = None) -> Picture:
    """Draw the estimated noise of the noisiest clients, and of those with an alarm.

    Parameters
    ----------
    clients : DataFrame
        ``runs.clients`` of one run; of several the first is drawn.
    alarms : DataFrame, optional
        What :func:`fedrms.results.alarms.noise_alarms` returned; found by default.
    """
    alarms = noise_alarms(clients) if alarms is None else alarms
    run = clients["run"].iloc[0]
    mine = clients[(clients["run"] == run) & clients["rms"].notna()]
    rows = thinned(with_rows(mine, "a known rms"))
    mine = alarms[alarms["run"].astype(str) == str(run)]
    last = rows.groupby("client", observed=True)["rms"].last().sort_values(ascending=False)
    named = list(dict.fromkeys([*mine["client"].head(4), *last.index[:4]]))[:6]
    by_round = rows.groupby("round")["rms"].median()
    marks: list[Mark] = [
        Line(
            by_round.index.to_numpy(),
            by_round.to_numpy(),
            "median client",
            GROUPS["unknown"],
            dash="dash",
        )
    ]
    for i, client in enumerate(named):
        its = rows[rows["client"] == client]
        style = (_APART[i], DASHES[1 + i])
        x, y = its["round"].to_numpy(), its["rms"].to_numpy()
        marks.append(Line(x, y, f"client {short_name(client)}", style[0], dash=style[1]))
        at = mine[mine["client"] == client]
        if len(at):
            there = its[its["round"] >= at["round"].iloc[0]].head(1)
            text = f"client {client}: {at['factor'].iloc[0]:.1f} times noisier"
            marks.append(
                Points(
                    there["round"].to_numpy(),
                    there["rms"].to_numpy(),
                    f"alarm: client {short_name(client)}",
                    style[0],
                    symbol="x",
                    text=[text] * len(there),
                )
            )
    return Picture(
        name="noise-over-rounds",
        title="Estimated noise and alarms",
        alt="Estimated noise by round, 0 is clean. Noisiest at the end: clients "
        f"{', '.join(map(str, last.index[:4]))}. Alarms: {len(mine)}.",
        panels=[Panel(marks, x_label="round", y_label="estimated noise")],
        table=rows[["round", "client", "rms"]],
        line='runs.clients.pivot_table("rms", "round", ["run", "client"], observed=True)',
        note=f"{run_words(rows)}. The noisiest clients, those with an alarm, and the median "
        "of all. An alarm marks where a client became noisier and stayed so.",
    )


def _bands(rows: pd.DataFrame, noise: pd.Series[float], value: str) -> list[Mark]:
    """Draw the median of the clean, and of the noisy clients, with a band of 80 % of them."""
    marks: list[Mark] = []
    kind = np.where(noise.isna(), "unknown", np.where(noise > 0, "noisy", "clean"))
    of_client = pd.Series(kind, index=noise.index)
    kinds = rows["client"].map(of_client)
    for name in ("clean", "noisy", "unknown"):
        its = rows[(kinds == name).to_numpy()]
        if its.empty:
            continue
        called = f"{name if name != 'unknown' else 'all'} clients, median"
        dash = "dash" if name == "noisy" else "solid"
        marks.append(_band(its, value, called, GROUPS[name], dash=dash, width=3.0))
    return marks


def _band(rows: pd.DataFrame, value: str, name: str, color: str, **style: Any) -> Line:
    """Draw the median over clients by round, with a band of 80 % of them."""
    by_round = rows.groupby("round")[value]
    low, middle, high = (by_round.quantile(share) for share in (0.1, 0.5, 0.9))
    x, y = middle.index.to_numpy(), middle.to_numpy()
    return Line(x, y, name, color, low=low.to_numpy(), high=high.to_numpy(), **style)
