"""What came out, in a sentence that needs no statistics to be read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import pandas as pd

from fedrms.options import counted
from fedrms.results.client_finals import test_metric
from fedrms.results.report.about import is_an_app
from fedrms.results.report.settings import Setting
from fedrms.results.summary import LAST_ROUNDS, is_share, metric_text

_KNOWN: Final = {
    "fedrms": "fedrms lets clients with noisy data count less.",
    "fedavg": "fedavg, the usual way, lets each count by its number of examples alone.",
    "oracle": "oracle is told who is noisy, as only a simulation can: a reference, no upper limit.",
}


@dataclass(frozen=True)
class Verdict:
    """A sentence, and what belongs to it.

    Attributes
    ----------
    sentence : str
    state : str
        ``better``, ``worse``, ``open`` (compared and not decided), ``alone`` (nothing to compare
        with) or ``unfinished``.
    details : list of str
        Sentences on how sure that is, and what would make it surer.
    """

    sentence: str
    state: str
    details: list[str] = field(default_factory=list)


def verdict_of(setting: Setting, focus: str) -> Verdict:
    """Say how the strategy in focus did, and whether that is decided.

    Parameters
    ----------
    setting : Setting
        Its runs and their comparison.
    focus : str
        The label of the strategy.
    """
    row = setting.row(focus)
    if row is None:
        return _unfinished(setting, focus)
    if not setting.baseline or focus == setting.baseline or not row["pairs"]:
        return _alone(setting, focus, row)
    return _compared(setting, focus, row)


def _compared(setting: Setting, focus: str, row: dict[str, Any]) -> Verdict:
    if math.isnan(row["difference"]):
        sentence = f"Not decided: {focus} or {setting.baseline} diverged, so no difference is known"
        return Verdict(f"{sentence}.", "open")
    ahead = (row["difference"] >= 0) == setting.higher_is_better
    state, seeds = "better" if ahead else "worse", _seeds(setting, focus, row, ahead)
    low, high = (_amount(setting, row[f"difference_{end}"]) for end in ("low", "high"))
    known = math.isfinite(row["difference_low"]) and math.isfinite(row["difference_high"])
    interval = f" (95 % interval {low} to {high})" if known else ""
    average = _amount(setting, row["difference"])
    details = [
        f"{focus} against {setting.baseline}: {average}{interval} on average.",
        *_in_cases(setting, focus),
        *_scored(setting),
        _drawn(setting.runs.summary),
    ]
    details += [text for name, text in _KNOWN.items() if name in setting.labels]
    amount = _told(setting, row["difference"])
    if str(row["better"]) in ("yes", "no"):
        details.append(f"Decided: chance alone does as much about {_once(row['p_corrected'])}.")
        sentence = f"{state.capitalize()} on {seeds}: {amount} with {focus}; decided."
        return Verdict(sentence, state, details)
    assert setting.comparison is not None
    pairs, needed = int(row["pairs"]), int(setting.comparison.attrs["seeds_needed"])
    if pairs < needed:
        details.append(f"So few seeds cannot decide; 'seed=range({needed})' can.")
        ending = f"{counted(needed - pairs, 'more seed')} can decide"
    else:
        ending = "the seeds disagree too much"
    sentence = f"Not yet decided: {focus} is {state} on {seeds}, {amount}; {ending}."
    return Verdict(sentence, "open", details)


def _scored(setting: Setting) -> list[str]:
    """Say which rounds a score is the mean of."""
    rounds, column = setting.runs.rounds, test_metric(setting.runs.rounds)
    if not column:
        return []
    known = rounds.loc[rounds[column].notna(), ["run", "round"]]
    last = known.loc[known["run"] == known["run"].iloc[0], "round"].tail(LAST_ROUNDS)
    return [f"Scores are means of rounds {int(last.iloc[0])} to {int(last.iloc[-1])}."]


def _drawn(summary: pd.DataFrame) -> str:
    """Say what another seed draws anew in this setting, and what it leaves."""
    if is_an_app(summary):
        return "A seed is one repetition of the app; what it draws anew is the app's to say."

    def varies(column: str, *fixed: str) -> bool:
        return column in summary and not summary[column].astype(str).isin(fixed).all()

    drawn = ["who holds which rows"] * varies("partition", "auto", "natural", "own")
    drawn += ["whose data are noisy"] * varies("noise", "none", "file", "own")
    said = ", ".join([*drawn, "the first model and the order of training"])
    kept = "; the test rows stay" if "data.split_seed" in summary else ""
    return f"A seed is one repetition, which draws anew {said}{kept}."


def _once(p: float) -> str:
    """Say a p-value as people count; what decides is below one in 20."""
    return "never" if p <= 0 else f"once in {1 / p:,.0f} times, and once in 20 is the bar"


def _seeds(setting: Setting, focus: str, row: dict[str, Any], ahead: bool) -> str:
    """Say on how many seeds it was as it is on average."""
    pairs = int(row["pairs"])
    if pairs == 1:
        return "the one seed"
    return f"{_won(setting, focus, ahead)} of {pairs} seeds"


def _in_cases(setting: Setting, focus: str) -> list[str]:
    """Say an accuracy as people count: right answers of a thousand."""
    rows = [setting.row(label) for label in (focus, setting.baseline)]
    if setting.metric != "accuracy" or not all(rows):
        return []
    ours, theirs = (f"{1000 * row['mean']:.0f}" for row in rows if row)
    return [f"Of 1,000 test cases {focus} gets {ours} right, {setting.baseline} {theirs}."]


def _alone(setting: Setting, focus: str, row: dict[str, Any]) -> Verdict:
    runs = int(row["runs"])
    seeds = "in one run" if runs == 1 else f"on average over {runs} seeds"
    score = metric_text(setting.metric, row["mean"], ".4g")
    sentence = f"{focus} ends at a test {setting.metric} of {score}, {seeds}."
    others = [label for label in setting.labels if label != focus]
    details = [] if others else ["No other strategy ran with these settings to compare with."]
    return Verdict(sentence, "alone", details)


def _unfinished(setting: Setting, focus: str) -> Verdict:
    rounds = setting.runs.rounds
    mine = rounds[rounds["label"] == focus] if "label" in rounds else rounds
    if mine.empty:
        return Verdict(f"{focus}: no round is known.", "unfinished")
    done = int(mine.groupby("run", observed=True)["round"].max().min())
    kept = setting.runs.summary.get("rounds", pd.Series(dtype=float))
    planned = pd.to_numeric(kept, errors="coerce").dropna()  # somebody's folder may hold a text
    of = f" of {int(planned.max())}" if len(planned) else ""
    column = test_metric(mine)
    sentence = f"Not finished: {done}{of} rounds of {focus} are done."
    known = mine[mine[column].notna()].sort_values("round") if column else mine.iloc[:0]
    details = []
    if len(known):
        score = metric_text(setting.metric, known[column].iloc[-1], ".4g")
        details.append(f"Its test {setting.metric} is {score} so far.")
    return Verdict(sentence, "unfinished", details)


def _won(setting: Setting, focus: str, ahead: bool) -> int:
    """Count the seeds where the strategy in focus ends better than the baseline, or worse."""
    summary, column = setting.runs.summary, f"final_{setting.metric}"
    if column not in summary or "seed" not in summary:
        return 0
    by_label = summary.pivot_table(column, "seed", "label", observed=True)
    if focus not in by_label or setting.baseline not in by_label:
        return 0
    difference = by_label[focus] - by_label[setting.baseline]
    higher = ahead == setting.higher_is_better
    return int(((difference > 0) if higher else (difference < 0)).sum())


def _told(setting: Setting, difference: float) -> str:
    """Say a difference in words: points of a share, a loss that is lower or higher."""
    metric = setting.metric.replace("_", " ")
    if is_share(setting.metric):
        return f"{_amount(setting, difference)} points of {metric}"
    return f"{metric} {'higher' if difference > 0 else 'lower'} by {abs(difference):.3g}"


def _amount(setting: Setting, difference: float) -> str:
    return f"{100 * difference:+.1f}" if is_share(setting.metric) else f"{difference:+.3g}"
