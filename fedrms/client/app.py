"""The Flower ``ClientApp``: the same client for Ray simulation and real SuperNodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from logging import ERROR
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from fedrms.client.batch_statistics import COUNTER, moving_statistics
from fedrms.client.evaluate import evaluate_client
from fedrms.client.local_update import (
    SQUARES,
    LocalUpdate,
    Tree,
    as_function,
    frozen,
    trainable,
)
from fedrms.client.schedule import drops_out
from fedrms.client.settings import LocalSettings
from fedrms.client.statistic_privacy import StatisticPrivacy, secret_seed
from fedrms.client.train import train_client
from fedrms.data import AnyFederation
from fedrms.data.client_data import Validation
from fedrms.errors import REFUSES, ConfigError, RunError
from fedrms.flower_log import log
from fedrms.replies.cohort import GRADIENT_SQUARES
from fedrms.replies.records import array_records, config_records
from fedrms.tasks import Task
from fedrms.tasks.judge import Judge
from fedrms.tasks.set_metrics import chosen_metrics

if TYPE_CHECKING:
    from flwr.clientapp.typing import Mod  # where it is differs between versions of Flower

Record = TypeVar("Record", ArrayRecord, ConfigRecord)


CLIENT_RAISED = 2
"""Flower's error code for a ``ClientApp`` that raised."""
REFUSED = 1000
"""Error code of a client that will not do what it is ordered, in later rounds neither."""
METRIC_ORDER = "metric"
"""The key of an evaluation's orders that names what clients are to report."""


@dataclass(frozen=True)
class ClientSide:
    """What a client's process holds between messages.

    Attributes
    ----------
    task : Task
        What is learned.
    module : nn.Module
        The model's structure; its parameters arrive with each message.
    federation : Federation or Population
        Everyone's data; a client reads only its own rows.
    device : str
        Where it trains (``"cpu"``, ``"cuda"``).
    validation : Validation, optional
        Examples of clients that never train, where some are set aside.
    statistic_dp : StatisticPrivacy, optional
        What this client insists on for what it says of its losses, whatever the orders are.
        Its noise is then drawn from the operating system's, not from the run's seed.
    statistics : str
        The further statistics of losses that it would report, as
        :func:`fedrms.client.own_statistics.statistics_order` gives them; others are not computed.
    """

    task: Task
    module: nn.Module
    federation: AnyFederation
    device: str = "cpu"
    validation: Validation | None = None
    statistic_dp: StatisticPrivacy | None = None
    statistics: str = ""


@dataclass(frozen=True)
class Identity:
    """Who a client is."""

    number: int  # the address of its local draws
    row: int  # its place in the federation that its process holds
    name: str | None = None  # what the server's tables call it; by default its number


def from_partition(context: Context) -> Identity:
    """Return the identity that Flower's node configuration assigns to this process."""
    number = int(context.node_config["partition-id"])
    return Identity(number, number)


def client_app(
    load: Callable[[], ClientSide],
    who: Callable[[Context], Identity] = from_partition,
    mods: Sequence[Mod] = (),
) -> ClientApp:
    """Make a Flower ``ClientApp``.

    Parameters
    ----------
    load : callable
        Returns this process's :class:`ClientSide`. Must be small to pickle and cheap to
        call again: the app is pickled with every message, so data must never hang on it.
    who : callable (Context) -> Identity
        Says which client this process is.
    mods : sequence of Flower's mods
        Around every message, such as ``fixedclipping_mod`` for Flower's client-side privacy.

    Notes
    -----
    A client that drops out or diverges, or whose model or classes are not the server's,
    answers with an error. It does not raise: Flower's Ray backend would print two tracebacks
    for it and bury the reason in them.
    """
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        side, me = load(), who(context)
        config = _only(config_records(message.content))
        problem = disagreement(side, config, _only(array_records(message.content)))
        if problem:
            return refusal(problem, message)
        try:
            settings = _settings(side, config)
        except ConfigError as fault:
            return refusal(str(fault), message)
        server_round = int(config["server-round"])  # type: ignore[arg-type]
        if drops_out(settings, server_round, np.array([me.number]))[0]:
            reason = f"client {me.name or me.number} dropped out of round {server_round}"
            return Message(Error(CLIENT_RAISED, reason), reply_to=message)
        received = tensors(_only(array_records(message.content)), side.device)
        learned, rest = split(side.module, received)
        try:
            params, metrics = train_client(
                LocalUpdate(side.task, as_function(side.module), settings),
                learned,
                side.federation.client(me.row, server_round),
                client=me.number,
                server_round=server_round,
                lr_scale=float(config.get("lr-scale", 1.0)),  # type: ignore[arg-type]
                noise_seed=None if side.statistic_dp is None else secret_seed(),
            )
        except (RunError, ConfigError) as fault:
            return Message(Error(CLIENT_RAISED, str(fault)), reply_to=message)
        moved = settings.running_statistics == "averaged"
        counted = counters(params, received, int(metrics["steps"])) if moved else {}
        arrays = {name: (params | rest | counted)[name].cpu() for name in received}
        content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})  # type: ignore[arg-type]
        if settings.gradient_decay:
            squares = {n: params.get(SQUARES + n, torch.zeros_like(v)) for n, v in received.items()}
            content[GRADIENT_SQUARES] = ArrayRecord({n: v.cpu() for n, v in squares.items()})
        return _named(Message(content, reply_to=message), me)

    @app.evaluate()
    def score(message: Message, context: Context) -> Message:
        side, me = load(), who(context)
        problem = disagreement(side, {}, _only(array_records(message.content)))
        if problem:
            return refusal(problem, message)
        received = tensors(_only(array_records(message.content)), side.device)
        learned, _ = split(side.module, received)
        try:
            judge = _ordered(side, message)
        except ConfigError as fault:
            return refusal(str(fault), message)
        metrics = evaluate_client(
            side.task, side.module, learned, side.federation, me.row, judge, _told(message)
        )
        metrics["partition-id"] = me.number
        content = RecordDict({"metrics": MetricRecord(metrics)})
        return _named(Message(content, reply_to=message), me)

    @app.query("whoami")
    def whoami(message: Message, context: Context) -> Message:
        me = who(context)
        content = RecordDict({"identity": MetricRecord({"partition-id": me.number})})
        return _named(Message(content, reply_to=message), me)

    return app


def _settings(side: ClientSide, config: Mapping[str, Any]) -> LocalSettings:
    """Return the round's orders, with what this client insists on."""
    settings = LocalSettings.from_record(config)
    if settings.statistics not in ("", side.statistics):
        raise ConfigError(
            "client.statistics",
            "the server orders statistics of losses by functions, and this client has others, or "
            "none",
            "name the same ones here if you trust them, or let the server order none",
        )
    return settings if side.statistic_dp is None else side.statistic_dp.bind(settings)


def _ordered(side: ClientSide, message: Message) -> Judge | None:
    """Return who judges by the metrics that the server asks for; None for the task's own."""
    asked = _told(message).get(METRIC_ORDER)
    if asked is None:
        return None
    data = side.federation
    return Judge(chosen_metrics(asked, data.task, data.class_names), data.class_names)


def _told(message: Message) -> dict[str, object]:
    """Return the orders of a message, if there are some."""
    return {k: v for record in config_records(message.content).values() for k, v in record.items()}


def refusal(why: str, message: Message) -> Message:
    """Return the answer of a client that does not agree, and say so in its own log."""
    log(ERROR, "%s%s", REFUSES, " ".join(why.split()))
    return Message(Error(REFUSED, why), reply_to=message)


def disagreement(
    side: ClientSide, config: Mapping[str, object], received: ArrayRecord
) -> str | None:
    """Say what the server and this client do not agree about, or return None.

    Nothing about the model or the classes travels but their names and shapes: where each side
    configures its own, a mismatch must not train.
    """
    names = config.get("class-names")
    own = side.federation.class_names
    if names is not None and own is not None and list(names) != list(own):  # type: ignore[call-overload]
        return (
            f"the server's classes are {names}, this client's {list(own)}; set data.classes to "
            "the same list on both sides"
        )
    shapes = {name: tuple(array.shape) for name, array in received.items()}
    kept = frozen(side.module)  # who builds the same model need not be sent what stays as it is
    mine = {
        name: tuple(value.shape)
        for name, value in side.module.state_dict().items()
        if name in shapes or name not in kept
    }
    for name in (*shapes, *mine):
        if shapes.get(name) != mine.get(name):
            there, here = (_said(where.get(name)) for where in (shapes, mine))
            return (
                f"the server's model is not this client's: {name!r} is {there} at the server, "
                f"{here} here; configure the same model, for data of the same shape and classes"
            )
    return None


def _said(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))


def _named(message: Message, me: Identity) -> Message:
    """Add a client's name to its reply, where it has one."""
    if me.name is not None:
        message.content["client"] = ConfigRecord({"client-id": me.name})
    return message


def tensors(record: ArrayRecord, device: str) -> Tree:
    """Return an ``ArrayRecord`` as tensors on a device."""
    return {name: torch.from_numpy(array.numpy()).to(device) for name, array in record.items()}


def split(module: nn.Module, received: Tree) -> tuple[Tree, Tree]:
    """Split received tensors into what training changes and the rest.

    Parameters, and behind them running statistics, take the module's dtype: some strategies return
    float64. The rest, other buffers and parameters that are frozen, is written into the module,
    which applies it.
    """
    learned = {n: received[n].to(p.dtype) for n, p in trainable(module).items()}
    buffers = dict(module.named_buffers())
    learned |= {n: received[n].to(buffers[n].dtype) for n in moving_statistics(module)}
    rest = {name: value for name, value in received.items() if name not in learned}
    if rest:
        module.load_state_dict(rest, strict=False)
    return learned, rest


def counters(trained: Tree, received: Tree, steps: int) -> Tree:
    """Return what layers with running statistics count: the batches that they were trained on."""
    return {
        name: value + steps
        for name, value in received.items()
        if name.endswith(COUNTER) and name.removesuffix(COUNTER) + "running_mean" in trained
    }


def _only(records: Mapping[str, Record]) -> Record:
    return next(iter(records.values()))
