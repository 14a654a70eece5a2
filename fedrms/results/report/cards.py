"""Cards of the clients that matter: noise, weight, what they gained, when it changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from fedrms.results.plots.client_weights import weight_table
from fedrms.results.report.advice import MUCH_LESS
from fedrms.results.report.settings import Setting
from fedrms.results.run_words import kind_words
from fedrms.results.summary import change_text, metric_text

MOST_CARDS: Final = 6

_HALF: Final = 0.5


@dataclass(frozen=True)
class Card:
    """One client.

    Attributes
    ----------
    name : str
    kind : str
        Clean, noisy, ...; empty where it is not known.
    why : str
        Why it has a card.
    facts : list of (str, str)
        What is known, and how much.
    """

    name: str
    kind: str
    why: str
    facts: list[tuple[str, str]]


def cards_of(
    setting: Setting,
    focus: str,
    groups: pd.DataFrame,
    clients: pd.DataFrame,
    alarms: pd.DataFrame | None,
) -> list[Card]:
    """Return cards for the clients of one run whose weight, score or noise changed most.

    Parameters
    ----------
    setting : Setting
        Whose runs these are.
    focus : str
        The label of the strategy.
    groups, clients : DataFrame
        How each client ended, and its rounds.
    alarms : DataFrame, optional
        Who became noisier, and when.
    """
    mine = groups[groups["label"] == focus]
    mine = mine[mine["weight"].notna()]
    if mine.empty:
        return []
    run = mine["run"].iloc[0]
    one = mine[mine["run"] == run]
    table = weight_table(one).set_index("client")
    gains = _gains(setting, focus, groups, one)
    raised = alarms[alarms["run"].astype(str) == str(run)] if alarms is not None else None
    reasons: dict[str, str] = {}
    if raised is not None:
        reasons |= {str(client): "became noisier" for client in raised["client"].head(2)}
    kept = (table["after"] / table["before"]).sort_values(kind="stable")
    for name in kept[kept < MUCH_LESS].index[:3]:
        reasons.setdefault(str(name), "weighs much less")
    if len(gains):
        ranked, told = gains.sort_values(kind="stable"), setting.metric.replace("_", " ")
        if ranked.iloc[-1] > 0:
            reasons.setdefault(str(ranked.index[-1]), f"largest rise in {told}")
        if ranked.iloc[0] < 0:
            reasons.setdefault(str(ranked.index[0]), f"largest drop in {told}")
    measured = setting.runs.left_out
    if len(measured):
        measured = measured[measured["run"].astype(str) == str(run)]
        missed = measured.sort_values("lost", kind="stable").tail(1)
        for name in missed.loc[missed["lost"] > 0, "client"].astype(str):
            reasons.setdefault(name, "the federation would miss it most")
    rounds = clients[clients["run"] == run]
    scores = one.assign(client=one["client"].astype(str)).set_index("client")
    cards = []
    for name, why in list(reasons.items())[:MOST_CARDS]:
        weights, ended = table.loc[[name]].iloc[0], scores.loc[[name]].iloc[0]
        kind = "" if weights["group"] == "unknown" else kind_words(str(ended["group"]))
        facts = _facts(setting, name, weights, ended, gains, raised, rounds, measured)
        cards.append(Card(name, kind, why, facts))
    return cards


def _facts(
    setting: Setting,
    name: str,
    weights: pd.Series[float],
    ended: pd.Series[float],
    gains: pd.Series[float],
    raised: pd.DataFrame | None,
    rounds: pd.DataFrame,
    measured: pd.DataFrame,
) -> list[tuple[str, str]]:
    facts = []
    noise, low, high = (float(weights[key]) for key in ("noise", "noise_low", "noise_high"))
    if not np.isnan(noise):
        sure = "" if np.isnan(low) else f", 90 % interval {low:.2f} to {high:.2f}"
        facts.append(("Estimated noise", f"{noise:.2f}{sure}"))
    if not np.isnan(ended["true_noise"]):
        facts.append(("True noise", f"{ended['true_noise']:.2f}"))
    facts.append(("Weight", f"{weights['before']:.1%} by its data, {weights['after']:.1%} now"))
    if not np.isnan(ended["score"]):
        text = metric_text(setting.metric, ended["score"])
        if name in gains:
            gain = float(gains[name])
            word = "better" if gain >= 0 else "worse"
            text += (
                f", {change_text(setting.metric, abs(gain))} {word} than with {setting.baseline}"
            )
        facts.append((f"Its own test {setting.metric}", text))
    lost = measured[measured["client"].astype(str) == name] if len(measured) else measured
    if len(lost):
        facts.append(("If it is left out", _left_out(setting, float(lost["lost"].iloc[0]))))
        facts += _alone(setting, lost.iloc[0])
    its = raised[raised["client"].astype(str) == name] if raised is not None else None
    if its is not None and len(its):
        factor, at = float(its["factor"].iloc[0]), int(its["round"].iloc[0])
        facts.append(("Changed", f"{factor:.1f} times noisier from round {at}"))
    since = _below_half_since(name, float(weights["before"]), rounds)
    if since is not None:
        facts.append(("Below half of that weight", f"since round {since}"))
    return facts


def _left_out(setting: Setting, lost: float) -> str:
    much = change_text(setting.metric, abs(lost))
    if much in ("0.0 points", "0"):
        return "the federation is as good without it (measured, at this seed)"
    word = "worse" if lost >= 0 else "better"
    return f"the federation is {much} {word} (measured, at this seed)"


def _alone(setting: Setting, measured: pd.Series[float]) -> list[tuple[str, str]]:
    """Say what a client has by itself; nothing where that was not measured."""
    both = [float(measured.get(key, np.nan)) for key in ("alone", "together")]
    if np.isnan(both).any():
        return []
    alone, together = (metric_text(setting.metric, value) for value in both)
    told = f"alone {alone}, in the federation {together} (measured, at this seed)"
    return [(f"Its own test {setting.metric}, trained alone", told)]


def _below_half_since(name: str, before: float, rounds: pd.DataFrame) -> int | None:
    """Return the round since which a client has had less than half of its data's weight."""
    known = rounds[rounds["weight"].notna()]
    total = known.groupby("round")["weight"].sum()
    its = known[known["client"].astype(str) == name].set_index("round")["weight"]
    low = (its / total.reindex(its.index) < _HALF * before).sort_index()
    if low.empty or not low.iloc[-1]:
        return None
    above = low[~low]
    later = low.index[low.index > above.index[-1]] if len(above) else low.index
    return int(later[0])


def _gains(
    setting: Setting, focus: str, groups: pd.DataFrame, one: pd.DataFrame
) -> pd.Series[float]:
    """Return each client's gain on the baseline at the same seed, by name."""
    if not setting.baseline or focus == setting.baseline:
        return pd.Series(dtype=float)
    pairs = setting.gains(groups, focus)
    if "seed" in pairs and "seed" in one:
        pairs = pairs[pairs["seed"] == one["seed"].iloc[0]]
    return pairs.assign(client=pairs["client"].astype(str)).set_index("client")["gain"]
