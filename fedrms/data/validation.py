"""Clients set aside: to choose settings by, so that the test set chooses nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Validation:
    """The examples of clients that never train."""

    test_x: NDArray[np.float32]
    test_y: NDArray[Any]
    """``[examples, *shape]`` as these clients have them in the first round, noise included: nobody
    knows the clean ones. Named as a federation's test set, because a model is scored on them
    alike."""
