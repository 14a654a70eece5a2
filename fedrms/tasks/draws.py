"""Random numbers inside a loss, from the keys that examples carry.

Pure functions of the keys: they can be mapped, traced and differentiated around, and give the
same numbers on every engine and device. SplitMix64 (Steele, Lea and Flood 2014) in wrapping
64-bit integers, and Box and Muller (1958).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def uniforms(key: Tensor, count: int) -> Tensor:
    """Return uniform numbers in (0, 1), float32 ``[*key, count]``, the same for the same int64 key.

    The first ones do not depend on the count.
    """
    index = torch.arange(1, count + 1, device=key.device)
    bits = _mixed(_mixed(key)[..., None] + index * _GOLDEN)
    # 23 bits and a half, so that neither 0 nor 1 is met in float32.
    return ((_shifted(bits, 41)).to(torch.float32) + 0.5) * 2.0**-23


def normals(key: Tensor, count: int) -> Tensor:
    """Return standard normal numbers, float32 ``[*key, count]`` (see :func:`uniforms`)."""
    flat = uniforms(key, 2 * count)
    pairs = flat.view(*flat.shape[:-1], count, 2)
    radius = (-2.0 * pairs[..., 0].log()).sqrt()
    return radius * (2.0 * math.pi * pairs[..., 1]).cos()


def _mixed(bits: Tensor) -> Tensor:
    bits = (bits ^ _shifted(bits, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    bits = (bits ^ _shifted(bits, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Shift right and fill with zeros; torch's own shift repeats the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


_GOLDEN = -7046029254386353131
"""0x9E3779B97F4A7C15 as a signed number."""
