"""How much memory a round may take, and what to do when there is not enough."""

from __future__ import annotations

import gc
import re
from dataclasses import dataclass

import torch

from fedrms.errors import ConfigError

UNITS = {
    "": 1,
    **{
        f"{p}{b}": base**e
        for b, base in (("B", 1000), ("iB", 1024))
        for e, p in enumerate(("", "K", "M", "G", "T"))
        if (p or b == "B")
    },
}
KEY = "engine.memory"


def parse_memory(value: str | int | None) -> int | None:
    """Return a budget in bytes; None for ``auto``.

    It is a number of bytes above 0, or a number with a unit: ``4GiB``, ``500MB``.
    """
    if value is None or value == "auto":
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?i?B?)\s*", str(value))
    if isinstance(value, bool) or found is None or found[2] not in UNITS:
        raise ConfigError(KEY, f"is {value!r}", "set auto, or a size such as 4GiB or 500MB")
    size = int(float(found[1]) * UNITS[found[2]])
    if not size:
        raise ConfigError(KEY, f"is {value!r}", "set more than 0 bytes")
    return size


BESIDE, BESIDE_LINEAR = 12, 4
"""Models that a round takes beside those of its clients (measured: docs/benchmarks/large.md).

Stacks of linear layers are trained where they lie; other models have gradients, and copies.
"""


@dataclass
class Budget:
    """How many clients' models a round holds in memory at a time."""

    device: torch.device  # whose memory
    size: int | None = None
    """Bytes for a round; by default half of what is free when a round first asks."""

    def clients(self, bytes_a_model: int) -> int:
        """Return how many models fit, at least one: they may fill half, work needs the rest."""
        if self.size is None:
            self.size = available_memory(self.device) // 2
        return max(1, self.size // 2 // bytes_a_model)

    def lacks(self, bytes_a_model: int, beside: int) -> int | None:
        """Return what a round of one client takes, in bytes, where that is more than the budget."""
        least = (beside + 1) * bytes_a_model
        return least if self.size is not None and self.size < least else None


def room_for_models(memory: str | int | None, free: int) -> int:
    """Return the bytes that a round's models may fill: half of its budget, see :class:`Budget`.

    The budget by default is half of the ``free`` bytes.
    """
    return (parse_memory(memory) or free // 2) // 2


def available_memory(device: torch.device) -> int:
    """Return the bytes that are free on a GPU, or in main memory for a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, on a GPU or a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return "not enough memory" in text or "can't allocate memory" in text


def release_memory() -> None:
    """Give back what a failed try still holds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
