"""How runs show themselves: a few lines at a prompt, a small table in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Final

from fedrms.options import counted

if TYPE_CHECKING:
    import pandas as pd


_TOLD: Final = ("status", "rounds", "clients", "noise_auroc", "seconds")


def runs_line(summary: pd.DataFrame) -> str:
    """Return ``"16 runs: 2 strategies, 8 seeds, data digits; 16 finished"``."""
    parts = []
    for column, one, many in (("strategy", "strategy", "strategies"), ("seed", "seed", "seeds")):
        count = summary[column].nunique() if column in summary else 0
        parts += [counted(count, one, many)] if count else []
    if "data" in summary:
        parts.append(f"data {', '.join(sorted(map(str, summary['data'].dropna().unique())))}")
    finished = int((summary["status"] == "finished").sum()) if "status" in summary else 0
    runs = counted(len(summary), "run")
    return f"{runs}: {', '.join(parts)}; {finished} finished" if parts else runs


def test_finals(summary: Iterable[Any]) -> list[str]:
    """Return the columns of a summary that hold a final test metric, but the loss."""
    return [c for c in map(str, summary) if c.startswith("final_") and c != "final_loss"]


def ends(summary: pd.DataFrame) -> pd.DataFrame:
    """Return, by strategy, how many runs there are and how they ended: mean and deviation."""
    import pandas as pd  # most runs begin without it

    by = "strategy" if "strategy" in summary else "run"
    grouped = summary.groupby(by, sort=False)
    told: dict[str, pd.Series[Any]] = {"runs": grouped.size()}
    for name in test_finals(summary):
        told[f"{name} mean"], told[f"{name} std"] = grouped[name].mean(), grouped[name].std()
    return pd.DataFrame(told)


def runs_html(summary: pd.DataFrame) -> str:
    """Return the same with a table by strategy."""
    table = ends(summary).to_html(border=0, float_format=lambda number: f"{number:.4g}", na_rep="-")
    return f"<p>{escape(runs_line(summary))}</p>{table}"


def outcome(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return what of a run's summary a person wants to see first."""
    wanted = [name for name in summary if name.startswith("final_")] + list(_TOLD)
    return {
        name.replace("_", " "): f"{value:.4g}" if isinstance(value, float) else str(value)
        for name in wanted
        if (value := summary.get(name)) is not None
    }


def outcome_html(summary: Mapping[str, Any], folder: str) -> str:
    """Return a run's outcome as a table of two columns, with its folder below."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>'
        for name, text in outcome(summary).items()
    )
    return f"<table><tbody>{rows}</tbody></table><p><code>{escape(folder)}</code></p>"
