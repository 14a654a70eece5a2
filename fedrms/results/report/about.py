"""What the report is about, in a title and a line: what ran, on what, with whom."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fedrms.options import counted
from fedrms.results.report.settings import Setting, Sorted
from fedrms.results.runs import Runs
from fedrms.results.summary import tells


def title_of(found: Sorted, folders: list[Path]) -> str:
    """Say who is compared with whom on which data; of several settings name the folders."""
    names = ", ".join(folder.resolve().name for folder in folders)
    if len(found.settings) != 1:
        return f"fedrms: {names}"
    (setting,) = found.settings
    labels = [label for label in setting.labels if label != setting.baseline]
    ours = next((label for label in labels if label.startswith("fedrms")), None)
    told = ours or next(iter(labels), setting.baseline)
    against = f" against {setting.baseline}" if labels and setting.baseline else ""
    data = _values(setting.runs.summary, "data")
    return f"{told}{against}{', ' + data if data else ''}"


def subtitle_of(runs: Runs, found: Sorted, folders: list[Path]) -> str:
    """Say whether it is a simulation, on which data, with how many clients, how often."""
    summary = runs.summary
    data = _values(summary, "data")
    how = f"{_kind(summary)}{' on ' + data if data else ''}"
    who = _clients(found.settings[0]) if len(found.settings) == 1 else ""
    kinds = summary["strategy"].nunique() if "strategy" in summary else 0
    seeds = summary["seed"].nunique() if "seed" in summary else 0
    parts = [counted(len(summary), "run")]
    parts += [counted(kinds, "strategy", "strategies")] if kinds else []
    parts += [counted(seeds, "seed")] if seeds else []
    parts += [counted(len(found.settings), "setting")] if len(found.settings) > 1 else []
    names = ", ".join(folder.resolve().name for folder in folders)
    return f"{how}{': ' + who if who else ''}. {', '.join(parts)}. Folder: {names}."


def judged_by(runs: Runs) -> str:
    """Say whose word the test rows' labels are."""
    if tells(runs.clients, "true_noise"):
        return "Models are judged by test rows without noise."
    return "Models are judged by the labels that test rows came with, wrong ones too."


def is_an_app(summary: pd.DataFrame) -> bool:
    """Say whether a strategy's ``record`` wrote the runs: of the app nothing else is known."""
    return "kind" in summary and bool((summary["kind"] == "app").any())


def _kind(summary: pd.DataFrame) -> str:
    """A server that serves a trial deals shares of a data set out; another one has real sites."""
    if is_an_app(summary):
        return "A Flower app"
    if not tells(summary, "server.trial"):
        return "A simulation"
    trial = summary["server.trial"].dropna().astype(bool)
    return "A trial of server and clients" if trial.any() else "A federation of sites"


def _clients(setting: Setting) -> str:
    """Say how many clients there are, and how many were made noisy, where that is known."""
    clients = setting.runs.clients
    if clients.empty:
        return ""
    told = _range(clients.groupby("run", observed=True)["client"].nunique(), "client")
    if not tells(clients, "true_noise"):
        return told
    level = clients.groupby(["run", "client"], observed=True)["true_noise"].max()
    noisy = (level > 0).groupby("run", observed=True).sum().astype(int)
    return f"{told}, {_range(noisy)} of them with noisy data"


def _range(counts: pd.Series[int], noun: str = "") -> str:
    low, high = int(counts.min()), int(counts.max())
    told = str(low) if low == high else f"{low} to {high}"
    if low == high == 0:
        told = "none"
    return f"{told} {noun}{'s' * (high != 1)}" if noun else told


def _values(summary: pd.DataFrame, column: str) -> str:
    return ", ".join(map(str, summary[column].dropna().unique())) if column in summary else ""
