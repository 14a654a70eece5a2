"""What a real server knows: the model, perhaps a test set, and of its clients their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.serverapp import Grid

from fedrms.client import ClientSide
from fedrms.data.federation import AnyFederation
from fedrms.data.files import CSV
from fedrms.data.roster import Roster, roster
from fedrms.data.sources import load
from fedrms.deployment.client_side import told_apart
from fedrms.deployment.options import ServerOptions
from fedrms.errors import ConfigError
from fedrms.experiment.build import build_judged, build_side, first_model, server_device
from fedrms.experiment.config import AUTO_CLIENTS, with_clients
from fedrms.experiment.engine import Engine
from fedrms.experiment.parts import Parts, build_parts, clients_of
from fedrms.options import one_of, read, sequence, whole

NO_DATA = {"task": "classification", "shape": None, "classes": None}


def deployed_parts(
    config: Mapping[str, Any], options: ServerOptions, grid: Grid | None = None
) -> Parts:
    """Build the parts of a run whose clients are real; without a grid they are only checked."""
    configured = {key: value for key, value in config.items() if key != "server"}
    values = configured
    device = server_device("cuda" if values["device"] == "auto" else str(values["device"]))
    if options.trial:
        side = build_side(values, device)
        _check_trial(options, side.federation)
    else:
        _check_real(values)
        side = served_side(values, device)
    if values["clients"] == AUTO_CLIENTS:
        values = with_clients(values, clients_of(side.federation))
    told = values | {"strategy": _for_real(values["strategy"], options, side.federation)}

    def serve(main: Any) -> None:
        main(grid)

    names = side.federation.class_names
    orders = {} if names is None or options.trial else {"class-names": list(names)}
    parts = build_parts(told, side=side, engine=Engine(serve), further_orders=orders)
    if parts.settings.running_statistics == "local" and len(side.federation.test_y):
        _refuse_statistics_elsewhere(options)
    return replace(parts, config=configured)  # a checkpoint is of what the person configured


def served_side(config: Mapping[str, Any], device: str) -> ClientSide:
    """Build task, model and the server's own test set; clients' data stay with them."""
    federation = _nothing(config["data"]) if config["data"]["name"] == "none" else _tests(config)
    task = build_judged(config, federation)
    module = first_model(task, federation, config["seed"])
    return ClientSide(task, module.to(device), federation, device)


def _tests(config: Mapping[str, Any]) -> Roster:
    """Keep the test examples of the configured data, and nothing else of it."""
    data, all_of_it = _test_files(told_apart(config["data"]))
    dataset, _ = load(config["seed"], 1, data)
    parts = (dataset.train, dataset.test) if all_of_it else (dataset.test,)
    return roster(
        task=dataset.task,
        num_classes=dataset.num_classes,
        shape=dataset.shape,
        test_x=np.concatenate([dataset.normalise(dataset.raw(part)) for part in parts]),
        test_y=np.concatenate([part.y for part in parts]),
        class_names=dataset.class_names,
    )


def _test_files(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """Return where to read, and whether all rows are test rows.

    A client's parquet folder keeps training and test files apart. A server has no use for the
    former, so a file, or a folder without files named ``test*`` or with one file alone, is all
    test data.
    """
    if data["name"] not in ("parquet", "csv") or not data.get("path"):
        return data, False
    path = Path(data["path"]).expanduser()
    if path.is_file():
        return data, True
    endings = CSV if data["name"] == "csv" else (".parquet",)
    files = sorted(file for file in path.glob("*") if file.name.lower().endswith(endings))
    if len(files) == 1:
        return {**data, "path": str(files[0])}, True
    return data, not any(file.name.startswith("test") for file in files)


def _nothing(data: Mapping[str, Any]) -> Roster:
    """Say what clients' examples look like where the server holds none."""
    options = read("data", data, NO_DATA)
    task = one_of("data.task", options["task"], ("classification", "regression"))
    if options["shape"] is None:
        raise ConfigError(
            "data.shape", "it is not set", "say what one example is: data.shape=[1,28,28]"
        )
    shape = tuple(whole("data.shape", size) for size in sequence("data.shape", options["shape"]))
    names = None
    if task == "classification":
        if options["classes"] is None:
            raise ConfigError("data.classes", "it is not set", "name all classes: [cat,dog]")
        names = tuple(str(name) for name in sequence("data.classes", options["classes"]))
    return roster(
        task=task,
        num_classes=None if names is None else len(names),
        shape=shape,
        test_x=np.zeros((0, *shape), np.float32),
        test_y=np.zeros(0, np.int64 if names else np.float32),
        class_names=names,
    )


def _refuse_statistics_elsewhere(options: ServerOptions) -> None:
    if not options.trial:
        raise ConfigError(
            "client.running_statistics",
            "is local, and a test set at the server has no client's statistics to be judged by",
            "set data=none, so that clients judge, or running_statistics=averaged",
        )


def _check_trial(options: ServerOptions, federation: AnyFederation) -> None:
    if options.min_clients > federation.clients:
        raise ConfigError(
            "server.min_clients",
            f"is {options.min_clients}, but the trial's federation has {federation.clients}",
            "lower it, or raise clients",
        )


def _check_real(config: Mapping[str, Any]) -> None:
    """Refuse what needs to know clients' data, or to stand between them and the server."""
    for key, without in (("adversary", "none"), ("validation_clients", 0)):
        value = config[key]["name"] if isinstance(config[key], Mapping) else config[key]
        if value != without:
            raise ConfigError(
                key, "only a simulation or a trial has it", f"set {key}={without} or server.trial"
            )
    if config.get("counterfactual", "none") != "none":
        raise ConfigError(
            "counterfactual", "the server does not know who is clean", "set counterfactual=none"
        )
    if "oracle" in str(config["strategy"].get("_target_", "")).lower():
        raise ConfigError(
            "strategy", "the oracle needs to know the noise", "choose another, or server.trial=true"
        )


def _for_real(
    strategy: Mapping[str, Any], options: ServerOptions, federation: AnyFederation
) -> dict[str, Any]:
    """Set what a strategy is told about clients that come and go."""
    chosen = dict(strategy)
    if "min_available_nodes" in chosen:
        chosen["min_available_nodes"] = options.min_clients
    if "wait_timeout" in chosen or chosen.get("_target_", "").startswith("fedrms."):
        chosen["wait_timeout"] = 2 * options.wait_seconds  # the grid ends the wait first
    if not len(federation.test_y):
        chosen["fraction_evaluate"] = 1.0
    return chosen
