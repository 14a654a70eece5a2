"""Write the report of runs: one page, its figures and its tables."""

from __future__ import annotations

import os
import re
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import pandas as pd

from fedrms.errors import ConfigError
from fedrms.results import plots
from fedrms.results.atomic import write_file
from fedrms.results.foreign_text import to_csv
from fedrms.results.plots.picture import Picture
from fedrms.results.plots.static import save
from fedrms.results.report import run_tables
from fedrms.results.report.about import judged_by, subtitle_of, title_of
from fedrms.results.report.chapters import Chapter, chapters_of
from fedrms.results.report.page import Placed, PlacedChapter, PlacedSetting, render
from fedrms.results.report.parameters import parameters_of
from fedrms.results.report.settings import Sorted, sort_runs
from fedrms.results.report.tables import ReportTable, write_table
from fedrms.results.report.unit_notes import unit_notes
from fedrms.results.runs import Runs, load_runs

_FEW_FOLDERS: Final = 3
"""Folders that are named; of more, the one above them."""

MOST_SETTINGS: Final = 6
"""Settings with chapters of their own; of more, all are in the comparison."""


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes
    ----------
    page : Path
        ``report.html``.
    problems : list of str
        What the page says about runs that are left out or odd.
    figures, tables : list of Path
        The files beside it.
    found : list of str
        The verdict on each setting, in a sentence.
    """

    page: Path
    problems: list[str]
    figures: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    found: list[str] = field(default_factory=list)


def write_report(
    paths: Sequence[str | Path],
    folder: str | Path | None = None,
    *,
    baseline: str = "fedavg",
    compare_only: bool = False,
    over: tuple[str, str] | None = None,
    static: bool = True,
) -> Report:
    """Write ``report.html``, ``figures/`` and ``tables/`` of some runs.

    Parameters
    ----------
    paths : sequence of path
        Runs, multiruns, or folders above them.
    folder : path, optional
        Where to write; by default the given folder, of several the one common to them.
    baseline : str
        The strategy to compare with.
    compare_only : bool
        Only what compares settings, without chapters on each.
    over : (str, str), optional
        Two columns of ``runs.summary`` for the heat map; found by default where exactly two
        parameters with several values vary.
    static : bool
        Whether to write ``figures/`` as PNG and SVG too.

    Returns
    -------
    Report

    Raises
    ------
    FileNotFoundError
        If a path does not exist, or there is no readable run.
    ConfigError
        If the folder cannot be written to, `over` names no columns, or the extra ``report`` is
        not installed.
    """
    roots = [Path(path) for path in paths]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runs = load_runs(roots)
    problems = [str(w.message) for w in caught if w.category is UserWarning]
    found = sort_runs(runs, baseline)
    problems = list(dict.fromkeys([*problems, *found.problems, *unit_notes(runs)]))
    where = Path(folder) if folder is not None else _common(roots)
    detailed = [] if compare_only else found.settings[:MOST_SETTINGS]
    left = len(found.settings) - len(detailed)
    if left and not compare_only:
        problems.append(
            f"{len(found.settings)} settings: chapters for the first {len(detailed)}; all are in "
            "the comparison. Give a folder with fewer to see the others."
        )
    overview = _overview(runs, found, baseline, over, bool(compare_only or left))
    if not overview and not detailed:
        raise FileNotFoundError(
            f"{', '.join(map(str, roots))}: no run has recorded a round: " + "; ".join(problems)
        )
    files = _Files(where, static)
    parts = [files.place(part, "") for part in overview]
    settings = [
        PlacedSetting(
            f"setting-{i}",
            one.title,
            files.chapters(chapters_of(one), f"setting-{i}" if len(detailed) > 1 else ""),
        )
        for i, one in enumerate(detailed, start=1)
    ]
    named = roots if len(roots) <= _FEW_FOLDERS else [_common(roots)]
    strategies = list(dict.fromkeys(label for one in detailed for label in one.labels))
    flags = ["--compare"] if compare_only else []
    flags += ["--over", *over] if over else []
    flags += ["--baseline", baseline] if baseline != "fedavg" else []
    text = render(
        title=title_of(found, named),
        subtitle=subtitle_of(runs, found, named),
        settings=settings,
        overview=parts,
        strategies=strategies[:24],
        problems=problems,
        command=shlex.join(["fedrms-report", *flags, *map(str, roots)]),
        version=_version(),
        revision=_revision(runs),
        judged=judged_by(runs),
    )
    page = where / "report.html"
    write_file(page, text)
    verdicts = [(one.title, c.chapter.verdict) for one in settings for c in one.chapters]
    said = [f"{title}: {v.sentence}" if title else v.sentence for title, v in verdicts if v]
    return Report(page, problems, files.figures, files.tables, said)


class _Files:
    """Writes the files of figures and tables, each with a name of its own."""

    def __init__(self, folder: Path, static: bool) -> None:
        self.figures: list[Path] = []
        self.tables: list[Path] = []
        self._folder = folder
        self._static = static
        self._taken: set[str] = set()
        try:
            for name in ("figures", "tables") if static else ("tables",):
                if (folder / name).is_symlink():
                    raise OSError(f"{folder / name} is a link")
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                "--to", f"cannot write to {folder}: {error}", "choose another folder"
            ) from error

    def chapters(self, chapters: list[Chapter], prefix: str) -> list[PlacedChapter]:
        return [
            PlacedChapter(
                self._free(f"{prefix}-{_slug(c.title)}".strip("-")),
                c,
                [self.place(part, prefix) for part in c.parts],
            )
            for c in chapters
        ]

    def place(self, part: Picture | ReportTable, prefix: str) -> Placed:
        stem = self._free(f"{prefix}-{_slug(part.name)}".strip("-"))
        if isinstance(part, ReportTable):
            renamed = ReportTable(stem, part.title, part.numbers, part.cells)
            self.tables += write_table(renamed, self._folder / "tables")
            return Placed(part, f"table-{stem}", stem)
        path = self._folder / "tables" / f"{stem}.csv"
        write_file(path, to_csv(part.table))
        self.tables.append(path)
        if self._static:
            files = [self._folder / "figures" / f"{stem}.{ending}" for ending in ("png", "svg")]
            for file in files:
                file.unlink(missing_ok=True)
            save(part, files)
            self.figures += files
        return Placed(part, f"figure-{stem}", stem, self._static)

    def _free(self, stem: str) -> str:
        name, count = stem, 2
        while name in self._taken:
            name, count = f"{stem}-{count}", count + 1
        self._taken.add(name)
        return name


def _overview(
    runs: Runs,
    found: Sorted,
    baseline: str,
    over: tuple[str, str] | None,
    always: bool,
) -> list[Picture | ReportTable]:
    """Return what compares settings: differences, the whole comparison, heat maps."""
    parts: list[Picture | ReportTable] = []
    for comparison in found.comparisons:
        several = comparison.index.nlevels > 1
        if several and comparison["difference"].notna().any():
            parts.append(plots.differences(comparison))
        if several or always:
            parts.append(run_tables.comparison(comparison))
    for column in (f"final_{c.attrs['metric']}" for c in found.comparisons):
        rows = runs.summary[runs.summary[column].notna() & (runs.summary["status"] == "finished")]
        pair = over or parameters_of(rows, runs.config)
        if over:
            _check_columns(rows, over)
        if pair:
            parts.append(plots.heat_map(rows, pair, value=column))
    return parts


def _check_columns(summary: pd.DataFrame, over: tuple[str, str]) -> None:
    for name in over:
        if name not in summary:
            close = [str(c) for c in summary if name.split(".")[-1] in str(c)][:5]
            raise ConfigError(
                "--over",
                f"no run has a column {name!r}",
                f"choose a config key{', such as ' + ', '.join(close) if close else ''}",
            )


def _common(roots: list[Path]) -> Path:
    if len(roots) == 1:
        return roots[0]
    return Path(os.path.relpath(os.path.commonpath([root.resolve() for root in roots])))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _version() -> str:
    """Return the installed version; empty in a checkout that is not installed."""
    try:
        return version("fedrms")
    except PackageNotFoundError:
        return ""


def _revision(runs: Runs) -> str | None:
    if "git_revision" not in runs.summary:
        return None
    told = runs.summary["git_revision"].dropna().unique()
    return ", ".join(map(str, told)) or None
