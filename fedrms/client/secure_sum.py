"""A client's side of a secure sum: its model and weight as Flower's SecAgg+ mod takes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.common.secure_aggregation.secaggplus_constants import (
    RECORD_KEY_CONFIGS,
    RECORD_KEY_STATE,
)

from fedrms.replies.orders import WEIGHT_SCALE
from fedrms.statistic import EXAMPLES


def secure_sum_mod(
    message: Message, context: Context, call_next: Callable[[Message, Context], Message]
) -> Message:
    """Give Flower's ``secaggplus_mod`` a model of the message API, and its weight in the sum.

    It stands after that mod, ``ClientApp(mods=[secaggplus_mod, secure_sum_mod])``, and the
    server's grid is :class:`fedrms.server.SecureSum`. The weight is ``num-examples`` times the
    ``weight-scale`` of the order, which ``FedRMS(apply_to="client")`` sends. The model is masked
    before it leaves; every other record of the reply, its metrics among them, is not.

    Raises
    ------
    ValueError
        If the reply holds no single record of arrays, other arrays than it was sent, no number
        of examples, or numbers that the sum cannot carry; for Flower cuts those without a word.
    """
    orders = message.content
    if RECORD_KEY_CONFIGS not in orders.config_records:
        return call_next(message, context)
    del orders[RECORD_KEY_CONFIGS]  # the app sees its orders as if there were no protocol
    scales = [
        config[WEIGHT_SCALE] for config in orders.config_records.values() if WEIGHT_SCALE in config
    ]
    (given,) = orders.array_records.values()
    expected = {name: tuple(array.shape) for name, array in given.items()}
    reply = call_next(message, context)
    if reply.has_error():
        raise ValueError(f"secure sum: {reply.error.reason}")
    content = reply.content
    if len(content.array_records) != 1:
        raise ValueError(
            f"secure sum: the reply holds {len(content.array_records)} records of arrays; send one"
        )
    ((name, arrays),) = content.array_records.items()
    if {name: tuple(array.shape) for name, array in arrays.items()} != expected:
        raise ValueError(
            "secure sum: the reply's arrays are not those of the model; send all of them"
        )
    weight = _examples(content) * _number(scales[0] if scales else 1.0)
    model = [np.asarray(arrays[name].numpy(), dtype=np.float64) for name in expected]
    limits = context.state.config_records[RECORD_KEY_STATE]
    _refuse_unfit(model, weight, _number(limits["max_weight"]), _number(limits["clipping_range"]))
    kept = RecordDict({key: record for key, record in content.items() if key != name})
    kept["fitres.parameters"] = ArrayRecord(model)
    kept["fitres.num_examples"] = MetricRecord({"num_examples": weight})
    kept["fitres.metrics"] = ConfigRecord({})
    kept["fitres.status"] = ConfigRecord({"code": 0, "message": ""})
    reply.content = kept
    return reply


def _examples(content: RecordDict) -> float:
    for metrics in content.metric_records.values():
        told = metrics.get(EXAMPLES.key)
        if isinstance(told, int | float) and 0 < told < np.inf:
            return float(told)
    raise ValueError(f"secure sum: {EXAMPLES.key!r} is missing or not a positive number")


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _refuse_unfit(model: list[np.ndarray], weight: float, heaviest: float, largest: float) -> None:
    if weight > heaviest:
        raise ValueError(
            f"secure sum: {weight:g} examples are more than max_weight={heaviest:g}; "
            "give SecureSum a larger max_weight"
        )
    top = max((float(np.abs(array).max(initial=0.0)) for array in model), default=0.0)
    if not top < np.inf:
        raise ValueError("secure sum: the parameters are not finite")
    if top * weight / heaviest > largest:
        raise ValueError(
            f"secure sum: a parameter of {top:g} would be cut at clipping_range={largest:g}; "
            "give SecureSum a larger clipping_range"
        )
