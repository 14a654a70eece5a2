"""Whole simulations inside an experiment: a configuration each, and their summaries in a table."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fedrms.experiment import Result, run


def simulate(overrides: Sequence[str]) -> Result:
    """Run one simulation, as ``fedrms`` does with these words; its files are removed again.

    Parameters
    ----------
    overrides : sequence of str
        As on the command line; ``fairness=none`` and ``evaluate_every`` make it quicker.
    """
    # A sweep tries what may diverge, and its table says what did.
    quiet = {"fedrms": logging.WARNING, "flwr": logging.CRITICAL}
    before = {name: logging.getLogger(name).level for name in quiet}
    for name, level in quiet.items():
        logging.getLogger(name).setLevel(level)
    try:
        with tempfile.TemporaryDirectory(prefix="fedrms-lab-") as folder:
            return run(["device=cpu", *overrides], folder=Path(folder), brief=True)
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def sweep(
    base: Sequence[str], settings: Iterable[Mapping[str, Any]], measured: Sequence[str]
) -> pd.DataFrame:
    """Run a simulation for each setting and return one row each.

    Parameters
    ----------
    base : sequence of str
        Overrides that all share.
    settings : iterable of mapping
        Config keys and values of each.
    measured : sequence of str
        Keys of ``summary.json`` to keep; a run that fails has none.
    """
    rows = []
    for setting in settings:
        summary = simulate([*base, *(f"{key}={value}" for key, value in setting.items())]).summary
        rows.append({**setting, **{key: summary.get(key) for key in measured}})
    return pd.DataFrame(rows)
