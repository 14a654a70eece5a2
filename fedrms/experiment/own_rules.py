"""A law or a rule of combination of a person's own, found and tried before anybody trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fedrms.named_class import Form
from fedrms.own_function import OwnFunction, names_own, own_function

LAW = Form(("rms", "known"), np.ndarray)
A_LAW = (
    "a law (def f(rms, known, *, options) -> numpy.ndarray: scales of 0 or more for the cohort's "
    "rms, known being the rms of all clients so far, rising)"
)
RULE = Form(("parameters", "received", "weights"), torch.Tensor)
A_RULE = (
    "a rule of combination (def f(parameters, received, weights, *, options) -> torch.Tensor: from "
    "models [clients, parameters] and weights [clients] the step from received [parameters])"
)


def with_own_rules(strategy: Mapping[str, Any]) -> dict[str, Any]:
    """Return a strategy's options with functions in the place of those that name them.

    ``law`` and ``combine`` may be mappings with ``_target_`` and options.
    """
    options = dict(strategy)
    if names_own(options.get("law")):
        options["law"] = law = own_function("strategy.law", options["law"], LAW, A_LAW)
        _try_law(law)
    if names_own(options.get("combine")):
        rule = own_function("strategy.combine", options["combine"], RULE, A_RULE)
        _try_rule(rule)
        options["combine"] = rule
    return options


def _try_law(law: OwnFunction) -> None:
    known = np.array([0.0, 0.5, 1.0, 1.5, 4.0])
    known.flags.writeable = False  # as the laws get it
    with law.tried():
        for rms in (known[[3, 1, 4]].copy(), known[[0]].copy()):
            scale = law(rms, known)
            if np.shape(scale) != rms.shape:
                raise law.wrong(f"gives shape {np.shape(scale)} for rms of shape {rms.shape}")
            if not np.isfinite(scale).all() or (np.asarray(scale) < 0).any():
                raise law.wrong(f"gives {np.asarray(scale).tolist()} for rms {rms.tolist()}")


def _try_rule(rule: OwnFunction) -> None:
    received = torch.tensor([1.0, 0.0])
    models = received + torch.tensor([[0.5, 1.0], [1.0, -1.0], [0.25, 0.5], [8.0, 0.0]])
    with rule.tried():
        step = rule(models, received, torch.tensor([0.25, 0.25, 0.25, 0.25], dtype=torch.float64))
        if not isinstance(step, torch.Tensor) or step.shape != received.shape:
            given = tuple(step.shape) if isinstance(step, torch.Tensor) else type(step).__name__
            raise rule.wrong(f"gives {given} for models of {len(received)} parameters")
        if not torch.isfinite(step).all():
            raise rule.wrong(f"gives {step.tolist()} for finite models")
