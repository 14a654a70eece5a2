"""Which columns of a table are learned from, and why the others are left aside."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from fedrms.errors import ConfigError

STORED_INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+|")
"""What pandas calls an index without a name, in a parquet file and in a CSV file."""

Kind = Literal["number", "category", "list"]


@dataclass(frozen=True)
class Chosen:
    """The columns to learn from, in the order of the table."""

    kinds: Mapping[str, Kind]
    """One of ``number``, ``category``, ``list``: the features, and how each is turned into
    numbers."""
    asked: bool  # whether a person named them; nothing that is named is left aside
    aside: Mapping[str, str] = field(default_factory=dict)
    """Why, by the name of a column that is not learned from."""

    @property
    def names(self) -> list[str]:
        """The names of the features."""
        return list(self.kinds)


def choose_columns(
    schema: Any,
    wanted: Sequence[str] | None,
    dropped: Sequence[str],
    roles: Mapping[str, str],
) -> Chosen:
    """Choose the feature columns by their names and types; ``roles`` have another part to play.

    ``wanted`` and ``dropped`` are names, or patterns such as ``f*``; without ``wanted`` every
    column that can be learned from is taken. What fits no column is refused, and a column that is
    asked for and no feature.
    """
    left = set(_matching(schema.names, dropped, "data.drop_columns"))
    if wanted is not None:
        return _asked_for(schema, wanted, left, roles)
    index = index_columns(schema)
    aside: dict[str, str] = {}
    kinds: dict[str, Kind] = {}
    for name in schema.names:
        if name in roles:
            continue
        kind, why = _kind_in(schema, name)
        if name in left:
            aside[name] = "data.drop_columns"
        elif name in index:
            aside[name] = "the index of pandas"
        elif kind is None:
            aside[name] = why
        else:
            kinds[name] = kind
    return Chosen(kinds, False, aside)


def _asked_for(
    schema: Any, wanted: Sequence[str], left: set[str], roles: Mapping[str, str]
) -> Chosen:
    key = "data.feature_columns"
    for name in wanted:
        if name in roles and name in schema.names:
            raise ConfigError(key, f"column {name!r} is {roles[name]}", "leave it out")
    names = [n for n in _matching(schema.names, wanted, key) if n not in left and n not in roles]
    kinds: dict[str, Kind] = {}
    for name in names:
        kind, why = _kind_in(schema, name)
        if kind is None:
            raise ConfigError(
                key, f"column {name!r} is {why}", "turn it into numbers, or leave it out"
            )
        kinds[name] = kind
    others = [n for n in schema.names if n not in kinds and n not in roles]
    return Chosen(kinds, True, dict.fromkeys(others, "not asked for"))


def index_columns(schema: Any) -> set[str]:
    """Return the columns in which pandas stored its index, named or not."""
    try:
        described = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        stored = {name for name in described if isinstance(name, str)}
    except (KeyError, TypeError, ValueError):
        stored = set()
    return stored | {name for name in schema.names if STORED_INDEX.fullmatch(name)}


def _kind_in(schema: Any, name: str) -> tuple[Kind | None, str]:
    """Return how a column becomes numbers; what pandas held as categories are categories."""
    try:
        described = json.loads((schema.metadata or {})[b"pandas"])["columns"]
        kinds = {column["name"]: column["pandas_type"] for column in described}
    except (KeyError, TypeError, ValueError):
        kinds = {}
    kind, why = kind_of(schema.field(name).type)
    return ("category" if kind == "number" and kinds.get(name) == "categorical" else kind), why


def kind_of(kind: Any) -> tuple[Kind | None, str]:
    """Return how a column of this type becomes numbers; None, and why, if it cannot."""
    import pyarrow as pa

    types = pa.types
    if _numeric(kind):
        return "number", ""
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "category", ""
    if types.is_dictionary(kind):
        inner, why = kind_of(kind.value_type)
        return ("category", "") if inner in ("number", "category") else (None, why)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner, _ = kind_of(kind.value_type)
        return (
            ("list", "") if inner in ("number", "list") else (None, f"{kind}, lists of no numbers")
        )
    if types.is_temporal(kind):
        return None, f"a time ({kind})"
    if types.is_null(kind):
        return None, "empty in all rows"
    return None, f"{kind}, not numeric"


def _numeric(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
    )


def _matching(names: Sequence[str], patterns: Sequence[str], key: str) -> list[str]:
    """Return the columns that names or patterns mean, in the order they are asked for."""
    found: dict[str, None] = {}
    for pattern in map(str, patterns):
        fits = [pattern] if pattern in names else [n for n in names if fnmatchcase(n, pattern)]
        if not fits:
            raise ConfigError(
                key, f"there is no column {pattern!r}", f"choose from {', '.join(names)}"
            )
        found |= dict.fromkeys(fits)
    return list(found)
