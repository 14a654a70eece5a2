from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from fedrms.data import Dataset, Examples, Federation, build
from fedrms.data.dealing import Partition
from fedrms.data.federation import lay_out
from fedrms.data.noise import Noise
from fedrms.errors import ConfigError

from .conftest import Build, labelled


def lay(dataset: Dataset, rows: list[list[int]], by_owner: bool = False) -> Federation:
    clients = len(rows)
    shared = Partition([np.array(mine) for mine in rows], np.zeros(clients, bool))
    return lay_out(0, dataset, shared, Noise(), by_owner)


def test_a_client_is_scored_by_its_clean_class_mix() -> None:
    # Train labels 0 0 0 1 1; client 0 holds 0 0 0 1, client 1 holds 1. Test labels 0 1 1.
    data = labelled([0, 0, 0, 1, 1], 2)
    test = Examples(np.zeros((3, 1), np.float32), np.array([0, 1, 1]))
    federation = lay(Dataset(data.train, test, "classification", 2, (1,)), [[0, 1, 2, 3], [4]])
    assert federation.client_mix.tolist() == [[0.75, 0.25], [0.0, 1.0]]
    # Correct on the 0, on one of the 1s: class means 1 and .5.
    scores = federation.per_client_metric(np.array([1, 1, 0]))
    assert scores.tolist() == [0.75 * 1 + 0.25 * 0.5, 0.5]


def test_classes_absent_from_the_test_set_do_not_count() -> None:
    # Client 0 holds 0 1 2, client 1 only 2; the test set has 0 0 0 1.
    data = labelled([0, 1, 2, 2], 3)
    test = Examples(np.zeros((4, 1), np.float32), np.array([0, 0, 0, 1]))
    federation = lay(Dataset(data.train, test, "classification", 3, (1,)), [[0, 1, 2], [3]])
    assert federation.client_mix.tolist() == [[0.5, 0.5, 0.0], [0.75, 0.25, 0.0]]


def test_natural_clients_are_scored_on_their_own_test_rows_and_others_on_all() -> None:
    data = labelled([0, 1, 0], 2)
    test = Examples(np.zeros((4, 1), np.float32), np.array([0, 1, 1, 0]))
    ids = {"natural_ids": np.array([5, 6, 7]), "test_natural_ids": np.array([5, 5, 7, 9])}
    federation = lay(
        Dataset(data.train, test, "classification", 2, (1,), **ids), [[0], [1], [2]], by_owner=True
    )
    scores = federation.per_client_metric(np.array([1.0, 0.0, 1.0, 0.0]))
    assert scores.tolist() == [0.5, 0.5, 1.0]
    assert federation.client_mix.sum(axis=1) == pytest.approx(1)


def test_regression_scores_everyone_alike() -> None:
    federation = build(
        seed=0,
        clients=3,
        data={"name": "regression", "test_examples": 4},
        partition={"name": "natural"},
        noise={"name": "none"},
    )
    assert federation.per_client_metric(np.array([1, 2, 3, 6])).tolist() == [3.0, 3.0, 3.0]


def test_label_noise_does_not_enter_the_test_mix(build_digits: Build) -> None:
    clean = build_digits(partition={"name": "dirichlet"})
    noisy = build_digits(partition={"name": "dirichlet"}, noise={"name": "label"})
    assert np.array_equal(clean.client_mix, noisy.client_mix)
    assert np.array_equal(clean.clean_y, noisy.clean_y)
    assert np.array_equal(clean.test_y, noisy.test_y)


def test_clients_are_views_of_one_array_in_order(build_digits: Build) -> None:
    federation = build_digits(clients=4, data={"examples_per_client": 50})
    assert federation.clients == 4
    assert federation.sizes.tolist() == [50] * 4
    assert federation.offsets.tolist() == [0, 50, 100, 150, 200]
    examples = federation.client(2)
    assert len(examples) == 50
    assert np.shares_memory(examples.x, federation.stages[0].x)
    assert np.array_equal(examples.y, federation.stages[0].y[100:150])
    assert examples.x.dtype == np.float32
    assert examples.y.dtype == np.int64
    with pytest.raises(IndexError, match="client 4 is not one of 0 to 3"):
        federation.client(4)
    with pytest.raises(ValueError, match="counted from 1"):
        federation.stage(0)


def test_minority_scenario_spares_the_rare_clients(build_digits: Build) -> None:
    for seed in range(3):
        federation = build_digits(
            seed=seed,
            data={"examples_per_client": 40},
            partition={"name": "minority"},
            noise={"name": "label"},
        )
        noisy = federation.stages[0].true_noise > 0
        assert federation.rare.sum() == 3
        assert noisy.sum() == 8
        assert not (noisy & federation.rare).any()
        assert federation.client_mix[federation.rare, :8].sum() == 0
        assert federation.client_mix[~federation.rare, 8:].sum() == 0


def test_digits_hold_out_the_same_stratified_quarter_whatever_the_seed(build_digits: Build) -> None:
    one, two = build_digits(seed=0), build_digits(seed=1)
    assert np.array_equal(one.test_x, two.test_x)
    assert one.sizes.sum() + len(one.test_y) == 1797
    assert np.bincount(one.test_y).tolist() == [44, 46, 44, 46, 45, 46, 45, 45, 44, 45]
    assert one.shape == (1, 8, 8)
    assert one.class_names == tuple("0123456789")
    assert one.stages[0].x.mean() == pytest.approx(0, abs=1e-5)
    assert one.stages[0].x.std() == pytest.approx(1, abs=1e-4)
    assert len(build_digits(data={"test_examples": 7}).test_y) == 7
    other = build_digits(data={"split_seed": 1})
    assert not np.array_equal(one.test_x, other.test_x)


def test_regression_gives_each_client_its_own_inputs_whoever_else_exists() -> None:
    def make(clients: int, **data: Any) -> Federation:
        return build(
            seed=4,
            clients=clients,
            data={"name": "regression", **data},
            partition={"name": "natural"},
            noise={"name": "target"},
        )

    few, many = make(2), make(10)
    assert few.sizes.tolist() == [50, 50]
    assert np.array_equal(few.client(1).x, many.client(1).x)
    assert np.array_equal(few.clean_y, many.clean_y[:100])
    assert few.client(0).y.dtype == np.float32
    assert few.test_x.shape == (2000, 20)
    tanh = make(2, kind="tanh", features=3, hidden=5, examples_per_client=7)
    assert tanh.shape == (3,)
    assert tanh.sizes.tolist() == [7, 7]
    # Weights ~ N(0, 1/5) on five tanh units: |y| < sum |w| and not linear in x.
    residual = np.linalg.lstsq(tanh.test_x, tanh.test_y, rcond=None)[1]
    assert residual.item() > 1e-3


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seed": -1}, "seed"),
        ({"clients": 0}, "clients"),
        ({"clients": 2.5}, "clients"),
        ({"data": {"name": "imagenet"}}, "data"),
        ({"data": {"name": "digits", "path": "x"}}, "data.path"),
        ({"data": {"name": "digits", "examples_per_client": 0}}, "data.examples_per_client"),
        ({"data": {"name": "digits", "test_examples": 0}}, "data.test_examples"),
        ({"data": {"name": "digits", "split_seed": -1}}, "data.split_seed"),
        ({"data": {"name": "regression", "kind": "cubic"}}, "data.kind"),
        ({"data": {"name": "regression", "features": True}}, "data.features"),
        ({"data": {"name": "regression", "hidden": 0}}, "data.hidden"),
        ({"data": {"name": "regression", "examples_per_client": None}}, "data.examples_per_client"),
        ({"data": {"name": "mnist"}}, "data.path"),
        ({"data": {"name": "cifar10", "path": "nowhere"}}, "data.path"),
        ({"data": {"name": "parquet"}}, "data.path"),
    ],
)
def test_an_impossible_federation_names_its_key(change: dict[str, Any], key: str) -> None:
    settings: dict[str, Any] = {
        "seed": 0,
        "clients": 5,
        "data": {"name": "digits"},
        "partition": {"name": "iid"},
        "noise": {"name": "none"},
    }
    with pytest.raises(ConfigError) as caught:
        build(**{**settings, **change})
    assert caught.value.key == key


def test_importing_the_room_loads_nothing_heavy() -> None:
    code = "import fedrms.data, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "flwr", "ray", "hydra", "datasets", "sklearn", "scipy", "PIL", "pyarrow"}
    assert not heavy & set(loaded.stdout.split())
