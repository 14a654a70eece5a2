"""From finished runs to what is published: Parquet, figure and page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedrms.reproduce.best_linear_fit import gauss_markov
from fedrms.reproduce.figure import draw_figure
from fedrms.reproduce.jobs import Job, config_of
from fedrms.reproduce.numbers import Numbers, numbers_of
from fedrms.reproduce.page import page
from fedrms.reproduce.plan import Plan
from fedrms.reproduce.tidy import gather, read_tidy, write_tidy
from fedrms.results.atomic import write_file


@dataclass(frozen=True)
class Report:
    """What was written, and the numbers in it."""

    page: Path
    figure: Path
    data: tuple[Path, ...]
    numbers: list[Numbers]


def write_report(
    plan: Plan, jobs: Sequence[Job], out: Path, command: str, errors: Sequence[str] = ()
) -> Report:
    """Write ``<table>.md``, ``<table>.png`` and ``data/<table>*.parquet``.

    Parameters
    ----------
    plan, jobs
        The table and its runs; those that are not finished are named on the page.
    out : Path
        The folder.
    command : str
        What makes the table again.
    errors : sequence of str
        Why runs broke.

    Raises
    ------
    FileNotFoundError
        If no run is finished.
    """
    tidy = gather(plan.name, jobs)
    numbers, notes = numbers_of(plan, tidy)
    data = write_tidy(tidy, out / "data", plan.name)
    picture = out / f"{plan.name}.png"
    alt = draw_figure(plan, tidy, numbers, picture)
    told = "\n".join(errors)
    absent = [str(job) for job in jobs if not job.finished and str(job) not in told]
    text = page(
        plan,
        tidy,
        numbers,
        notes,
        command=command,
        figure=picture.name,
        alt=alt,
        data=[path.relative_to(out).as_posix() for path in data],
        broken=[*errors, *(f"{name}: not run" for name in absent)],
        reference=gauss_markov(plan) if plan.reference == "gauss_markov" else (),
    )
    written = out / f"{plan.name}.md"
    write_file(written, text)
    return Report(written, picture, data, numbers)


def draw_again(plan: Plan, out: Path) -> Path:
    """Draw ``<table>.png`` from the data that were published with it, and return its path.

    What the data lack is left out. Without any that is a `FileNotFoundError`; a row or a scenario
    that the plan does not know is refused, and curves without the runs' own data.
    """
    tidy = read_tidy(out / "data", plan.name)
    plan = plan.narrow(
        scenarios=list(tidy.table["scenario"].unique()),
        strategies=list(tidy.table["strategy"].unique()),
        seeds=sorted(int(seed) for seed in tidy.table["seed"].unique()),
    )
    if plan.figure == "curves":  # which mark the rounds in which noise moves
        drifts = {
            scenario: json.dumps(config_of(plan, scenario, plan.baseline)["noise"].get("drift", []))
            for scenario in plan.scenarios
        }
        summary = tidy.runs.summary
        summary["noise.drift"] = summary["scenario"].map(drifts)
    numbers, _ = numbers_of(plan, tidy)
    picture = out / f"{plan.name}.png"
    draw_figure(plan, tidy, numbers, picture)
    return picture
