"""What a trial of somebody's model or loss must leave as it was: attributes and generators."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from fedrms.client.value_reads import MARK
from fedrms.errors import ConfigError

T = TypeVar("T")

TRIALS, BETWEEN_TRIALS = 5, 0.02
"""How often something is tried that seems to draw outside of torch, and the pause, in seconds."""


@contextmanager
def unchanged(key: str, tried: object) -> Iterator[None]:
    """Refuse a module, or another object, that keeps something from one call to the next.

    Clients are trained in any order, and side by side: what one leaves behind would reach others.
    """
    buffers = {name: value.clone() for name, value in _buffers(tried)}
    kept = dict(_plain_attributes(tried))
    yield
    changed = [name for name, value in _buffers(tried) if not _same(value, buffers[name])]
    changed += [name for name, value in _plain_attributes(tried) if kept.get(name) != value]
    if changed:
        raise ConfigError(
            key,
            f"changes {changed[0]!r} each time that it is called, so clients would depend on each "
            "other",
            "let " + ("forward" if key == "model" else "it") + " keep nothing from one call to the "
            "next",
        )


def without_other_generators(key: str, trial: Callable[[], T]) -> T:
    """Return what a trial gives; refuse what draws outside of torch each time.

    A generator that all share would let clients depend on each other. Other threads of the process
    may draw from it too, as Flower's and Ray's do, so it is moved on by chance; only what is tried
    moves it on in every trial.
    """
    for _ in range(TRIALS):
        before = _other_generators()
        result = trial()
        if _other_generators() == before:
            return result
        time.sleep(BETWEEN_TRIALS)
    raise ConfigError(
        key,
        "draws from Python's or NumPy's global generator, which the run's seed does not decide",
        "draw with torch (torch.rand, nn.Dropout): fedrms then draws by seed, client and round"
        if key == "model"
        else "let it follow from outputs and targets alone",
    )


def _other_generators() -> tuple[object, ...]:
    numpys = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    return random.getstate(), numpys["pos"], numpys["key"].tobytes()


def _buffers(tried: object) -> Iterator[tuple[str, Tensor]]:
    return iter(tried.named_buffers() if isinstance(tried, nn.Module) else ())


def _plain_attributes(tried: object) -> Iterator[tuple[str, Any]]:
    parts = tried.named_modules() if isinstance(tried, nn.Module) else [("", tried)]
    for prefix, part in parts:
        names = dict(getattr(part, "__dict__", {}))
        if inspect.isfunction(part):
            variables = inspect.getclosurevars(part)
            names |= {**variables.globals, **variables.nonlocals}
        for name, value in names.items():
            if name not in ("training", MARK) and isinstance(value, int | float | str | tuple):
                yield f"{prefix}.{name}".lstrip("."), value
            elif isinstance(value, list):  # which may hold anything; one that grows keeps something
                yield f"{prefix}.{name}".lstrip("."), len(value)


def _same(now: Tensor, before: Tensor) -> bool:
    if type(now) is not type(before) or now.shape != before.shape:
        return False
    return torch.equal(now, before) or bool(torch.isnan(before).any())
