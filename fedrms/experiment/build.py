"""From a configuration to the parts of a run: task, model, data, orders and strategy."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from flwr.serverapp.strategy import Strategy
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from fedrms import data, randomness
from fedrms.client import ClientSide, LocalSettings
from fedrms.client.local_optimizer import optimizer_order, try_optimizer
from fedrms.client.own_statistics import statistic_keys, statistics_order
from fedrms.client.settings import config_key
from fedrms.data import AnyFederation
from fedrms.data.adversaries import Adversaries
from fedrms.data.files import stamps
from fedrms.errors import ConfigError, as_config_error
from fedrms.experiment.loss import is_usual, make_loss
from fedrms.experiment.model import make_model
from fedrms.experiment.model_trial import try_model
from fedrms.experiment.own_rules import with_own_rules
from fedrms.experiment.task_trial import initialised
from fedrms.named_class import named_class
from fedrms.one_thread import one_thread_an_operation
from fedrms.options import only
from fedrms.server import FedRMS, ServerOptimizer
from fedrms.server.weighed_by import weighed_by
from fedrms.tasks import Classification, Regression, Task
from fedrms.tasks.judge import Judge, judged_by
from fedrms.tasks.multi_label import MultiLabel
from fedrms.tasks.own_loss import OwnClassLoss, OwnLoss
from fedrms.tasks.set_metrics import chosen_metrics
from fedrms.weighting import Weighting

UNDER_STATISTIC_DP = {"clip": "statistic_clip", "epsilon": "statistic_epsilon"}
"""Settings that are nested in the configuration."""
TASK = "a task (a class with the members of fedrms.tasks.Task)"
STRATEGY = (
    "a Flower strategy (a class derived from flwr.serverapp.strategy.Strategy) or a weighting (one "
    "derived from fedrms.weighting.Weighting)"
)
SIDE_KEYS = (
    *("seed", "clients", "validation_clients"),
    *("task", "loss", "metric", "data", "partition", "noise", "appearance", "model"),
)


SUPERVISED: dict[str, Callable[[Callable[[], nn.Module]], Task]] = {
    "classification": Classification,
    "multilabel": MultiLabel,
    "regression": Regression,
}


def build_side(config: Mapping[str, Any], device: str) -> ClientSide:
    """Build what a client's process needs: task, model and everyone's data.

    What cannot run is refused here, before any training.
    """
    side = side_from_json(side_json(config), device)
    return replace(side, module=copy.deepcopy(side.module))  # a run writes buffers into its own


def side_json(config: Mapping[str, Any]) -> str:
    """Return the part of a configuration that a client's process is built from."""
    statistics = _statistics(config)
    return json.dumps({**{key: config.get(key) for key in SIDE_KEYS}, "statistics": statistics})


def _statistics(config: Mapping[str, Any]) -> str:
    return statistics_order((config.get("client") or {}).get("statistics"))


def side_from_json(text: str, device: str) -> ClientSide:
    """Build the client side from its configuration; a process does so once for the same files."""
    return _side_of(text, device, stamps(json.loads(text)["data"].get("path")))


@functools.lru_cache(maxsize=1)
def _side_of(text: str, device: str, files: tuple[tuple[str, int, int], ...]) -> ClientSide:
    config = json.loads(text)
    aside = config["validation_clients"] or 0
    built = data.build(
        seed=config["seed"],
        clients=config["clients"],
        aside=aside,
        data=config["data"],
        partition=config["partition"],
        noise=config["noise"],
        appearance=config.get("appearance"),
    )
    federation, validation = built.hold_out(aside)
    task = build_judged(config, federation)
    module = first_model(task, federation, config["seed"])
    statistics = config.get("statistics") or ""
    return ClientSide(
        task, module.to(device), federation, device, validation, statistics=statistics
    )


def first_model(task: Task, federation: AnyFederation, seed: int) -> nn.Module:
    """Return the model that the first round starts from, tried."""
    generator = torch.Generator().manual_seed(randomness.integer(seed, "model"))
    with one_thread_an_operation():  # in a forked process the parent's threads are not there
        module = initialised(task, generator)
        try_model(task, module, federation)
    return module


def build_judged(config: Mapping[str, Any], federation: AnyFederation) -> Task:
    """Return the configured task, judged by the configured metric."""
    task = build_task(config.get("task"), config["model"], federation, config.get("loss"))
    names = chosen_metrics(config.get("metric"), federation.task, federation.class_names)
    return judged_by(task, Judge(names, federation.class_names))


def build_task(
    task: Mapping[str, Any] | None,
    model: Mapping[str, Any],
    federation: AnyFederation,
    loss: Mapping[str, Any] | None = None,
) -> Task:
    """Return the configured task, by default one that fits the data, with its model and loss."""

    def build_model() -> nn.Module:
        return make_model(model, federation)

    own = {key: value for key, value in (task or {}).items() if key != "name"}
    if own.get("_target_") is None:
        own.pop("_target_", None)
    given = make_loss(loss)
    if not own:
        supervised: Task = SUPERVISED[federation.task](build_model)
        if given is None or is_usual(given, federation.task):
            return supervised
        lost = OwnLoss if federation.num_classes is None else OwnClassLoss
        return lost(supervised, given, federation.num_classes)
    if given is not None:
        raise ConfigError(
            "loss",
            f"task={(task or {}).get('name')} has a loss of its own",
            "choose one of the two",
        )
    maker = named_class("task._target_", own.pop("_target_", None), _is_task, TASK)
    with as_config_error("task", "mend its options, or leave task=supervised"):
        made: Task = maker(build_model=build_model, **own)
    if not isinstance(made, Task):
        raise ConfigError(
            "task",
            f"{task['_target_'] if task else None} is not a task",
            "see fedrms.tasks.Task for the members that one has",
        )
    return made


def build_settings(config: Mapping[str, Any]) -> LocalSettings:
    """Return the orders to clients."""
    client = {k: v for k, v in config["client"].items() if k not in ("name", "fraction")}
    nullable = {"steps": 0, "clip_norm": 0.0}
    client["statistics"] = statistics_order(client.get("statistics"))
    client |= {key: none for key, none in nullable.items() if client.get(key) is None}
    privacy = client.pop("statistic_dp", None) or {}
    for key in privacy.keys() ^ UNDER_STATISTIC_DP.keys() if privacy else ():
        raise ConfigError(
            f"client.statistic_dp.{key}",
            "nothing reads this key" if key in privacy else "is missing",
            "set clip and epsilon, or statistic_dp=null",
        )
    systems = {k: v for k, v in config["heterogeneity"].items() if k != "name"}
    read = {config_key(field.name) for field in fields(LocalSettings)}
    for group, options in (("client", client), ("heterogeneity", systems)):
        only(
            group, options, [k.removeprefix(f"{group}.") for k in read if k.startswith(f"{group}.")]
        )
    client |= {UNDER_STATISTIC_DP[key]: value for key, value in privacy.items()}
    statistic = config["strategy"].get("statistic")  # the strategy says its own where it is null
    statistic = statistic or ("incoming" if privacy else "prequential")
    optimizer = dict(config.get("optimizer") or {})
    if optimizer.get("lr") is not None:
        client["lr"] = optimizer["lr"]
    order = optimizer_order(optimizer) if "_target_" in optimizer else ""
    if not order:
        only("optimizer", optimizer, ("name", "lr"))
    settings = LocalSettings(
        seed=config["seed"], statistic=statistic, optimizer=order, **client, **systems
    )
    if order:
        try_optimizer(settings)
    return settings


def build_strategy(
    config: Mapping[str, Any],
    federation: AnyFederation,
    adversaries: Adversaries | None = None,
) -> Strategy:
    """Make the strategy: ours, Flower's or anyone's, by its ``_target_``.

    Where that is a weighting, ``FedRMS`` runs it; options go to whichever of the two takes them.
    Flower's strategies sample with Python's global generator, which is seeded here. The
    truth about noise and adversaries goes to whoever asks for it (``reveal_truth``).
    """
    logging.getLogger("flwr").addFilter(_expected)
    random.seed(randomness.integer(config["seed"], "flower-sampling"))
    options = with_own_rules({k: v for k, v in config["strategy"].items() if k != "name"})
    target = options.pop("_target_", None)
    if target is None:
        raise ConfigError("strategy", "has no _target_", "name a Flower Strategy class")
    named = named_class("strategy._target_", target, _is_strategy, STRATEGY)
    maker: Callable[..., Strategy] = named
    column = f"loss_{options.get('moment')}"
    told = statistic_keys(_statistics(config))
    if column in told:
        options["moment"] = told[column]
    accepted = dict(inspect.signature(named).parameters)
    if isinstance(named, type) and issubclass(named, Weighting):
        maker = functools.partial(weighed_by, named)
        accepted |= inspect.signature(FedRMS).parameters
        del accepted["weighting"]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    offered: dict[str, Any] = {"seed": config["seed"], "identify": "query"}
    server_optimizer = build_server_optimizer(config["server_optimizer"])
    if "server_optimizer" in accepted or takes_any:
        offered["server_optimizer"] = server_optimizer
    elif config["server_optimizer"]["name"] != "none":
        raise ConfigError(
            "server_optimizer",
            f"{target} steps the global model by itself",
            "leave server_optimizer=none, or use strategy=fedavg or fedrms with it",
        )
    options |= {k: v for k, v in offered.items() if k in accepted or takes_any}
    if "num_classes" in accepted:
        options.setdefault("num_classes", federation.num_classes)
    unknown = [k for k in options if k not in accepted and not takes_any]
    if unknown:
        raise ConfigError(
            f"strategy.{unknown[0]}",
            f"{target} has no such option",
            f"it takes {', '.join(accepted)}",
        )
    try:
        strategy = maker(**options)
    except ConfigError as error:
        raise error.configured or error from None
    except Exception as error:  # somebody's class may raise anything
        raise ConfigError("strategy", str(error), "mend its options") from error
    reveal = wants_truth(strategy)
    if reveal is not None:
        reveal(federation.true_noise, adversaries.lie if adversaries else None)
    assert isinstance(strategy, Strategy)
    return strategy


def wants_truth(strategy: Strategy) -> Callable[..., None] | None:
    """Return what takes the truth of a strategy or its weighting; None where nobody asks."""
    told: Callable[..., None] | None = getattr(strategy, "reveal_truth", None)
    return told or getattr(getattr(strategy, "weighting", None), "reveal_truth", None)


def _is_strategy(kind: type) -> bool:
    return issubclass(kind, Strategy | Weighting)


def build_server_optimizer(config: Mapping[str, Any]) -> ServerOptimizer:
    """Return the optimizer that steps the global model."""
    if config["name"] == "none":
        return ServerOptimizer()
    optimizer = _partial("server_optimizer", config, torch.optim.Optimizer, "a torch optimizer")
    scheduler = None
    if config.get("scheduler"):
        key = "server_optimizer.scheduler"
        scheduler = _partial(key, config["scheduler"], LRScheduler, "a torch LR scheduler")
    with as_config_error("server_optimizer", "see torch.optim for its options"):
        trial = optimizer([torch.zeros(1, requires_grad=True)])
        if scheduler is not None:
            scheduler(trial)
    return ServerOptimizer(optimizer, scheduler)


def _partial(key: str, config: Mapping[str, Any], kind: type, what: str) -> functools.partial[Any]:
    options = {k: v for k, v in config.items() if k not in ("name", "scheduler", "_target_")}
    maker = named_class(f"{key}._target_", config.get("_target_"), kind, what)
    return functools.partial(maker, **options)


def _is_task(kind: type) -> bool:
    return all(callable(getattr(kind, name, None)) for name in ("init", "losses", "metrics"))


def choose_device(config: Mapping[str, Any]) -> str:
    """Return where clients train: what ``device=auto|cpu|cuda`` means with this engine.

    Ray's workers train on a GPU exactly if they are given a share of one, which need not be
    on this machine.
    """
    wanted, engine = config["device"], config["engine"]
    if wanted not in ("auto", "cpu", "cuda") and not str(wanted).startswith("cuda:"):
        raise ConfigError("device", f"there is no device {wanted!r}", "choose auto, cpu or cuda")
    if engine.get("name") == "ray":
        return _workers_device(str(wanted), bool(engine.get("worker_gpus")))
    usable = torch.cuda.is_available()
    if wanted == "auto":
        shared = engine.get("name") == "flower" and not engine.get("client_gpus")
        return "cuda" if usable and not shared else "cpu"
    if str(wanted).startswith("cuda") and not usable:
        raise ConfigError("device", "PyTorch sees no CUDA device", "set device=cpu or auto")
    return str(wanted)


def server_device(device: str) -> str:
    """Return where the server scores models: the clients' device, if this machine has it."""
    return device if device == "cpu" or torch.cuda.is_available() else "cpu"


def _workers_device(wanted: str, have_gpus: bool) -> str:
    if wanted.startswith("cuda:"):
        raise ConfigError(
            "device", f"is {wanted!r}, but Ray decides which GPU a worker has", "set device=cuda"
        )
    if wanted == "cuda" and not have_gpus:
        raise ConfigError(
            "device", "is cuda, but workers have no GPU", "set engine.worker_gpus, 1 or a share"
        )
    if wanted == "cpu" and have_gpus:
        raise ConfigError(
            "engine.worker_gpus",
            "workers would hold GPUs that device=cpu leaves idle",
            "set device=cuda or engine.worker_gpus=0",
        )
    return "cuda" if have_gpus else "cpu"


def _expected(record: logging.LogRecord) -> bool:
    """Drop Flower's warning that clients do not evaluate: here the server does it."""
    return "fraction_evaluate is set to 0.0" not in record.getMessage()
