"""Where what is made once is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return ``$FEDRMS_CACHE``, or ``~/.cache/fedrms``."""
    return Path(os.environ.get("FEDRMS_CACHE") or Path.home() / ".cache" / "fedrms")
