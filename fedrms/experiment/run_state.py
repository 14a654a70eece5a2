"""Everything of a run that one round hands to the next, so that it can be put down and taken up."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp.strategy import Strategy

from fedrms.experiment.round_log import RoundLog
from fedrms.experiment.strategy_state import restore_strategy, strategy_state


class RunState:
    """Collect the state of a run after a round, and give it back to one that goes on.

    Who is behind which node is not part of it: Flower's node ids change when a run starts anew,
    and clients are asked again. Nor are the tables, which the recorder keeps on disk.

    Parameters
    ----------
    strategy : Strategy
        Of the server.
    rounds_log : RoundLog
        What it adds up over rounds.
    train_config, evaluate_config : ConfigRecord
        The orders to clients; a strategy may change them from round to round.
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
