"""Baselines that the comparison needs and Flower does not have, one a file."""

from fedrms.server.baselines.oracle import Oracle

__all__ = ["Oracle"]
