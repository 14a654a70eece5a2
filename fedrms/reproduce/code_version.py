"""Which code a run was made with: what may change its numbers, and nothing else."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

READERS: Final = ("cli/", "lab/", "reproduce/", "results/")
"""Source that reads finished runs: changing it makes none out of date, ..."""

WRITERS: Final = tuple(
    f"results/{name}.py"
    for name in (
        *("arrow_arrays", "atomic", "attribution", "client_rows", "columns", "config_columns"),
        *("fairness", "looks", "objective", "own_folder", "own_metrics", "partition_table"),
        *("protection", "recorder", "seal", "shown", "summary"),
    )
)
"""... but for these, which decide what a run writes."""

PACKAGES: Final = ("flwr", "numpy", "torch")


@lru_cache(maxsize=1)
def code_version() -> str:
    """Return a digest of the sources that a run depends on, and of the libraries' versions.

    A digest, not a git revision: a revision changes with every page that is written.
    """
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted([*package.rglob("*.py"), *package.glob("native/*.c")]):
        name = path.relative_to(package).as_posix()
        if name in WRITERS or not name.startswith(READERS):
            digest.update(f"{name}\n".encode() + path.read_bytes())
    digest.update(" ".join(f"{name} {version(name)}" for name in PACKAGES).encode())
    return digest.hexdigest()[:12]
