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
    log = logging.getLogger("fedrms")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory(prefix="fedrms-lab-") as folder:
            return run(["device=cpu", *overrides], folder=Path(folder), brief=True)
    finally:
        log.setLevel(before)


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
