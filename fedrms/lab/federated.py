"""Whole simulations inside an experiment: a configuration each, and their summaries in a table."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file
from torch import Tensor

from fedrms.experiment import Result, run


def simulate(overrides: Sequence[str]) -> Result:
    """Run one simulation, as ``fedrms`` does with these words; its files are removed again.

    Parameters
    ----------
    overrides : sequence of str
        As on the command line; ``fairness=none`` and ``evaluate_every`` make it quicker.
    """
    with _quietly() as folder:
        return run(["device=cpu", *overrides], folder=folder, brief=True)


@contextmanager
def _quietly() -> Iterator[Path]:
    """Give a folder for a while, in which nobody is told of what diverges: tables say it."""
    quiet = {"fedrms": logging.WARNING, "flwr": logging.CRITICAL}
    before = {name: logging.getLogger(name).level for name in quiet}
    for name, level in quiet.items():
        logging.getLogger(name).setLevel(level)
    try:
        with tempfile.TemporaryDirectory(prefix="fedrms-lab-") as folder:
            yield Path(folder)
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def final_model(overrides: Sequence[str]) -> tuple[Result, dict[str, Tensor]]:
    """Run one simulation and return the global model that it ends with, by parameter's name."""
    with _quietly() as folder:
        result = run(["device=cpu", *overrides], folder=folder, brief=True)
        return result, load_file(folder / "model.safetensors")


def sweep(
    base: Sequence[str], settings: Iterable[Mapping[str, Any]], measured: str, **columns: str
) -> pd.DataFrame:
    """Run a simulation for each setting and return one row each, of the part ``federated``.

    ``measured``, a key of ``summary.json``, becomes the column ``value``: NaN of a run that fails.
    ``columns`` say by their names which config keys they hold.
    """
    rows = []
    for setting in settings:
        summary = simulate([*base, *(f"{key}={value}" for key, value in setting.items())]).summary
        told = {name: setting[key] for name, key in columns.items()}
        rows.append({"part": "federated", **told, "value": summary.get(measured)})
    return pd.DataFrame(rows).astype({"value": float})
