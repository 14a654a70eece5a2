"""Robust centres that go by coordinate: the weighted median and the trimmed mean.

Every coordinate's values are brought into a row and sorted by NumPy's vectorised sort of plain
numbers. Where weights differ, a float32 value becomes a float64 whose last 29 bits, which the value
leaves 0, hold its client's number: the order stays that of the values, and the same sort brings
the clients along. A weighted median needs one or two clients of a coordinate and not the order of
all. Where there is a C compiler it is looked for by halving the numbers that it can be
(``fedrms/native/weighted_median.c``); elsewhere keys of half the size are sorted first
(:class:`_Brief`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fedrms.combining.columns import Scratch, over_columns
from fedrms.combining.row_blocks import Stack, slabs_of
from fedrms.native_code import library, pointer

CELLS = 1 << 17
"""Most numbers sorted at a time: with what is made of them, they stay in a CPU's caches."""
PAD = 16
"""Numbers between the rows of a block, so that rows do not fall on the same cache lines."""
TIE = 1e-9
"""Weights this near to one half count as one half."""
SPARE = np.int64((1 << 29) - 1)
"""The bits of a float64 that a float32 leaves 0."""
NETWORK = 512
"""Most numbers of 32 bits that NumPy sorts by one network; of more, one takes six times as long.
Sorting is then the fastest way to a median of alike clients, too."""
BRIEF = 1 << 12
"""Most clients for keys of 32 bits: of a value they keep its sign, its size and 11 bits or more."""
HALVED = 1 << 20
"""Most clients whose weights are told apart in whole numbers of 30 bits."""
LIKELY = 4.0
"""Standard deviations about the middle rank in which a weighted median is looked for first."""

Centre = Callable[[np.ndarray, Scratch], Tensor]
"""From a block ``[clients, columns]`` to its centre ``[columns]`` in float64."""


def median(parameters: Stack, received: Tensor, weights: Tensor) -> Tensor:
    """Return the step to the weighted coordinate median (Yin et al. 2018, arXiv:1803.01498).

    The value at which half of the weight lies on either side; the midpoint of two values
    where exactly half lies below the first.
    """
    share = (weights / weights.sum()).numpy()
    last = len(share) - 1

    def middle_of_alike(block: np.ndarray, scratch: Scratch) -> Tensor:
        values = _rising(block, scratch)
        return _midpoint(values[:, last // 2], values[:, len(share) // 2])

    def middle(block: np.ndarray, scratch: Scratch) -> Tensor:
        ranked = _Ranked(block, scratch)
        first, second, _ = _halves(ranked.weights(share, slice(None)))
        rows = np.arange(len(first))
        return _midpoint(ranked.values(rows, first), ranked.values(rows, second))

    def soon(block: np.ndarray, scratch: Scratch) -> Tensor:
        first, second, known = _Brief(block, scratch).middle(share)
        columns = np.arange(block.shape[1])
        found = _midpoint(block[first, columns], block[second, columns])
        left = np.flatnonzero(~known)  # but for parameters that nobody trains
        if len(left):
            left = left[(block[:, left] != block[0, left]).any(axis=0)]
            found[torch.from_numpy(left)] = torch.nan
        return found

    def halving(block: np.ndarray, scratch: Scratch) -> Tensor:
        return _by_halving(block, share)

    alike, single = bool((share == share[0]).all()), parameters.dtype == torch.float32
    first = soon if single and not alike and len(share) <= BRIEF else None
    worth_it = single and len(share) <= HALVED and not (alike and len(share) <= NETWORK)
    if worth_it and library("weighted_median") is not None:
        first = halving
    return _step(parameters, received, weights, middle_of_alike if alike else middle, first)


def _by_halving(block: np.ndarray, share: np.ndarray) -> Tensor:
    """Return ``[columns]`` the weighted medians of a block, NaN where they are not known."""
    code = library("weighted_median")
    assert code is not None
    if block.strides[1] != block.itemsize:
        block = np.ascontiguousarray(block)
    share = np.ascontiguousarray(share, np.float64)
    found = np.full(block.shape[1], np.nan)
    code.weighted_median(
        *(pointer(block), ctypes.c_int64(block.strides[0] // block.itemsize)),
        *(ctypes.c_int64(block.shape[0]), ctypes.c_int64(block.shape[1])),
        *(pointer(share), ctypes.c_double(TIE), pointer(found)),
    )
    return torch.from_numpy(found)


def trimmed_mean(
    parameters: Stack, received: Tensor, weights: Tensor, *, trim: float = 0.2
) -> Tensor:
    """Return the step to the weighted mean without the extremes (Yin et al. 2018).

    Parameters
    ----------
    trim : float
        Share of clients cut from each end of every coordinate, rounded down; below one
        half. Where only clients of weight 0 are left, they count alike.
    """
    cut = int(trim * len(weights))
    inside = slice(cut, len(weights) - cut)
    plain = weights.numpy()

    def centre_of_alike(block: np.ndarray, scratch: Scratch) -> Tensor:
        return torch.from_numpy(_rising(block, scratch)[:, inside]).double().mean(1)

    def centre(block: np.ndarray, scratch: Scratch) -> Tensor:
        ranked = _Ranked(block, scratch)
        kept = torch.from_numpy(ranked.weights(plain, inside))
        total = kept.sum(1)
        nobody = total <= 0.0
        if nobody.any():
            kept[nobody] = 1.0
            total = kept.sum(1)
        values = torch.from_numpy(ranked.values(slice(None), inside))
        return kept.mul_(values).sum(1) / total

    alike = bool((plain == plain[0]).all())
    return _step(parameters, received, weights, centre_of_alike if alike else centre)


def _step(
    parameters: Stack,
    received: Tensor,
    weights: Tensor,
    centre: Centre,
    soon: Centre | None = None,
) -> Tensor:
    """Return the step from ``received`` to the centre of every coordinate.

    Where ``soon`` is given it is asked first; what it cannot tell, which is NaN, is left to
    ``centre``.
    """
    step = torch.empty_like(received)
    total = float(weights.sum())
    scratch = Scratch()
    width = max(64, CELLS // len(weights))
    for columns, slab in slabs_of(parameters):
        base, part = received[columns], step[columns]

        def work(
            here: slice | Tensor,
            find: Centre = soon or centre,
            slab: Tensor = slab,
            base: Tensor = base,
            part: Tensor = part,
        ) -> None:
            block = slab[:, here]
            if block.dtype not in (torch.float32, torch.float64):
                block = block.float()
            found = total * (find(block.numpy(), scratch) - base[here].double())
            part[here] = found.to(part.dtype)

        over_columns(work, slab.shape, 2 * width if soon else width)
        if soon:
            left = part.isnan().nonzero()[:, 0]

            def work_left(some: slice, left: Tensor = left) -> None:
                work(left[some], centre)

            over_columns(work_left, (len(weights), len(left)), width)
    return step


def _halves(
    weights: np.ndarray, before: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``[columns]`` which ranks the middle of the weight lies at, and whether it is here.

    The weight of those who hold some ranks is ``[columns, ranks]``, in which sums are formed in
    place, and that of the ranks before them ``[columns]``.
    """
    weights[:, 0] += before
    sums = torch.from_numpy(weights)
    torch.cumsum(sums, 1, out=sums)
    columns, last = np.arange(len(weights)), weights.shape[1] - 1
    first = (weights >= 0.5 - TIE).argmax(axis=1)
    second = first.copy()
    halved = np.flatnonzero(weights[columns, first] <= 0.5 + TIE)
    second[halved] = np.minimum((weights[halved] <= 0.5 + TIE).sum(axis=1), last)
    return first, second, (before < 0.5 - TIE) & (weights[:, last] > 0.5 + TIE)


def _rising(block: np.ndarray, scratch: Scratch) -> np.ndarray:
    """Return ``[columns, clients]`` every coordinate's values in rising order."""
    values = scratch.array("values", block.shape[::-1], block.dtype)
    values[...] = _compact(block, scratch).T
    _sort_rows(values, scratch)
    return values


def _sort_rows(values: np.ndarray, scratch: Scratch) -> None:
    """Sort every row, as ``values.sort(axis=1)`` does.

    Rows of up to two networks: each half is sorted, the smaller of both are brought to the left
    (Batcher 1968: of one half and the other reversed, place by place), and each is sorted again.
    """
    count = values.shape[1]
    middle = -(-count // 2)
    left, right = values[:, :middle], values[:, middle:]
    if values.itemsize == 4 and NETWORK < count <= 2 * NETWORK:
        left.sort(axis=1)
        right.sort(axis=1)
        if not np.isnan(values[:, [middle - 1, -1]]).any():  # it would be the last of a half
            falling = scratch.array("falling", right.shape, values.dtype)
            falling[...] = right[:, ::-1]
            low = left[:, middle - len(right.T) :]
            np.maximum(low, falling, out=right)
            np.minimum(low, falling, out=low)
            left.sort(axis=1)
            right.sort(axis=1)
            return
    values.sort(axis=1)


class _Brief:
    """A block with keys of 32 bits, the leading bits and then the client, to be sorted.

    The keys are those of the differences from a middling client, which are as small as clients
    are apart. Subtracting never turns an order round; where it or the bits left out make two
    values about the middle look alike, the column is not known.
    """

    def __init__(self, block: np.ndarray, scratch: Scratch) -> None:
        clients, columns = block.shape
        self._scratch = scratch
        self._bits = max(1, (clients - 1).bit_length())
        self._mask = np.int32((1 << self._bits) - 1)
        one, two, three = block[0], block[clients // 2], block[-1]
        base = np.maximum(np.minimum(one, two), np.minimum(np.maximum(one, two), three))
        apart = scratch.array("compact", (clients, columns + PAD), np.float32)
        with np.errstate(over="ignore"):  # what is infinitely far keeps its side
            np.subtract(block, base, out=apart[:, :columns])
        keys = apart.view(np.int32)  # the padding as well: whole arrays are several times as fast
        falling = scratch.array("falling", keys.shape, np.int32)
        np.right_shift(keys, 31, out=falling)
        falling &= np.int32(0x7FFFFFFF)
        keys ^= falling  # negative numbers fall as their bits rise
        keys &= ~self._mask
        keys |= np.arange(clients, dtype=np.int32)[:, None]
        self._keys, self._columns = keys, columns

    def middle(self, share: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return ``[columns]`` the two clients about the middle of the weight, and who is known."""
        clients, columns = len(self._keys), self._columns
        spread = LIKELY * clients / 2 * float(np.sqrt(np.square(share - 1 / clients).sum()))
        start = max(0, int(clients / 2 - spread) - 2)
        stop = min(clients, int(clients / 2 + spread) + 3)
        keys, first_rank, sure = self._ranks(start, stop)
        ranks = slice(start - first_rank, stop - first_rank)
        if first_rank:
            before = self._below(keys[:, ranks.start], share)
        else:
            before = self._held(keys[:, : ranks.start], share).sum(1).numpy()
        first, second, known = _halves(self._held(keys[:, ranks], share).numpy(), before)
        known &= sure
        places = np.arange(columns) * keys.shape[1] + ranks.start  # among all keys, in a row
        one, two = places + first, places + second
        flat = keys.reshape(-1)
        known &= self._stands_alone(flat, one)
        apart = np.flatnonzero(first != second)
        known[apart] &= self._stands_alone(flat, two[apart])
        return flat[one] & self._mask, flat[two] & self._mask, known

    def _ranks(self, start: int, stop: int) -> tuple[np.ndarray, int, np.ndarray]:
        """Return ``[columns, ranks]`` the keys from some rank on, that rank, and where it is so.

        Of more clients than one network sorts, parts are sorted, and then what lies about the
        middles of all parts: those of alike parts are alike.
        """
        clients, columns = len(self._keys), self._columns
        count = -(-clients // NETWORK)
        wanted = (max(start - 1, 0), min(stop + 1, clients))  # with a neighbour on each side
        chosen, first_rank = [], 0
        low, high = np.full((2, columns), [[np.iinfo(np.int32).min], [np.iinfo(np.int32).max]])
        for part in range(count):
            own = self._keys[part::count, :columns]
            rows = self._scratch.array(f"part {part}", (columns, len(own)), np.int32)
            rows[...] = own.T
            rows.sort(axis=1)
            if count == 1:
                return rows, 0, np.ones(columns, bool)
            slack = int(LIKELY / 2 * np.sqrt(len(own))) + 1
            first = max(0, wanted[0] // count - slack)
            last = min(len(own), -(-wanted[1] // count) + slack)
            chosen.append(rows[:, first:last])
            first_rank += first
            if first:
                np.maximum(low, rows[:, first - 1], out=low)
            if last < len(own):
                np.minimum(high, rows[:, last], out=high)
        wide = sum(some.shape[1] for some in chosen)
        keys = self._scratch.array("keys32", (columns, wide), np.int32)
        np.concatenate(chosen, axis=1, out=keys)
        keys.sort(axis=1)
        ends = keys[:, wanted[0] - first_rank], keys[:, wanted[1] - first_rank - 1]
        return keys, first_rank, (ends[0] > low) & (ends[1] < high)

    def _held(self, keys: np.ndarray, share: np.ndarray) -> Tensor:
        """Return the weights of those whose keys are given, in float64."""
        who = self._scratch.array("who", keys.shape, np.int32)
        np.bitwise_and(keys, self._mask, out=who)
        held = torch.from_numpy(self._scratch.array("held", keys.shape, np.float64))
        weights = torch.from_numpy(share)
        torch.index_select(weights, 0, torch.from_numpy(who).view(-1), out=held.view(-1))
        return held

    def _below(self, limit: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Return ``[columns]`` the weight of those with lesser keys, in float64.

        Weights are cut into a part of 20 bits, of which sums in float32 are exact, and the rest.
        """
        wide = self._scratch.array("limit", (self._keys.shape[1],), np.int32)
        wide[: self._columns] = limit
        less = self._scratch.array("falling", self._keys.shape, np.int32).view(np.float32)
        np.less(self._keys, wide, out=less)
        coarse = np.rint(share * 2.0**20) / 2.0**20
        sums = np.stack([coarse, share - coarse]).astype(np.float32) @ less
        return np.asarray(sums[:, : self._columns].sum(axis=0, dtype=np.float64))

    def _stands_alone(self, keys: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return whether the leading bits at some places are those of no neighbour.

        The neighbour of a column's first or last key may be another column's; it is then not
        known where the two are alike, which is rare.
        """
        leading = keys[places] >> self._bits
        before = keys.take(places - 1, mode="clip") >> self._bits
        after = keys.take(places + 1, mode="clip") >> self._bits
        return np.asarray((leading != before) & (leading != after))


class _Ranked:
    """A block with every coordinate sorted, and who holds each rank."""

    def __init__(self, block: np.ndarray, scratch: Scratch) -> None:
        self._block, self._scratch = block, scratch
        self._packed = block.dtype == np.float32
        clients, columns = block.shape
        if not self._packed:
            self._order = np.argsort(block.T, axis=1, kind="stable")
            return
        keys = scratch.array("keys", (columns, clients), np.float64)
        keys[...] = _compact(block, scratch).T
        self._bits = keys.view(np.int64)
        self._bits |= np.arange(clients)
        keys.sort(axis=1)
        self._order = scratch.array("order", keys.shape, np.int64)
        np.bitwise_and(self._bits, SPARE, out=self._order)

    def weights(self, weights: np.ndarray, ranks: slice) -> np.ndarray:
        """Return ``[columns, ranks]`` the weights of those who hold these ranks."""
        order = self._order[:, ranks]
        held = self._scratch.array("weights", order.shape, np.float64)
        return weights.take(order, out=held, mode="clip")

    def values(self, columns: np.ndarray | slice, ranks: np.ndarray | slice) -> np.ndarray:
        """Return the values at these ranks in float64."""
        if not self._packed:
            return np.take_along_axis(self._block.T, self._order, axis=1)[columns, ranks]
        return (self._bits[columns, ranks] & ~SPARE).view(np.float64)


def _compact(block: np.ndarray, scratch: Scratch) -> np.ndarray:
    clients, columns = block.shape
    compact = scratch.array("compact", (clients, columns + PAD), block.dtype)[:, :columns]
    compact[...] = block
    return compact


def _midpoint(low: np.ndarray, high: np.ndarray) -> Tensor:
    return torch.from_numpy(0.5 * (low.astype(np.float64) + high.astype(np.float64)))
