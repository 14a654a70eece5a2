"""Figures of the data: who holds which classes, and whose data is noisy."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedrms.results.in_order import with_rows
from fedrms.results.plots import of_runs as tables
from fedrms.results.plots.of_runs import of_runs
from fedrms.results.plots.palette import GROUPS
from fedrms.results.plots.picture import Bars, Heat, Line, Mark, Panel, Picture, thin
from fedrms.results.run_words import client_words, run_words, short_name

MOST_COLUMNS = 80

MOST_NAMES = 20
MOST_LETTERS = 14
"""Clients that an axis names, and letters of a name there."""


@of_runs(tables.partition)
def partition(held: pd.DataFrame) -> Picture:
    """Draw how many examples of each class each client holds, or how many where there are none.

    Parameters
    ----------
    held : DataFrame
        ``runs.partition``; of several runs the first is drawn.
    """
    run = held["run"].iloc[0]
    one = held[held["run"] == run]
    if one["class"].isna().all():
        return _sizes(one)
    table = one.assign(**{"class": one["class"].fillna("all")})
    order = sorted(table["class"].unique(), key=lambda name: (len(str(name)), str(name)))
    wide = table.pivot_table("examples", "class", "client", aggfunc="sum", fill_value=0)
    wide = wide.reindex(order)
    shown = wide[thin(wide.columns.to_numpy(), MOST_COLUMNS)]
    cut = f" {shown.shape[1]} of {wide.shape[1]} clients." if len(shown.T) < len(wide.T) else ""
    classes = (wide > 0).sum()
    return Picture(
        name="partition",
        title="Who holds which classes",
        alt=f"Examples of each class (rows) that each client (columns) holds. {wide.shape[1]} "
        f"clients hold {int(classes.min())} to {int(classes.max())} of {len(order)} classes.",
        panels=[
            Panel(
                [
                    Heat(
                        [str(c) for c in shown.columns],
                        [str(c) for c in order],
                        shown.to_numpy(dtype=float),
                        "examples",
                    )
                ],
                x_label="client",
                y_label="class",
            )
        ],
        table=one[["client", "class", "examples", "rare"]].reset_index(drop=True),
        line='runs.partition.pivot_table("examples", "class", ["run", "client"], observed=True)',
        note=f"{run_words(one)}, before any noise.{cut}",
        height=max(260, min(520, 120 + 26 * len(order))) + _below(shown.columns),
    )


def _below(names: pd.Index) -> int:
    """Return the pixels that turned names take below a heat map."""
    longest = max((len(str(name)) for name in names), default=0)
    return 70 if longest > 3 else 0


def _sizes(one: pd.DataFrame) -> Picture:
    held = one.groupby("client", observed=True)["examples"].sum()
    shown = held.iloc[thin(np.arange(len(held)), 300)]
    text = [f"client {client}" for client in shown.index]
    bars = Bars(shown.index.to_numpy(), shown.to_numpy(), color=GROUPS["clean"], text=text)
    return Picture(
        name="partition",
        title="Who holds how much",
        alt=f"Training examples of each client: {len(held)} clients hold {held.min()} to "
        f"{held.max()}.",
        panels=[Panel([bars], x_label="client", y_label="examples")],
        table=held.reset_index(),
        line='runs.partition.groupby(["run", "client"], observed=True)["examples"].sum()',
        note=f"{run_words(one)}.",
        height=300,
    )


@of_runs(tables.clients)
def true_noise(clients: pd.DataFrame) -> Picture:
    """Draw the noise that the simulator added to each client's data.

    Parameters
    ----------
    clients : DataFrame
        ``runs.clients``; of several runs the first is drawn.
    """
    run = clients["run"].iloc[0]
    known = clients[(clients["run"] == run) & clients["true_noise"].notna()]
    one = with_rows(known, "a known true_noise")
    spread = one.groupby("client", observed=True)["true_noise"].agg(["first", "last", "max"])
    spread = spread.sort_values(["max", "last"], kind="stable")
    spread["position"] = np.arange(1, len(spread) + 1)
    shown = spread.iloc[thin(np.arange(len(spread)), 300)]
    marks: list[Mark] = [
        Bars(
            its["position"].to_numpy(),
            its["last"].to_numpy(),
            name,
            GROUPS[name],
            [client_words(str(c)) for c in its.index],
        )
        for name, its in (("noisy", shown[shown["last"] > 0]),)  # a clean one has no bar to draw
        if len(its)
    ]
    drifted = int((spread["first"] != spread["last"]).sum())
    if drifted:
        x, y = shown["position"].to_numpy(), shown["first"].to_numpy()
        marks.append(Line(x, y, "in its first round", GROUPS["unknown"], dash="dot"))
    noisy = int((spread["max"] > 0).sum())
    return Picture(
        name="true-noise",
        title="Whose data is noisy",
        alt=f"True noise of each client, sorted: {noisy} of {len(spread)} clients are noisy, up to "
        f"{spread['max'].max():.3g}."
        + (f" The noise of {drifted} clients changes." if drifted else ""),
        panels=[
            Panel(
                marks,
                x_label="client, from clean to noisy",
                y_label="true noise",
                x_ticks=_ticks(shown),
            )
        ],
        table=spread.reset_index(),
        line='runs.clients.groupby(["run", "client"], observed=True)["true_noise"].last()',
        note=f"{run_words(one)}. What the simulation set: of labels the share that it replaced, of "
        "inputs and targets the standard deviation of what it added.",
    )


def _ticks(shown: pd.DataFrame) -> list[tuple[float, str]]:
    """Name the clients, as many as there is room for."""
    some = shown.iloc[thin(np.arange(len(shown)), MOST_NAMES)]
    names = [short_name(client, MOST_LETTERS) for client in some.index]
    return [(float(at), name) for at, name in zip(some["position"], names, strict=True)]
