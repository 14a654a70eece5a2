"""Where clients run: each engine hands the strategy a Flower ``Grid``."""

from fedrms.engines.own_misreports import Lie
from fedrms.engines.vector import VectorGrid

__all__ = ["Lie", "VectorGrid"]
