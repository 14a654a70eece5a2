"""What a configuration may make, and what it may not: it may be somebody else's.

Classes are made by their ``_target_`` where one belongs, and of the kind that belongs there
(:mod:`fedrms.named_class`). Anywhere else such a key would be obeyed by nobody, so it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from fedrms.errors import ConfigError

ANY = "*"
PLACES = (
    ("data",),
    ("partition",),
    ("noise",),
    ("adversary",),
    ("model",),
    ("task",),
    ("loss",),
    ("strategy",),
    ("strategy", "law"),
    ("strategy", "combine"),
    ("fairness", "own", ANY),
    ("client", "statistics", ANY),
    ("optimizer",),
    ("optimizer", "scheduler"),
    ("server_optimizer",),
    ("server_optimizer", "scheduler"),
)
"""Where a configuration names a class or a function."""
INSTRUCTIONS = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")
"""Keys that Hydra's ``instantiate`` obeys; fedrms reads the first, and only in its places."""
OURS = ("hydra._internal.", "hydra.experimental.", "hydra_plugins.", "fedrms.cli.")
"""Whose classes Hydra's own settings may name."""
LOGS = ("logging.StreamHandler", "logging.FileHandler", "logging.Formatter")
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
LOGGED_INTO = "${hydra.runtime.output_dir}/"
NEAR: dict[str, Callable[[Any], bool]] = {
    "engine.address": lambda value: value in (None, "auto", "local"),
    "tracker.uri": lambda value: value is None or str(value).startswith(("sqlite:", "file:", "/")),
    "tracker.mode": lambda value: value in (None, "offline", "disabled"),
}
"""Where a run may reach other machines, and which values stay on this one."""


def refuse_strays(config: Mapping[str, Any]) -> None:
    """Refuse a key that asks for an object where none is made; import nothing that it names."""
    for path, key, value in _instructions(config, ()):
        if key == "_target_" and any(_at(path, place) for place in PLACES):
            continue
        raise ConfigError(
            ".".join((*path, key)),
            f"asks for {value!r} where nothing is made",
            "remove it; classes and functions are named by _target_ alone, in "
            + ", ".join(".".join(place) for place in PLACES),
        )


def _at(path: tuple[str, ...], place: tuple[str, ...]) -> bool:
    return len(path) == len(place) and all(
        wanted in (ANY, part) for part, wanted in zip(path, place, strict=True)
    )


def refuse_references(kept: object) -> None:
    """Refuse what this machine would fill in: a run keeps values, and no references."""
    for key, value in _values(kept, ""):
        if isinstance(value, str) and "${" in value:
            raise ConfigError(
                key.removeprefix("."),
                f"refers to {value!r}, and a run keeps no references",
                "write the value that is meant, or start a run of its own",
            )


def refuse_foreign_addresses(kept: Mapping[str, Any], said: Collection[str]) -> None:
    """Refuse to reach other machines because the folder of a run says so.

    A Ray cluster runs what it is given and is believed in what it answers; a tracker is sent every
    number. What the person who resumes has ``said`` is agreed to.
    """
    for key, near in NEAR.items():
        group, _, option = key.partition(".")
        value = (kept.get(group) or {}).get(option)
        if key in said or group in said or near(value):
            continue
        raise ConfigError(
            key,
            f"is {value!r} in the folder, and resuming would reach out to it",
            f"say {key}={value} yourself if you trust it, or choose another {group}",
        )


def refuse_foreign_hydra(settings: Mapping[str, Any]) -> None:
    """Refuse settings of Hydra that run, or write to, what somebody likes.

    These are its callbacks, launcher and sweeper, the handlers of its logs, and the environment of
    a job, in the entry ``hydra`` with references unresolved.
    """
    for key, value in _values(settings, "hydra"):
        fine = not key.startswith("hydra.job.env_set.") and _harmless(key, str(value))
        if not fine:
            raise ConfigError(
                key,
                f"is {value!r}, and a folder of configurations may not choose it",
                "remove it there; what you trust can stand on the command line without that folder",
            )


def _harmless(key: str, value: str) -> bool:
    last = key.rpartition(".")[2]
    if last == "_target_":
        return value.startswith(OURS)
    if not key.startswith(("hydra.job_logging.", "hydra.hydra_logging.")):
        return True
    if last in ("class", "()", "factory"):
        return value in LOGS
    if last == "filename":
        return value.startswith(LOGGED_INTO) and ".." not in value
    return value in STREAMS or "://" not in value  # ext:// imports


def _instructions(
    node: object, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, object]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in INSTRUCTIONS:
                yield path, str(key), value
            yield from _instructions(value, (*path, str(key)))
    elif isinstance(node, list | tuple):
        for place, value in enumerate(node):
            yield from _instructions(value, (*path, str(place)))


def _values(node: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _values(value, f"{path}.{key}")
    elif isinstance(node, list | tuple):
        for place, value in enumerate(node):
            yield from _values(value, f"{path}.{place}")
    else:
        yield path, node
