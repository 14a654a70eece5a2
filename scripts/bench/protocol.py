"""How a runner talks to engines.py: it waits for a line before every round.

A runner prints one line of JSON a round, ``{"round": 1, "seconds": ..., "cpu": ...}``, and at
the end ``{"accuracy": ..., "peak_mb": ...}``. Rounds of several runners can so be interleaved.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import workloads


class Rounds:
    """Wait, time and report; everything else that a library prints goes to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self.number = 0
        self._started = self._cpu = 0.0

    def wait(self) -> None:
        """Block until engines.py says go, and start the clock."""
        if not sys.stdin.readline():
            raise SystemExit("the other end has gone")
        self._cpu = time.process_time()
        self._started = time.perf_counter()

    def done(self) -> None:
        """Report the round that has just finished."""
        seconds = time.perf_counter() - self._started
        self.number += 1
        cpu = time.process_time() - self._cpu
        self._say({"round": self.number, "seconds": seconds, "cpu": cpu})

    def finish(self, accuracy: float) -> None:
        """Report the trained model's accuracy and this process's peak memory."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self._say({"accuracy": accuracy, "peak_mb": peak})

    def _say(self, line: Mapping[str, Any]) -> None:
        print(json.dumps(line), file=self._out, flush=True)


def arguments(**choices: list[str]) -> argparse.Namespace:
    """Parse ``WORKLOAD.npz ROUNDS [--save FILE]`` and a runner's own choices."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", type=workloads.load)
    parser.add_argument("rounds", type=int)
    parser.add_argument("--save", type=Path)
    for name, values in choices.items():
        parser.add_argument(f"--{name}", choices=values, default=values[0])
    return parser.parse_args()


def cores() -> int:
    """Return how many cores this engine was given."""
    return len(os.sched_getaffinity(0))


def score(workload: workloads.Workload, params: Mapping[str, np.ndarray]) -> float:
    """Return the test accuracy of parameters by the names of the torch module."""
    import torch

    module = workloads.make_model(workload.spec.model)
    module.load_state_dict({k: torch.as_tensor(np.array(v)) for k, v in params.items()})
    with torch.no_grad():
        scores = module(torch.from_numpy(workload.test_x))
    return float((scores.argmax(1).numpy() == workload.test_y).mean())


def conclude(
    rounds: Rounds, arguments: argparse.Namespace, params: Mapping[str, np.ndarray]
) -> None:
    """Score and keep the final model."""
    params = {name: np.asarray(value) for name, value in params.items()}
    if arguments.save:
        np.savez(arguments.save, **params)
    rounds.finish(score(arguments.workload, params))
