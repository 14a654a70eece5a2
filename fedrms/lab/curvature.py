"""How sharp a minimum is, without the Hessian: from its products with vectors alone.

The trace by Hutchinson (1990): ``E v' H v`` over vectors of random signs. The top eigenvalue by
power iteration. And the trace of ``W H W`` with the parameters on the diagonal W, which does
not change where a layer of ReLUs is scaled up and the next one down, as the first two do (Dinh
et al. 2017, arXiv:1703.04933; the scaling is that of Kwon et al. 2021, arXiv:2102.11600).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

Loss = Callable[[Tensor], Tensor]
"""From flat parameters ``[parameters]`` to a number."""


@dataclass(frozen=True)
class Curvature:
    """Of a loss at one point."""

    trace: float  # of the Hessian H
    top: float  # its eigenvalue of largest size
    scaled_trace: float  # ``sum_i w_i^2 H_ii``


def curvature(loss: Loss, at: Tensor, *, probes: int, iterations: int, seed: int) -> Curvature:
    """Estimate the curvature of a loss at a point ``[parameters]``.

    The loss must be twice differentiable by ``torch.func``. Each trace is of so many random
    ``probes``; ``iterations`` are those of the power method.
    """
    draw = torch.Generator().manual_seed(seed)

    def product(v: Tensor) -> Tensor:
        forward: Tensor = jvp(grad(loss), (at,), (v,))[1]
        return forward

    signs = 2.0 * torch.randint(2, (probes, len(at)), generator=draw).to(at) - 1.0
    both = torch.cat([signs, signs * at])
    forms = (both * vmap(product)(both)).sum(1)
    v = torch.randn(len(at), generator=draw).to(at)
    top = 0.0
    for _ in range(iterations):
        v = v / v.norm()
        along = product(v)
        top, v = float(v @ along), along
    return Curvature(float(forms[:probes].mean()), top, float(forms[probes:].mean()))
