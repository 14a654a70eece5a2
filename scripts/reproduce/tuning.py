"""What the tuning scripts share: settings, a run that is kept, the page, the conf lines."""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # the processes share the cores

import numpy as np  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs/results/tuning.md"
SEEDS = (0, 1)
"""Those of the tables are 100 and more and are never looked at here."""
COMMON = (
    *("data=mnist", "clients=20", "data.examples_per_client=200", "rounds=25"),
    *("noise=label", "noise.fraction=0.4", "noise.low=0.3", "noise.high=0.8"),
    *("model=mlp", "model.hidden=[64]", "client.fraction=1.0"),
    *("client.batch_size=25", "client.epochs=5", "client.lr=0.05", "fairness=none"),
)
SETTINGS = {
    "s2": (*COMMON[:4], "partition=dirichlet", "partition.alpha=0.3", *COMMON[4:]),
    "s6": (*COMMON[:4], "partition=minority", *COMMON[4:]),
}
"""S2 and S6 of the noise tables: 20 clients of 200 MNIST images, 8 with 30 % to 80 % wrong labels.

S2 has unequal class mixes; in S6 three clean clients alone hold two of the classes.
"""


class Places(NamedTuple):
    """Where a tuning reads and writes."""

    data: Path
    kept: Path
    pool: ProcessPoolExecutor


@contextmanager
def places(script: str, description: str) -> Iterator[Places]:
    """Read the command line; leave with a message if it names no data."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--data", default=os.environ.get("FEDRMS_DATA"), help="holds mnist/")
    options.add_argument("--out", default=f"outputs/{script}", help="where the cells are kept")
    options.add_argument("--processes", type=int, default=2, choices=(1, 2))
    chosen = options.parse_args()
    if not chosen.data or not (Path(chosen.data) / "mnist").is_dir():
        sys.exit(f"{script}: --data, or FEDRMS_DATA, must name a folder that holds mnist/")
    with ProcessPoolExecutor(chosen.processes) as pool:
        yield Places(Path(chosen.data).resolve() / "mnist", Path(chosen.out), pool)


def run_kept(name: str, overrides: list[str], folder: Path, data: Path) -> float:
    """Return a run's final accuracy, from its folder if it was run before; 0 if it diverged."""
    kept = folder / f"{name}.json"
    if kept.exists():
        return float(json.loads(kept.read_text())["final_accuracy"])
    import torch

    import fedrms
    from fedrms.errors import RunError

    torch.set_num_threads(1)
    overrides = [*overrides, f"data.path={data}"]
    try:
        run = fedrms.run(overrides, folder=folder / name, brief=True)
        accuracy = float(run.summary["final_accuracy"])
    except RunError:
        accuracy = 0.0
    accuracy = accuracy if np.isfinite(accuracy) else 0.0
    aside = kept.with_suffix(".tmp")
    aside.write_text(json.dumps({"final_accuracy": accuracy, "overrides": overrides}))
    aside.replace(kept)
    return accuracy


def percent(accuracies: list[float]) -> str:
    """Return accuracies in %, - if there are none."""
    return ", ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies) or "-"


def in_lines(setting: tuple[str, ...]) -> list[str]:
    """Return a setting as a code block."""
    rows = (" ".join(setting[at : at + 4]) for at in range(0, len(setting), 4))
    return ["```", *rows, "```"]


def with_section(page: str, script: str, section: str) -> str:
    """Return a page with what a script wrote there before replaced, or with it at the end."""
    begin, end = f"<!-- begin {script} -->\n", f"<!-- end {script} -->\n"
    own = begin + section + end
    if begin not in page:
        return f"{page}\n{own}" if page else own
    before, rest = page.split(begin)
    return before + own + rest.split(end)[1]


def with_value(text: str, key: str, value: float, said: str | None = None) -> str:
    """Return a configuration with a new value in one line.

    The line's comment stays; if something is to be said of the value, it ends the comment,
    in place of what was said of the last.
    """

    def line(found: re.Match[str]) -> str:
        comment = found["comment"]
        if said is not None:
            comment = f"{comment.split('; best of')[0]}; {said}"
        return f"{found['indent'] + f'{key}: {value:g}':<30}# {comment}"

    pattern = rf"^(?P<indent> *){key}: *\S+ *# *(?P<comment>.*)$"
    text, count = re.subn(pattern, line, text, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"no line {key!r} with a comment")
    return text
