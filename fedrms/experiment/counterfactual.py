"""The counterfactual of a run: the same federation without its noisy clients and adversaries.

What clean clients lose by the others is measured against FedAvg over the clients that are honest
and have clean data in all rounds: the same seed, data, batches and orders, and only they are
asked. It does not depend on the strategy, so runs that differ by the strategy alone share one.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from fedrms.data.own_data import move_made
from fedrms.errors import RunError
from fedrms.experiment.adversary import clean_throughout
from fedrms.experiment.parts import Parts
from fedrms.experiment.provenance import provenance
from fedrms.replies.membership import Membership, directory_of
from fedrms.replies.orders import Orders
from fedrms.results.protection import CleanFederation
from fedrms.results.seal import AlteredError

log = logging.getLogger("fedrms")

FOLDER = ".counterfactual"
"""Hidden, so that `load_runs` does not take what is in it for one of the runs above."""

WITHOUT_EFFECT = (
    *("strategy", "fairness", "experiment", "counterfactual", "tracker"),
    *("checkpoint", "resume"),
)
"""Config keys that do not change the counterfactual."""

UNRECORDED: Mapping[str, Any] = {
    "fairness": {"metrics": [], "fraction": 0.1},
    "counterfactual": "none",
}
"""Configuration of a run of which only the end is wanted."""

Narrow = Callable[[Grid], Callable[[Sequence[Message]], Sequence[Message]]]
"""From a grid to what picks the messages of a TRAIN round that are passed on to it."""

Simulate = Callable[[DictConfig, Path, Narrow], object]
"""Trains the federation of a configuration and writes its tables to a folder."""


@dataclass(frozen=True)
class Reference:
    """A clean federation, and the folder of its run."""

    folder: Path
    federation: CleanFederation


def clean_reference(parts: Parts, shared: Path, simulate: Simulate) -> Reference | None:
    """Return the clean federation that a run is compared with, trained if nobody has yet.

    Its run is in ``.counterfactual/<key>`` below ``shared``, complete or absent; the key stands for
    the configuration without the strategy, and the versions. None, with a warning, if nobody is
    clean in all rounds. That none of them ever answered is a `RunError`.
    """
    if _nobody_is_clean(parts):
        rounds = parts.config["rounds"]
        log.warning("no counterfactual: no client is clean in all of the %d rounds", rounds)
        return None
    folder = shared / FOLDER / _key(parts.config)
    if not folder.is_dir():
        _train(parts, folder, simulate)
    try:
        federation = _read(parts, folder)
    except (AlteredError, KeyError) as error:
        log.warning("the clean clients are trained again: %s", error)
        shutil.rmtree(folder)
        _train(parts, folder, simulate)
        federation = _read(parts, folder)
    return Reference(folder, federation)


def _read(parts: Parts, folder: Path) -> CleanFederation:
    task = parts.side.task
    return CleanFederation.read(folder, task.metric, higher_is_better=task.higher_is_better)


def _train(parts: Parts, folder: Path, simulate: Simulate) -> None:
    """Train aside and rename: another process sees the whole run or none."""
    values = under_fedavg(parts.config, parts.config["client"]["fraction"])
    clean = functools.partial(_clean, parts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    drawn = random.getstate()  # Flower's strategies sample with the global generator
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as aside:
            made = Path(aside) / folder.name
            simulate(OmegaConf.create(values), made, lambda grid: PassedOn(grid, clean))
            move_made(made, folder)
    except RunError as error:
        raise RunError(f"counterfactual=clean, the clean clients alone: {error}") from error
    finally:
        random.setstate(drawn)


def under_fedavg(config: Mapping[str, Any], fraction: float) -> dict[str, Any]:
    """Return the configuration with FedAvg in the place of its strategy.

    Parameters
    ----------
    config : mapping
        Of a run.
    fraction : float
        Of the clients asked a round.
    """
    fedavg = {
        "_target_": "fedrms.FedRMS",
        "name": "clean_federation",
        "law": "uniform",
        "fraction_train": fraction,
        "fraction_evaluate": 0.0,
        "min_train_nodes": 1,
        "min_available_nodes": config["clients"],
    }
    return {**config, **UNRECORDED, "strategy": fedavg}


def _key(config: Mapping[str, Any]) -> str:
    told = {name: value for name, value in config.items() if name not in WITHOUT_EFFECT}
    text = json.dumps([told, provenance()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _clean(parts: Parts, clients: NDArray[np.int64]) -> NDArray[np.bool_]:
    return clean_throughout(
        parts.side.federation, parts.adversaries, clients, parts.config["rounds"]
    )


def _nobody_is_clean(parts: Parts) -> bool:
    """Say so where everyone can be looked at; a population is too large for that."""
    everyone = parts.side.federation.everyone
    return everyone is not None and not _clean(parts, everyone).any()


class PassedOn:
    """Pick the messages to those clients that are ``kept``, by their ids ``[clients]``.

    The grid is asked for their names if it does not tell.
    """

    def __init__(self, grid: Grid, kept: Callable[[NDArray[np.int64]], NDArray[np.bool_]]) -> None:
        self._grid = grid
        self._kept = kept
        self._members = Membership(0, ask=True, timeout=60.0)
        self._asked: set[int] = set()

    def __call__(self, messages: Sequence[Message]) -> Sequence[Message]:
        if isinstance(messages, Orders):
            nodes = list(messages.nodes)
        else:
            nodes = [int(message.metadata.dst_node_id) for message in messages]
        clients = np.array([int(client) for client in self._clients(nodes)], dtype=np.int64)
        kept = self._kept(clients)
        return [messages[place] for place in np.flatnonzero(kept).tolist()]

    def _clients(self, nodes: list[int]) -> list[int | str]:
        directory = directory_of(self._grid)
        if directory is not None:
            return [directory.client_of(node) for node in nodes]
        self._members.ask_names(self._grid, [node for node in nodes if node not in self._asked])
        self._asked.update(nodes)
        return [self._members.client_of(node) for node in nodes]
