"""Which code a run was made with: what may change its numbers, and nothing else."""

from __future__ import annotations

import hashlib
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

READERS: Final = ("cli/", "lab/", "reproduce/", "results/")
"""Source that reads finished runs: changing it makes none out of date, ..."""

WRITERS: Final = tuple(
    f"results/{name}.py"
    for name in (
        *("atomic", "attribution", "client_rows", "columns", "config_columns", "fairness"),
        *("looks", "objective", "own_folder", "own_metrics", "partition_table", "protection"),
        *("recorder", "seal", "shown", "summary"),
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
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name in WRITERS or not name.startswith(READERS):
            digest.update(f"{name}\n".encode() + path.read_bytes())
    digest.update(" ".join(f"{name} {version(name)}" for name in PACKAGES).encode())
    return digest.hexdigest()[:12]


@lru_cache(maxsize=1)
def revision() -> str | None:
    """Return the checkout's git revision, ``-dirty`` if the package or its configuration is.

    None for an installed package.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", "fedrms", "conf")
    return f"{head}-dirty" if changed else head


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
