"""One stack's memory, round after round."""

import torch

from fedrms.engines.stack_memory import ALIGNED, StackMemory

LIKE = torch.zeros(1)


def test_a_stack_that_nobody_holds_any_more_gives_its_memory_to_the_next():
    memory = StackMemory()
    place = memory.empty(10, 1000, LIKE).data_ptr()
    assert memory.empty(10, 1000, LIKE).data_ptr() == place
    assert memory.empty(3, 700, LIKE.double()).data_ptr() == place
    assert place % ALIGNED == 0


def test_what_somebody_still_holds_is_never_written_over():
    memory = StackMemory()
    stack = memory.empty(4, 50, LIKE).fill_(1.0)
    held = [stack[1], stack[2].numpy(), stack[3].view(-1, 5)]
    del stack
    for holder in range(3, 0, -1):
        memory.empty(4, 50, LIKE).fill_(2.0)
        assert all((part == 1.0).all() for part in held[:holder])
    assert (held[0] == 1.0).all()
    place = held[0].data_ptr() - 256  # a row of 200 bytes, and what brings the next to a cache line
    held.clear()
    assert memory.empty(4, 50, LIKE).data_ptr() != place


def test_stacks_have_the_shape_and_dtype_that_are_asked_for_and_may_be_empty():
    memory = StackMemory()
    for rows, columns, dtype in (
        (2, 3, torch.float32),
        (70, 30, torch.float64),
        (0, 5, torch.half),
    ):
        stack = memory.empty(rows, columns, torch.zeros(1, dtype=dtype))
        assert (stack.shape, stack.dtype) == ((rows, columns), dtype)
        assert all(row.data_ptr() % ALIGNED == 0 for row in stack)
        assert all(row.is_contiguous() for row in stack)
