"""The experiments by name: a module each, found where it lies."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from fedrms.errors import ConfigError
from fedrms.lab.verdict import Claim, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = (
    *("valley", "units", "plateau", "saddle", "spike", "centred", "schedule"),
    *("clipping", "flatness", "gan", "adversarial", "policy", "nas", "dispatch"),
)
"""In the order of the page; those whose module is there can be run."""


class LabExperiment(Protocol):
    """What the module ``fedrms.lab.NAME`` has.

    Attributes
    ----------
    TITLE : str
        What it is about, in a few words.
    CLAIMS : dict
        Claims by name, each with its criterion.
    QUICK, FULL : object
        Two sizes of the plan that `measure` takes: under 20 seconds, on seeds below 100, and
        under 3 minutes on two cores, on seeds of 100 and up.
    FIGURE : str
        What the figure shows, in a sentence.
    """

    TITLE: str
    CLAIMS: Mapping[str, Claim]
    QUICK: Any
    FULL: Any
    FIGURE: str

    def measure(self, plan: Any) -> pd.DataFrame:
        """Run what the plan says and return a tidy table."""
        ...

    def judge(self, table: pd.DataFrame) -> Mapping[str, Verdict]:
        """Return the verdict on each claim, from the table alone."""
        ...

    def draw(self, table: pd.DataFrame, figure: Figure) -> None:
        """Draw the table into an empty matplotlib figure."""
        ...


def available() -> list[str]:
    """Return the names of the experiments that are there."""
    return [name for name in NAMES if find_spec(f"fedrms.lab.{name}")]


def load(name: str) -> LabExperiment:
    """Return an experiment."""
    known = available()
    if name not in known:
        raise ConfigError("lab", f"there is no {name!r}", f"choose from {', '.join(known)}")
    found: Any = importlib.import_module(f"fedrms.lab.{name}")
    experiment: LabExperiment = found
    return experiment
