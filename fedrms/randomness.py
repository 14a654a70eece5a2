"""Randomness is addressed, never consumed.

Every draw comes from a generator keyed by (seed, purpose, client, round), so a result
does not depend on the engine, on the order of clients, on which other clients exist,
or on how often a run was interrupted. The key is a ``numpy.random.SeedSequence`` with
a spawn key.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence

import numpy as np


def seed_sequence(
    seed: int, purpose: str, client: int = 0, round: int = 0
) -> np.random.SeedSequence:
    """Return the seed sequence at one address: the run's seed, a purpose, and a client and round.

    Distinct purposes (``"partition"``, ``"label-noise"``) give independent streams.
    """
    return np.random.SeedSequence(
        entropy=seed, spawn_key=(zlib.crc32(purpose.encode()), client, round)
    )


def generator(seed: int, purpose: str, client: int = 0, round: int = 0) -> np.random.Generator:
    """Return a fresh numpy generator at one address (see :func:`seed_sequence`)."""
    return np.random.default_rng(seed_sequence(seed, purpose, client, round))


@functools.lru_cache(maxsize=1024)
def integer(seed: int, purpose: str, client: int = 0, round: int = 0) -> int:
    """Return a 63-bit integer seed at one address, for generators that are not numpy's."""
    return int(seed_sequence(seed, purpose, client, round).generate_state(1, np.uint64)[0] >> 1)


def rows_within(sizes: np.ndarray) -> np.ndarray:
    """Return each row's place in its client, for clients of some sizes one after the other."""
    stops = np.cumsum(sizes)
    return np.asarray(np.arange(sizes.sum()) - np.repeat(stops - sizes, sizes))


def counter_bits(
    seed: int,
    purpose: str | Sequence[str],
    client: np.ndarray | int,
    round: np.ndarray | int = 0,
    index: np.ndarray | int = 0,
) -> np.ndarray:
    """Return 64 random bits at every address at once, by broadcasting client, round and index.

    Used where a draw is needed per (client, round, example): one vectorised call for a cohort gives
    exactly the bits that each client alone would get. A SplitMix64 finaliser (Steele, Lea and Flood
    2014, "Fast splittable pseudorandom number generators") is applied after each coordinate of the
    address. The result is ``uint64`` of the broadcast shape; several purposes at once have an axis
    of their own, in front.
    """
    if isinstance(purpose, str):
        bits: np.ndarray = np.asarray(np.uint64(integer(seed, purpose)))
    else:
        first = np.array([integer(seed, each) for each in purpose], np.uint64)
        dimensions = max(np.ndim(coordinate) for coordinate in (client, round, index))
        bits = first.reshape(-1, *(1,) * dimensions)
    with np.errstate(over="ignore"):
        for coordinate in (client, round, index):
            bits = _splitmix(bits + (np.asarray(coordinate).astype(np.uint64) + _ONE) * _GOLDEN)
    return bits


def counter_uniform(
    seed: int,
    purpose: str,
    client: np.ndarray | int,
    round: np.ndarray | int = 0,
    index: np.ndarray | int = 0,
) -> np.ndarray:
    """Return uniform numbers in [0, 1) at every address at once (see :func:`counter_bits`)."""
    bits = counter_bits(seed, purpose, client, round, index)
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53)


def counter_normal(
    seed: int,
    purpose: str,
    client: np.ndarray | int,
    round: np.ndarray | int = 0,
    *,
    count: int,
) -> np.ndarray:
    """Return `count` standard normal numbers at every address at once, float32 ``[..., count]``.

    Two numbers from the halves of each 64 random bits (see :func:`counter_bits`), by the transform
    of Box and Muller (1958). `client` and `round` are broadcast against each other.
    """
    pairs = -(-count // 2)
    client, round = np.asarray(client)[..., None], np.asarray(round)[..., None]
    bits = counter_bits(seed, purpose, client, round, np.arange(pairs))
    halves = bits.astype("<u8", copy=False).view("<u4").astype(np.float32)
    halves *= np.float32(2.0**-32)
    radius = np.sqrt(np.float32(-2) * np.log(halves[..., :pairs] + np.float32(2.0**-33)))
    angle = np.float32(2 * np.pi) * halves[..., pairs:]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return normal[..., :count] if normal.shape[-1] > count else normal


_ONE = np.uint64(1)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _splitmix(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))
