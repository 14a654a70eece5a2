"""State in one file: a tree of plain values and arrays, with a digest and without pickle.

The file is in the safetensors format: every array has its place in the tree for a name, and the
rest of the tree is JSON in an array of bytes, so that nothing is executed when it is read.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from fedrms.results.atomic import replace_file

TREE: Final = "tree.json"
"""Name of the array of bytes that holds what is not an array."""
KINDS: Final = "biuf"
"""NumPy's kinds of numbers that are kept; complex numbers and objects are not."""

Arrays = dict[str, np.ndarray]


class UnsavableError(TypeError):
    """A value that has no form in a state file; the message names it and its type."""


class BrokenStateError(ValueError):
    """A state file that is truncated, altered or no state file; the message says which."""


def write_state(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a tree in one step: a process killed at any moment leaves the whole file or none.

    It is of numbers, text, None, NumPy arrays, tensors, Flower's records, and of lists, tuples,
    sets and dictionaries of these; anything else is an `UnsavableError`.
    """
    arrays: Arrays = {}
    text = json.dumps(_encode(dict(tree), "", arrays))
    arrays[TREE] = np.frombuffer(text.encode(), np.uint8)
    content = safetensors.save(arrays, metadata={"sha256": _digest(arrays)})
    replace_file(path, lambda file: file.write(content))


def read_state(path: Path) -> dict[str, Any]:
    """Read a tree back, with the types and to the bit as it was given.

    A file that is not as it was written is a `BrokenStateError`.
    """
    content = path.read_bytes()
    try:
        arrays = safetensors.load(content)
        size = int.from_bytes(content[:8], "little")
        told = json.loads(content[8 : 8 + size])["__metadata__"]["sha256"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BrokenStateError(f"it is truncated, or no checkpoint ({error})") from error
    if told != _digest(arrays):
        raise BrokenStateError("its content does not match its checksum")
    tree = json.loads(arrays[TREE].tobytes())
    decoded = _decode(tree, arrays)
    assert isinstance(decoded, dict)
    return decoded


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _encode(value: Any, name: str, arrays: Arrays) -> Any:
    """Return a value as JSON, every array moved to ``arrays`` under its place in the tree."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return {kind: _put(np.asarray(value), name, arrays)}
    if isinstance(value, torch.Tensor):
        return _encode_tensor(value, name, arrays)
    if isinstance(value, ArrayRecord):
        names = [[key, _put(a.numpy(), f"{name}/{key}", arrays)] for key, a in value.items()]
        return {"arrays": names}
    if isinstance(value, ConfigRecord | MetricRecord):
        kind = "config" if isinstance(value, ConfigRecord) else "metrics"
        return {kind: _encode(dict(value), name, arrays)}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    for kind, mapping in (("dict", dict), ("ordered", OrderedDict), ("counter", Counter)):
        if type(value) is mapping:
            pairs = [
                [_encode(k, name, arrays), _encode(v, f"{name}/{k}".lstrip("/"), arrays)]
                for k, v in value.items()
            ]
            return {kind: pairs}
    for kind, sequence in (("list", list), ("tuple", tuple), ("set", set)):
        if type(value) is sequence:
            items = [_encode(item, f"{name}/{at}", arrays) for at, item in enumerate(value)]
            return items if kind == "list" else {kind: items}
    raise UnsavableError(f"{name} is a {type(value).__module__}.{type(value).__qualname__}")


def _encode_tensor(value: torch.Tensor, name: str, arrays: Arrays) -> Any:
    plain = value.detach().cpu()
    if plain.dtype == torch.bfloat16:
        return {"bfloat16": _put(plain.contiguous().view(torch.int16).numpy(), name, arrays)}
    try:
        return {"tensor": _put(plain.numpy(), name, arrays)}
    except (TypeError, RuntimeError) as error:
        raise UnsavableError(f"{name} is a tensor of {value.dtype}") from error


def _put(array: np.ndarray, name: str, arrays: Arrays) -> str:
    if array.dtype.kind not in KINDS or array.dtype.itemsize > 8:
        raise UnsavableError(f"{name} is an array of {array.dtype}")
    unique, others = name, 1
    while unique in arrays or unique == TREE:
        others += 1
        unique = f"{name}#{others}"
    # Not `ascontiguousarray`, which turns a number without dimensions into a row of one.
    arrays[unique] = array.astype(array.dtype.newbyteorder("="), order="C")
    return unique


def _decode(node: Any, arrays: Arrays) -> Any:
    if isinstance(node, list):
        return [_decode(item, arrays) for item in node]
    if not isinstance(node, dict):
        return node
    ((kind, held),) = node.items()
    match kind:
        case "array":
            return arrays[held].copy()
        case "scalar":
            return arrays[held][()]
        case "tensor":
            return torch.from_numpy(arrays[held].copy())
        case "bfloat16":
            return torch.from_numpy(arrays[held].copy()).view(torch.bfloat16)
        case "arrays":
            return ArrayRecord({key: Array(arrays[name]) for key, name in held})
        case "bytes":
            return base64.b64decode(held)
        case "tuple":
            return tuple(_decode(item, arrays) for item in held)
        case "set":
            return {_decode(item, arrays) for item in held}
        case "config":
            return ConfigRecord(_decode(held, arrays))
        case "metrics":
            return MetricRecord(_decode(held, arrays))
        case _:
            pairs = {_decode(key, arrays): _decode(value, arrays) for key, value in held}
            return {"dict": dict, "ordered": OrderedDict, "counter": Counter}[kind](pairs)
