"""Mutated replies against every strategy: none is accepted wrongly, none ends a round.

    python -m tests.engines.fuzz [REPLIES] [SEED]

Each trial gives a fresh strategy the replies of a real round, one of them mutated, or some at once.
The model and the metrics must be those of a round without those clients where the mutation is one
that must be left out, after a harmless one or not, and those of the honest round where it is
harmless.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp.strategy import Strategy

from fedrms.client import LocalSettings
from fedrms.conf_folder import conf_folder
from fedrms.engines.flower_border import FIRST_NODE_ID, number
from fedrms.engines.garbage import settled_objects
from fedrms.engines.observed import Observation, ObservedGrid
from fedrms.engines.shield import shield_for
from fedrms.experiment.build import build_strategy
from fedrms.experiment.config import compose_config, plain
from fedrms.server import FedRMS
from tests.client.by_hand import federation, problem
from tests.engines import mutations as m
from tests.engines.by_hand import AppGrid, arrays_of, vector

CLIENTS, VICTIM = 21, 7
SETTINGS = LocalSettings(lr=0.1, epochs=1, batch_size=4)


class MutatingGrid(AppGrid):
    """Real clients, whose replies are made once; one reply is mutated on its way."""

    def __init__(self) -> None:
        task, self.module = problem()
        super().__init__(task, self.module, federation([8] * CLIENTS))
        self._honest: dict[tuple[str, str, int], Message] = {}
        self.listed = list(range(CLIENTS))
        self.changes: dict[int, m.Change] = {}
        self.kind = "train"
        self.draw = np.random.default_rng(0)

    def get_node_ids(self) -> list[int]:
        return [FIRST_NODE_ID + client for client in self.listed]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        replies = []
        for message in messages:
            number(message)
            node, kind = int(message.metadata.dst_node_id), message.metadata.message_type
            told = next(iter(message.content.config_records.values()), ConfigRecord())
            key = (kind, str(sorted(told.items())), node)
            if key not in self._honest:
                self._honest[key] = super().send_and_receive([message])[0]
            reply = m.clone(self._honest[key], message)
            number(reply)
            change = self.changes.get(node - FIRST_NODE_ID) if kind == self.kind else None
            replies += (change(reply, self.draw) if change else None) or [reply]
        return replies


@dataclass
class Round:
    """What a strategy made of a round."""

    model: np.ndarray | None
    metrics: dict[str, Any]
    failures: dict[Any, str]


class Fuzz:
    """Trials of one strategy after the other."""

    def __init__(self) -> None:
        self.grid = MutatingGrid()
        self.arrays = arrays_of(self.grid.module)
        self._usual: dict[tuple[str, str, frozenset[int]], Round] = {}
        names = sorted(path.stem for path in (conf_folder() / "strategy").glob("*.yaml"))
        self._configs = {
            name: plain(compose_config([f"strategy={name}", "clients=2"])) for name in names
        }

        self.ours = {name for name in names if isinstance(self.made(name), FedRMS)}

    @property
    def strategies(self) -> list[str]:
        return list(self._configs)

    def made(self, name: str) -> Strategy:
        strategy = build_strategy(self._configs[name], federation([8] * CLIENTS))
        if isinstance(strategy, FedRMS):
            strategy.nonnegative_losses = True
        strategy.fraction_evaluate = 1.0  # type: ignore[attr-defined]
        return strategy

    def round(self, name: str, kind: str) -> Round:
        random.seed(1)
        strategy = self.made(name)
        seen: list[Observation] = []
        shield = shield_for(strategy, nonnegative=True)
        grid = ObservedGrid(self.grid, seen.append, evaluated=seen.append, shield=shield)
        orders = ConfigRecord(SETTINGS.to_record())
        if kind == "train":
            sent = list(strategy.configure_train(1, self.arrays, orders, grid))
            arrays, metrics = strategy.aggregate_train(1, grid.send_and_receive(sent))
            model = None if arrays is None else self._checked(arrays)
        else:
            model = None
            sent = list(strategy.configure_evaluate(1, self.arrays, ConfigRecord(), grid))
            metrics = strategy.aggregate_evaluate(1, grid.send_and_receive(sent))
        failures = dict(seen[-1].failures)
        if isinstance(strategy, FedRMS) and strategy.diagnostics is not None:
            failures |= strategy.diagnostics.failures
        return Round(model, dict(metrics or {}), failures)

    def usual(self, name: str, kind: str, absent: frozenset[int]) -> Round:
        """Return an honest round without some clients."""
        key = (name, kind, absent)
        if key not in self._usual:
            self.grid.listed = [c for c in range(CLIENTS) if c not in absent]
            self._usual[key] = self.round(name, kind)
            self.grid.listed = list(range(CLIENTS))
        return self._usual[key]

    def trial(self, name: str, kind: str, draw: np.random.Generator) -> str | None:
        """Mutate replies and return what went wrong, or None."""
        bad, counted, either = changes(name in self.ours, kind)
        everything = {**bad, **counted, **either}
        fault = str(draw.choice(list(everything)))
        made, what = {VICTIM: everything[fault]}, f"{name}, {kind}, {fault}"
        if fault in bad and draw.random() < 0.3:
            harmless = str(draw.choice(list(counted)))
            made, what = {VICTIM: m.both(counted[harmless], bad[fault])}, f"{what}, {harmless}"
        elif fault in bad and draw.random() < 0.2:
            for client in 1 + draw.choice(CLIENTS - 1, size=3, replace=False):  # 0 is a name
                further = str(draw.choice(list(bad)))
                made[int(client)], what = bad[further], f"{what}; {client}: {further}"
        expected = None
        if fault not in either:
            expected = self.usual(name, kind, frozenset(made if fault in bad else ()))
        self.grid.changes, self.grid.kind, self.grid.draw = made, kind, draw
        try:
            found = self.round(name, kind)
        except Exception as error:  # which is what is looked for
            return f"{what}: {type(error).__name__}: {str(error)[:200]}"
        finally:
            self.grid.changes = {}
        return self._compare(what, found, expected, set(made) if fault in bad else set())

    def _compare(
        self, what: str, found: Round, expected: Round | None, left_out: set[int]
    ) -> str | None:
        if found.model is not None and not np.isfinite(found.model).all():
            return f"{what}: the model is not finite"
        if expected is None:
            return None
        if found.failures.keys() != left_out:
            return f"{what}: the table says {found.failures or 'nothing'}"
        if (found.model is None) != (expected.model is None):
            return f"{what}: there is {'no' if found.model is None else 'a'} model"
        if found.model is not None and not np.allclose(
            found.model, expected.model, rtol=1e-4, atol=1e-6
        ):
            return f"{what}: the model differs by {np.abs(found.model - expected.model).max():.3g}"
        if expected.metrics.keys() - found.metrics.keys():
            return f"{what}: no metrics {expected.metrics.keys() - found.metrics.keys()}"
        for key, value in expected.metrics.items():
            if not np.allclose(found.metrics[key], value, rtol=1e-4, atol=1e-6, equal_nan=True):
                return f"{what}: {key} is {found.metrics[key]}, not {value}"
        return None

    def _checked(self, arrays: ArrayRecord) -> np.ndarray:
        assert list(arrays) == list(self.arrays)
        for key, value in arrays.items():
            assert tuple(value.shape) == tuple(self.arrays[key].shape)
        return vector(arrays)


def changes(
    ours: bool, kind: str
) -> tuple[dict[str, m.Change], dict[str, m.Change], dict[str, m.Change]]:
    """What must be left out, what must count and what may do either."""
    if kind == "evaluate":
        strict = {} if ours else m.EVALUATION_STRICTER
        return m.EVALUATION_LEFT_OUT | strict, dict(m.EVALUATION_COUNTED), dict(m.EVALUATION_EITHER)
    if ours:
        return dict(m.LEFT_OUT), dict(m.COUNTED), m.EITHER | m.STRICTER
    return m.LEFT_OUT | m.STRICTER | m.FLOWERS_ONLY, dict(m.COUNTED), dict(m.EITHER)


def run(replies: int, seed: int) -> list[str]:
    """Mutate this many replies and return what went wrong."""
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    fuzz, draw = Fuzz(), np.random.default_rng(seed)
    wrong = []
    with settled_objects():  # two of Flower's strategies collect garbage for every client
        for trial in range(replies):
            name = fuzz.strategies[trial % len(fuzz.strategies)]
            kind = "evaluate" if draw.random() < 0.3 else "train"
            problem = fuzz.trial(name, kind, draw)
            if problem:
                wrong.append(problem)
    return wrong


if __name__ == "__main__":
    count, first = (*map(int, sys.argv[1:]), 2000, 0)[:2] if sys.argv[1:2] else (2000, 0)
    found = run(count, first)
    print("\n".join(found))
    print(f"{count} mutated replies, {len(found)} wrong")
    sys.exit(bool(found))
