"""Lay out what ``fedrms-doctor`` found for a person."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedrms.experiment.doctor import EngineChoice, Report, RunSize, Speed
from fedrms.experiment.machine import Machine
from fedrms.results.table import to_text

Rows = Sequence[tuple[str, str]]


def show_report(report: Report, console: Console | None = None) -> None:
    """Print the report in sections: bold headings on a terminal, plain text elsewhere."""
    console = console or Console()
    sections = (
        ("Machine", _machine(report.machine)),
        ("Run", _run(report.size)),
        ("Engine", _engine(report.engine)),
        ("Speed", _speed(report.speed, report.size)),
    )
    for title, rows in sections:
        console.print(Text(title, style="bold"))
        if console.is_terminal:
            console.print(_table(rows))
        else:  # lines are not wrapped where a program reads them
            console.file.write(to_text(_table(rows)) + "\n")
        console.print()
    if report.hints:
        console.print(Text("Hints", style="bold"))
    for hint in report.hints:
        console.print(Text(f"  - {hint}"), soft_wrap=True)


def _machine(machine: Machine) -> Rows:
    known = {True: "yes", False: "no", None: "not known"}
    gpus = [
        f"{gpu.name}, {size_text(gpu.memory_free)} of {size_text(gpu.memory_total)} free"
        for gpu in machine.gpus
    ]
    versions = [f"{name} {number}" for name, number in machine.versions.items() if number]
    return [
        ("versions", ", ".join(versions)),
        ("processor", machine.processor),
        ("cores", f"{machine.cores} usable, {machine.torch_threads} PyTorch threads"),
        ("bfloat16 in hardware", known[machine.bf16]),
        ("memory", f"{size_text(machine.memory_free)} of {size_text(machine.memory_total)} free"),
        *(("GPU", text) for text in gpus or ["none that PyTorch sees"]),
        ("Ray", machine.versions.get("ray") or "not installed (pip install 'fedrms[ray]')"),
    ]


def _run(size: RunSize) -> Rows:
    return [
        ("clients", f"{size.clients:,}, {size.cohort:,} a round, {size.rounds:,} rounds"),
        (
            "examples",
            f"{size.examples:,}; a client has {size.examples_median:,.0f} "
            f"({size.examples_min:,} to {size.examples_max:,})",
        ),
        ("model", f"{size.parameters:,} parameters, {size_text(size.model_bytes)}"),
        ("local steps", f"{size.steps_median:,.0f} a client, at most {size.steps_max:,}"),
        (
            "models of a round",
            f"{size_text(size.stack_bytes)}, of {size_text(size.free_bytes)} that are free",
        ),
    ]


def _engine(engine: EngineChoice) -> Rows:
    device = ("device", f"{engine.device}: {engine.device_reason}")
    if engine.executor is None:
        return [("engine", f"{engine.name}: its worker processes decide"), device]
    stack = f"{engine.chunk:,} clients in a stack" if engine.executor == "stacked" else "one by one"
    return [
        ("engine", engine.name),
        device,
        ("executor", f"{engine.executor}: {engine.reason}"),
        ("local step", str(engine.step)),
        ("clients", f"{stack}, {engine.threads} worker thread{'s' if engine.threads != 1 else ''}"),
    ]


def _speed(speed: Speed, size: RunSize) -> Rows:
    timed = f"{speed.timed_rounds} rounds of {speed.timed_clients:,} clients"
    timed += f" and {speed.timed_steps:,} steps"
    rows = [("timed", f"the first round, and the median of {timed}")]
    if speed.cut:
        rows.append(("cut to", f"{speed.cut}; times below are for all, by the number of steps"))
    return [
        *rows,
        ("data, model and engine", seconds_text(speed.setup)),
        ("first round", seconds_text(speed.first_round)),
        ("a later round", seconds_text(speed.later_round)),
        ("clients per second", rate_text(speed.clients_per_second)),
        ("scoring the model", f"{seconds_text(speed.scoring)} each time"),
        ("recording a round", seconds_text(speed.recording)),
        (
            "the whole run",
            f"{seconds_text(speed.run)} for {size.rounds:,} rounds, once the command has loaded",
        ),
    ]


def _table(rows: Rows) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(f"  {name}"), Text(value))
    return table


def size_text(size: int) -> str:
    """Return bytes in the unit that a person would use: ``610 B``, ``2.4 KiB``, ``13 GiB``."""
    value, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:,.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"


def seconds_text(seconds: float) -> str:
    """Return a duration with the digits that mean something: ``3.2 ms``, ``4.1 s``, ``2 h``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 99.95:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def rate_text(rate: float) -> str:
    """Return clients per second with three digits, or as a whole number."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
