from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrms.data import Dataset, Examples, Federation, build
from fedrms.data.partition import PARTITIONS, split
from fedrms.errors import ConfigError

from .conftest import Build, labelled

BALANCED = (
    {"name": "iid"},
    {"name": "dirichlet", "alpha": 0.05},
    {"name": "dirichlet", "alpha": 100.0},
    {"name": "shards", "classes_per_client": 2},
)
UNBALANCED = (
    {"name": "dirichlet", "balanced": False, "alpha": 5.0, "min_examples": 1},
    {"name": "quantity", "min_examples": 2},
    {"name": "fedcorr", "p": 0.9, "alpha": 10.0, "min_examples": 1},
)


def check_held_once(rows: list[Any], total: int) -> None:
    held = np.concatenate(rows)
    assert len(np.unique(held)) == len(held)
    assert held.min() >= 0
    assert held.max() < total


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    clients=st.integers(1, 12),
    per_client=st.one_of(st.none(), st.integers(4, 20)),
    options=st.sampled_from(BALANCED),
)
def test_balanced_partitions_hold_no_row_twice_and_give_equal_sizes(
    seed: int, clients: int, per_client: int | None, options: dict[str, Any]
) -> None:
    dataset = labelled(np.arange(250) % 5, 5)
    rows = split(seed, clients, dataset, per_client, options).rows
    sizes = [len(mine) for mine in rows]
    check_held_once(rows, 250)
    if per_client:
        assert sizes == [per_client] * clients
    else:
        assert max(sizes) - min(sizes) <= 1
    again = split(seed, clients, dataset, per_client, options).rows
    assert all(np.array_equal(a, b) for a, b in zip(rows, again, strict=True))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    clients=st.integers(1, 10),
    per_client=st.one_of(st.none(), st.integers(10, 25)),
    options=st.sampled_from(UNBALANCED),
)
def test_unbalanced_partitions_share_out_every_row_and_respect_the_minimum(
    seed: int, clients: int, per_client: int | None, options: dict[str, Any]
) -> None:
    rows = split(seed, clients, labelled(np.arange(250) % 5, 5), per_client, options).rows
    check_held_once(rows, 250)
    assert sum(len(mine) for mine in rows) == (clients * per_client if per_client else 250)
    assert min(len(mine) for mine in rows) >= options["min_examples"]


def test_another_seed_gives_another_partition() -> None:
    dataset = labelled(np.arange(100) % 5, 5)
    one, two = (split(seed, 4, dataset, None, {"name": "iid"}).rows[0] for seed in (0, 1))
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("name", ["iid", "dirichlet"])
def test_a_client_holds_the_same_rows_whoever_comes_after_it(name: str) -> None:
    dataset = labelled(np.arange(300) % 5, 5)
    few, many = (split(3, clients, dataset, 20, {"name": name}).rows for clients in (3, 12))
    assert all(np.array_equal(a, b) for a, b in zip(few, many, strict=False))


def test_dirichlet_mix_follows_alpha() -> None:
    # For shares q ~ Dir(alpha * 1_C): E[sum q^2] = (alpha + 1) / (C alpha + 1).
    dataset = labelled(np.arange(100_000) % 10, 10)
    for alpha in (0.1, 1.0, 10.0):
        rows = split(0, 200, dataset, 100, {"name": "dirichlet", "alpha": alpha}).rows
        counts = np.array([np.bincount(dataset.train.y[mine], minlength=10) for mine in rows])
        # Unbiased for sum q^2 under multinomial sampling of 100.
        herfindahl = (counts * (counts - 1)).sum(1) / (100 * 99)
        assert herfindahl.mean() == pytest.approx((alpha + 1) / (10 * alpha + 1), rel=0.12)


def test_dirichlet_hands_the_share_of_an_exhausted_class_to_the_others() -> None:
    # Everything must be taken, so every class runs out.
    dataset = labelled(np.arange(60) % 3, 3)
    rows = split(0, 6, dataset, 10, {"name": "dirichlet", "alpha": 1e-3}).rows
    assert sorted(np.concatenate(rows)) == list(range(60))
    assert [len(mine) for mine in rows] == [10] * 6


def test_shards_give_each_client_at_most_its_number_of_classes_when_shards_are_pure() -> None:
    # 10 classes x 20 rows, 10 clients x 2 shards of 10: every shard lies inside one class.
    dataset = labelled(np.repeat(np.arange(10), 20), 10)
    rows = split(0, 10, dataset, None, {"name": "shards"}).rows
    assert all(len(np.unique(dataset.train.y[mine])) <= 2 for mine in rows)
    assert sorted(np.concatenate(rows)) == list(range(200))


def test_quantity_is_nearly_equal_for_a_huge_alpha_and_iid_in_classes() -> None:
    dataset = labelled(np.arange(10_000) % 4, 4)
    rows = split(0, 10, dataset, None, {"name": "quantity", "alpha": 1e9}).rows
    assert all(abs(len(mine) - 1000) <= 1 for mine in rows)
    skewed = split(0, 10, dataset, None, {"name": "quantity", "alpha": 0.2}).rows
    sizes = np.array([len(mine) for mine in skewed])
    assert sizes.max() > 2000
    assert sizes.min() >= 10
    largest = dataset.train.y[skewed[sizes.argmax()]]
    assert np.bincount(largest) / len(largest) == pytest.approx(np.full(4, 0.25), abs=0.05)


def test_log_spaced_sizes_have_equal_ratios_and_belong_to_clients_at_random() -> None:
    dataset = labelled(np.arange(3000) % 4, 4)
    options = {"name": "quantity", "spacing": "log", "min_examples": 20, "max_examples": 1620}
    orders = set()
    for seed in range(3):
        rows = split(seed, 5, dataset, None, options).rows
        sizes = [len(mine) for mine in rows]
        assert sorted(sizes) == [20, 60, 180, 540, 1620]
        check_held_once(rows, 3000)
        orders.add(tuple(sizes))
    assert len(orders) == 3


def test_fedcorr_gives_a_client_each_class_with_probability_p() -> None:
    dataset = labelled(np.arange(100_000) % 10, 10)
    rows = split(0, 100, dataset, None, {"name": "fedcorr", "p": 0.3, "alpha": 10.0}).rows
    counts = np.array([np.bincount(dataset.train.y[mine], minlength=10) for mine in rows])
    assert counts.sum(axis=0).tolist() == [10_000] * 10
    # Binomial(1000, .3), and at least one of ten: .3 / (1 - .7^10) = .3087, 5 sigma = .073.
    assert (counts > 0).mean() == pytest.approx(0.3087, abs=0.073)
    # Shares of a class over its m members ~ Dir(10): E[sum q^2] = 11 / (10 m + 1).
    for held in counts.T:
        members = np.count_nonzero(held)
        concentration = np.square(held / 10_000).sum()
        assert concentration == pytest.approx(11 / (10 * members + 1), rel=0.2)


def test_fedcorr_with_p_one_gives_everyone_every_class() -> None:
    dataset = labelled(np.arange(4000) % 4, 4)
    rows = split(0, 5, dataset, 500, {"name": "fedcorr", "p": 1.0, "alpha": 1e6}).rows
    counts = np.array([np.bincount(dataset.train.y[mine], minlength=4) for mine in rows])
    # 2,500 of the rows, about 625 a class, dealt at random to five: 125, 5 sigma = 50.
    assert counts.sum() == 2500
    assert counts == pytest.approx(np.full((5, 4), 125), abs=75)


def test_natural_gives_each_client_its_own_rows_in_order_of_ids() -> None:
    ids = np.array(["b", "a", "c", "a", "b", "a"])
    dataset = labelled([0, 1, 0, 1, 0, 1], 2, natural_ids=ids)
    rows = split(0, 2, dataset, None, {"name": "natural"}).rows
    assert [mine.tolist() for mine in rows] == [[1, 3, 5], [0, 4]]
    two_each = split(0, 2, dataset, 2, {"name": "natural"}).rows
    assert set(two_each[0]) < {1, 3, 5}
    assert two_each[1].tolist() == [0, 4]


def test_minority_lets_three_clients_alone_hold_classes_8_and_9() -> None:
    dataset = labelled(np.arange(10_000) % 10, 10)
    shared = split(0, 20, dataset, 200, {"name": "minority"})
    assert shared.rare.sum() == 3
    for mine, rare in zip(shared.rows, shared.rare, strict=True):
        assert len(mine) == 200
        assert set(dataset.train.y[mine]) == ({8, 9} if rare else set(range(8)))
    check_held_once(shared.rows, 10_000)


def test_minority_without_a_size_hands_out_every_row() -> None:
    dataset = labelled(np.arange(1000) % 10, 10)
    shared = split(0, 5, dataset, None, {"name": "minority", "rare_clients": 2})
    assert sorted(np.concatenate(shared.rows)) == list(range(1000))
    assert [len(shared.rows[k]) for k in np.flatnonzero(shared.rare)] == [100, 100]


def test_which_clients_are_rare_depends_on_the_seed() -> None:
    dataset = labelled(np.arange(1000) % 10, 10)
    masks = {tuple(split(s, 20, dataset, 5, {"name": "minority"}).rare) for s in range(5)}
    assert len(masks) > 1


def test_flower_partitioner_gives_each_client_its_number_of_classes(build_digits: Build) -> None:
    pytest.importorskip("flwr_datasets", reason="needs the extra fedrms[hub]")
    options = {"num_classes_per_partition": 2, "class_assignment_mode": "first-deterministic"}
    federation = build_digits(clients=10, partition={"name": "flower", "options": options})
    assert [len(np.unique(federation.client(k).y)) for k in range(10)] == [2] * 10
    assert federation.sizes.sum() == 1347


def test_flower_natural_partitioner_sees_the_client_ids() -> None:
    pytest.importorskip("flwr_datasets", reason="needs the extra fedrms[hub]")
    dataset = labelled([0, 1, 0, 1], 2, natural_ids=np.array([7, 7, 5, 7]))
    options = {
        "name": "flower",
        "target": "flwr_datasets.partitioner.NaturalIdPartitioner",
        "options": {"partition_by": "client"},
    }
    rows = split(0, 2, dataset, None, options).rows
    assert sorted(mine.tolist() for mine in rows) == [[0, 1, 3], [2]]
    with pytest.raises(ConfigError, match="makes 2 clients, not 3"):
        split(0, 3, dataset, None, options)


@pytest.mark.parametrize("name", ["dirichlet", "fedcorr", "shards", "minority"])
def test_dividing_classes_of_a_regression_is_refused(name: str) -> None:
    examples = Examples(np.zeros((50, 1), np.float32), np.zeros(50, np.float32))
    dataset = Dataset(examples, examples, "regression", None, (1,))
    with pytest.raises(ConfigError, match="choose partition=iid, quantity or natural") as caught:
        split(0, 5, dataset, None, {"name": name})
    assert caught.value.key == "partition"


@pytest.mark.parametrize(
    ("clients", "per_client", "options", "key"),
    [
        (5, None, {"name": "magic"}, "partition"),
        (5, None, {"name": "iid", "alpha": 1.0}, "partition.alpha"),
        (101, None, {"name": "iid"}, "clients"),
        (5, 21, {"name": "iid"}, "data.examples_per_client"),
        (5, None, {"name": "dirichlet", "alpha": 0}, "partition.alpha"),
        (5, None, {"name": "dirichlet", "alpha": "big"}, "partition.alpha"),
        (5, None, {"name": "dirichlet", "balanced": 1}, "partition.balanced"),
        (5, None, {"name": "dirichlet", "alpha": 1e-3, "balanced": False}, "partition.alpha"),
        (5, None, {"name": "dirichlet", "balanced": False, "min_examples": 30}, "partition.alpha"),
        (5, None, {"name": "shards", "classes_per_client": 6}, "partition.classes_per_client"),
        (5, None, {"name": "shards", "classes_per_client": 0}, "partition.classes_per_client"),
        (5, None, {"name": "quantity", "min_examples": 21}, "partition.min_examples"),
        (5, None, {"name": "quantity", "alpha": -1.0}, "partition.alpha"),
        (5, None, {"name": "quantity", "spacing": "cubic"}, "partition.spacing"),
        (5, None, {"name": "quantity", "max_examples": 30}, "partition.max_examples"),
        (5, None, {"name": "quantity", "spacing": "log"}, "partition.max_examples"),
        (
            5,
            None,
            {"name": "quantity", "spacing": "log", "max_examples": 5},
            "partition.max_examples",
        ),
        (
            5,
            None,
            {"name": "quantity", "spacing": "log", "max_examples": 70},
            "partition.max_examples",
        ),
        (
            5,
            10,
            {"name": "quantity", "spacing": "log", "max_examples": 30},
            "data.examples_per_client",
        ),
        (5, None, {"name": "fedcorr", "p": 0}, "partition.p"),
        (5, None, {"name": "fedcorr", "alpha": 0}, "partition.alpha"),
        (5, None, {"name": "fedcorr", "min_examples": 21}, "partition.p"),
        (5, None, {"name": "natural"}, "partition"),
        (5, None, {"name": "minority", "rare_clients": 5}, "partition.rare_clients"),
        (5, None, {"name": "minority", "rare_classes": [8, 9]}, "partition.rare_classes"),
        (5, None, {"name": "minority", "rare_classes": []}, "partition.rare_classes"),
        (5, None, {"name": "minority", "rare_classes": 4}, "partition.rare_classes"),
        (
            5,
            20,
            {"name": "minority", "rare_classes": [4], "rare_clients": 2},
            "data.examples_per_client",
        ),
        (
            60,
            None,
            {"name": "minority", "rare_classes": [4], "rare_clients": 21},
            "partition.rare_clients",
        ),
        (5, None, {"name": "flower", "target": "no.such.Partitioner"}, "partition.target"),
        (5, None, {"name": "flower", "options": {"colour": 1}}, "partition.options"),
    ],
)
def test_an_impossible_partition_names_its_key(
    clients: int, per_client: int | None, options: dict[str, Any], key: str
) -> None:
    if options["name"] == "flower":
        pytest.importorskip("flwr_datasets", reason="needs the extra fedrms[hub]")
    with pytest.raises(ConfigError) as caught:
        split(0, clients, labelled(np.arange(100) % 5, 5), per_client, options)
    assert caught.value.key == key


def test_natural_refuses_more_clients_or_examples_than_there_are() -> None:
    dataset = labelled([0, 1, 0, 1], 2, natural_ids=np.array([7, 7, 5, 7]))
    with pytest.raises(ConfigError, match="the data set has 2") as caught:
        split(0, 3, dataset, None, {"name": "natural"})
    assert caught.value.key == "clients"
    with pytest.raises(ConfigError, match=r"client 0 \(5\) has 1 examples, not 2"):
        split(0, 2, dataset, 2, {"name": "natural"})


def test_a_client_left_with_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(seed: int, clients: int, dataset: Dataset, n: int | None) -> list[Any]:
        return [np.arange(4), np.arange(0)]

    monkeypatch.setitem(PARTITIONS, "greedy", greedy)
    with pytest.raises(ConfigError, match="client 1 is left without examples"):
        split(0, 2, labelled([0, 1, 0, 1], 2), None, {"name": "greedy"})


FLOWER = "flwr_datasets.partitioner."


@pytest.mark.parametrize("kind", ["frame", "several labels", "numbers", "pictures", "owned"])
@pytest.mark.parametrize(
    ("maker", "options"), [("IidPartitioner", {}), ("DirichletPartitioner", {"alpha": 5.0})]
)
def test_own_data_of_every_kind_are_divided_by_flowers_partitioners(
    kind, maker, options, tmp_path, monkeypatch
):
    pytest.importorskip("flwr_datasets", reason="needs the extra fedrms[hub]")
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path))
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 3)).astype(np.float32)
    frame = pd.DataFrame(x, columns=list("abc")).assign(disease=np.where(x[:, 0] > 0, "ill", "no"))
    made_of = {
        "frame": lambda: Federation.from_frame(frame, label="disease"),
        "owned": lambda: Federation.from_frame(
            frame.assign(ward=np.arange(300) % 3), label="disease", client="ward"
        ),
        "several labels": lambda: Federation.from_arrays((x, (x > 0).astype(int))),
        "numbers": lambda: Federation.from_arrays((x, x[:, 0])),
        "pictures": lambda: Federation.from_arrays((x.reshape(-1, 1, 3, 1), (x[:, 0] > 0) * 1)),
    }
    data = made_of[kind]()
    partition = {"name": "flower", "_target_": FLOWER + maker, **options}
    told = {"seed": 0, "clients": 4, "data": data.data, "noise": {"name": "none"}}
    if kind == "numbers" and maker == "DirichletPartitioner":
        with pytest.raises(ConfigError, match="divides by classes, and 'label' is a number"):
            build(**told, partition=partition)
        return
    made = build(**told, partition=partition)
    assert (made.sizes > 0).all()
    assert made.sizes.sum() == 240
    assert "4 clients made by partition=flower" in made.account
    again = build(**told, partition=partition)
    assert (again.offsets == made.offsets).all()
    assert (again.stages[0].x == made.stages[0].x).all()


def test_flowers_partitioners_know_a_persons_own_names_and_rows_of_nobody_are_told(
    tmp_path, monkeypatch
):
    pytest.importorskip("flwr_datasets", reason="needs the extra fedrms[hub]")
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path))
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(200, 2)), columns=list("ab"))
    frame = frame.assign(disease=np.arange(200) % 4, ward=draw.choice(["n", "s", "w"], 200))
    data = Federation.from_frame(frame, label="disease", client="ward")
    told = {"seed": 0, "data": data.data, "noise": {"name": "none"}}
    natural = {"name": "flower", "target": FLOWER + "NaturalIdPartitioner"}
    options = {"partition_by": "ward"}
    made = build(**told, clients=3, partition={**natural, "options": options})
    assert sorted(made.sizes) == sorted(build(**told, clients=3, partition=natural).sizes)
    two = {"partition_by": "disease", "num_classes_per_partition": 1}
    some = {"name": "flower", "options": two}
    made = build(**told, clients=2, partition=some)
    assert "80 of 160 training rows are nobody's" in made.account
