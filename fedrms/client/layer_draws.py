"""What layers draw at random (dropout, noise), from the run's address and not from a generator.

PyTorch's layers draw from one generator of the process, so that a client's numbers would depend
on who was trained before it. Inside of :func:`addressed_draws` every drawing operation,
wherever in a module it stands, gets its numbers from a key of (seed, client, round, step), its
place among the draws of the step, and the place of each number in the tensor. So a client draws
the same alone as in a stack of clients, in any order, after a resume and on every engine.

The operations are those that PyTorch marks as drawing from a generator
(``torch.Tag.nondeterministic_seeded``); one that is not known here is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fedrms.client.plain_dispatch import PlainDispatch
from fedrms.errors import ConfigError
from fedrms.randomness import counter_bits
from fedrms.tasks.draws import normals, uniforms

Named = dict[str, Any]
"""An operation's arguments by name."""

LAYER_KEY = "layer-key"
"""The column of a batch that holds the keys: one number a client."""


def layer_keys(seed: int, clients: np.ndarray, server_round: int, steps: int) -> np.ndarray:
    """Return the key of each step of each client, int64 ``[steps, clients]``."""
    step = np.arange(steps)[:, None]
    return counter_bits(seed, "layers", clients[None], server_round, step).view(np.int64)


@contextmanager
def addressed_draws(key: Tensor) -> Iterator[AddressedDraws]:
    """Let what is drawn at random follow from a key, and count how many operations have drawn.

    The key is int64: a single number, or ``[clients]`` around ``torch.func.vmap``, whose draws have
    a leading axis of clients. On a GPU attention then takes the plain way, whose dropout can be
    addressed. An operation that draws and is not known here raises a `ConfigError`.
    """
    plain = sdpa_kernel(SDPBackend.MATH) if key.device.type == "cuda" else nullcontext()
    with plain, AddressedDraws(key) as mode:
        yield mode


class AddressedDraws(PlainDispatch):
    """The mode behind :func:`addressed_draws`; ``drawn`` counts the operations that have drawn."""

    def __init__(self, key: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._key = key
        self.drawn = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Named | None = None,
    ) -> Any:
        """Run one operation, a drawing one by its address."""
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        named = _named_arguments(func, args, kwargs or {})
        if _draws_nothing(named):
            return func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        make = _DRAWN.get(name)
        if make is None:
            raise ConfigError(
                "model",
                f"draws with {name}, which cannot be drawn from the run's seed",
                "draw with rand, randn, bernoulli, multinomial, nn.Dropout or the like",
            )
        return make(self, named)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Return the next uniform numbers in (0, 1), float32 of a shape."""
        return self._next(uniforms, shape)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return the next standard normal numbers, float32 of a shape."""
        return self._next(normals, shape)

    def refuse_stacks(self, name: str) -> None:
        """Say that an operation does not draw for each client of a stack by itself."""
        if self._key.dim():
            raise RuntimeError(f"vmap: {name} does not draw for each client by itself")

    def _next(self, make: Callable[[Tensor, int], Tensor], shape: Sequence[int]) -> Tensor:
        self.drawn += 1
        key = self._key + _wrapped(self.drawn * _ODD)
        if not key.dim():
            return make(key, math.prod(shape)).view(tuple(shape))
        if not shape or shape[0] != len(key):
            self.refuse_stacks("an operation")
        return make(key, math.prod(shape[1:])).view(tuple(shape))


def _named_arguments(func: Any, args: Sequence[Any], kwargs: Named) -> Named:
    schema = func._schema.arguments
    named = {argument.name: argument.default_value for argument in schema}
    return named | dict(zip((argument.name for argument in schema), args, strict=False)) | kwargs


def _draws_nothing(named: Named) -> bool:
    """Say whether a layer is told not to draw: in evaluation, or with a dropout of 0."""
    told_not_to = named.get("train") is False or named.get("training") is False
    return told_not_to or not named.get("dropout_p", 1)


def _dtype(named: Named, default: torch.dtype) -> torch.dtype:
    given = named.get("dtype")  # a schema's default is a number
    return given if isinstance(given, torch.dtype) else default


def _like(draw: Callable[[AddressedDraws, Sequence[int]], Tensor]) -> Callable[..., Tensor]:
    """Return the operation that makes a tensor, of a shape or like another."""

    def make(mode: AddressedDraws, named: Named) -> Tensor:
        like = named.get("self")
        shape = named["size"] if like is None else like.shape
        default = torch.get_default_dtype() if like is None else like.dtype
        made: Tensor = draw(mode, shape).to(_dtype(named, default))
        return made

    return make


def _bernoulli(mode: AddressedDraws, named: Named) -> Any:
    given: Tensor = named["self"]
    share = named.get("p", given)
    return (mode.uniform(given.shape) < share).to(given.dtype)


def _bernoulli_in_place(mode: AddressedDraws, named: Named) -> Tensor:
    given: Tensor = named["self"]
    return given.copy_(mode.uniform(given.shape) < named["p"])


def _uniform_in_place(mode: AddressedDraws, named: Named) -> Tensor:
    given: Tensor = named["self"]
    low, high = named["from"], named["to"]
    return given.copy_(low + (high - low) * mode.uniform(given.shape))


def _normal_in_place(mode: AddressedDraws, named: Named) -> Tensor:
    given: Tensor = named["self"]
    return given.copy_(named["mean"] + named["std"] * mode.normal(given.shape))


def _normal(mode: AddressedDraws, named: Named) -> Any:
    mean, deviation = named["mean"], named["std"]
    if "size" in named:
        made, dtype = mode.normal(named["size"]), _dtype(named, torch.get_default_dtype())
    else:
        dtype = (mean if isinstance(mean, Tensor) else deviation).dtype
        made = mode.normal((mean + deviation).shape)
    return (mean + deviation * made).to(dtype)


def _exponential_in_place(mode: AddressedDraws, named: Named) -> Tensor:
    given: Tensor = named["self"]
    return given.copy_(mode.uniform(given.shape).log() / -named["lambd"])


def _integers(mode: AddressedDraws, named: Named) -> Any:
    like, low, high = named.get("self"), named.get("low", 0), named["high"]
    shape = named["size"] if like is None else like.shape
    dtype = _dtype(named, torch.int64 if like is None else like.dtype)
    made = (mode.uniform(shape).double() * (high - low)).floor()
    return (low + made).to(dtype)


def _permutation(mode: AddressedDraws, named: Named) -> Tensor:
    mode.refuse_stacks("randperm")
    return mode.uniform([named["n"]]).argsort()


def _multinomial(mode: AddressedDraws, named: Named) -> Any:
    """Take the largest of p / exponential: once a sample, or the n largest without replacement."""
    weights, count = named["self"], named["num_samples"]
    if not named["replacement"]:
        return (weights / -mode.uniform(weights.shape).log()).topk(count, dim=-1).indices
    shape = (*weights.shape[:-1], count, weights.shape[-1])
    return (weights[..., None, :] / -mode.uniform(shape).log()).argmax(-1)


def _dropout(mode: AddressedDraws, named: Named) -> tuple[Tensor, Tensor]:
    given, kept = named["input"], 1.0 - named["p"]
    mask = mode.uniform(given.shape) < kept
    return given * mask * (1.0 / kept if kept else 0.0), mask


def _leaky(mode: AddressedDraws, named: Named) -> Any:
    given, low, high = named["self"], named["lower"], named["upper"]
    slope = (low + (high - low) * mode.uniform(given.shape)).to(given.dtype)
    slope = torch.where(given > 0, torch.ones_like(given), slope)
    named["noise"].copy_(slope)  # what the gradient is taken with
    return given * slope


_DRAWN: dict[str, Callable[[AddressedDraws, Named], Any]] = {
    "rand": _like(AddressedDraws.uniform),
    "rand_like": _like(AddressedDraws.uniform),
    "randn": _like(AddressedDraws.normal),
    "randn_like": _like(AddressedDraws.normal),
    "randint": _integers,
    "randint_like": _integers,
    "randperm": _permutation,
    "bernoulli": _bernoulli,
    "bernoulli_": _bernoulli_in_place,
    "uniform_": _uniform_in_place,
    "normal": _normal,
    "normal_": _normal_in_place,
    "exponential_": _exponential_in_place,
    "multinomial": _multinomial,
    "native_dropout": _dropout,
    "rrelu_with_noise": _leaky,
}

_ODD = 0x632BE59BD9B4E019


def _wrapped(number: int) -> int:
    """Return an integer as the signed 64-bit number that it is in wrapping arithmetic."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)
