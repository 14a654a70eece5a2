"""FedRMS with a weighting, their options given together, as on the command line."""

from __future__ import annotations

import inspect
from typing import Any

from fedrms.server.strategy import FedRMS
from fedrms.weighting.python_names import in_python
from fedrms.weighting.weighting import Weighting


@in_python
def weighed_by(kind: type[Weighting], **options: Any) -> FedRMS:
    """Return the strategy that a weighting of some kind decides.

    Options are its own and those of :class:`FedRMS`; what both know, both get.
    """
    own, common = inspect.signature(kind).parameters, inspect.signature(FedRMS).parameters
    weighting = kind(**{key: value for key, value in options.items() if key in own})
    rest = {key: value for key, value in options.items() if key not in own or key in common}
    return FedRMS(weighting=weighting, **rest)
