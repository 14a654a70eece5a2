"""A run's composed config as flat columns: ``client.lr``, ``partition.alpha``, ..."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fedrms.renamed import new_name
from fedrms.results.seal import read_text

_CHOICES: Final = re.compile(
    r"^    choices:(?: {})?\n((?:      .*\n)*)(?= {0,4}\S|\Z)", re.MULTILINE
)
_OVERRIDES: Final = re.compile(
    r"^    task:(?: \[\])?\n((?:    - .*\n(?:      .*\n)*)*)", re.MULTILINE
)
_REFERENCE: Final = re.compile(r"\$\{([\w.]+)\}")
_DEEPEST_REFERENCE: Final = 10


def read_choices(path: Path) -> dict[str, Any]:
    """Read the group choices from Hydra's notes on itself, ``.hydra/hydra.yaml``.

    ``{"strategy": "fedrms", "data": "digits", ...}`` without Hydra's own groups; empty if there is
    no such file. A file without the whole list of choices is a `ValueError`.
    """
    if not path.exists():
        return {}
    text = read_text(path)
    block = _CHOICES.search(text)  # the whole file is ten times as long, and slow to parse
    if block is None:
        raise ValueError("no complete list of hydra.runtime.choices")
    chosen = _load(block.group(1)) or {}
    return {
        re.sub(r"^.*@", "", str(group)).replace("/", "."): _value(choice)
        for group, choice in chosen.items()
        if not str(group).startswith("hydra/") and choice is not None
    }


def read_command(path: Path) -> str | None:
    """Return the command line that runs the same again, from ``.hydra/hydra.yaml``.

    None if the file is absent or does not hold the overrides.
    """
    block = _OVERRIDES.search(read_text(path)) if path.exists() else None
    if block is None:
        return None
    return shlex.join(["fedrms", *map(str, _load(block.group(1)) or [])])


def read_config(path: Path, choices: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the composed config, ``.hydra/config.yaml``, as group choices and flat columns.

    Choices have the names that they have now; if `read_choices` found none, a group tells its
    choice by the key ``name``. References such as ``${seed}`` are resolved. Without the file the
    config is empty.
    """
    tree = (_load(read_text(path)) or {}) if path.exists() else {}
    if not isinstance(tree, dict):
        raise ValueError("the config is not a mapping")
    choices = choices or {
        group: settings["name"]
        for group, settings in tree.items()
        if isinstance(settings, dict) and isinstance(settings.get("name"), str)
    }
    config = flatten(_resolve(tree, tree))
    choices = {group: new_name(group, choice) for group, choice in choices.items()}
    for group, choice in choices.items():
        if new_name(group, str(config.get(f"{group}.name"))) == choice:
            del config[f"{group}.name"]
    return choices, {name: value for name, value in config.items() if name not in choices}


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Join nested keys by dots; lists become JSON, keys such as ``_target_`` are dropped."""
    return {
        name: _value(value)
        for name, value in leaves(tree)
        if not any(part.startswith("_") and part.endswith("_") for part in name.split("."))
    }


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings, each with its keys joined by dots."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _value(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _resolve(node: Any, root: dict[str, Any], depth: int = 0) -> Any:
    """Replace references to other keys; what needs a resolver stays as written."""
    if isinstance(node, dict):
        return {key: _resolve(value, root, depth) for key, value in node.items()}
    if isinstance(node, list):
        return [_resolve(value, root, depth) for value in node]
    if not isinstance(node, str) or "${" not in node or depth > _DEEPEST_REFERENCE:
        return node
    whole = _REFERENCE.fullmatch(node)
    if whole:
        value = _at(root, whole.group(1))
        return node if value is None else _resolve(value, root, depth + 1)

    def text_of(match: re.Match[str]) -> str:
        value = _at(root, match.group(1))
        return match.group(0) if value is None else str(_resolve(value, root, depth + 1))

    return _REFERENCE.sub(text_of, node)


def _at(root: Any, path: str) -> Any:
    for key in path.split("."):
        root = root.get(key) if isinstance(root, dict) else None
    return root


def _load(text: str) -> Any:
    import yaml  # type: ignore[import-untyped,unused-ignore]

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(text, Loader=loader)
