"""What the page says of one setting: its figures, tables and sentences, by chapter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from fedrms.results import plots
from fedrms.results.alarms import noise_alarms
from fedrms.results.client_finals import final_clients
from fedrms.results.client_groups import client_groups
from fedrms.results.gauss_markov import gauss_markov_bound
from fedrms.results.plots.picture import Picture
from fedrms.results.report import client_tables, run_tables
from fedrms.results.report.advice import to_do
from fedrms.results.report.cards import Card, cards_of
from fedrms.results.report.settings import Setting, select
from fedrms.results.report.tables import ReportTable
from fedrms.results.report.verdict import Verdict, verdict_of
from fedrms.results.summary import tells

MOST_LABELS = 8
"""Strategies in one figure: the baseline and the best; all are in the tables."""


@dataclass(frozen=True, eq=False)
class Chapter:
    """A heading and what is under it, in order."""

    title: str
    parts: list[Picture | ReportTable] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    verdict: Verdict | None = None
    cards: list[Card] = field(default_factory=list)
    to_do: list[str] = field(default_factory=list)
    folded: bool = False


@dataclass(frozen=True, eq=False)
class _Material:
    """What several chapters need of a setting."""

    setting: Setting
    shown: list[str]
    rounds: pd.DataFrame
    clients: pd.DataFrame
    groups: pd.DataFrame
    focus: str
    truth: bool


def chapters_of(setting: Setting) -> list[Chapter]:
    """Return the chapters of one setting; those without anything to show are left out."""
    material = _material(setting)
    estimated = tells(material.clients, "rms")
    alarms = noise_alarms(_of_label(material, material.focus)) if estimated else None
    chapters = [
        _at_a_glance(material, alarms),
        Chapter("In short", text=_in_short(material, alarms)),
        _result(material),
        _noise(material, alarms),
        _weights(material),
        _clients(material),
        _data(material),
        _cost(material),
        _failures(material),
        _for_specialists(material),
    ]
    return [c for c in chapters if c.parts or c.text or c.verdict]


def _at_a_glance(material: _Material, alarms: pd.DataFrame | None) -> Chapter:
    """Return the first screen: what came out, every client's weight, the clients that matter."""
    setting, focus = material.setting, material.focus
    mine = material.groups[material.groups["label"] == focus]
    weighed = tells(mine, "weight")
    return Chapter(
        "At a glance",
        [plots.client_weights(mine[mine["weight"].notna()])] if weighed else [],
        verdict=verdict_of(setting, focus),
        cards=cards_of(setting, focus, material.groups, material.clients, alarms)
        if weighed
        else [],
        to_do=to_do(mine, alarms, setting.metric) if weighed else [],
    )


def _material(setting: Setting) -> _Material:
    shown = setting.labels[:MOST_LABELS]
    runs = setting.runs
    rounds = _in_order(runs.rounds, shown)
    clients = _in_order(runs.clients, shown)
    if len(clients):
        groups = client_groups(
            clients,
            runs.partition,
            baseline=setting.baseline or shown[0],
            by="label",
            higher_is_better=setting.higher_is_better,
        )
    else:
        groups = pd.DataFrame(columns=["run", "client", "label", "group", "score"])
    groups.attrs["metric"] = setting.metric
    ours = [label for label in shown if label.startswith("fedrms")]
    others = [label for label in shown if label not in (setting.baseline, "oracle")]
    focus = (ours or others or shown)[0]
    truth = tells(clients, "true_noise")
    return _Material(setting, shown, rounds, clients, groups, focus, truth)


def _in_order(table: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """Keep the rows of these labels, in their order and by seed, as figures meet them."""
    if "label" not in table:
        return table
    kept = table[table["label"].isin(labels)]
    place = {label: i for i, label in enumerate(labels)}
    keys = [kept["label"].map(place).to_numpy()]
    if "seed" in kept:
        keys.insert(0, pd.to_numeric(kept["seed"].astype(object), errors="coerce").to_numpy())
    return kept.iloc[np.lexsort(keys)]


def _of_label(material: _Material, label: str) -> pd.DataFrame:
    return material.clients[material.clients["label"] == label]


def _result(material: _Material) -> Chapter:
    setting = material.setting
    parts: list[Picture | ReportTable] = []
    if setting.comparison is not None:
        parts.append(run_tables.comparison(setting.comparison))
    column = f"test_{setting.metric}"
    if tells(material.rounds, column):
        levels = _bound(setting)
        parts.append(
            plots.learning_curves(material.rounds, metric=column, by="label", levels=levels)
        )
    return Chapter("Result", parts)


def _bound(setting: Setting) -> dict[str, float]:
    """Return the Gauss-Markov bound where the data are such that there is one."""
    first = setting.runs.summary.iloc[0]
    linear = setting.metric == "mse" and first.get("data.kind") == "linear"
    if not linear or first.get("model") != "linear" or "true_noise" not in setting.runs.clients:
        return {}
    one = select(setting.runs, [first["run"]]).clients
    bound = gauss_markov_bound(one, int(first["data.features"]) + 1)
    return {} if math.isnan(bound) else {f"Gauss-Markov bound is {bound:.3g}": bound}


def _noise(material: _Material, alarms: pd.DataFrame | None) -> Chapter:
    parts: list[Picture | ReportTable] = []
    focus = _of_label(material, material.focus)
    if _varies(focus, "scale"):
        parts.append(plots.scale_over_rounds(focus))
    elif tells(focus, "rms"):
        parts.append(plots.scale_over_rounds(focus, value="rms"))
    if material.truth and _varies(focus, "scale"):
        told = material.clients["label"].str.startswith("oracle")  # who is noisy
        against = plots.scale_against_noise(material.clients[~told], by="label")
        parts += [against] if against.panels else []
    if alarms is not None:
        estimated = focus[focus["rms"].notna()]
        if len(estimated):
            run = (alarms if len(alarms) else estimated)["run"].iloc[0]
            parts.append(plots.noise_over_rounds(focus[focus["run"] == run], alarms))
        parts.append(client_tables.alarms(alarms))
        if not material.truth:
            parts.append(client_tables.estimates(focus))
    return Chapter("Who is noisy", parts)


def _varies(clients: pd.DataFrame, column: str) -> bool:
    known = clients[column].dropna() if column in clients else pd.Series(dtype=float)
    return len(known) > 0 and float(known.max()) > float(known.min())


def _weights(material: _Material) -> Chapter:
    if not material.truth or not tells(material.clients, "weight"):
        return Chapter("What the server did")
    if len(set(material.groups["group"])) == 1:  # all are noisy: by how much is what differs
        focus = _of_label(material, material.focus)
        return Chapter("What the server did", [plots.scale_over_rounds(focus, value="weight")])
    known = material.groups[material.groups["label"].isin(material.shown[:4])]
    rows = material.clients[material.clients["label"].isin(material.shown[:4])]
    return Chapter("What the server did", [plots.weight_shares(rows, known, by="label")])


def _clients(material: _Material) -> Chapter:
    setting, groups = material.setting, material.groups
    parts: list[Picture | ReportTable] = []
    higher = setting.higher_is_better
    scored = groups[groups["score"].notna()]
    scored.attrs["metric"] = setting.metric
    differ = len(scored) and scored.groupby("run", observed=True)["score"].agg(np.ptp).max() > 1e-12
    if differ:
        parts.append(plots.ranked_clients(scored, by="label", higher_is_better=higher))
        if setting.baseline and material.focus != setting.baseline and _differ(material):
            parts.append(
                plots.gains(
                    scored,
                    material.focus,
                    baseline=setting.baseline,
                    by="label",
                    higher_is_better=higher,
                )
            )
            parts.append(client_tables.gains(scored, setting, material.shown))
    each = client_tables.every_client(groups, setting.metric, material.focus)
    return Chapter("Clients: who gained, who lost", [*parts, *([each] if each else [])])


def _differ(material: _Material) -> bool:
    """Tell whether the strategy in focus changed any client's score."""
    gains = material.setting.gains(material.groups, material.focus)["gain"]
    return bool((gains.abs() > 1e-12).any())


def _data(material: _Material) -> Chapter:
    runs = material.setting.runs
    parts: list[Picture | ReportTable] = []
    if len(runs.partition):
        parts.append(plots.partition(runs.partition))
    if material.truth and (material.clients["true_noise"] > 0).any():
        parts.append(plots.true_noise(material.clients))
    return Chapter("The data", parts)


def _cost(material: _Material) -> Chapter:
    if not tells(material.rounds, "seconds"):
        return Chapter("Time")
    return Chapter("Time", [plots.seconds_per_round(material.rounds, by="label")])


def _failures(material: _Material) -> Chapter:
    table = client_tables.failures(material.clients)
    if table is None:
        return Chapter("Failed clients", text=["No client failed."])
    return Chapter("Failed clients", [table])


def _for_specialists(material: _Material) -> Chapter:
    """Return what most readers pass over: every metric, the configuration, the commands."""
    tables = run_tables.fairness(material.rounds, material.setting)
    tables += run_tables.configuration(material.setting)
    title = "For specialists: metrics over clients, configuration, commands"
    return Chapter(title, list[Picture | ReportTable](tables), folded=True)


def _in_short(material: _Material, alarms: pd.DataFrame | None) -> list[str]:
    """Say the main results in sentences, with their spread and number of seeds."""
    said = run_tables.outcome_sentences(material.setting, material.focus)
    groups, focus = material.groups, material.focus
    if material.truth and tells(material.clients, "weight"):
        mine = groups[groups["label"] == focus]
        noisy = mine["group"] == "noisy"
        weights = mine.groupby("run", observed=True)["weight"].sum()
        share = mine[noisy].groupby("run", observed=True)["weight"].sum() / weights
        data = mine.loc[noisy, "num_examples"].sum() / max(mine["num_examples"].sum(), 1)
        if noisy.any() and not noisy.all() and share.notna().any():
            said.append(
                f"Noisy clients hold {data:.0%} of the data and, with {focus}, "
                f"{share.mean():.0%} of the weight in the last round."
            )
            said += client_tables.found_and_missed(mine, focus)
    if material.setting.baseline and focus != material.setting.baseline and len(groups):
        pairs = material.setting.gains(groups, focus)
        if len(pairs) and pairs["gain"].abs().max() > 1e-12:
            said.append(client_tables.gained_and_lost(pairs, material.setting))
    said += [f"The {label}." for label in _bound(material.setting)]
    count = len(material.setting.labels)
    if count > len(material.shown):
        said.append(
            f"Figures show {len(material.shown)} of {count} strategies: the baseline and the best; "
            "the comparison has all."
        )
    if alarms is not None:
        said += [
            f"Client {client} became {factor:.1f} times noisier at round {at} (run {run})."
            for run, client, at, factor in alarms.head(5)[
                ["run", "client", "round", "factor"]
            ].itertuples(index=False)
        ]
    failed = final_clients(material.clients)["failures"].sum() if len(material.clients) else 0
    if failed:
        said.append(f"{int(failed)} times a client failed; the reasons are below.")
    return said
