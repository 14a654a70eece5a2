"""Train stacks of linear layers by compiled C, one client after the other.

``fedrms/native/dense_sgd.c`` takes the steps of :mod:`fedrms.engines.dense_training` to rounding. A
client is one loop without a call between its operations, and its products keep to the cache: small
models wait for no launch, and larger ones are not read and written more often than needed. It runs
without Python's lock, so that worker threads work side by side.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedrms.client.reply import needs_received_losses
from fedrms.engines.dense_network import DenseNetwork
from fedrms.engines.work import Work
from fedrms.native_code import library, pointer

LANES = 8
"""Outputs of a layer lie in whole vectors of so many numbers, as in the C code."""
NATIVE_UP_TO = 1 << 18
"""Parameters of a model up to which this is the fastest way (measured: docs/benchmarks.md)."""

MOST_WORK = 1 << 36
"""Multiplications of one client in a round up to which it is trained here, in a second or two: a
call cannot be interrupted, and one that lasts is seen as a program that does not end."""
CALL = (1 << 26, 1 << 31)
"""Multiplications of a call at least, some milliseconds, and about as many as it may have."""
TURNS = 4
"""Calls that each of several worker threads makes at least, so that they end together."""
WORTH_IT = 0.85
"""Share of multiplications up to which those by products of examples are the faster."""
HEAVY = 1 << 14
"""Weights of a first layer from which they are looked at: with fewer, gathering takes longer."""


class _Layer(ctypes.Structure):
    """What the C code is told of a layer: its shape, and where it lies in a model."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("inputs", "outputs", "padded")),
        *((name, ctypes.c_int64) for name in ("weight", "bias")),
    )


def can_train(network: DenseNetwork | None, work: Work) -> bool:
    """Say whether a cohort can be trained here, and there is a compiler."""
    flat, x, y = work.flat, work.columns.get("x"), work.columns.get("y")
    if network is None or x is None or y is None or flat.device.type != "cpu":
        return False
    if len(flat) > NATIVE_UP_TO or flat.dtype is not torch.float32 or x.dtype is not flat.dtype:
        return False
    if 2 * len(flat) * int(work.plan.present.sum(axis=(0, 2)).max(initial=0)) > MOST_WORK:
        return False
    labels = torch.int64 if network.classify else torch.float32
    if y.dim() != 1 or y.dtype is not labels or not (x.is_contiguous() and y.is_contiguous()):
        return False
    return library("dense_sgd") is not None


def calls(work: Work, workers: int) -> int:
    """Return in how many calls a cohort is trained: enough for the threads, and none for long."""
    multiplications = 2 * len(work.flat) * int(work.plan.present.sum())
    wanted = 1 if workers == 1 else TURNS * workers
    return max(min(wanted, multiplications // CALL[0]), multiplications // CALL[1], 1)


def pays_by_products(network: DenseNetwork | None, work: Work) -> bool:
    """Say whether :func:`train_by_products` multiplies less, and by enough to gather for it."""
    products, plan = work.products, work.plan
    if network is None or products is None or not products.fits or plan.held_out.any():
        return False
    weight = work.received[network.layers[0][0]]
    if weight.numel() < HEAVY:
        return False
    inputs = weight.shape[1]
    sizes, visits = products.sizes(work.starts), plan.present.sum(axis=(0, 2))
    judged = needs_received_losses(work.update.settings, plan)
    judged &= _can_tell(work, work.update.scores(work.columns["y"]))
    usual = inputs * (2 * visits + judged * sizes)
    ours = inputs * (visits + sizes) + visits * visits // 2
    return float(ours.sum()) <= WORTH_IT * float(usual.sum())


def train(
    network: DenseNetwork, work: Work, clients: np.ndarray, stack: Tensor, losses: Tensor
) -> None:
    """Train some clients of a cohort into their rows of the stack.

    Parameters
    ----------
    network, work
        The layers, and the cohort's work; its first scores are filled in where they are asked for.
    clients : np.ndarray
        Their positions in the cohort.
    stack : Tensor
        ``[cohort, parameters]``, float32, each row in one piece.
    losses : Tensor
        ``[steps, cohort, batch]``, float32 and contiguous; takes the losses before each update.

    Raises
    ------
    MemoryError
        Where there is none for one more model.
    IndexError
        If a label is none of the model's classes.
    """
    first = work.first_scores
    if first is not None and not _can_tell(work, first.shape[2]):
        first = None
    last = (pointer(first), 0 if first is None else first.shape[2])
    _run(_code().train_clients, network, work, clients, stack, losses, last)


def train_by_products(
    network: DenseNetwork, work: Work, clients: np.ndarray, stack: Tensor, losses: Tensor
) -> None:
    """Train some clients as :func:`train` does, by inner products of their examples.

    See :mod:`fedrms.engines.example_products`. What the received model makes of a client's
    examples, if it is asked for, is known on the way: ``work.received_scores`` takes it.
    """
    assert work.products is not None
    sizes = np.ascontiguousarray(work.products.sizes(work.starts), np.int64)
    width = work.update.scores(work.columns["y"])
    asked = needs_received_losses(work.update.settings, work.plan) & _can_tell(work, width)
    kept = []  # alive for as long as the call lasts
    products, told = np.zeros((2, len(sizes)), np.int64)
    for client in clients.tolist():
        start, size = int(work.starts[client]), int(sizes[client])
        kept.append(work.products.of(start, start + size))
        products[client] = kept[-1].data_ptr()
        if asked[client]:
            work.received_scores[client] = work.flat.new_empty(size, width)
            told[client] = work.received_scores[client].data_ptr()
    last = (pointer(sizes), pointer(products), pointer(told), width)
    _run(_code().train_by_products, network, work, clients, stack, losses, last)


def _run(
    function: Callable[..., int],
    network: DenseNetwork,
    work: Work,
    clients: np.ndarray,
    stack: Tensor,
    losses: Tensor,
    last: tuple[Any, ...],
) -> None:
    """Call a function that trains; ``last`` are its own arguments."""
    rows, present = (np.ascontiguousarray(each) for each in (work.plan.rows, work.plan.present))
    numbers = [work.plan.steps, work.starts, np.asarray(clients)]
    steps, starts, who = (np.ascontiguousarray(each, np.int64) for each in numbers)
    lr = np.ascontiguousarray(work.lr, np.float32)
    layers = _layers(network, work)
    ended = function(
        *(layers, len(layers), int(network.classify), pointer(work.flat)),
        *(pointer(work.columns["x"]), pointer(work.columns["y"]), pointer(rows), pointer(present)),
        *(_long(len(starts)), rows.shape[2], pointer(steps), pointer(starts), pointer(lr)),
        *(
            pointer(who),
            _long(len(who)),
            pointer(stack),
            _long(stack.stride(0)),
            pointer(losses),
            *last,
        ),
    )
    _check(ended, layers)


def score(network: DenseNetwork, work: Work, rows: np.ndarray, scores: Tensor) -> None:
    """Score examples at the received model.

    Parameters
    ----------
    network, work
        As of :func:`train`.
    rows : np.ndarray
        ``[rows]`` of ``work.columns``.
    scores : Tensor
        ``[rows, scores]``, float32 and contiguous; takes what ``LocalUpdate.score`` gives.

    Raises
    ------
    MemoryError, IndexError
        As of :func:`train`.
    """
    rows = np.ascontiguousarray(rows, np.int64)
    layers = _layers(network, work)
    ended = _code().score_rows(
        *(layers, len(layers), int(network.classify), pointer(work.flat)),
        *(pointer(work.columns["x"]), pointer(work.columns["y"])),
        *(pointer(rows), _long(len(rows)), pointer(scores), scores.shape[1]),
    )
    _check(ended, layers)


def can_score(network: DenseNetwork | None, work: Work, width: int) -> bool:
    """Say whether so many numbers an example can be told here, as ``LocalUpdate.score`` does."""
    return can_train(network, work) and _can_tell(work, width)


def _can_tell(work: Work, width: int) -> bool:
    if width == 2:
        return work.usual_chance
    return width == (3 if work.update.targets(work.columns["y"]) else 1)


def _code() -> ctypes.CDLL:
    code = library("dense_sgd")
    assert code is not None
    return code


def _check(ended: int, layers: Sequence[_Layer]) -> None:
    if ended == 1:
        raise MemoryError("no memory for one more model")
    if ended:
        raise IndexError(f"a label is none of the model's {layers[-1].outputs} classes")


def _layers(network: DenseNetwork, work: Work) -> Sequence[_Layer]:
    names, sizes = list(work.received), [value.numel() for value in work.received.values()]
    at = dict(zip(names, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    made = []
    for weight, bias in network.layers:
        outputs, inputs = work.received[weight].shape
        padded = -(-outputs // LANES) * LANES
        made.append(_Layer(inputs, outputs, padded, at[weight], -1 if bias is None else at[bias]))
    return (_Layer * len(made))(*made)  # type: ignore[return-value]


_long = ctypes.c_int64
