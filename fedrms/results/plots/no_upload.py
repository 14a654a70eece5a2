"""Plotly's figures without the button that uploads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NO_UPLOAD: dict[str, Any] = {"showSendToCloud": False, "plotlyServerURL": "", "displaylogo": False}
"""Configuration of a figure; the report's page has the same."""


@contextmanager
def no_upload() -> Iterator[None]:
    """Have Plotly's renderers show figures without the button, for the time of the block."""
    import plotly.io as pio

    names = filter(None, str(pio.renderers.default or "").split("+"))
    renderers = [pio.renderers[name] for name in names]
    with_config = [renderer for renderer in renderers if hasattr(renderer, "config")]
    before = [renderer.config for renderer in with_config]
    for renderer, config in zip(with_config, before, strict=True):
        renderer.config = {**(config or {}), **NO_UPLOAD}
    try:
        yield
    finally:
        for renderer, config in zip(with_config, before, strict=True):
            renderer.config = config
