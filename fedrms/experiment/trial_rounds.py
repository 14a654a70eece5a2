"""Time a few real rounds of a configuration: the strategy, the grid and the tables of a run.

A cohort that would take too long is cut to clients evenly spaced in it, and, where a single
client takes too long, to its first steps; times are then scaled by the number of steps.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from fedrms.client import LocalSettings, LocalUpdate, as_function
from fedrms.client.draw_keys import draws, test_keys
from fedrms.client.layer_draws import addressed_draws
from fedrms.client.local_update import trainable
from fedrms.client.schedule import full_steps, training_examples
from fedrms.data import AnyFederation
from fedrms.engines.choice import Decision
from fedrms.engines.executor import Executor
from fedrms.engines.memory import available_memory, room_for_models
from fedrms.engines.observed import Observation, ObservedGrid
from fedrms.experiment.machine import usable_cores
from fedrms.experiment.parts import Parts, initial_arrays
from fedrms.experiment.round_log import RoundLog
from fedrms.experiment.run import quiet_flower
from fedrms.experiment.training import TIMEOUT
from fedrms.one_thread import one_thread_an_operation
from fedrms.results import Recorder

STEP_SECONDS = 0.3
"""For how long single steps are tried."""
FIRST_SECONDS = 2.0
"""What the first round may take, judged by one step."""
ROUND_SECONDS = 1.5
"""What a cut cohort is let grow to, once rounds have been timed."""
ENOUGH_SECONDS, LIMIT_SECONDS = 3.0, 8.0
"""After these, nothing is timed that need not be; and cohorts grow no more."""
LEAST_WARM, MOST_ROUNDS = 2, 12
FEWEST_STEPS = 8
"""Steps that a client is cut to at least: a step is traced when it comes the third time."""


@dataclass(frozen=True)
class Lap:
    """One timed round."""

    cohort: int  # clients that the strategy asked for
    clients: int
    steps: int
    """Those that were asked to train, and the local steps that they have."""
    seconds: float  # from the strategy's sampling to its new model
    after: float  # seconds of scoring, where ``scored``, and recording
    scored: bool
    failures: tuple[str, ...]  # why clients gave no update


@dataclass(frozen=True)
class Trial:
    """What timing a few rounds showed."""

    laps: tuple[Lap, ...]  # the first, and those after it
    settings: LocalSettings  # the orders that clients got, perhaps of fewer steps than configured
    decision: Decision | None  # how the engine trained; None if that was decided in other processes
    untraced: str | None  # why a step could not be traced
    starting: float
    """Seconds until the engine was ready: Ray's workers build data and model of their own."""
    loading: float  # seconds that the process's first gradient took beyond those after it

    @property
    def warm(self) -> tuple[Lap, ...]:
        """The rounds after the first that had as many clients as the last one."""
        last = self.laps[-1]
        return tuple(lap for lap in self.laps[1:] if lap.clients == last.clients)


def time_rounds(parts: Parts) -> Trial:
    """Run the first rounds of a run and time them; its tables go to a folder that is removed.

    The strategy is used up.
    """
    side, strategy, config = parts.side, parts.strategy, parts.config
    step, loading = _seconds_a_step(parts)
    settings, clients = _short_work(parts, step)
    quiet_flower()
    found: list[Executor] = []
    with (
        tempfile.TemporaryDirectory(prefix="fedrms-") as folder,
        Recorder(Path(folder), metric=side.task.metric) as recorder,
    ):
        rounds_log = RoundLog(
            side,
            strategy,
            recorder,
            fairness=config["fairness"],
            rounds=MOST_ROUNDS,
            evaluate_every=2,  # so that both kinds of rounds are timed
            on_round=lambda *_: None,
        )
        watch = _Stopwatch(rounds_log, settings, side.federation, clients, _most_clients(parts))

        def serve(grid: Grid) -> None:
            watched = ObservedGrid(grid, watch.observe, parts.engine.check, watch.narrow)
            with contextlib.suppress(_EnoughError):
                strategy.start(
                    watched,
                    initial_arrays(side),
                    num_rounds=MOST_ROUNDS,
                    timeout=TIMEOUT,
                    train_config=ConfigRecord(settings.to_record()),  # type: ignore[arg-type]
                    evaluate_fn=watch.finish_round,
                )
            executor = getattr(grid, "executor", None)
            if isinstance(executor, Executor):
                found.append(executor)

        parts.engine.serve(serve)
    executor = found[0] if found else None
    return Trial(
        tuple(watch.laps),
        settings,
        executor.decision if executor else None,
        executor.untraced if executor else None,
        watch.starting,
        loading,
    )


class _EnoughError(Exception):
    """Ends Flower's loop over rounds."""


class _Stopwatch:
    """Time rounds; say how many clients the next one has, and when to stop."""

    def __init__(
        self,
        rounds_log: RoundLog,
        settings: LocalSettings,
        federation: AnyFederation,
        clients: int,
        most: int,
    ) -> None:
        self._log = rounds_log
        self._settings = settings
        self._federation = federation
        self._clients, self._most = min(clients, most), most
        self._cohort = self._sent = 0
        self._seen = Observation([], {}, {})
        self._begun = self._started = time.perf_counter()
        self.starting = 0.0
        self.laps: list[Lap] = []

    def narrow(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return the messages to pass on, evenly spaced among all."""
        self._cohort, self._sent = len(messages), min(len(messages), self._clients)
        if self._sent == self._cohort:
            return messages
        places = np.linspace(0, self._cohort - 1, self._sent).round().astype(int)
        return [messages[place] for place in places.tolist()]

    def observe(self, observation: Observation) -> None:
        self._seen = observation
        self._log.observe(observation)

    def finish_round(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Take the time, score and record the round, and go on or stop."""
        trained = time.perf_counter()
        metrics = self._log.finish_round(server_round, arrays)
        ended = time.perf_counter()
        if server_round == 0:
            self.starting = trained - self._begun
            self._begun = self._started = ended
            return metrics
        self.laps.append(
            Lap(
                cohort=self._cohort,
                clients=self._sent,
                steps=self._steps(),
                seconds=trained - self._started,
                after=ended - trained,
                scored=metrics is not None and len(metrics) > 0,
                failures=tuple(self._seen.failures.values()),
            )
        )
        self._go_on_or_stop(ended - self._begun)
        self._started = time.perf_counter()
        return metrics

    def _steps(self) -> int:
        named = [*self._seen.clients, *self._seen.failures]
        listed = [n for n in named if isinstance(n, int) and 0 <= n < self._federation.clients]
        known = np.array(listed, dtype=np.int64)
        trained_on = training_examples(self._settings, self._federation.sizes_of(known))
        return int(full_steps(self._settings, known, trained_on).sum())

    def _go_on_or_stop(self, elapsed: float) -> None:
        last = self.laps[-1]
        room = elapsed < LIMIT_SECONDS and len(self.laps) + LEAST_WARM < MOST_ROUNDS
        grown = min(last.cohort, self._most, int(last.clients * ROUND_SECONDS / last.seconds))
        if room and grown > 1.5 * last.clients:
            self._clients = grown
            return
        warm = sum(lap.clients == last.clients for lap in self.laps[1:])
        if warm >= LEAST_WARM and elapsed >= ENOUGH_SECONDS:
            raise _EnoughError


def _short_work(parts: Parts, step: float) -> tuple[LocalSettings, int]:
    """Return orders and a number of clients for a first round that is not too long.

    A step of one client takes ``step`` seconds, or less where clients are stacked.
    """
    side, settings = parts.side, parts.settings
    sizes = side.federation.sizes
    steps = full_steps(settings, np.arange(len(sizes)), training_examples(settings, sizes))
    wanted = parts.config["engine"].get("threads") or torch.get_num_threads()
    threads = min(wanted, usable_cores()) if side.device == "cpu" else 1
    steps_at_once = FIRST_SECONDS / step  # of one client
    clients = int(threads * steps_at_once / steps.mean())
    if clients < threads and steps_at_once < steps.max():
        settings = replace(settings, steps=max(FEWEST_STEPS, int(steps_at_once)))
    return settings, max(threads, clients // threads * threads)


def _most_clients(parts: Parts) -> int:
    """Return how many clients' models a round holds in memory."""
    free = available_memory(torch.device(parts.side.device))
    room = room_for_models(parts.config["engine"].get("memory"), free)
    return max(1, room // model_bytes(parts.side.module))


def _seconds_a_step(parts: Parts) -> tuple[float, float]:
    """Time one client's step, as it is: no executor takes much longer.

    Returns the median of some tries, and what the first took beyond it: a process's first
    gradient loads parts of PyTorch.
    """
    side, settings = parts.side, parts.settings
    rows = np.arange(settings.batch_size) % len(side.federation.test_y)
    batch = {
        "x": torch.from_numpy(side.federation.test_x[rows]).to(side.device),
        "y": torch.from_numpy(side.federation.test_y[rows]).to(side.device),
        "present": torch.ones(len(rows), device=side.device),
    }
    if draws(side.task):
        batch["key"] = torch.from_numpy(test_keys(0, len(rows))).to(side.device)
    update = LocalUpdate(side.task, as_function(side.module), settings)
    params = {name: p.detach().clone() for name, p in trainable(side.module).items()}
    state = update.begin(params, torch.tensor(settings.lr, device=side.device))
    seconds: list[float] = []
    with one_thread_an_operation():
        while len(seconds) < 2 or sum(seconds[1:]) < STEP_SECONDS:
            started = time.perf_counter()
            with addressed_draws(torch.tensor(0, device=side.device)):
                _, losses = update.step(state, batch)
            losses.sum().item()  # waits for a GPU
            seconds.append(time.perf_counter() - started)
    step = median(seconds[1:])
    return step, max(0.0, seconds[0] - step)


def model_bytes(module: torch.nn.Module) -> int:
    """Return the bytes of a model's parameters."""
    return sum(p.numel() * p.element_size() for p in module.parameters())
