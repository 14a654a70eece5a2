"""What a result was made with: versions and the source's revision."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def provenance() -> dict[str, object]:
    """Return package versions, the Python version and the git revision of a checkout."""
    return {"versions": versions(), "git_revision": git_revision()}


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
def git_revision() -> str | None:
    """Return the checkout's git revision, ``-dirty`` if the package or its configuration is.

    None for an installed package.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", "fedrms", "conf")
    return f"{head}-dirty" if head and changed else head


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
