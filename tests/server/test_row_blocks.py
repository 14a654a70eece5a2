"""A stack in blocks of rows is the stack: every rule, check and clip gives the same."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from fedrms.combining import row_blocks
from fedrms.combining.aggregation import Aggregation
from fedrms.combining.combine import COMBINE
from fedrms.combining.row_blocks import RowBlocks, blocks_of, join_stacks, take_rows
from fedrms.combining.weighted_mean import mean
from fedrms.replies.cohort import Layout, StackedReplies
from fedrms.replies.replies import bad_rows, read_replies

from .by_hand import record

CLIENTS, PARAMETERS = 71, 130
UNEVEN = (1, 40, 0, 7, 23)


def models(seed: int = 0) -> Tensor:
    return torch.randn(CLIENTS, PARAMETERS, generator=torch.Generator().manual_seed(seed))


def in_blocks(stack: Tensor, sizes: Sequence[int] = UNEVEN) -> RowBlocks:
    return RowBlocks(stack.split(list(sizes)))


def on_demand(stack: Tensor, sizes: Sequence[int] = UNEVEN) -> RowBlocks:
    parts = stack.split(list(sizes))
    makers = [lambda part=part: part.clone() for part in parts]
    return RowBlocks(makers, sizes, stack.shape[1], stack.dtype)


def whole(stack: row_blocks.Stack) -> Tensor:
    return stack if isinstance(stack, Tensor) else stack[:, :]


@pytest.mark.parametrize("rule", COMBINE.values(), ids=COMBINE)
@pytest.mark.parametrize("make", [in_blocks, on_demand])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_rule_gives_what_it_gives_for_the_whole(rule, make, dtype, monkeypatch) -> None:
    monkeypatch.setattr(row_blocks, "SLAB", 50 * CLIENTS * 8)  # slabs of 50 or 100 columns
    stack, received = models().to(dtype), models(1)[0].to(dtype)
    weights = torch.rand(CLIENTS, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weights /= weights.sum()
    torch.testing.assert_close(
        rule(make(stack), received, weights), rule(stack, received, weights), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("combine", ["mean", "median", "krum", "geometric_median"])
@pytest.mark.parametrize("limit", [{"clip_norm": 10.0}, {"clip_median": 0.9}])
def test_clipping_gives_what_it_gives_for_the_whole(combine: str, limit: dict) -> None:
    aggregation = Aggregation(combine=combine, **limit)
    stack, received = models(), models(1)[0]
    weights = np.random.default_rng(0).random(CLIENTS)
    torch.testing.assert_close(
        aggregation.update(on_demand(stack), received, weights),
        aggregation.update(stack, received, weights),
        rtol=1e-5,
        atol=1e-5,
    )


def test_rows_can_be_taken_in_any_order_and_taken_again() -> None:
    stack = models()
    rows = np.random.default_rng(0).permutation(CLIENTS)[:30]
    again = np.array([4, 29, 0])
    taken = take_rows(in_blocks(stack), rows)
    assert taken.shape == (30, PARAMETERS)
    assert whole(taken).equal(stack[rows])
    assert whole(take_rows(taken, again)).equal(stack[rows][again])
    assert isinstance(taken, RowBlocks)
    assert taken[29].equal(stack[rows[29]])


def test_columns_are_read_for_all_clients() -> None:
    stack = models()
    assert in_blocks(stack)[:, 7:19].equal(stack[:, 7:19])
    with pytest.raises(IndexError, match="all clients"):
        in_blocks(stack)[0:2, 0:2]


def test_a_mean_holds_one_block_at_a_time() -> None:
    made: list[int] = []

    def block(size: int) -> Tensor:
        made.append(size)
        return torch.ones(size, 3)

    sizes = [3, 5, 2]
    stack = RowBlocks([lambda n=n: block(n) for n in sizes], sizes, 3)
    step = COMBINE["mean"](stack, torch.zeros(3), torch.full((10,), 0.1, dtype=torch.float64))
    assert made == sizes  # each was made once
    torch.testing.assert_close(step, torch.ones(3))


def test_blocks_made_on_demand_need_their_size() -> None:
    with pytest.raises(ValueError, match="rows and columns"):
        RowBlocks([lambda: torch.zeros(2, 2)])


def test_joined_stacks_follow_each_other() -> None:
    stack = models()
    joined = join_stacks([stack[:10], in_blocks(stack[10:], (60, 1))])
    assert whole(joined).equal(stack)
    assert isinstance(join_stacks([stack[:10], stack[10:]]), Tensor)
    assert [len(rows) for rows, _ in blocks_of(joined)] == [10, 60, 1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("make", [Tensor.clone, in_blocks, on_demand])
def test_rows_with_a_number_that_is_not_finite_are_found(bad: float, make) -> None:
    stack = models()
    stack[[2, 41, 70], [0, 129, 64]] = bad
    assert bad_rows(make(stack)) == dict.fromkeys([2, 41, 70], "the parameters are not finite")


def test_infinities_of_both_signs_do_not_cancel() -> None:
    stack = torch.tensor([[float("inf"), -float("inf")], [1.0, 2.0]])
    assert bad_rows(stack) == {0: "the parameters are not finite"}


def test_rows_whose_distances_would_overflow_are_too_large() -> None:
    """float32 ends at 3.4e38: rows of norm 9e18 are 3.24e38 apart, squared; of 1e19, 4e38."""
    stack = torch.tensor([[9e18, 0.0], [-9e18, 0.0], [0.0, 1e19], [3e38, -3e38]])
    assert torch.isfinite((stack[0] - stack[1]).square().sum())
    assert bad_rows(stack) == dict.fromkeys([2, 3], "the parameters are too large to be measured")


@pytest.mark.parametrize("make", [Tensor.clone, in_blocks, on_demand])
def test_squares_below_zero_are_found_behind_the_models(make) -> None:
    stack = models()
    stack[50, 64] = -0.5
    stack[:, 65:] = stack[:, 65:].square()
    assert bad_rows(make(stack), 65) == {}
    stack[50, 65] = -0.5
    assert bad_rows(make(stack), 65) == {50: "'gradient-squares' are below 0"}


def test_replies_in_blocks_are_sorted_and_checked() -> None:
    layout = Layout.of(record(w=[0.0, 0.0]))
    first = torch.tensor([[9.0, 1.0], [2.0, 1.0]])
    second = torch.tensor([[float("nan"), 0.0], [1.0, 1.0]])

    class Replies(list):
        stacked = StackedReplies(
            [9, 2, 5, 1], RowBlocks([first, second]), {"num-examples": np.ones(4)}, {}
        )

    cohort = read_replies(Replies(), layout)
    assert cohort.clients == [1, 2, 9]
    assert whole(cohort.parameters).tolist() == [[1.0, 1.0], [2.0, 1.0], [9.0, 1.0]]
    assert cohort.failures == {5: "the parameters are not finite"}


@pytest.mark.parametrize("clients", [7, CLIENTS])
def test_a_mean_of_held_blocks_is_that_of_blocks_made_on_demand_to_the_bit(clients):
    stack, weights = models()[:clients], torch.rand(clients).double()
    sizes = (1, clients - 3, 2)
    held, made = in_blocks(stack, sizes), on_demand(stack, sizes)
    assert held.held is not None
    assert made.held is None
    assert mean(held, stack[0], weights).equal(mean(made, stack[0], weights))


def test_held_blocks_that_are_on_a_device_stay_what_they_are():
    held = in_blocks(models())
    assert held.to("cpu") is held
    assert held[np.arange(CLIENTS - 2)].held is None  # a part of a block is taken when it is read
