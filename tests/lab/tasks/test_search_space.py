"""The space of architectures: sizes and skips by hand."""

import pytest
import torch

from fedrms.lab.tasks.search_space import Cell


def test_a_cell_has_the_parameters_of_its_layers():
    cell = Cell((1, 8, 8), 10, depth=3, width=4)
    sizes = 64 * 4 + 4, 4 * 4 + 4, 4 * 4 + 4, 4 * 10 + 10
    assert sum(p.numel() for p in cell.parameters()) == sum(sizes)


def test_a_skip_adds_what_a_layer_got():
    plain, skip = (Cell((3,), 2, depth=2, width=4, residual=r) for r in (False, True))
    skip.load_state_dict(plain.state_dict())
    for cell in (plain, skip):
        cell.layers[0].weight.data.zero_()
        cell.layers[0].bias.data.zero_()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain(x), plain.head.bias.expand(5, 2))
    torch.testing.assert_close(skip(x), skip.head(skip.stem(x).relu()))


def test_an_impossible_cell_is_refused():
    with pytest.raises(ValueError, match="depth"):
        Cell((3,), 2, depth=0)
    with pytest.raises(ValueError, match="relu"):
        Cell((3,), 2, activation="step")
