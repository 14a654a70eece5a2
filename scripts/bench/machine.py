"""What the numbers of a benchmark were measured on; every CSV says it in every row."""

from __future__ import annotations

import functools
import os
from pathlib import Path

WIDE = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")
"""Instruction sets that decide how fast products are."""
SWITCHES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
"""Variables that hold PyTorch and its libraries to older instructions."""


@functools.cache
def processor() -> str:
    """Return the processor's model, its instruction sets, and which of them PyTorch may use."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    told = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    flags = told.get("flags", "").split()
    parts = [told.get("model name", "unknown").strip(), " ".join(f for f in WIDE if f in flags)]
    parts.append(f"PyTorch {torch.__version__} uses {torch.backends.cpu.get_cpu_capability()}")
    parts += [f"{name}={os.environ[name]}" for name in SWITCHES if name in os.environ]
    return "; ".join(parts)
