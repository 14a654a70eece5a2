"""What could be set otherwise, as far as a machine and a few rounds can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedrms.engines.memory import room_for_models

if TYPE_CHECKING:
    from fedrms.experiment.doctor import EngineChoice, RunSize, Speed
    from fedrms.experiment.machine import Machine

SCORING_SHARE = 0.1
"""Share of a run's time from which scoring is worth a word."""


def hints(
    config: Mapping[str, Any], machine: Machine, size: RunSize, engine: EngineChoice, speed: Speed
) -> tuple[str, ...]:
    """Return what is worth a thought, a sentence each, the most serious first."""
    told = [
        _failures(speed),
        _memory(config, size),
        _gpu(machine, engine),
        _bf16(config, machine, engine),
        _threads(config, machine, size, engine),
        _scoring(config, size, speed),
        _untraced(engine),
    ]
    return tuple(hint for hint in told if hint)


def _failures(speed: Speed) -> str | None:
    if not speed.failed:
        return None
    return f"{speed.failed:,} times a client gave no update in these rounds; first: {speed.failure}"


def _memory(config: Mapping[str, Any], size: RunSize) -> str | None:
    if size.stack_bytes <= room_for_models(config["engine"].get("memory"), size.free_bytes):
        return None
    lead = (
        f"the models of a round's {size.cohort:,} clients take {size.stack_bytes / 2**30:.2f} GiB, "
        f"and {size.free_bytes / 2**30:.2f} GiB are free"
    )
    if "memory" in config["engine"]:
        needed = -(-2 * size.stack_bytes // 2**30)
        return f"{lead}: they are kept on disk, unless you can spare engine.memory={needed}GiB"
    return f"{lead}: lower client.fraction if memory runs out"


def _gpu(machine: Machine, engine: EngineChoice) -> str | None:
    if not machine.gpus or engine.device != "cpu":
        return None
    return f"{machine.gpus[0].name} is idle; device=cuda trains on it"


def _bf16(config: Mapping[str, Any], machine: Machine, engine: EngineChoice) -> str | None:
    precision = config["engine"].get("precision")
    hardware = machine.bf16 if engine.device == "cpu" else any(gpu.bf16 for gpu in machine.gpus)
    if precision == "bf16" and hardware is False:
        return "engine.precision=bf16 is slow here: the hardware does not calculate in bfloat16"
    if precision == "float32" and hardware and engine.convolutions:
        return (
            "engine.precision=bf16 may be faster: the model has convolutions and the hardware "
            "calculates in bfloat16, at a price in accuracy"
        )
    return None


def _threads(
    config: Mapping[str, Any], machine: Machine, size: RunSize, engine: EngineChoice
) -> str | None:
    if engine.device != "cpu" or engine.threads is None:
        return None
    allowed = config["engine"].get("threads") or machine.torch_threads
    if allowed > machine.cores:
        return f"engine.threads={machine.cores}: {allowed} threads share {machine.cores} cores"
    if engine.threads == allowed < machine.cores and size.cohort > engine.threads > 1:
        return f"engine.threads={machine.cores}: {allowed} of {machine.cores} cores are used"
    return None


def _scoring(config: Mapping[str, Any], size: RunSize, speed: Speed) -> str | None:
    every = config["evaluate_every"]
    share = -(-size.rounds // every) * speed.scoring / speed.run
    if share < SCORING_SHARE or every >= size.rounds:
        return None
    return f"scoring the global model takes {share:.0%} of the run; evaluate_every={every * 5}"


def _untraced(engine: EngineChoice) -> str | None:
    if engine.step is None or "cannot be traced" not in engine.step:
        return None
    return (
        "the model decides by value in its forward pass; torch.where in place of such a branch "
        "would let steps be traced, and clients be stacked"
    )
