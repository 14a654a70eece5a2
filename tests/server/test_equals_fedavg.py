"""With every scale equal FedRMS is FedAvg, and no order of anything matters."""

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrms.server import FedRMS
from fedrms.weighting.laws import LAWS

from .by_hand import HandClient, HandGrid, column, grid_of, numbers, quickly, record, train_round

EVERY_LAW = pytest.mark.parametrize("law", list(LAWS))


def cohort(seed: int, clients: int, *, noise: float | None = None) -> list[HandClient]:
    """Clients with random models and sizes; ``noise`` is everyone's statistic, or it varies."""
    rng = np.random.default_rng(seed)
    return [
        HandClient(
            k,
            record(w=rng.normal(size=(3, 4)).astype(np.float32), b=rng.normal(size=5)),
            examples=int(rng.integers(1, 500)),
            losses={"loss-second-moment": rng.lognormal() ** 2 if noise is None else noise},
        )
        for k in range(clients)
    ]


def start() -> ArrayRecord:
    return record(w=np.full((3, 4), 0.1, np.float32), b=np.linspace(-1, 1, 5))


def same_bits(one: ArrayRecord | None, other: ArrayRecord | None) -> bool:
    return {k: v.tobytes() for k, v in numbers(one).items()} == {
        k: v.tobytes() for k, v in numbers(other).items()
    }


@EVERY_LAW
@pytest.mark.parametrize("normalize", ["sum", "mean"])
@settings(quickly, max_examples=8)
@given(seed=st.integers(0, 10**6), clients=st.integers(2, 12), noise=st.floats(1e-3, 1e3))
def test_equal_statistics_give_the_uniform_laws_model_to_the_bit(
    law: str, normalize: str, seed: int, clients: int, noise: float
) -> None:
    ours = FedRMS(law=law, normalize=normalize)
    uniform = FedRMS(law="uniform", normalize=normalize)
    one, other = start(), start()
    for server_round in (1, 2):
        grid = grid_of(cohort(seed + server_round, clients, noise=noise))
        one, _ = train_round(ours, grid, one, server_round)
        other, _ = train_round(uniform, grid, other, server_round)
        assert same_bits(one, other)
    assert column(ours, "weight") == column(uniform, "weight")


@EVERY_LAW
def test_equal_statistics_give_the_model_of_flowers_own_fedavg(law: str) -> None:
    grid = grid_of(cohort(3, 7, noise=2.5))
    ours, metrics = train_round(FedRMS(law=law), grid, start())
    flowers, flowers_metrics = train_round(FedAvg(), grid, start())
    for name, expected in numbers(flowers).items():
        np.testing.assert_allclose(numbers(ours)[name], expected, rtol=0, atol=1e-6)
        assert numbers(ours)[name].shape == expected.shape
    assert metrics is not None
    assert flowers_metrics is not None
    assert metrics["loss-second-moment"] == pytest.approx(flowers_metrics["loss-second-moment"])


def test_noiseless_unequal_clients_are_left_to_fedavg_by_the_dead_zone() -> None:
    # Statistics within (1.5)^2 of the quartile are nobody's fault.
    clients = cohort(5, 6, noise=1.0)
    for place, client in enumerate(clients):
        client.losses = {"loss-second-moment": 1.0 + 0.2 * place}
    ours, _ = train_round(FedRMS(), grid_of(clients), start())
    fedavg, _ = train_round(FedRMS(law="uniform"), grid_of(clients), start())
    assert same_bits(ours, fedavg)


@pytest.mark.parametrize(
    "options",
    [
        {"law": "deadzone"},
        {"law": "rmsprop"},
        {"law": "random_effects"},
        {"law": "softmax"},
        {"law": "rmsprop", "combine": "median"},
        {"law": "rmsprop", "combine": "trimmed_mean"},
        {"law": "rmsprop", "combine": "geometric_median", "clip_median": 1.0},
    ],
    ids=lambda options: "-".join(options.values()) if "clip_median" not in options else "clipped",
)
@settings(quickly, max_examples=8)
@given(arrival=st.permutations(range(6)), nodes=st.permutations(range(6)))
def test_neither_the_arrival_nor_the_nodes_of_clients_change_a_bit(
    options: dict[str, Any], arrival: list[int], nodes: list[int]
) -> None:
    straight, shuffled = FedRMS(**options), FedRMS(**options)
    one, other = start(), start()
    for server_round in (1, 2):
        clients = cohort(server_round, 6)
        one, metrics = train_round(straight, grid_of(clients), one, server_round)
        elsewhere = HandGrid(
            {2 + node: client for node, client in zip(nodes, clients, strict=True)},
            shuffle=lambda replies: [replies[place] for place in arrival],
        )
        other, other_metrics = train_round(shuffled, elsewhere, other, server_round)
        assert same_bits(one, other)
        assert metrics == other_metrics
        assert straight.diagnostics is not None
        assert shuffled.diagnostics is not None
        assert shuffled.diagnostics.clients == straight.diagnostics.clients
        for name in straight.diagnostics.columns:
            assert column(shuffled, name) == column(straight, name)


@EVERY_LAW
def test_losses_times_a_thousand_give_the_same_model(law: str) -> None:
    small, large = FedRMS(law=law), FedRMS(law=law)
    one, other = start(), start()
    for server_round in (1, 2, 3):
        clients = cohort(server_round, 6)
        one, _ = train_round(small, grid_of(clients), one, server_round)
        for client in clients:
            client.losses = {k: 1e6 * v for k, v in client.losses.items()}
        other, _ = train_round(large, grid_of(clients), other, server_round)
        assert column(large, "scale") == pytest.approx(column(small, "scale"), rel=1e-9)
        assert column(large, "weight") == pytest.approx(column(small, "weight"), rel=1e-9)
        for name, expected in numbers(one).items():
            np.testing.assert_allclose(numbers(other)[name], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("theirs", "combine", "options"),
    [
        (FedMedian(), "median", {}),
        (FedTrimmedAvg(beta=0.2), "trimmed_mean", {"trim": 0.2}),
        (Krum(num_malicious_nodes=1), "krum", {"byzantine": 1}),
        (
            MultiKrum(num_malicious_nodes=1, num_nodes_to_select=3),
            "multi_krum",
            {"byzantine": 1, "keep": 3},
        ),
    ],
    ids=["median", "trimmed mean", "krum", "multi-krum"],
)
def test_a_robust_rule_gives_what_flowers_strategy_gives_for_equal_examples(
    theirs: FedAvg, combine: str, options: dict[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    cohort = [
        HandClient(k, record(w=rng.normal(size=(3, 4)), b=np.array(rng.normal())), examples=7)
        for k in range(7)
    ]
    begin = record(w=np.zeros((3, 4)), b=np.array(0.0))
    found = [
        numbers(train_round(strategy, grid_of(cohort), begin)[0])
        for strategy in (FedRMS(combine=combine, combine_options=options), theirs)
    ]
    for name, value in found[0].items():
        assert value.shape == found[1][name].shape
        assert value == pytest.approx(found[1][name], abs=1e-12), name
