"""What a strategy carries from one round to the next, whoever wrote it."""

from __future__ import annotations

import functools
import logging
import types
from collections.abc import Mapping
from typing import Any

from flwr.serverapp.strategy import Strategy

from fedrms.experiment.state_file import UnsavableError
from fedrms.server import FedRMS

CODE = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    functools.partial,
    logging.Logger,
    type,
)
"""What is no state: it is there again when the strategy is made again."""


def strategy_state(strategy: Strategy) -> dict[str, Any]:
    """Return a strategy's state.

    Of a strategy with ``state_dict`` and ``load_state_dict`` it is what the former returns. Of
    any other, such as Flower's own, it is all its attributes, but for functions and classes;
    strategies among them, as in Flower's wrappers for differential privacy, likewise.

    Raises
    ------
    UnsavableError
        If the strategy has a loop over rounds of its own. (An attribute that cannot be kept is
        refused where it is written.)
    """
    if type(strategy).start not in (Strategy.start, FedRMS.start):
        raise UnsavableError(f"{type(strategy).__name__} has a loop over rounds of its own")
    if _tells(strategy):
        return {"told": strategy.state_dict()}  # type: ignore[attr-defined]
    wrapped: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    for key, value in vars(strategy).items():
        if isinstance(value, Strategy):
            wrapped[key] = strategy_state(value)
        elif not isinstance(value, CODE):
            kept[key] = value
    return {"attributes": kept, "wrapped": wrapped}


def restore_strategy(strategy: Strategy, state: Mapping[str, Any]) -> None:
    """Give a strategy that was made anew the state of :func:`strategy_state`."""
    if "told" in state:
        strategy.load_state_dict(state["told"])  # type: ignore[attr-defined]
        return
    for key, value in state["attributes"].items():
        setattr(strategy, key, value)
    for key, inner in state["wrapped"].items():
        restore_strategy(getattr(strategy, key), inner)


def _tells(strategy: Strategy) -> bool:
    return all(hasattr(strategy, name) for name in ("state_dict", "load_state_dict"))
