"""What this machine has: versions, processor, memory, GPUs."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

from fedrms.experiment.provenance import provenance

BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""What processors call their instructions for bfloat16: Intel and AMD, Intel, Arm."""


@dataclass(frozen=True)
class Gpu:
    """A CUDA device; memory in bytes."""

    name: str
    memory_total: int
    memory_free: int
    bf16: bool


@dataclass(frozen=True)
class Machine:
    """What a run has to work with."""

    versions: Mapping[str, str | None]  # version by package; None where it is not installed
    processor: str  # its name
    cores: int  # those that this process may use
    torch_threads: int  # what PyTorch, and so ``engine.threads=null``, uses of them
    bf16: bool | None  # whether the processor calculates in bfloat16; None where it does not say
    memory_total: int
    memory_free: int
    """Main memory, in bytes."""
    gpus: tuple[Gpu, ...]  # CUDA devices


def this_machine() -> Machine:
    """Look at the machine that this process runs on."""
    made_with = provenance()["versions"]
    assert isinstance(made_with, dict)
    ray = version("ray") if importlib.util.find_spec("ray") else None
    name, bf16 = _processor()
    memory = psutil.virtual_memory()
    return Machine(
        versions=made_with | {"ray": ray},
        processor=name,
        cores=usable_cores(),
        torch_threads=torch.get_num_threads(),
        bf16=bf16,
        memory_total=int(memory.total),
        memory_free=int(memory.available),
        gpus=tuple(_gpu(index) for index in range(torch.cuda.device_count())),
    )


def usable_cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpu(index: int) -> Gpu:
    free, total = torch.cuda.mem_get_info(index)
    major, _ = torch.cuda.get_device_capability(index)
    return Gpu(torch.cuda.get_device_name(index), int(total), int(free), bf16=major >= 8)


def _processor() -> tuple[str, bool | None]:
    """Return its name, and whether it has instructions for bfloat16."""
    named = platform.processor() or platform.machine()
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return named, None
    facts: dict[str, str] = {}
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    flags = facts.get("flags", facts.get("Features", ""))
    return facts.get("model name", named), bool(BF16_FLAGS & set(flags.split()))
