"""Correct first: nothing is timed before the ceiling and fedrms agree with plain loops."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import ceiling
import numpy as np
import torch
import workloads

SAME_WEIGHTS = 1e-3
"""Largest allowed distance from the naive loop, as a share of how far the model moved."""
TIMES_NAIVE_ERROR = 4.0
"""Or else: how far fedrms may be from float64, in terms of the naive loop's own distance.

A rounding error that flips a ReLU or a maximum grows; both are then as wrong as float32 is.
"""
CEILING_ERROR = 1e-6
"""Largest allowed difference of the ceiling from float64 autograd; the data is float32."""
CHECKED_ROUNDS = {"softmax": 2, "mlp": 2, "cnn": 2, "resnet8": 1}
"""Rounds after which models are compared; the float64 loop of a ResNet takes minutes for two."""

Save = Callable[[str, int, Path, tuple[str, ...]], None]
"""``save(engine, rounds, file, extra)`` runs an engine and keeps its final model."""


def check_ceiling(workload: workloads.Workload) -> list[str]:
    """Hold the ceiling to float64 autograd, and say what bf16 costs; return lines to show."""
    torch.set_num_threads(1)
    error = ceiling.check(workload)
    if error > CEILING_ERROR:
        raise SystemExit(f"the ceiling computes something else: off by {error:.1e}")
    lines = [f"{workload.name}: ceiling differs from autograd by {error:.1e} (float64)"]
    if workload.spec.model in ceiling.BF16:
        rounded, single = ceiling.price(workload)
        lines.append(
            f"  ceiling bf16 is {rounded:.1e} of the way from float64, float32 {single:.1e}"
        )
    return lines


def check_fedrms(
    workload: workloads.Workload, save: Save, like: tuple[str, ...] = (), bf16: bool = False
) -> list[str]:
    """Hold fedrms to the naive loop on the same batches; return lines to show.

    Raises
    ------
    SystemExit
        If the weights are not what they must be.
    """
    rounds = CHECKED_ROUNDS[workload.spec.model]

    def weights(name: str, *extra: str) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "weights.npz")
            save(name, rounds, file, (*extra, *like))
            with np.load(file) as saved:
                return np.concatenate([saved[n].ravel() for n in workload.initial])

    same = ("--batches", "fedrms")
    ours, theirs = weights("fedrms"), weights("naive loop", *same)
    start = np.concatenate([value.ravel() for value in workload.initial.values()])
    moved, apart = np.linalg.norm(theirs - start), np.linalg.norm(ours - theirs)
    lines = [f"  fedrms is {apart / moved:.1e} of the way from the naive loop ({rounds} rounds)"]
    if bf16:
        rounded = np.linalg.norm(weights("fedrms bf16") - theirs)
        lines.append(f"  fedrms bf16 is {rounded / moved:.1e} of the way from it")
    if apart <= SAME_WEIGHTS * moved:
        return lines
    exact = weights("naive loop", *same, "--dtype", "float64")
    ours_off, theirs_off = np.linalg.norm(ours - exact), np.linalg.norm(theirs - exact)
    lines.append(f"  from float64: fedrms {ours_off / moved:.1e}, naive {theirs_off / moved:.1e}")
    if not ours_off <= TIMES_NAIVE_ERROR * theirs_off:
        raise SystemExit("\n".join([*lines, "fedrms and the naive loop disagree"]))
    return lines
