from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Error, Message, RecordDict

from fedrms.combining.row_blocks import RowBlocks
from fedrms.errors import ConfigError
from fedrms.server.weighed_by import weighed_by
from fedrms.weighting.precision_weighted import PrecisionWeighted, precision_weighted_mean

from ..by_hand import HandClient, column, grid_of, numbers, record, train_round


@dataclass
class WithSquares(HandClient):
    """A client by hand that returns squared gradients too."""

    squares: ArrayRecord | None = None

    def answer(self, message: Message) -> RecordDict | Error:
        content: Any = super().answer(message)
        if self.squares is not None:
            content["gradient-squares"] = self.squares
        return content


def test_each_parameter_is_averaged_by_its_inverse_variances() -> None:
    # Parameter 0: weights 1 and 1/3, of 2 and 6 (2 + 2) / (4/3) = 3. Parameter 1: 1/4 and 1.
    rows = torch.tensor([[2.0, 10.0, 1.0, 4.0], [6.0, 20.0, 3.0, 1.0]], dtype=torch.float64)
    received = torch.tensor([1.0, 8.0], dtype=torch.float64)
    step, shares = precision_weighted_mean(rows, received, 1e-15)
    assert step.numpy() == pytest.approx([3.0 - 1.0, 18.0 - 8.0])
    assert shares == pytest.approx([(3 / 4 + 1 / 5) / 2, (1 / 4 + 4 / 5) / 2])


def test_an_eps_that_is_large_beside_the_variances_gives_the_plain_mean() -> None:
    rows = torch.tensor([[2.0, 10.0, 1.0, 4.0], [6.0, 20.0, 3.0, 1.0]])
    step, shares = precision_weighted_mean(rows, torch.zeros(2), 1e9)
    assert step.numpy() == pytest.approx([4.0, 15.0])
    assert shares == pytest.approx([0.5, 0.5])


def test_it_is_numpys_weighted_average_in_blocks_of_rows_and_columns_too(monkeypatch) -> None:
    from fedrms.weighting import precision_weighted

    draw = torch.Generator().manual_seed(0)
    rows = torch.cat(
        [torch.randn(7, 900, generator=draw), torch.rand(7, 900, generator=draw)], dim=1
    )
    received = torch.randn(900, generator=draw)
    weights = 1 / (rows[:, 900:].double().numpy() + 0.01)
    expected = np.average(rows[:, :900].numpy(), axis=0, weights=weights) - received.numpy()
    monkeypatch.setattr(precision_weighted, "CELLS", 300 * 7)
    for stack in (rows, RowBlocks([rows[:3], rows[3:]])):
        step, shares = precision_weighted_mean(stack, received, 0.01)
        assert step.numpy() == pytest.approx(expected, abs=1e-6)
        assert shares == pytest.approx((weights / weights.sum(0)).mean(1))


def test_equal_variances_give_the_plain_mean_whatever_the_numbers_of_examples() -> None:
    same = record(w=[0.5, 2.0])
    clients = [
        WithSquares(k, record(w=[float(k), 1.0]), examples=10 + 90 * k, squares=same)
        for k in range(3)
    ]
    strategy = weighed_by(PrecisionWeighted)
    arrays, _ = train_round(strategy, grid_of(clients), record(w=[0.0, 0.0]))
    assert numbers(arrays)["w"] == pytest.approx([1.0, 1.0])
    assert column(strategy, "weight") == pytest.approx([1 / 3] * 3)


def test_variances_travel_in_messages() -> None:
    clients = [
        WithSquares(0, record(w=[2.0, 10.0]), squares=record(w=[1.0, 4.0])),
        WithSquares(1, record(w=[6.0, 20.0]), squares=record(w=[3.0, 1.0])),
    ]
    strategy, grid = weighed_by(PrecisionWeighted, gradient_decay=0.9), grid_of(clients)
    arrays, _ = train_round(strategy, grid, record(w=[1.0, 8.0]))
    assert grid.sent[0][0].content["config"]["gradient-decay"] == 0.9
    assert numbers(arrays)["w"] == pytest.approx([3.0, 18.0], rel=1e-6)
    assert column(strategy, "weight") == pytest.approx([0.475, 0.525], rel=1e-6)


@pytest.mark.parametrize(
    ("squares", "reason"),
    [
        (None, "holds no 'gradient-squares'"),
        (record(w=[1.0]), "has shape"),
        (record(w=[1.0, np.inf]), "not finite"),
    ],
)
def test_a_client_without_proper_variances_is_left_out_with_the_reason(squares, reason) -> None:
    clients = [
        WithSquares(0, record(w=[2.0, 10.0]), squares=record(w=[1.0, 1.0])),
        WithSquares(1, record(w=[6.0, 20.0]), squares=squares),
    ]
    strategy = weighed_by(PrecisionWeighted)
    arrays, _ = train_round(strategy, grid_of(clients), record(w=[1.0, 8.0]))
    assert numbers(arrays)["w"] == pytest.approx([2.0, 10.0])
    assert strategy.diagnostics is not None
    assert reason in strategy.diagnostics.failures[1]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"gradient_decay": 1.0}, "gradient_decay"),
        ({"gradient_decay": 0.0}, "gradient_decay"),
        ({"eps": 0.0}, "eps"),
        ({"combine": "median"}, "combine"),
        ({"clip_norm": 1.0}, "clip_norm"),
    ],
)
def test_options_that_have_no_meaning_are_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        weighed_by(PrecisionWeighted, **options)
    assert caught.value.key == f"{key}"
