"""Replies changed at random: some that must be left out, some that must count, some that may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord

Change = Callable[[Message, np.random.Generator], None]

NAN, INF = float("nan"), float("inf")


def clone(reply: Message, to: Message) -> Message:
    """An honest reply made anew, so that it can be spoilt."""
    from flwr.app import RecordDict

    content = RecordDict()
    for name, record in reply.content.items():
        if isinstance(record, ArrayRecord):
            content[name] = ArrayRecord(dict(record.items()))
        else:
            content[name] = type(record)(dict(record))
    return Message(content, reply_to=to)


def _model(reply: Message) -> tuple[str, ArrayRecord]:
    return next(iter(reply.content.array_records.items()))


def _metrics(reply: Message) -> MetricRecord:
    return next(iter(reply.content.metric_records.values()))


def _set(reply: Message, key: str, array: Array) -> None:
    name, model = _model(reply)
    reply.content[name] = ArrayRecord({k: array if k == key else v for k, v in model.items()})


def on_values(change: Callable[[np.ndarray, np.random.Generator], Any]) -> Change:
    """Change the numbers of an array drawn at random."""

    def spoil(reply: Message, draw: np.random.Generator) -> None:
        key = str(draw.choice(list(_model(reply)[1])))
        values = np.array(_model(reply)[1][key].numpy())
        _set(reply, key, Array(np.ascontiguousarray(change(values, draw))))

    return spoil


def on_bytes(change: Callable[[bytes, np.random.Generator], bytes]) -> Change:
    """Change the bytes of an array drawn at random, below an honest header."""

    def spoil(reply: Message, draw: np.random.Generator) -> None:
        key = str(draw.choice(list(_model(reply)[1])))
        good = _model(reply)[1][key]
        _set(reply, key, Array(good.dtype, good.shape, good.stype, change(good.data, draw)))

    return spoil


def on_header(change: Callable[[Array, np.random.Generator], tuple[Any, Any, Any]]) -> Change:
    def spoil(reply: Message, draw: np.random.Generator) -> None:
        key = str(draw.choice(list(_model(reply)[1])))
        good = _model(reply)[1][key]
        _set(reply, key, Array(*change(good, draw), good.data))

    return spoil


def says(key: str, *values: Any) -> Change:
    """Give a metric one of some values; None takes it away."""

    def spoil(reply: Message, draw: np.random.Generator) -> None:
        value = values[draw.integers(len(values))]
        if value is None:
            _metrics(reply).pop(key, None)
        else:
            _metrics(reply)[key] = value

    return spoil


def put(value: float, dtype: Any = None) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    def change(values: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        values = values.astype(dtype or values.dtype)
        values.flat[draw.integers(values.size)] = value
        return values

    return change


def flipped(data: bytes, draw: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in draw.integers(len(data), size=draw.integers(1, 4)):
        changed[place] ^= 1 << draw.integers(8)
    return bytes(changed)


def renamed(reply: Message, draw: np.random.Generator) -> None:
    name, model = _model(reply)
    victim = str(draw.choice(list(model)))
    other = str(draw.choice(["", "../x", "x" * 2000, "=cmd()", "\x1b[2J", victim + " "]))
    reply.content[name] = ArrayRecord({(other if k == victim else k): v for k, v in model.items()})


def one_less(reply: Message, draw: np.random.Generator) -> None:
    name, model = _model(reply)
    victim = str(draw.choice(list(model)))
    reply.content[name] = ArrayRecord({k: v for k, v in model.items() if k != victim})


def one_more(reply: Message, draw: np.random.Generator) -> None:
    name, model = _model(reply)
    extra = Array(draw.normal(size=draw.integers(1, 9)).astype(np.float32))
    reply.content[name] = ArrayRecord({**model, f"more{draw.integers(9)}": extra})


def without(kind: str) -> Change:
    def spoil(reply: Message, draw: np.random.Generator) -> None:
        for name in list(getattr(reply.content, kind)):
            del reply.content[name]

    return spoil


def two_counts(reply: Message, draw: np.random.Generator) -> None:
    reply.content["other"] = MetricRecord({"num-examples": int(draw.integers(10**6, 10**9))})


def config(**values: Any) -> Change:
    def spoil(reply: Message, draw: np.random.Generator) -> None:
        told = {key.replace("__", "-"): value for key, value in values.items()}
        reply.content["said"] = ConfigRecord(told)

    return spoil


def flood(reply: Message, draw: np.random.Generator) -> None:
    _metrics(reply).update({f"m{k}": 1.0 for k in range(int(draw.integers(10_001, 12_000)))})


def ballast(reply: Message, draw: np.random.Generator) -> None:
    reply.content["ballast"] = ArrayRecord({"x": Array(np.zeros(300_000))})


def reordered(reply: Message, draw: np.random.Generator) -> None:
    name, model = _model(reply)
    names = draw.permutation(list(model)).tolist()
    reply.content[name] = ArrayRecord({key: model[key] for key in names})


def doubled(reply: Message, draw: np.random.Generator) -> None:
    name, model = _model(reply)
    wide = {k: Array(v.numpy().astype(np.float64)) for k, v in model.items()}
    reply.content[name] = ArrayRecord(wide)


def beside(reply: Message, draw: np.random.Generator) -> None:
    reply.content["beside"] = MetricRecord({"seconds": float(draw.random())})


COUNTS = (None, 0, -1, -1e30, NAN, INF, -INF, [3, 4], [], 10**18, 10**400, 1e300)
SHAPES: tuple[Callable[[np.ndarray, np.random.Generator], Any], ...] = (
    lambda v, draw: np.concatenate([v, v[:1]]),
    lambda v, draw: v[:-1],
    lambda v, draw: v[None],
    lambda v, draw: np.zeros(0, v.dtype),
    lambda v, draw: np.float32(draw.normal()),
    lambda v, draw: v.reshape(-1, 1, 1),
)
DTYPES = ("int8", "int64", "uint16", "bool", "complex64", "U8", "S4")

LEFT_OUT: dict[str, Change] = {
    **{f"value {v}": on_values(put(v)) for v in (NAN, INF, -INF, 3e38, -3e38)},
    "value 1e300": on_values(put(1e300, np.float64)),
    **{f"shape {k}": on_values(change) for k, change in enumerate(SHAPES)},
    **{f"dtype {t}": on_values(lambda v, draw, t=t: v.astype(t)) for t in DTYPES},
    "no bytes": on_bytes(lambda data, draw: b""),
    "cut bytes": on_bytes(lambda data, draw: data[: draw.integers(len(data))]),
    "a pickle": on_bytes(lambda data, draw: b"\x80\x04cos\nsystem\n(S'id'\ntR."),
    "noise": on_bytes(lambda data, draw: draw.bytes(len(data))),
    "a wrong shape in the header": on_header(lambda a, draw: (a.dtype, (2, 2, 2), a.stype)),
    "an endless shape": on_header(lambda a, draw: (a.dtype, (1 << 40,), a.stype)),
    "a negative shape": on_header(lambda a, draw: (a.dtype, (-1,), a.stype)),
    "no dtype": on_header(lambda a, draw: ("nonsense", a.shape, a.stype)),
    "no arrays": without("array_records"),
    "no metrics": without("metric_records"),
    **{f"count {str(v)[:9]}": says("num-examples", v) for v in COUNTS},
    "two counts": two_counts,
    "a negative variance": says("loss-variance", -0.5, -1e30, -INF),
    "a negative loss": says("loss-mean", -1e30, -1.0),
    "the round before": config(server__round=0),
    "another round": config(server__round="1"),
    "another's name": says("partition-id", 0),
    "a stranger's name": config(client__id="mallory"),
    "10,000 metrics": flood,
    "ballast": ballast,
    "a long metric": says("n" * 400, 1.0),
    "a long text": config(note="x" * 100_000),
}
"""Of training replies."""

STRICTER: dict[str, Change] = {"other names": renamed, "one array less": one_less}
"""Left out unless a strategy takes parts of a model."""
FLOWERS_ONLY: dict[str, Change] = {
    "a wrong dtype in the header": on_header(lambda a, draw: ("float16", a.shape, a.stype)),
    "one array more": one_more,
    "no loss": says("train-loss", None, NAN, INF, [1.0], -1.0),
}
"""Left out before Flower's strategies; ours do not look there."""

COUNTED: dict[str, Change] = {
    "nothing": lambda reply, draw: None,
    "another order": reordered,
    "double precision": doubled,
    "a metric more": says("more", 1.0, -3.0, NAN, [1.0, 2.0], 10**400),
    "a record more": beside,
    "a note": config(note="\x1b[31m=1+1"),
    "an old name": config(client__id="x" * 1000),
}

EITHER: dict[str, Change] = {"flipped bits": on_bytes(flipped)}

EVALUATION_LEFT_OUT: dict[str, Change] = {
    "no metrics": without("metric_records"),
    **{f"count {str(v)[:9]}": says("num-examples", v) for v in COUNTS},
    "accuracy": says("accuracy", NAN, INF, -INF, 1e9, 1.5, -0.1, 10**400, [0.5, 0.5], []),
    "loss": says("loss", NAN, INF, -1e30, -1.0, [1.0], 10**400),
    "two counts": two_counts,
    "10,000 metrics": flood,
    "a long metric": says("n" * 400, 1.0),
    "a long text": config(note="x" * 100_000),
    "the round before": config(server__round=0),
}
EVALUATION_STRICTER: dict[str, Change] = {"no accuracy": says("accuracy", None)}
EVALUATION_COUNTED: dict[str, Change] = {
    "nothing": lambda reply, draw: None,
    "a metric more": says("f1", 0.3, NAN, [0.1]),
    "a record more": beside,
    "a note": config(note="hello"),
}
