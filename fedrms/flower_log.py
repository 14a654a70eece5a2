"""Flower's own logger, so that one setting silences or redirects everything at its border."""

from __future__ import annotations

import logging

log = logging.getLogger("flwr").log
