"""Write an experiment's files: figure, verdict, tidy table, its page and its row in docs/lab.md."""

from __future__ import annotations

import json
import math
import re
import textwrap
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from fedrms.errors import ConfigError
from fedrms.lab.catalog import LabExperiment
from fedrms.lab.verdict import Verdict
from fedrms.results.plots.paper import PANELS

STYLE: Final[dict[str, Any]] = PANELS | {"legend.fontsize": 7}


@dataclass(frozen=True)
class Finding:
    """One experiment, done."""

    name: str  # of the experiment
    experiment: LabExperiment  # what was run
    quick: bool  # which size
    table: pd.DataFrame  # what was measured, tidy
    verdicts: Mapping[str, Verdict]  # by the claim's name
    seconds: float  # how long it took

    @property
    def command(self) -> str:
        """What a person types to do it again."""
        return f"fedrms-lab {self.name}" + (" --quick" if self.quick else "")


def find(name: str, experiment: LabExperiment, *, quick: bool) -> Finding:
    """Run an experiment and judge it."""
    started = time.perf_counter()
    table = experiment.measure(experiment.QUICK if quick else experiment.FULL)
    verdicts = experiment.judge(table)
    return Finding(name, experiment, quick, table, verdicts, time.perf_counter() - started)


def write(finding: Finding, folder: Path) -> None:
    """Write ``NAME.png``, ``NAME.json`` and ``NAME.csv`` into a folder, which is made.

    JSON has no number that is not finite: they are the words ``inf``, ``-inf`` and ``nan``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finding.table.to_csv(folder / f"{finding.name}.csv", index=False, float_format="%.6g")
    told = {
        "experiment": finding.name,
        "command": finding.command,
        "claims": {key: _claim(verdict) for key, verdict in finding.verdicts.items()},
    }
    text = json.dumps(told, indent=2, allow_nan=False)
    (folder / f"{finding.name}.json").write_text(text + "\n")
    draw(finding, folder / f"{finding.name}.png")


def _claim(verdict: Verdict) -> dict[str, Any]:
    numbers = {k: v if math.isfinite(v) else str(v) for k, v in verdict.numbers.items()}
    return asdict(verdict) | {"numbers": numbers}


def draw(finding: Finding, path: Path) -> None:
    """Draw the figure to a PNG file.

    Raises
    ------
    ConfigError
        If matplotlib is missing.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ConfigError("fedrms-lab", str(error), "pip install 'fedrms[report]'") from error
    with mpl.rc_context(STYLE):  # type: ignore[arg-type,unused-ignore]
        figure = Figure(figsize=(8.0, 3.4), layout=ConstrainedLayoutEngine(w_pad=0.08))
        finding.experiment.draw(finding.table, figure)
        figure.savefig(path, dpi=150, metadata={"Software": None})


def page(finding: Finding) -> str:
    """Return the experiment's page, ``docs/lab/NAME.md``."""
    name, title = finding.name, finding.experiment.TITLE
    paragraphs = [f"# {name}: {title}", _wrapped(finding.experiment.FIGURE)]
    paragraphs.append(f"![{title}]({name}.png)")
    for key, verdict in finding.verdicts.items():
        paragraphs += [
            f"## {key}: {verdict.outcome}",
            _wrapped(verdict.claim.text),
            _wrapped(f"*Criterion.* {verdict.claim.criterion}"),
            _wrapped(f"*Measured.* {_measured(verdict)} {verdict.remark}"),
        ]
    paragraphs.append(
        _wrapped(
            f"`{finding.command}` writes this, the [table]({name}.csv) and the "
            f"[verdict]({name}.json). One run of it in the simulator: "
            f"`fedrms experiment=lab/{name}`."
        )
    )
    return "\n\n".join(paragraphs) + "\n"


def row(finding: Finding) -> str:
    """Return the experiment's row of ``docs/lab.md``: the claims by name, under their verdicts."""
    cells = [
        "; ".join(key for key, v in finding.verdicts.items() if v.outcome == outcome)
        for outcome in ("holds", "holds in part", "does not hold")
    ]
    name = finding.name
    return f"| [{name}](lab/{name}.md): {finding.experiment.TITLE} | {' | '.join(cells)} |"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def publish(finding: Finding, docs: Path) -> None:
    """Write an experiment's files and page under ``docs/lab``, and its row in ``docs/lab.md``.

    The row is there already, and all others stay as they are.
    """
    index, begin = docs / "lab.md", f"| [{finding.name}](lab/{finding.name}.md)"
    place = re.compile(f"^{re.escape(begin)}.*$", re.MULTILINE)
    text = index.read_text()
    if not place.search(text):
        raise ConfigError("fedrms-lab", f"{index} has no row {begin}", "add it to the table")
    write(finding, docs / "lab")
    (docs / "lab" / f"{finding.name}.md").write_text(page(finding))
    index.write_text(place.sub(lambda _: row(finding), text))


def _measured(verdict: Verdict) -> str:
    return "; ".join(f"{key}: {value:.3g}" for key, value in verdict.numbers.items()) + "."
