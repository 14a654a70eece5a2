"""What a result was made with: versions and the source's revision."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def provenance() -> dict[str, object]:
    """Return package versions, the Python version and the git revision of a checkout.

    The revision is None for an installed package, and ends in ``-dirty`` where the
    checkout had uncommitted changes.
    """
    return {
        "versions": versions(),
        "git_revision": _revision(Path(__file__).resolve().parents[2]),
    }


@functools.lru_cache(maxsize=1)
def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that decide results."""
    packages = ("fedrms", "flwr", "torch", "numpy", "hydra-core", "pandas")
    return {"python": platform.python_version()} | {p: _version(p) for p in packages}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@functools.lru_cache(maxsize=1)  # of the code that this process has imported
def _revision(folder: Path) -> str | None:
    if not (folder / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None
