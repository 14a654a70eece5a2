"""Krum and multi-Krum: by hand, and held to Flower's own."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy import Krum, MultiKrum
from flwr.serverapp.strategy.multikrum import select_multikrum
from torch import Tensor

from fedrms.combining import gram
from fedrms.combining.combine import bind_rule, krum, multi_krum
from fedrms.combining.krum import least_scores
from fedrms.errors import ConfigError
from fedrms.server import FedRMS

from .by_hand import HandClient, grid_of, numbers, record, train_round


def equal(clients: int) -> Tensor:
    return torch.full((clients,), 1 / clients, dtype=torch.float64)


def flowers_choice(stack: Tensor, liars: int, keep: int) -> list[int]:
    contents = [
        RecordDict(
            {
                "arrays": ArrayRecord({"w": Array(model.numpy())}),
                "metrics": MetricRecord({"partition-id": row}),
            }
        )
        for row, model in enumerate(stack)
    ]
    chosen = select_multikrum(contents, liars, keep)
    return sorted(int(content["metrics"]["partition-id"]) for content in chosen)


@pytest.mark.parametrize("clients", [7, 40, 150])
@pytest.mark.parametrize("parameters", [3, 700, 5000])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_choice_is_flowers(clients: int, parameters: int, share: float) -> None:
    generator = torch.Generator().manual_seed(clients + parameters)
    received = torch.randn(parameters, generator=generator)
    stack = received + 0.3 * torch.randn(clients, parameters, generator=generator)
    liars = int(share * clients)
    stack[:liars] += 5.0
    for keep in (1, 2, clients // 2):
        ours = least_scores(stack, received, byzantine=liars, keep=keep)
        assert ours.tolist() == flowers_choice(stack, liars, keep)


@pytest.mark.parametrize(
    ("ours", "flowers"),
    [
        ({"combine": "krum", "combine_options": {"byzantine": 2}}, Krum(num_malicious_nodes=2)),
        (
            {"combine": "multi_krum", "combine_options": {"byzantine": 2, "keep": 4}},
            MultiKrum(num_malicious_nodes=2, num_nodes_to_select=4),
        ),
    ],
)
def test_a_round_gives_the_model_of_flowers_own_strategy(ours, flowers) -> None:
    rng = np.random.default_rng(0)
    clients = [
        HandClient(k, record(w=rng.normal(size=(4, 5)).astype(np.float32)), examples=10 + k)
        for k in range(9)
    ]
    start = record(w=np.zeros((4, 5), np.float32))
    one, _ = train_round(FedRMS(law="uniform", **ours), grid_of(clients), start)
    other, _ = train_round(flowers, grid_of(clients), start)
    np.testing.assert_allclose(numbers(one)["w"], numbers(other)["w"], atol=1e-6)


def test_krum_by_hand() -> None:
    # Squared distances to the two nearest (n - f - 2 = 2): 0: 1 + 9, 1: 1 + 4, 3: 4 + 9.
    stack = torch.tensor([[0.0], [1.0], [3.0], [50.0], [90.0]])
    assert krum(stack, torch.tensor([0.5]), equal(5), byzantine=1).tolist() == [0.5]


def test_those_kept_are_averaged_by_their_weights() -> None:
    stack = torch.tensor([[0.0], [1.0], [2.0], [50.0], [60.0], [90.0]])
    weights = torch.tensor([0.1, 0.1, 0.2, 0.2, 0.2, 0.2], dtype=torch.float64)
    step = multi_krum(stack, torch.zeros(1), weights, byzantine=2, keep=3)
    assert step.tolist() == pytest.approx([(0.1 * 0 + 0.1 * 1 + 0.2 * 2) / 0.4])


def test_all_but_the_liars_are_kept_unless_told_otherwise() -> None:
    stack = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [90.0]])
    step = multi_krum(stack, torch.zeros(1), equal(6), byzantine=1)
    assert step.tolist() == pytest.approx([2.0])


def test_a_client_of_weight_zero_is_neither_chosen_nor_a_neighbour() -> None:
    crowd = torch.tensor([[9.0], [9.0], [9.0], [0.0], [1.0], [2.5]])
    weights = torch.tensor([0.0, 0.0, 0.0, 0.3, 0.3, 0.4], dtype=torch.float64)
    assert krum(crowd, torch.zeros(1), weights, byzantine=0).tolist() == [0.0]


def test_a_heavy_weight_buys_no_choice() -> None:
    stack = torch.tensor([[0.0], [0.5], [1.0], [2.0], [80.0]])
    weights = torch.tensor([0.01, 0.01, 0.01, 0.01, 0.96], dtype=torch.float64)
    assert krum(stack, torch.zeros(1), weights).tolist() == pytest.approx([0.5])


@pytest.mark.parametrize("distance", [1e10, 1e25, 1e38])
def test_liars_whose_squares_overflow_are_not_chosen(distance: float) -> None:
    honest = torch.randn(9, 20, generator=torch.Generator().manual_seed(0))
    liars = torch.full((2, 20), distance)
    liars[1] *= -1
    stack = torch.cat([liars, honest])
    chosen = least_scores(stack, torch.zeros(20), byzantine=2, keep=3)
    alone = least_scores(honest, torch.zeros(20), byzantine=0, keep=3)
    assert (chosen - 2).tolist() == alone.tolist()


def test_of_equal_clients_the_first_is_chosen() -> None:
    stack = torch.full((20, 300), 0.1)
    assert least_scores(stack, torch.zeros(300), byzantine=2, keep=3).tolist() == [0, 1, 2]


def test_near_ties_far_from_the_origin_are_decided_in_double_precision() -> None:
    # Squared distances are 2e-8 of the squared norms: less than float32 can tell.
    rng = np.random.default_rng(0)
    near = rng.normal(size=(8, 3000))
    near[5] *= 0.9
    stack = torch.from_numpy(1e3 + 0.1 * near).float()
    exact = stack.double() - stack.double().mean(0)
    squared = torch.cdist(exact, exact).square()
    scores = squared.sort(1).values[:, 1:6].sum(1)
    chosen = least_scores(stack, torch.zeros(3000), byzantine=1, keep=1)
    assert chosen.tolist() == [int(scores.argmin())]


def test_the_inner_products_are_those_of_the_updates(monkeypatch) -> None:
    monkeypatch.setattr(gram, "WIDTH", 64)
    stack = torch.randn(30, 200, generator=torch.Generator().manual_seed(0))
    received = torch.randn(200, generator=torch.Generator().manual_seed(1))
    updates = (stack - received).double().numpy()
    expected = updates @ updates.T
    apart = np.abs(gram.gram(stack, received, torch.float32) - expected)
    norms = np.sqrt(np.diagonal(expected))
    assert (apart <= gram.gram_error(torch.float32) * np.outer(norms, norms)).all()
    rows, squares = gram.gram_rows(stack, received, np.array([3, 17]))
    np.testing.assert_allclose(rows, expected[[3, 17]], rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(squares, np.diagonal(expected), rtol=1e-6)


def test_two_threads_give_the_inner_products_of_one_to_the_bit(monkeypatch) -> None:
    monkeypatch.setattr(gram, "LEAST", 1)
    monkeypatch.setattr(gram, "WIDTH", 64)
    stack = torch.randn(30, 1000, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(gram.gram(stack, stack[0], torch.float32))
    torch.set_num_threads(before)
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("krum", {"byzantine": -1}, "byzantine"),
        ("krum", {"byzantine": 1.5}, "byzantine"),
        ("krum", {"byzantine": "two"}, "byzantine"),
        ("krum", {"byzantine": float("inf")}, "byzantine"),
        ("krum", {"keep": 2}, "keep"),
        ("multi_krum", {"keep": 0.5}, "keep"),
    ],
)
def test_an_option_that_cannot_work_is_refused_with_its_key(name, options, key) -> None:
    with pytest.raises(ConfigError) as caught:
        bind_rule(name, options)
    assert caught.value.key == f"strategy.combine_options.{key}"
