"""Put a real run beside the simulation of the same configuration.

``python -m fedrms.deployment.side_by_side outputs/REAL outputs/SIMULATED``
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file


def largest_difference(one: Path, other: Path) -> float:
    """Return the largest absolute difference between two runs' final weights."""
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    if first.keys() != second.keys():
        raise ValueError(f"{one} and {other} hold different models")
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def side_by_side(real: Path, simulated: Path) -> pd.DataFrame:
    """Return one row a round: the test metrics and the seconds of both."""
    kept = [
        pd.read_parquet(folder / "rounds.parquet")
        .set_index("round")
        .filter(regex="^(test_|seconds)")
        for folder in (real, simulated)
    ]
    return pd.concat(kept, axis=1, keys=["real", "simulated"])


def main() -> None:
    """Print both."""
    real, simulated = map(Path, sys.argv[1:3])
    print(side_by_side(real, simulated).to_string(float_format="{:.4f}".format))
    print(f"largest difference of any weight: {largest_difference(real, simulated):.2e}")


if __name__ == "__main__":
    main()
