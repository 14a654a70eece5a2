"""What a run is made of, checked and built from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy
from omegaconf import DictConfig

from fedrms.client import ClientSide, LocalSettings
from fedrms.data import AnyFederation
from fedrms.data.adversaries import Adversaries
from fedrms.data.dealing import DEFAULT_CLIENTS
from fedrms.engines.misreports import Misreports
from fedrms.errors import ConfigError
from fedrms.experiment.adversary import build_misreports
from fedrms.experiment.build import (
    SIDE_KEYS,
    build_settings,
    build_side,
    build_strategy,
    choose_device,
    server_device,
    wants_truth,
)
from fedrms.experiment.checkpoint import options_of
from fedrms.experiment.config import AUTO_CLIENTS, plain, plain_with_clients
from fedrms.experiment.engine import Engine, build_engine
from fedrms.experiment.foreign import refuse_strays
from fedrms.experiment.frozen_part import stays
from fedrms.options import did_you_mean, number, one_of, whole
from fedrms.results.fairness import validate as validate_fairness
from fedrms.results.own_metrics import own_metrics
from fedrms.server import FedRMS
from fedrms.tasks.task import never_negative
from fedrms.words import LIST_OPTIONS


@dataclass(frozen=True)
class Parts:
    """What a run is made of."""

    config: Mapping[str, Any]  # the resolved configuration
    device: str  # where clients train
    settings: LocalSettings  # the orders to clients
    side: ClientSide  # task, model and data, on the device where the server scores models
    strategy: Strategy  # of the server
    engine: Engine  # where clients live
    misreports: Misreports | None
    """What adversaries make of their replies; None where everyone is honest."""
    further_orders: Mapping[str, Any] = field(default_factory=dict)
    """What clients are told beside the settings; they refuse what they do not agree with."""

    @property
    def adversaries(self) -> Adversaries | None:
        """Who lies; None where everyone is honest."""
        return self.misreports.adversaries if self.misreports else None


def build_parts(
    config: DictConfig | Mapping[str, Any],
    *,
    side: ClientSide | None = None,
    engine: Engine | None = None,
    further_orders: Mapping[str, Any] | None = None,
) -> Parts:
    """Build the parts of a run.

    ``side`` and ``engine`` take the place of those that the configuration names: a real server
    knows no client's data, and its clients live where they live.
    """
    values = plain(config)
    _check_keys(values)
    refuse_strays(values)
    _check_whole_numbers(values)
    one_of("counterfactual", values.get("counterfactual", "none"), COUNTERFACTUALS)
    _check_order(values)
    options_of(values)
    validate_fairness(values["fairness"]["metrics"], values["fairness"]["fraction"])
    own_metrics(values["fairness"].get("own"))
    device = choose_device(values)
    settings = build_settings(values)
    side = side or build_side(values, server_device(device))
    if values["clients"] == AUTO_CLIENTS:
        values = plain_with_clients(config, clients_of(side.federation))
    misreports = build_misreports(values["seed"], values["adversary"], side.federation)
    adversaries = misreports.adversaries if misreports else None
    strategy = build_strategy(values, side.federation, adversaries)
    _check_truth(values, strategy, side.federation)
    if isinstance(strategy, FedRMS):
        strategy.name_clients(side.federation.called)
        strategy.nonnegative_losses = never_negative(side.task)
        replace(settings, statistic=strategy.statistic)  # refused now if it cannot be private
    engine = engine or build_engine(values, side, device)
    orders = dict(further_orders or {})
    return Parts(values, device, settings, side, strategy, engine, misreports, orders)


def clients_of(federation: AnyFederation) -> int:
    """Return how many clients ``clients=auto`` means; a real server does not know."""
    return federation.listed or DEFAULT_CLIENTS


def _check_truth(config: Mapping[str, Any], strategy: Strategy, federation: AnyFederation) -> None:
    """Refuse what needs to know who is noisy, where nobody does."""
    if federation.listed is None or federation.truth == "simulated":
        return
    if federation.truth == "measured" and not np.isnan(federation.true_noise(1)).any():
        return
    remedy = "name the right labels by data.true_label_column, or choose another"
    who = "of some clients" if federation.truth == "measured" else "of any client"
    for key, needs in (
        ("strategy", wants_truth(strategy) is not None),
        ("counterfactual", config.get("counterfactual", "none") == "clean"),
        ("adversary.among", config["adversary"].get("among", "any") != "any"),
    ):
        if needs:
            raise ConfigError(key, f"needs the true noise, which is not known {who}", remedy)


def initial_arrays(side: ClientSide) -> ArrayRecord:
    """Return what travels of the model that the first round starts from (see `stays`)."""
    left_out = stays(side)
    state = side.module.state_dict()
    return ArrayRecord({name: v.cpu() for name, v in state.items() if name not in left_out})


COUNTERFACTUALS = ("none", "clean")

KNOWN_KEYS = {
    *("seed", "rounds", "clients", "device", "evaluate_every", *SIDE_KEYS, "experiment"),
    *("client", "optimizer", "strategy", "server_optimizer", "heterogeneity", "adversary"),
    *("fairness", "engine", "counterfactual", "tracker", "checkpoint", "resume"),
}


def _check_keys(config: Mapping[str, Any]) -> None:
    """Refuse a key that nothing reads; groups check their own."""
    for key in config:
        if key not in KNOWN_KEYS:
            hint = did_you_mean(key, KNOWN_KEYS).strip() or LIST_OPTIONS
            raise ConfigError(key, "nothing reads this key", hint)


def _check_order(config: Mapping[str, Any]) -> None:
    """Refuse levels of noise in the order of work that is the same for all."""
    order, systems = config["noise"].get("order"), config["heterogeneity"]
    if order in ("by_work", "against_work") and systems.get("most_work", 1.0) == 1.0:
        raise ConfigError(
            "noise.order",
            f"is {order!r}, and all clients train as long as they are told",
            "set heterogeneity=unequal, or heterogeneity.most_work above 1",
        )


def _check_whole_numbers(config: Mapping[str, Any]) -> None:
    limits = {"seed": 0, "rounds": 1, "clients": 1, "evaluate_every": 1, "validation_clients": 0}
    for key, least in limits.items():
        value = config.get(key, least)
        if key != "clients" or value != AUTO_CLIENTS:
            whole(key, value, least)
    number("client.fraction", config["client"]["fraction"], 0, 1, "(]")
