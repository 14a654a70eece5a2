"""Tables of the benchmarks: as CSV, and as Markdown for docs/benchmarks/."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import processor

COLUMNS = {
    "engine": "{}",
    "seconds": "{:.4f}",
    "iqr": "{:.4f}",
    "clients_per_second": "{:.3g}",
    "first_round": "{:.1f}",
    "peak_mb": "{:.0f}",
    "accuracy": "{:.3f}",
    "over_flower": "{:.1f}x",
    "over_best_peer": "{:.1f}x",
    "over_naive": "{:.1f}x",
    "of_ceiling": "{:.0%}",
    "of_bare": "{:.2f}x",
}


def engines_markdown(rows: list[dict[str, Any]]) -> str:
    """Return a table a workload, number of cores and device, the fastest engine first."""
    text = []
    for key in dict.fromkeys(map(_heading, rows)):
        chosen = sorted((r for r in rows if _heading(r) == key), key=lambda r: r["seconds"])
        text += [f"### {key}", "", markdown(chosen, COLUMNS), ""]
    return "\n".join(text)


def _heading(row: Mapping[str, Any]) -> str:
    cores, device = int(row.get("cores", 1)), row.get("device", "cpu")
    extra = [f"{cores} cores"] * (cores > 1) + [str(device)] * (device != "cpu")
    return ", ".join([row["workload"], *extra])


def markdown(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return one table; ``columns`` gives each column's format. What is missing is a dash."""
    text = ["| " + " | ".join(name.replace("_", " ") for name in columns) + " |"]
    text.append("|---" + "|---:" * (len(columns) - 1) + "|")
    for row in rows:
        cells = [_cell(row.get(name), form) for name, form in columns.items()]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def _cell(value: Any, form: str) -> str:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "-" if missing else form.format(value)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write every column of every row, and what they were measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{**row, "processor": row.get("processor") or processor()} for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(names))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Read what :func:`write_csv` wrote; numbers come back as such."""
    with path.open(newline="") as file:
        return [{k: _value(v) for k, v in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> float | str | None:
    try:
        return float(text)
    except ValueError:
        return text or None
