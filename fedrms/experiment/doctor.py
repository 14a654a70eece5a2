"""Plan a run: what the machine has, what the engine would do and why, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch

from fedrms.client import LocalSettings
from fedrms.client.schedule import full_steps, training_examples
from fedrms.engines.memory import available_memory
from fedrms.experiment.config import compose_config
from fedrms.experiment.hints import hints
from fedrms.experiment.machine import Machine, this_machine
from fedrms.experiment.parts import Parts, build_parts
from fedrms.experiment.trial_rounds import Trial, model_bytes, time_rounds


@dataclass(frozen=True)
class RunSize:
    """A configured run in numbers; memory in bytes."""

    clients: int
    cohort: int
    rounds: int
    """In the federation, in a round (as the strategy asked), and rounds."""
    examples: int
    examples_min: int
    examples_median: float
    examples_max: int
    """All training examples, and those of a client."""
    parameters: int
    model_bytes: int
    """Of the model."""
    steps_median: float
    steps_max: int
    """Local steps of a client in a round, if it is no straggler."""
    stack_bytes: int
    free_bytes: int
    """What the models of a round's cohort take, and what is free where clients train."""


@dataclass(frozen=True)
class EngineChoice:
    """What the engine does, and why."""

    name: str  # ``vector`` or another
    device: str
    device_reason: str
    """Where clients train."""
    executor: str | None
    reason: str | None
    """``stacked`` or ``loop``; None where worker processes decide."""
    step: str | None  # how a local step is run
    chunk: int | None
    threads: int | None
    """Clients in a stack, and worker threads."""
    convolutions: bool  # whether the model has parameters with more than two axes


@dataclass(frozen=True)
class Speed:
    """How fast it is; in seconds."""

    timed_rounds: int
    timed_clients: int
    timed_steps: int
    """Rounds after the first that were timed, and the clients and local steps in each."""
    cut: str | None
    """What was left out to keep the measurement short; times are then scaled by steps."""
    setup: float  # data, model and engine, as measured
    first_round: float
    later_round: float
    """Of the whole cohort, without scoring."""
    clients_per_second: float  # in a later round
    recording: float
    scoring: float
    """The tables of a round, and the global model's score."""
    run: float  # expected for the whole run
    failed: int  # clients of the timed rounds that gave no update
    failure: str | None  # why the first of them did not


@dataclass(frozen=True)
class Report:
    """What ``fedrms-doctor`` says about a configuration."""

    machine: Machine
    size: RunSize
    engine: EngineChoice
    speed: Speed
    hints: tuple[str, ...]


def examine(overrides: Sequence[str] = ()) -> Report:
    """Plan a run: look at the machine, and time a few rounds of the configuration."""
    started = time.perf_counter()
    parts = build_parts(compose_config(list(overrides)))
    setup = time.perf_counter() - started
    machine = this_machine()
    free = available_memory(torch.device(parts.side.device))
    trial = time_rounds(parts)
    size = run_size(parts, trial.laps[-1].cohort, free)
    engine = engine_choice(parts, trial)
    speed = measured_speed(parts, trial, setup)
    told = hints(parts.config, machine, size, engine, speed)
    return Report(machine, size, engine, speed, told)


def run_size(parts: Parts, cohort: int, free: int) -> RunSize:
    """Return the run in numbers, for a cohort of some clients and so much free memory."""
    side = parts.side
    sizes = side.federation.sizes
    steps = _steps(parts.settings, sizes)
    of_model = model_bytes(side.module)
    return RunSize(
        clients=side.federation.clients,
        cohort=cohort,
        rounds=parts.config["rounds"],
        examples=int(sizes.sum()),
        examples_min=int(sizes.min()),
        examples_median=float(np.median(sizes)),
        examples_max=int(sizes.max()),
        parameters=sum(p.numel() for p in side.module.parameters()),
        model_bytes=of_model,
        steps_median=float(np.median(steps)),
        steps_max=int(steps.max()),
        stack_bytes=cohort * of_model,
        free_bytes=free,
    )


def engine_choice(parts: Parts, trial: Trial) -> EngineChoice:
    """Return what the engine did in the timed rounds, and why."""
    made = trial.decision
    return EngineChoice(
        name=parts.config["engine"]["name"],
        device=parts.device,
        device_reason=_why_device(parts),
        executor=made.executor if made else None,
        reason=made.reason if made else None,
        step=_how_steps_run(trial, bool(parts.config["engine"].get("compiled"))),
        chunk=made.chunk if made else None,
        threads=made.threads if made else None,
        convolutions=any(p.dim() > 2 for p in parts.side.module.parameters()),
    )


def measured_speed(parts: Parts, trial: Trial, setup: float) -> Speed:
    """Return what the timed rounds mean for the whole run."""
    config, first, last, warm = parts.config, trial.laps[0], trial.laps[-1], trial.warm
    mean_steps = float(_steps(parts.settings, parts.side.federation.sizes).mean())
    seconds = median(lap.seconds for lap in warm)
    timed_steps = round(median(lap.steps for lap in warm))
    cut = _what_was_cut(parts, trial, mean_steps)
    later = seconds * last.cohort * mean_steps / timed_steps if cut else seconds
    first_round = first.seconds
    if cut or first.clients < first.cohort:  # beginnings cost what they cost, however many clients
        first_round = max(0.0, first.seconds - seconds * first.steps / timed_steps) + later
    if trial.decision and trial.decision.autograd:  # timed before the first round
        first_round += trial.loading
    recording = median([lap.after for lap in trial.laps[1:] if not lap.scored])
    scored = median([lap.after for lap in trial.laps[1:] if lap.scored])
    scoring = max(0.0, scored - recording)
    rounds = config["rounds"]
    times_scored = -(-rounds // config["evaluate_every"])
    setup += trial.starting
    run = setup + first_round + (rounds - 1) * later + rounds * recording + times_scored * scoring
    failures = [reason for lap in trial.laps for reason in lap.failures]
    return Speed(
        timed_rounds=len(warm),
        timed_clients=last.clients,
        timed_steps=timed_steps,
        cut=cut,
        setup=setup,
        first_round=first_round,
        later_round=later,
        clients_per_second=last.cohort / later,
        recording=recording,
        scoring=scoring,
        run=run,
        failed=len(failures),
        failure=failures[0] if failures else None,
    )


def _steps(settings: LocalSettings, sizes: np.ndarray) -> np.ndarray:
    return full_steps(settings, np.arange(len(sizes)), training_examples(settings, sizes))


def _what_was_cut(parts: Parts, trial: Trial, mean_steps: float) -> str | None:
    last, cuts = trial.laps[-1], []
    if last.clients < last.cohort:
        cuts.append(f"{last.clients:,} of {last.cohort:,} clients")
    if trial.settings.steps != parts.settings.steps:
        cuts.append(f"{trial.settings.steps:,} of {mean_steps:,.0f} steps a client")
    return ", ".join(cuts) or None


def _why_device(parts: Parts) -> str:
    config: Mapping[str, Any] = parts.config
    if config["device"] != "auto":
        return f"device={config['device']}"
    if parts.device == "cpu" and torch.cuda.is_available():
        return f"engine={config['engine']['name']} gives clients no GPU"
    return "the first CUDA device" if parts.device == "cuda" else "PyTorch sees no CUDA device"


def _how_steps_run(trial: Trial, compiled: bool) -> str | None:
    if trial.decision is None:
        return None
    if not trial.decision.autograd:
        way = ", by compiled C" if trial.decision.executor == "native" else ""
        return f"without autograd{way}: a stack of linear layers, trained by plain SGD"
    if trial.untraced is not None:
        return f"as it is, because it cannot be traced: {trial.untraced}"
    return f"traced{' and compiled' if compiled else ''}, once for each shape of batch"
