"""Replies changed at random: some that must be left out, some that must count, some that may."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

Change = Callable[[Message, np.random.Generator], list[Message] | None]
"""Spoils a reply, or returns what comes in its place."""

NAN, INF = float("nan"), float("inf")


def clone(reply: Message, to: Message) -> Message:
    """An honest reply made anew, so that it can be spoilt."""
    return Message(_copied(reply.content), reply_to=to)


def _copied(content: RecordDict) -> RecordDict:
    return RecordDict({name: type(record)(dict(record)) for name, record in content.items()})


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


def archive(data: bytes, draw: np.random.Generator) -> bytes:
    """Return an ``.npz`` of a few kilobytes that would unfold to megabytes."""
    file = io.BytesIO()
    np.savez_compressed(file, x=np.zeros(draw.integers(1, 4) << 20, np.float32))
    return file.getvalue()


def header(*shapes: str) -> Callable[[bytes, np.random.Generator], bytes]:
    """Give the numbers a header of NumPy's whose shape is one of some texts."""

    def change(data: bytes, draw: np.random.Generator) -> bytes:
        shape = shapes[draw.integers(len(shapes))]
        told = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(told)) + told + data[128:]

    return change


def mistyped(reply: Message, draw: np.random.Generator) -> None:
    kind = str(draw.choice(["train", "evaluate", "query", "train.other", "", "\u202eniart"]))
    reply.metadata.__dict__["_message_type"] = kind


def record_called(name: str) -> Change:
    """Give the model's record another name."""

    def spoil(reply: Message, draw: np.random.Generator) -> None:
        own, model = _model(reply)
        del reply.content[own]
        reply.content[name] = model

    return spoil


def second_model(reply: Message, draw: np.random.Generator) -> None:
    """Send the model twice, the second time spoilt, before the first or after it."""
    name, model = _model(reply)
    spoilt = ArrayRecord({k: Array(np.full(v.shape, NAN, np.float32)) for k, v in model.items()})
    first, last = ("a", name) if draw.random() < 0.5 else (name, "zz")
    models = {first: spoilt if first == "a" else model, last: model if first == "a" else spoilt}
    others = {k: v for k, v in reply.content.items() if k != name}
    reply.content = RecordDict({**models, **others})


def small_record(reply: Message, draw: np.random.Generator) -> None:
    shape = ((0,), (0, 4), (3,), ())[draw.integers(4)]
    reply.content["small"] = ArrayRecord({"\u202ex": Array(np.zeros(shape, np.float32))})


def no_records(reply: Message, draw: np.random.Generator) -> None:
    for name in list(reply.content):
        del reply.content[name]


def every(change: Callable[[np.ndarray], Any]) -> Change:
    """Change each array of the model."""

    def spoil(reply: Message, draw: np.random.Generator) -> None:
        name, model = _model(reply)
        made = {k: Array(np.asarray(change(v.numpy()))) for k, v in model.items()}
        reply.content[name] = ArrayRecord(made)

    return spoil


def addressed(key: str, value: Any) -> Change:
    """Change what a reply says that it answers, or by whom it is."""

    def spoil(reply: Message, draw: np.random.Generator) -> None:
        reply.metadata.__dict__[f"_{key}"] = value

    return spoil


def twice(change: Change | None = None) -> Change:
    """Answer twice, the second time changed or not."""

    def spoil(reply: Message, draw: np.random.Generator) -> list[Message]:
        second = Message(reply.content, reply_to=reply)
        second.metadata.__dict__.update(reply.metadata.__dict__)
        second.content = _copied(reply.content)
        return [reply, *((change(second, draw) if change else None) or [second])]

    return spoil


def error(*codes: int) -> Change:
    """Fail with a text that would cover a terminal."""

    def spoil(reply: Message, draw: np.random.Generator) -> list[Message]:
        said = Error(codes[draw.integers(len(codes))], "\x1b[2J\u202e=cmd()\r\n|`$x$" * 50_000)
        failed = Message(said, reply_to=reply)
        failed.metadata.__dict__.update(reply.metadata.__dict__)
        return [failed]

    return spoil


def both(first: Change, second: Change) -> Change:
    """Change a reply in one way, and what comes of it in another."""

    def spoil(reply: Message, draw: np.random.Generator) -> list[Message] | None:
        first(reply, draw)
        return second(reply, draw)

    return spoil


def any_metric(reply: Message, draw: np.random.Generator) -> None:
    """Give one of a reply's own metrics a value that no honest client has."""
    own = _metrics(reply)
    key = str(draw.choice(sorted(set(own) - {"num-examples"})))
    own[key] = ODD[draw.integers(len(ODD))]


def bits(*patterns: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Give a number of single precision one of some patterns of bits."""

    def change(values: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        raw = values.astype(np.float32).view(np.uint32)
        raw.flat[draw.integers(raw.size)] = patterns[draw.integers(len(patterns))]
        return raw.view(np.float32)

    return change


def descr(*kinds: str) -> Callable[[bytes, np.random.Generator], bytes]:
    """Name another kind of number in NumPy's header, of the same length."""

    def change(data: bytes, draw: np.random.Generator) -> bytes:
        length = 10 + int.from_bytes(data[8:10], "little")
        kind = kinds[draw.integers(len(kinds))]
        told = re.sub("'<f[48]'", lambda _: kind, data[10:length].decode()).strip()
        return data[:10] + told.encode().ljust(length - 11)[: length - 11] + b"\n" + data[length:]

    return change


def told(*changes: tuple[bytes, bytes]) -> Callable[[bytes, np.random.Generator], bytes]:
    """Write something else into NumPy's header, which keeps its length."""

    def change(data: bytes, draw: np.random.Generator) -> bytes:
        length = 10 + int.from_bytes(data[8:10], "little")
        old, new = changes[draw.integers(len(changes))]
        spoilt = data[10:length].strip().replace(old, new)
        return data[:10] + spoilt.ljust(length - 11)[: length - 11] + b"\n" + data[length:]

    return change


def swapped(reply: Message, draw: np.random.Generator) -> None:
    """Send the metrics under the model's name, and the model under the metrics'."""
    name, model = _model(reply)
    other = next(iter(reply.content.metric_records))
    metrics = _metrics(reply)
    del reply.content[name], reply.content[other]
    reply.content[other], reply.content[name] = model, metrics


def many_records(kind: type) -> Change:
    """Add thousands of records in which there is nothing."""

    def spoil(reply: Message, draw: np.random.Generator) -> None:
        for k in range(int(draw.integers(2000, 5000))):
            reply.content[f"{kind.__name__}{k}"] = kind()

    return spoil


def count_called(*names: str) -> Change:
    """Say how many examples there were under a name that looks like the right one."""

    def spoil(reply: Message, draw: np.random.Generator) -> None:
        metrics = _metrics(reply)
        metrics[names[draw.integers(len(names))]] = metrics.pop("num-examples")

    return spoil


def also(key: str, *values: Any) -> Change:
    """Say a metric a second time, in a record of its own."""

    def spoil(reply: Message, draw: np.random.Generator) -> None:
        reply.content["also"] = MetricRecord({key: values[draw.integers(len(values))]})

    return spoil


def failed_too(reply: Message, draw: np.random.Generator) -> None:
    """Hold a failure beside what was computed."""
    reply.__dict__["_error"] = Error(int(draw.integers(20)), "\x1b]0;x\x07")


def without_some(reply: Message, draw: np.random.Generator) -> None:
    """Send an array in which every number is one of another array's or none at all."""
    name, model = _model(reply)
    values = [v.numpy() for v in model.values()]
    flat = np.concatenate([v.ravel() for v in values])
    made = {
        k: Array(draw.permutation(flat)[: v.size].reshape(v.shape))
        for k, v in zip(model, values, strict=True)
    }
    reply.content[name] = ArrayRecord(made)


def record_beside(reply: Message, draw: np.random.Generator) -> None:
    """Answer a question for a score with a model."""
    reply.content["arrays"] = ArrayRecord({"w": Array(draw.normal(size=9))})


LONE = "\ud800"
"""Half of a character, which no file in UTF-8 can hold."""
ODD = (NAN, INF, -INF, -0.0, [], [NAN], [1.0] * 50, 2**63 - 1, -(2**63), 10**400, 1e308)
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
    "long bytes": config(note=b"\xff" * 100_000),
    "many texts": config(note=["\u202e" * 50] * 2000),
    "an archive": on_bytes(archive),
    "a header of another shape": on_bytes(header("(1,)", "()", "(0,)", "(0, 4)", "(2, 2, 2)")),
    "a header without an end": on_bytes(header(f"({1 << 33},)", f"({1 << 62},)", f"({10**30},)")),
    "a header that is no shape": on_bytes(header("(-4,)", "('x',)", "(None,)", "4", "(1.0,)", "[")),
    "a header that nests": on_bytes(header("(" * 4000, "-" * 9000 + "1", "[" * 90 + "]" * 90)),
    "a long header": on_bytes(header("(" + "1, " * 30_000 + ")")),
    "a header of objects": on_bytes(lambda data, draw: data.replace(b"'<f4'", b"'|O' ")),
    "empty arrays": every(lambda v: np.zeros((0, *v.shape), np.float32)),
    "records of fields": every(lambda v: np.zeros(v.shape, [("x", "f4"), ("y", "i8")])),
    "dates": every(lambda v: v.astype("M8[s]")),
    "a stype": on_header(lambda a, draw: (a.dtype, a.shape, "torch.Tensor")),
    "nothing at all": no_records,
    "another round, as a list": config(server__round=[1]),
    "another round, as bytes": config(server__round=b"1"),
    "a count below 0": says("num-examples", -(2**63), -1e-300, -5e-324),
    "a count of 64 bits": says("num-examples", 2**63, 2**64 - 1, 2**64, -0.0),
    "bits of no number": on_values(bits(0x7F800001, 0xFFC00001, 0x7FFFFFFF, 0xFF800000)),
    "an infinite half": every(lambda v: np.full(v.shape, INF).astype(np.float16)),
    "another kind in the header": on_bytes(descr("'|V4'", "'<c8'", "'<U1'", "'<m8'", "'|b1'")),
    "fields in the header": on_bytes(descr("[('a','|O')]", "[('','<f4')]", "'(4,)<f4'")),
    "a call in the header": on_bytes(descr("exit()", "'f4'*99999999", "{}", "None", "9**9**9")),
    "another version of the header": on_bytes(lambda d, draw: d[:6] + draw.bytes(1) * 2 + d[8:]),
    "a length beyond the end": on_bytes(lambda d, draw: d[:8] + b"\xff\xff" + d[10:]),
    "an answer to nothing": addressed("reply_to_message_id", "0" * 64),
    "twice": twice(),
    "an error": error(0, 1, -1, 2**31 - 1, 10),
    "numbers whose squares are none": every(lambda v: np.full(v.shape, 1e25, np.float32)),
    "a count that looks like one": count_called(
        "num_examples", "num\u2010examples", "num-examples "
    ),
    "a header without order": on_bytes(told((b"'fortran_order': False, ", b""))),
    "a header with more": on_bytes(told((b"'fortran_order'", b"'x': 1, 'fortran_order'"))),
    "a header of two": on_bytes(told((b"}", b"'descr': '|O'}"))),
    "an order that is none": on_bytes(
        told((b"False", b"None"), (b"False", b"2"), (b"False", b"[]"))
    ),
    "two counts that are alike": also("num-examples", 9, 8.5),
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
    "the model's and the metrics' names": swapped,
    "a note": config(note="\x1b[31m=1+1"),
    "an old name": config(client__id="x" * 1000),
    "a name that is no text": config(client__id=b"\x00", other=True),
    "bytes": config(note=b"\xff\xfe", notes=[b"\x00", b""], yes=True, no=[False], none=[]),
    "a mark of direction": says("\u202eycarucca\u2066", 1.0, -(2**63), 5e-324),
    "an empty name": says("", 1.0),
    "columns first": every(np.asfortranarray),
    "not in one piece": every(lambda v: np.repeat(v, 2, axis=-1)[..., ::2]),
    "backwards in memory": every(lambda v: np.ascontiguousarray(v[::-1])[::-1]),
    "names of tables": says("client", 7.0, 1e9),
    "names of Python": says("__class__", 1.0),
    "half a character": says(LONE, 1.0, -1),
    "a text of half a character": config(note=LONE, notes=[LONE, ""]),
    "a name with an end in it": says("a\x00b\r\nc", 1.0),
    "a long life": addressed("ttl", 1e300),
    "a life without end": addressed("ttl", NAN),
    "of another time": addressed("created_at", -1e300),
    "of another group": addressed("group_id", "\x1b[2J" * 10_000),
    "of another run": addressed("run_id", 2**63),
    "to another": addressed("dst_node_id", 1 << 62),
    "a count in a text": config(num__examples=10**9),
    "a loss in a text": config(loss__mean=-1.0),
    "lists in lists": config(none=[], numbers=[1] * 5000),
}

EITHER: dict[str, Change] = {
    "flipped bits": on_bytes(flipped),
    "other order in the header": on_bytes(told((b"False", b"True"))),
    "other end in the header": on_bytes(told((b"<f4", b">f4"))),
    "truth for a shape": on_bytes(told((b"(1,", b"(True,"), (b"(4,", b"(4, 1,"))),
    "others' numbers": without_some,
    "large": every(lambda v: v * np.float32(1e12)),
    "upside down": every(lambda v: -v),
    "nothing learnt": every(np.zeros_like),
    "many empty arrays": many_records(ArrayRecord),
    "many empty metrics": many_records(MetricRecord),
    "many empty texts": many_records(ConfigRecord),
    "a failure too": failed_too,
    "a loss that is said twice": also("train-loss", 0.0, NAN, -1.0, [1.0]),
    "a mean that is said twice": also("loss-mean", 0.0, NAN, -1.0, [1.0]),
    "a record without a name": record_called(""),
    "a record of half a character": record_called(LONE),
    "denormals": every(lambda v: np.full(v.shape, 1e-45, np.float32)),
    "minus nothing": every(lambda v: np.full(v.shape, -0.0, np.float32)),
    "other end first": every(lambda v: v.astype(">f4")),
    "half precision": every(lambda v: v.astype(np.float16)),
    "long doubles": every(lambda v: v.astype(np.longdouble)),
    "a part of an example": says("num-examples", 0.5, 7.5, 5e-324, 1e-300, 2.0**53),
    "a number for a name": says("partition-id", NAN, INF, 7.5, -1, 10**30, [7], []),
    "a list for a number": says("loss-mean", [], [0.1, 0.2], [NAN], [10**30]),
    "a list of classes": says("loss-mean-by-class", [], [0.5], [NAN] * 3, [-1.0] * 50, 0.5),
    "a huge number": says("loss-mean", 10**30, 1e308, 5e-324, 2**63 - 1),
    "another kind of message": mistyped,
    "another record": record_called("\u202emodel"),
    "a second model": second_model,
    "a second record": small_record,
    "more bytes than numbers": on_bytes(lambda d, draw: d + draw.bytes(int(draw.integers(1, 99)))),
    "any metric": any_metric,
    "twice, then nothing": twice(no_records),
    "twice, then no number": twice(every(lambda v: np.full(v.shape, NAN, np.float32))),
    "twice, then an error": twice(error(1)),
    "by nobody": addressed("src_node_id", 2**63),
    "by the server": addressed("src_node_id", 1),
    "by another": addressed("src_node_id", 1001),
    "no round": config(server__round=NAN),
    "half a round": config(server__round=1.5),
}

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
    "long bytes": config(note=b"\xff" * 100_000),
    "nothing at all": no_records,
    "a count below 0": says("num-examples", -(2**63), -5e-324),
    "a count of 64 bits": says("num-examples", 2**63, 2**64, -0.0),
    "an answer to nothing": addressed("reply_to_message_id", "0" * 64),
    "twice": twice(),
    "an error": error(0, 1, -1, 2**31 - 1, 10),
    "a count that looks like one": count_called(
        "num_examples", "num\u2010examples", "num-examples "
    ),
    "two counts that are alike": also("num-examples", 9, 8.5),
}
EVALUATION_STRICTER: dict[str, Change] = {"no accuracy": says("accuracy", None)}
EVALUATION_COUNTED: dict[str, Change] = {
    "nothing": lambda reply, draw: None,
    "a metric more": says("f1", 0.3, NAN, [0.1]),
    "a record more": beside,
    "a note": config(note="hello"),
    "bytes": config(note=b"\xff\xfe", notes=[b"\x00", b""], yes=True, no=[False], none=[]),
    "a mark of direction": says("\u202eycarucca\u2066", 1.0, -(2**63), 5e-324),
    "names of tables": says("client", 7.0, 1e9),
    "half a character": says(LONE, 1.0, -1),
    "a text of half a character": config(note=LONE, notes=[LONE, ""]),
    "a name with an end in it": says("a\x00b\r\nc", 1.0),
    "a life without end": addressed("ttl", NAN),
    "of another run": addressed("run_id", 2**63),
    "a count in a text": config(num__examples=10**9),
    "an accuracy in a text": config(accuracy=7.0),
}
EVALUATION_EITHER: dict[str, Change] = {
    "many empty metrics": many_records(MetricRecord),
    "many empty texts": many_records(ConfigRecord),
    "a failure too": failed_too,
    "an accuracy that is said twice": also("accuracy", 0.0, 1.0, NAN, 9.0),
    "a model": record_beside,
    "a part of an example": says("num-examples", 0.5, 7.5, 5e-324, 2.0**53),
    "a tiny number": says("accuracy", 5e-324, -0.0, 1),
    "a huge loss": says("loss", 1e308, 2**63 - 1, 5e-324),
    "a number for a name": says("partition-id", NAN, INF, 7.5, -1, 10**30, [7], []),
    "another kind of message": mistyped,
    "a second record": small_record,
    "any metric": any_metric,
    "twice, then nothing": twice(no_records),
    "twice, then an error": twice(error(1)),
    "by nobody": addressed("src_node_id", 2**63),
    "by another": addressed("src_node_id", 1001),
}
