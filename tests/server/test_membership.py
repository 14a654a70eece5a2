"""Who is there, who they are, and who is sampled."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message

from fedrms.errors import RunError
from fedrms.randomness import generator
from fedrms.replies.membership import Directory, Membership
from fedrms.server import FedRMS

from .by_hand import HandClient, HandGrid, column, grid_of, record, train_round


def cohort(
    grid: HandGrid, server_round: int = 1, *, seed: int = 0, **options: Any
) -> list[int | str]:
    """Train a round by a fresh strategy and return who took part."""
    options = {"identify": "query", "fraction_train": 0.3, "seed": seed} | options
    strategy = FedRMS(**options)
    train_round(strategy, grid, record(w=[0.0]), server_round)
    assert strategy.diagnostics is not None
    return strategy.diagnostics.clients


def on_nodes(nodes: Iterable[int]) -> HandGrid:
    """Client k lives on the k-th of these nodes; the grid lists them in order of node id."""
    living = {node: HandClient(k) for k, node in enumerate(nodes)}
    return HandGrid(dict(sorted(living.items())))


def random_nodes(seed: int) -> list[int]:
    return np.random.default_rng(seed).choice(2**62, size=20, replace=False).tolist()


def test_the_sample_depends_on_seed_and_round_and_not_on_node_ids() -> None:
    first = cohort(on_nodes(random_nodes(1)))
    assert len(first) == 6
    assert cohort(on_nodes(random_nodes(2))) == first
    assert cohort(on_nodes(random_nodes(3))) == first
    assert cohort(on_nodes(random_nodes(1)), seed=1) != first
    assert cohort(on_nodes(random_nodes(1)), server_round=2) != first


def test_a_rounds_sample_does_not_depend_on_the_rounds_before() -> None:
    strategy = FedRMS(identify="query", fraction_train=0.3)
    for server_round in (1, 2, 3):
        train_round(strategy, on_nodes(random_nodes(1)), record(w=[0.0]), server_round)
    assert strategy.diagnostics is not None
    assert strategy.diagnostics.clients == cohort(on_nodes(random_nodes(1)), server_round=3)


def test_over_many_rounds_everyone_is_sampled_about_alike() -> None:
    grid = on_nodes(range(2, 22))
    members = Membership(0, ask=False, timeout=1.0)
    counts = np.zeros(20)
    for server_round in range(1, 401):
        nodes = members.sample(
            grid, "participation", server_round, fraction=0.25, least=1, available=1
        )
        assert len(set(nodes)) == 5
        counts[np.array(nodes) - 2] += 1
    # 400 rounds at 1/4: mean 100, standard deviation sqrt(400 * .25 * .75) = 8.7.
    assert counts.mean() == 100
    assert np.abs(counts - 100).max() < 4 * 8.7


def test_who_evaluates_is_drawn_apart_from_who_trains() -> None:
    grid = on_nodes(range(2, 22))
    strategy = FedRMS(identify="query", fraction_train=0.3, fraction_evaluate=0.3)
    strategy.start(grid, record(w=[0.0]), num_rounds=1)
    _, trained, evaluated = [{m.metadata.dst_node_id for m in sent} for sent in grid.sent]
    assert len(trained) == len(evaluated) == 6
    assert trained != evaluated


@pytest.mark.parametrize(
    ("fraction", "least", "size"), [(1.0, 2, 10), (0.25, 2, 2), (0.35, 1, 3), (0.1, 4, 4)]
)
def test_the_cohorts_size_is_flowers(fraction: float, least: int, size: int) -> None:
    grid = on_nodes(range(2, 12))
    assert len(cohort(grid, fraction_train=fraction, min_train_nodes=least)) == size


def test_orders_go_out_by_client_id() -> None:
    grid = on_nodes([50, 40, 30, 20])
    cohort(grid, fraction_train=1.0)
    assert [message.metadata.dst_node_id for message in grid.sent[-1]] == [50, 40, 30, 20]


def test_a_node_is_asked_once_who_it_is() -> None:
    grid = on_nodes(range(2, 8))
    strategy = FedRMS(identify="query")
    for server_round in (1, 2):
        train_round(strategy, grid, record(w=[0.0]), server_round)
    kinds = [[message.metadata.message_type for message in sent] for sent in grid.sent]
    assert kinds == [["query.whoami"] * 6, ["train"] * 6, ["train"] * 6]


def test_a_node_that_restarts_under_a_new_id_keeps_its_estimate() -> None:
    strategy = FedRMS(identify="query", decay=0.5, law="rmsprop")
    clients = [HandClient(k, losses={"loss-second-moment": float(1 + k)}) for k in range(3)]
    train_round(strategy, HandGrid({7: clients[0], 8: clients[1], 9: clients[2]}), record(w=[0.0]))
    moved = HandGrid({7: clients[0], 8: clients[1], 1234: clients[2]})
    train_round(strategy, moved, record(w=[0.0]), 2)
    assert strategy.scaler.rms() == pytest.approx({0: 1.0, 1: 2**0.5, 2: 3**0.5})


def test_a_client_that_does_not_answer_who_it_is_goes_by_its_replies() -> None:
    grid = grid_of([HandClient(1), HandClient(0, knows_itself=False)])
    assert cohort(grid, fraction_train=1.0) == [0, 1]


def test_who_failed_is_named_by_client_when_nodes_were_asked() -> None:
    grid = HandGrid({40: HandClient(0), 30: HandClient(1), 20: HandClient(2, error=Error(2, "x"))})
    strategy = FedRMS(identify="query")
    train_round(strategy, grid, record(w=[0.0]))
    assert strategy.diagnostics is not None
    assert strategy.diagnostics.failures == {2: "x"}


def test_who_failed_is_named_by_client_once_it_has_replied_before() -> None:
    grid = HandGrid({40: HandClient(0), 30: HandClient(1), 20: HandClient(2)})
    strategy = FedRMS(identify="replies")
    train_round(strategy, grid, record(w=[0.0]))
    grid.clients[20].error = Error(2, "x")
    train_round(strategy, grid, record(w=[0.0]), 2)
    assert strategy.diagnostics is not None
    assert strategy.diagnostics.failures == {2: "x"}
    assert not any(
        message.metadata.message_type == "query.whoami" for sent in grid.sent for message in sent
    )


def test_samples_go_by_client_once_all_have_replied_before() -> None:
    # Everyone takes part in round 1; from then on node ids no longer matter.
    def second_cohort(nodes: list[int]) -> list[int | str]:
        strategy, grid = FedRMS(seed=5), on_nodes(nodes)
        train_round(strategy, grid, record(w=[0.0]))
        strategy.fraction_train = 0.3
        train_round(strategy, grid, record(w=[0.0]), 2)
        assert strategy.diagnostics is not None
        return strategy.diagnostics.clients

    assert second_cohort(random_nodes(1)) == second_cohort(random_nodes(2))


def test_an_impostor_does_not_take_over_anothers_node() -> None:
    # Two nodes claim to be client 1: neither is believed, nor learned.
    grid = HandGrid({20: HandClient(0), 30: HandClient(1), 40: HandClient(1)})
    strategy = FedRMS()
    train_round(strategy, grid, record(w=[0.0]))
    assert column(strategy, "weight") == [1.0]
    for node in (30, 40):
        grid.clients[node].error = Error(2, "x")
    train_round(strategy, grid, record(w=[0.0]), 2)
    assert strategy.diagnostics is not None
    assert set(strategy.diagnostics.failures) == {30, 40}


def test_too_few_nodes_end_the_run_within_the_timeout() -> None:
    strategy = FedRMS(min_available_nodes=4, wait_timeout=0.3)
    started = time.monotonic()
    with pytest.raises(RunError, match=r"only 3 of 4 clients connected within 0\.3 s"):
        train_round(strategy, on_nodes(range(2, 5)), record(w=[0.0]))
    assert 0.3 <= time.monotonic() - started < 2.0


def test_the_cohort_is_waited_for_before_round_one() -> None:
    class Filling(HandGrid):
        """Another node connects each time one looks."""

        looks = 0

        def get_node_ids(self) -> Iterable[int]:
            self.looks += 1
            return list(self.clients)[: self.looks]

        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> list[Message]:
            messages = list(messages)
            assert self.looks == 4
            return super().send_and_receive(messages, timeout=timeout)

    grid = Filling({2 + k: HandClient(k) for k in range(4)})
    assert cohort(grid, fraction_train=1.0, min_available_nodes=4) == [0, 1, 2, 3]


class ListedGrid(HandGrid):
    """Client k lives on node 2 + k, and the grid says so; listing its nodes is refused."""

    directory = Directory(clients=20, first_node=2)

    def get_node_ids(self) -> Iterable[int]:
        raise AssertionError("the nodes were listed")


@pytest.mark.parametrize("fraction", [0.3, 1.0])
def test_a_grid_with_a_directory_gives_the_same_cohort_unlisted_and_unasked(fraction) -> None:
    for server_round in (1, 2, 3):
        asked = cohort(on_nodes(range(2, 22)), server_round, fraction_train=fraction)
        grid = ListedGrid(on_nodes(range(2, 22)).clients)
        assert cohort(grid, server_round, fraction_train=fraction) == asked
        assert [m.metadata.message_type for (*_, m) in grid.sent] == ["train"]


def test_a_grid_with_a_directory_names_those_who_fail() -> None:
    clients = on_nodes(range(2, 22)).clients
    clients[5].error = Error(2, "x")
    strategy = FedRMS(identify="query")
    train_round(strategy, ListedGrid(clients), record(w=[0.0]))
    assert strategy.diagnostics is not None
    assert strategy.diagnostics.failures == {3: "x"}


def test_a_cohort_of_a_million_clients_is_drawn_from_the_directory_as_from_a_list() -> None:
    class Millions(ListedGrid):
        directory = Directory(clients=1_000_000, first_node=2)

    nodes = Membership(0, ask=True, timeout=1.0).sample(
        Millions({}), "participation", 7, fraction=0.00001, least=1, available=1_000_000
    )
    draw = generator(0, "participation", round=7).choice(1_000_000, size=10, replace=False)
    assert nodes == [2 + client for client in sorted(draw.tolist())]


def test_a_second_client_of_the_same_name_does_not_push_the_first_one_out() -> None:
    grid = HandGrid({10: HandClient("a"), 11: HandClient("b")})
    strategy = FedRMS(identify="query")
    train_round(strategy, grid, record(w=[0.0]), 1)
    grid.clients[12] = HandClient("a")
    for server_round in (2, 3):
        train_round(strategy, grid, record(w=[0.0]), server_round)
        assert strategy.diagnostics is not None
        assert strategy.diagnostics.clients == ["a", "b"]
        assert strategy.diagnostics.failures == {12: "it claims to be client a"}
    del grid.clients[10]  # the first one goes, and has perhaps come again as the second
    train_round(strategy, grid, record(w=[0.0]), 4)
    assert strategy.diagnostics.clients == ["a", "b"]
    assert strategy.diagnostics.failures == {}
