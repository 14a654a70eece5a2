"""Everything of a run that one round hands to the next, so that it can be put down and taken up."""

from __future__ import annotations

import functools
import logging
import random
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp.strategy import Strategy

from fedrms.experiment.round_log import RoundLog
from fedrms.experiment.state_file import UnsavableError
from fedrms.server import FedRMS


class RunState:
    """Collect the state of a run after a round, and give it back to one that goes on.

    Who is behind which node is not part of it: Flower's node ids change when a run starts anew, and
    clients are asked again. Nor are the tables, which the recorder keeps on disk. A strategy may
    change the orders to clients from round to round.
    """

    def __init__(
        self,
        strategy: Strategy,
        rounds_log: RoundLog,
        train_config: ConfigRecord,
        evaluate_config: ConfigRecord,
    ) -> None:
        self._strategy = strategy
        self._rounds_log = rounds_log
        self._orders = {"train": train_config, "evaluate": evaluate_config}

    def collect(self, arrays: ArrayRecord) -> dict[str, Any]:
        """Return the state after a round that gave these arrays."""
        return {
            "arrays": arrays,
            "strategy": strategy_state(self._strategy),
            "rounds_log": self._rounds_log.state_dict(),
            "orders": {name: dict(record) for name, record in self._orders.items()},
            "generators": generators_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> ArrayRecord:
        """Take up a state from :meth:`collect`, and return its arrays."""
        restore_strategy(self._strategy, state["strategy"])
        self._rounds_log.load_state_dict(state["rounds_log"])
        for name, record in self._orders.items():
            record.clear()
            record.update(state["orders"][name])
        restore_generators(state["generators"])
        arrays = state["arrays"]
        assert isinstance(arrays, ArrayRecord)
        return arrays


def generators_state() -> dict[str, Any]:
    """Return the states of the process's generators, from which Flower's strategies draw.

    Draws of fedrms itself are addressed (see :mod:`fedrms.randomness`) and need none.
    """
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - the one that Flower's noise comes from
        "torch": torch.get_rng_state(),
    }


def restore_generators(state: Mapping[str, Any]) -> None:
    """Take up the states of :func:`generators_state`."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])


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

    Of a strategy with ``state_dict`` and ``load_state_dict`` it is what the former returns. Of any
    other, such as Flower's own, it is all its attributes, but for functions and classes; strategies
    among them, as in Flower's wrappers for differential privacy, likewise. One with a loop over
    rounds of its own has none (`UnsavableError`); an attribute that cannot be kept is refused where
    it is written.
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
