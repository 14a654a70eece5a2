"""Which rows a client trains on at each step.

The order depends only on (seed, round, client, epoch, row), so a client takes the same
batches alone in a process as inside a cohort of thousands, on every engine.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from fedrms.client.settings import LocalSettings
from fedrms.client.similar_sizes import similar_sizes
from fedrms.data.levels import WORK
from fedrms.randomness import counter_bits, counter_uniform, rows_within


@dataclass(frozen=True)
class Schedule:
    """The batches of a cohort for one round."""

    rows: np.ndarray  # ``[steps, clients, batch]`` positions within each client's own data
    present: np.ndarray
    """``[steps, clients, batch]`` boolean; False marks padding of a partial batch."""
    steps: np.ndarray  # ``[clients]`` steps each client takes; the first ``steps[k]`` are its own
    scored: np.ndarray
    """``[steps, clients]`` boolean: the batches whose losses feed the prequential statistic, i.e.
    the second half of the first epoch."""
    fallback: np.ndarray
    """``[clients]`` boolean: fewer than four steps in the first epoch, too few to score
    prequentially; such a client reports ``incoming``."""
    held_out: np.ndarray
    """``[clients, rows]`` boolean: rows kept out of training (``holdout`` only)."""


def schedule(
    settings: LocalSettings, server_round: int, clients: np.ndarray, sizes: np.ndarray
) -> Schedule:
    """Lay out the batches of a cohort, ``[clients]``, each client's at its own address."""
    clients = np.asarray(clients, dtype=np.int64)
    sizes = np.asarray(sizes, dtype=np.int64)
    laid_out = _laid_out if settings.straggler_fraction else _kept
    frame = laid_out(settings, server_round, clients, sizes)
    plan, epochs = frame.plan, frame.epochs
    orders = _orders(
        *(settings.seed, server_round, clients, epochs, sizes),
        *(plan.held_out, frame.train_sizes, frame.widest),
    )
    order = np.minimum(frame.epoch, len(epochs) - 1) * len(sizes) + np.arange(len(sizes))
    first = order * orders.shape[2] + frame.begin
    rows = orders.ravel().take(first[:, :, None] + np.arange(frame.widest))
    return replace(plan, rows=rows, steps=plan.steps.copy())


@dataclass(frozen=True)
class _Frame:
    """What a cohort's batches are whatever is in them."""

    plan: Schedule  # without rows
    epochs: range
    epoch: np.ndarray  # ``[steps, clients]`` of each batch
    begin: np.ndarray  # ``[steps, clients]`` where a batch begins in its epoch
    train_sizes: np.ndarray
    widest: int


def _laid_out(
    settings: LocalSettings, server_round: int, clients: np.ndarray, sizes: np.ndarray
) -> _Frame:
    batch = own_batch_size(settings, clients)
    held_out = _held_out(settings, clients, sizes)
    train_sizes: np.ndarray = sizes - held_out.sum(1)
    epoch_steps = -(-train_sizes // batch)
    full = full_steps(settings, clients, train_sizes)
    steps = np.maximum(1, np.ceil(full * work(settings, server_round, clients))).astype(np.int64)

    longest, widest = int(steps.max()), int(batch.max())
    epochs = range(int(np.ceil(steps / epoch_steps).max()))
    position = np.arange(longest)[:, None]
    epoch, step = np.divmod(position, epoch_steps)
    taken = np.where(position < steps, np.minimum(train_sizes - step * batch, batch), 0)
    present = np.arange(widest) < taken[:, :, None]

    first_epoch = np.minimum(epoch_steps, steps)
    plan = Schedule(
        rows=np.empty(0, np.int64),
        present=present,
        steps=steps,
        scored=(position >= first_epoch // 2) & (position < first_epoch),
        fallback=first_epoch < 4,
        held_out=held_out,
    )
    return _Frame(plan, epochs, epoch, step * batch, train_sizes, widest)


def _kept(
    settings: LocalSettings, server_round: int, clients: np.ndarray, sizes: np.ndarray
) -> _Frame:
    """Return what is the same in every round of the same clients, made once."""
    return _of_bytes(settings, clients.tobytes(), sizes.tobytes())


@functools.lru_cache(maxsize=1)
def _of_bytes(settings: LocalSettings, clients: bytes, sizes: bytes) -> _Frame:
    return _laid_out(settings, 1, np.frombuffer(clients, np.int64), np.frombuffer(sizes, np.int64))


def full_steps(settings: LocalSettings, clients: np.ndarray, train_sizes: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` the steps of clients that do all their work."""
    if settings.steps:
        return np.full_like(train_sizes, settings.steps)
    return np.asarray(settings.epochs * -(-train_sizes // own_batch_size(settings, clients)))


def training_examples(settings: LocalSettings, sizes: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` how many examples are trained on; ``holdout`` keeps some out."""
    if settings.statistic != "holdout":
        return sizes
    return np.asarray(sizes - np.floor(settings.holdout_fraction * sizes).astype(np.int64))


def drops_out(settings: LocalSettings, server_round: int, clients: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` boolean: who drops out of this round."""
    if not settings.dropout:
        return np.zeros(len(clients), dtype=bool)
    draw = counter_uniform(settings.seed, "dropout", clients, server_round)
    return np.asarray(draw < settings.dropout)


def work(settings: LocalSettings, server_round: int, clients: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` how many times the ordered steps each client does.

    A factor of its own that lasts, in [1, ``most_work``] or with ``hard_workers`` one of the two,
    and in rounds in which it is slow a share of that.
    """
    if settings.hard_workers:
        draw = counter_uniform(settings.seed, WORK, clients, 0)
        lasting = np.where(draw >= 1.0 - settings.hard_workers, settings.most_work, 1.0)
    else:
        lasting = _lasting(settings.seed, WORK, clients, settings.most_work)
    if not settings.straggler_fraction:
        return lasting
    slow = counter_uniform(settings.seed, "straggler", clients, server_round)
    share = counter_uniform(settings.seed, "work", clients, server_round)
    partial = settings.min_work + (1 - settings.min_work) * share
    return lasting * np.where(slow < settings.straggler_fraction, partial, 1.0)


def own_lr(settings: LocalSettings, clients: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` the factor of each client's own on the ordered learning rate."""
    spread = settings.lr_spread
    return _lasting(settings.seed, "own-lr", clients, spread**2) / spread


def own_batch_size(settings: LocalSettings, clients: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` how many examples a mini-batch of each client has."""
    spread = settings.batch_spread
    factor = _lasting(settings.seed, "own-batch", clients, spread**2) / spread
    return np.maximum(1, np.rint(settings.batch_size * factor)).astype(np.int64)


def _lasting(seed: int, purpose: str, clients: np.ndarray, most: float) -> np.ndarray:
    """Return ``[clients]`` factors in [1, ``most``], log-uniform, the same in every round."""
    if most == 1.0:
        return np.ones(len(clients))
    return np.asarray(most ** counter_uniform(seed, purpose, clients, 0))


def _held_out(settings: LocalSettings, clients: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Mark the rows that ``holdout`` keeps out: the same in every round of a run."""
    index = np.arange(int(sizes.max()))[None, :]
    if settings.statistic != "holdout":
        return np.zeros((len(sizes), index.size), dtype=bool)
    bits = counter_bits(settings.seed, "holdout", clients[:, None], 0, index)
    bits = np.where(index < sizes[:, None], bits, np.iinfo(np.uint64).max)
    rank = bits.argsort(1, kind="stable").argsort(1, kind="stable")
    count = sizes - training_examples(settings, sizes)
    return np.asarray(rank < count[:, None])


def _orders(
    seed: int,
    server_round: int,
    clients: np.ndarray,
    epochs: range,
    sizes: np.ndarray,
    held_out: np.ndarray,
    train_sizes: np.ndarray,
    widest: int,
) -> np.ndarray:
    """Shuffle each client's training rows: ``[epochs, clients, rows]``, its own rows first.

    As many as the ``widest`` batch has come behind them, repeats of its first row.
    """
    width = int(train_sizes.max()) + widest
    orders = np.zeros((len(epochs), len(clients), width), dtype=np.int64)
    for group in similar_sizes(sizes):
        longest = int(sizes[group].max())
        inside = min(width, longest)
        together = max(1, SHUFFLED_AT_ONCE // (len(group) * longest))
        for some in (epochs[at : at + together] for at in range(0, len(epochs), together)):
            rising = _shuffled_rows(
                seed, server_round, clients[group], some, sizes[group], held_out[group, :longest]
            )
            orders[some.start : some.stop, group, :inside] = rising[:, :, :inside]
    behind = train_sizes[:, None] + np.arange(widest)
    orders[:, np.arange(len(clients))[:, None], behind] = orders[:, :, :1]
    return orders


def _shuffled_rows(
    seed: int,
    server_round: int,
    clients: np.ndarray,
    epochs: range,
    sizes: np.ndarray,
    held_out: np.ndarray,
) -> np.ndarray:
    """Return ``[epochs, clients, longest]``: own training rows in random order, then anything."""
    client = np.repeat(np.arange(len(sizes)), sizes)
    row = rows_within(sizes)
    place = client * held_out.shape[1] + row
    if held_out.any():
        kept = ~held_out.ravel().take(place)
        client, row, place = client[kept], row[kept], place[kept]
    purposes = [f"epoch-{epoch}" for epoch in epochs]
    bits = counter_bits(seed, purposes, clients.take(client), server_round, row)
    # The row lies in the low bits of its own random key: one sort of plain numbers.
    keys = np.full((len(epochs), held_out.size), np.iinfo(np.uint64).max)
    keys[:, place] = (bits & ~_ROW) | row.astype(np.uint64)
    keys = keys.reshape(len(epochs), *held_out.shape)
    return np.asarray((np.sort(keys, axis=2) & _ROW).astype(np.int64))


SHUFFLED_AT_ONCE = 1 << 16
"""Most rows whose order is drawn in one go, epochs of small cohorts together."""


_ROW = np.uint64((1 << 26) - 1)
"""Bits of a sort key that hold the row; the 38 above them are random."""
