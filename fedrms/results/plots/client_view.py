"""Figures of how clients fare: ranked, and against the baseline."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedrms.results.client_finals import final_clients, test_metric
from fedrms.results.fairness import share_size
from fedrms.results.plots import of_runs as tables
from fedrms.results.plots.curves import names_of
from fedrms.results.plots.of_runs import of_runs
from fedrms.results.plots.palette import GROUPS, SYMBOLS, colors_of, dashes_of
from fedrms.results.plots.picture import Bars, Level, Line, Mark, Panel, Picture, Points, Span, thin
from fedrms.results.summary import LAST_ROUNDS, is_share, metric_text

MOST_RANKS = 200
MOST_BARS = 240


@of_runs(tables.clients)
def ranked_clients(
    clients: pd.DataFrame,
    *,
    by: str = "strategy",
    higher_is_better: bool = True,
    fraction: float = 0.1,
) -> Picture:
    """Draw the clients' scores from worst to best, one line a strategy.

    Parameters
    ----------
    clients : DataFrame
        One row a (run, client) with ``score``: what ``final_clients`` or ``client_groups``
        returned; or ``runs.clients``.
    by : str
        The column that tells the lines apart.
    higher_is_better : bool
        False for errors.
    fraction : float
        Share of the clients that is marked as worst and best.
    """
    final, metric = _scored(clients)
    accuracy = is_share(metric)
    names = names_of(final, by)
    colors, dashes = colors_of(names), dashes_of(names)
    ranked = final.sort_values("score", ascending=higher_is_better, kind="stable")
    ranked = ranked.assign(rank=ranked.groupby("run", observed=True).cumcount() + 1)
    keys = [ranked[by].astype(str).rename(by), ranked["rank"]]
    table = ranked.groupby(keys)["score"].agg(["mean", "std", "count"]).reset_index()
    count = int(table["rank"].max()) if len(table) else 0
    k = share_size(count, fraction) if count else 0
    marks, said = [], []
    for name in names:
        one = table[table[by] == name]
        ends = one["mean"].iloc[[0, -1]]
        said.append(f"{name} {' to '.join(metric_text(metric, end) for end in ends)}")
        one = one[one["rank"].isin(thin(one["rank"].to_numpy(), MOST_RANKS))]
        x, y = one["rank"].to_numpy(), one["mean"].to_numpy()
        marks.append(Line(x, y, name, colors[name], dash=dashes[name]))
    percent = f"{fraction:.0%}"
    spans = [
        Span(0.5, k + 0.5, f"worst {percent}"),
        Span(count - k + 0.5, count + 0.5, f"best {percent}"),
    ]
    return Picture(
        name="ranked-clients",
        title="Clients from worst to best",
        alt=f"Final {metric} of clients, ranked, from the worst to the best: "
        + "; ".join(said)
        + ".",
        panels=[
            Panel(
                marks,
                x_label="rank of the client",
                y_label=f"final {metric}",
                y_percent=accuracy,
                spans=spans if count > 1 else (),
            )
        ],
        table=table,
        line=f'runs.clients.groupby(["run", "client"], observed=True)["test_{metric}"]'
        f".apply(lambda score: score.dropna().tail({LAST_ROUNDS}).mean())",
        note="Each on its own clean test mix, mean of the last five evaluated rounds; at each "
        f"rank the mean over runs. Shaded: the worst and the best {percent}.",
    )


@of_runs(tables.groups)
def gains(
    groups: pd.DataFrame,
    strategy: str,
    *,
    baseline: str = "fedavg",
    by: str = "strategy",
    higher_is_better: bool = True,
) -> Picture:
    """Draw how much each client gained or lost against the baseline at the same seed.

    Parameters
    ----------
    groups : DataFrame
        What :func:`fedrms.results.client_groups.client_groups` returned.
    strategy, baseline : str
        Values of the column `by`.
    higher_is_better : bool
        False for errors: a gain then is how much smaller the error is.
    """
    metric = str(groups.attrs.get("metric", "accuracy"))
    accuracy = is_share(metric)
    table = gain_table(
        groups, strategy, baseline=baseline, by=by, higher_is_better=higher_is_better
    )
    ranked = table.sort_values("gain", kind="stable", ignore_index=True)
    ranked["rank"] = ranked.index + 1
    shown = ranked.iloc[thin(np.arange(len(ranked)), MOST_BARS)]
    marks: list[Mark] = []
    for i, kind in enumerate(k for k in GROUPS if (shown["group"] == k).any()):
        one = shown[shown["group"] == kind]
        text = [
            f"client {c}, seed {s}, {kind}"
            for c, s in zip(one["client"], one.get("seed", one["client"]), strict=True)
        ]
        x, y = one["rank"].to_numpy(), one["gain"].to_numpy() * (100.0 if accuracy else 1.0)
        if len(ranked) <= MOST_BARS:
            marks.append(Bars(x, y, kind, GROUPS[kind], text))
        else:
            marks.append(Points(x, y, kind, GROUPS[kind], symbol=SYMBOLS[i], text=text))
    several = bool(ranked["client"].duplicated().any())
    won, lost = int((ranked["gain"] > 1e-9).sum()), int((ranked["gain"] < -1e-9).sum())
    means = ranked.groupby("group")["gain"].mean()
    points = " points" if accuracy else ""
    told = ", ".join(
        f"{k} {v * 100:+.2f}" if accuracy else f"{k} {v:+.3g}" for k, v in means.items()
    )
    return Picture(
        name="gains",
        title=f"Who gained and who lost: {strategy} against {baseline}",
        alt=f"Gain of each client, sorted. {won} gained, {lost} lost, of {len(ranked)}. "
        f"Mean gain by kind: {told}{points}. Above 0 is better.",
        panels=[
            Panel(
                marks,
                x_label="clients at every seed, sorted by gain"
                if several
                else "clients, sorted by gain",
                y_label=f"gain in {metric}{',' if points else ''}{points}",
                levels=[Level(0.0, "")],
            )
        ],
        table=table,
        line='runs.clients.query("round == round.max()").pivot_table('
        f'"test_{metric}", ["seed", "client"], "{by}", observed=True)',
        note=f"Each client at each seed, against itself under {baseline} at the same seed.",
    )


def gain_table(
    groups: pd.DataFrame,
    strategy: str,
    *,
    baseline: str = "fedavg",
    by: str = "strategy",
    higher_is_better: bool = True,
) -> pd.DataFrame:
    """Pair each client with itself under the baseline; ``gain`` is positive where it is better."""
    pair = [name for name in ("seed", "client") if name in groups]
    name = groups[by].astype(str)
    kept = ["group", "num_examples", "true_noise", "score"]
    mine = groups.loc[name == strategy, [*pair, *kept]]
    base = groups.loc[name == baseline, [*pair, "score"]]
    both = mine.merge(base, on=pair, suffixes=("", "_baseline"))
    difference = both["score"] - both["score_baseline"]
    return both.assign(gain=difference if higher_is_better else -difference).dropna(subset="gain")


def _scored(clients: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    if "score" in clients:
        return clients[clients["score"].notna()], str(clients.attrs.get("metric", "accuracy"))
    metric = test_metric(clients)
    final = final_clients(clients, metric)
    return final[final["score"].notna()], metric.removeprefix("test_")
