"""fedrms: federated learning under unequal noise, on Flower.

RMSProp divides each parameter's step by the root of an average of its squared gradient.
FedRMS divides each client's step by the root of an average of its loss noise.

The names below are loaded on first use, so ``import fedrms`` is quick and an analysis
that only needs :func:`load_runs` never loads PyTorch.
"""

from __future__ import annotations

import importlib
import random
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedrms.client import loss_moments
    from fedrms.client.class_losses import class_losses
    from fedrms.data import Federation
    from fedrms.engines import VectorGrid
    from fedrms.errors import ConfigError
    from fedrms.experiment import run, simulate
    from fedrms.results import Runs, compare, load_runs, plots
    from fedrms.server import ClientScaler, FedRMS
    from fedrms.tasks import Task

__version__ = "0.1.0"

__all__ = [
    "ClientScaler",
    "ConfigError",
    "FedRMS",
    "Federation",
    "Runs",
    "Task",
    "VectorGrid",
    "class_losses",
    "compare",
    "load_runs",
    "loss_moments",
    "plots",
    "run",
    "simulate",
]

_HOME = {
    "ClientScaler": "fedrms.server",
    "ConfigError": "fedrms.errors",
    "FedRMS": "fedrms.server",
    "Federation": "fedrms.data",
    "Runs": "fedrms.results",
    "Task": "fedrms.tasks",
    "VectorGrid": "fedrms.engines",
    "class_losses": "fedrms.client.class_losses",
    "compare": "fedrms.results",
    "load_runs": "fedrms.results",
    "loss_moments": "fedrms.client",
    "plots": "fedrms.results",
    "run": "fedrms.experiment",
    "simulate": "fedrms.experiment",
}


def _imported(module: str) -> Any:
    """Import a module, and leave Python's generator alone: Flower draws as it is imported.

    Where another thread is at it, this waits; a module that is being imported lacks its names.
    """
    begun, drawn = module in sys.modules, random.getstate()
    try:
        return importlib.import_module(module)
    finally:
        if not begun:
            random.setstate(drawn)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        home = _imported(_HOME[name])
        if name == "plots":  # a package, not a name in one
            return importlib.import_module(f"{home.__name__}.plots")
        return getattr(home, name)
    raise AttributeError(f"module 'fedrms' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
