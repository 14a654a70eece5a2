"""Models whose arrays are not all floating numbers, or that clients make: as FedAvg treats them."""

from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import FedAvg

from fedrms.errors import RunError
from fedrms.server import FedRMS, ServerOptimizer

from .by_hand import HandClient, grid_of, numbers, record

NOTHING = ArrayRecord()
FLOATS = np.ones(2, np.float32)


def ended(strategy: Any, start: ArrayRecord, models: list[ArrayRecord]) -> dict[str, np.ndarray]:
    clients = [HandClient(k, model, examples=5 + k) for k, model in enumerate(models)]
    return numbers(strategy.start(grid_of(clients), start, num_rounds=2).arrays)


@pytest.mark.parametrize(
    ("start", "models"),
    [
        (record(w=np.float32(0)), [record(w=np.float32(k)) for k in range(3)]),
        (record(w=[0.0]), [record(w=np.array([k / 3])) for k in range(3)]),
        (record(w=np.zeros(2, np.complex64)), [record(w=FLOATS * 1j * k) for k in range(3)]),
        (
            record(e=np.zeros((0, 3), np.float32), v=[0.0]),
            [record(e=np.zeros((0, 3), np.float32), v=[float(k)]) for k in range(3)],
        ),
        (record(w=np.zeros(2, np.int64)), [record(w=FLOATS * k) for k in range(3)]),
        (
            record(w=np.zeros(2, np.int64)),
            [record(w=np.full(2, 3 * k, np.int64)) for k in range(3)],
        ),
        (
            record(w=FLOATS * 0, n=np.zeros(2, int)),
            [record(w=FLOATS * k, n=FLOATS) for k in range(3)],
        ),
        (NOTHING, [record(w=FLOATS * k) for k in range(3)]),
        (NOTHING, [NOTHING] * 3),
    ],
    ids=[
        *("0-d", "wider", "complex", "empty array", "int sent", "int both", "int beside"),
        *("clients'", "nothing"),
    ],
)
def test_the_model_is_fedavgs(start: ArrayRecord, models: list[ArrayRecord]) -> None:
    ours, theirs = (ended(s, start, models) for s in (FedRMS(law="uniform"), FedAvg()))
    assert set(ours) == set(theirs)
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape
        np.testing.assert_allclose(ours[name], expected, rtol=1e-6)


def test_counters_and_masks_beside_are_averaged_and_keep_their_type() -> None:
    start = record(w=[0.0], steps=np.array(5), mask=np.array([True, False]), same=np.array(7))
    models = [
        record(w=[1.0], steps=np.array(n), mask=np.array([False, n > 1]), same=np.array(7))
        for n in (1, 2, 9)
    ]
    got = ended(FedRMS(law="uniform"), start, models)
    # Weights 5, 6 and 7 of 18: 80 / 18 = 4.4.
    assert (got["steps"].tolist(), got["steps"].dtype) == (4, np.int64)
    assert (got["mask"].tolist(), got["mask"].dtype) == ([False, True], np.bool_)
    assert (got["same"].tolist(), got["same"].dtype) == (7, np.int64)


def test_a_noisy_clients_counter_weighs_as_its_update() -> None:
    start = record(w=[0.0], steps=np.array(0))
    clients = [HandClient(k, record(w=[1.0], steps=np.array(100 * k))) for k in range(2)]
    clients[1].losses = {"loss-second-moment": 81.0}
    strategy = FedRMS(law=lambda rms, known: 1.0 / rms)
    got = numbers(strategy.start(grid_of(clients), start, num_rounds=1).arrays)
    assert got["steps"].tolist() == 10


@pytest.mark.parametrize(
    "odd",
    [
        np.array([1, 2]),
        np.array("text"),
        Array("int64", (), "numpy.ndarray", b"xxxx"),
        np.array(np.nan),
    ],
    ids=["shape", "text", "bytes", "NaN"],
)
def test_a_counter_that_cannot_be_averaged_stays_as_it_is(odd: Any) -> None:
    start = record(w=[0.0], steps=np.array(5))
    models = [record(w=[1.0], steps=np.array(9)) for _ in range(3)]
    models[1]["steps"] = odd if isinstance(odd, Array) else Array(odd)
    got = ended(FedRMS(law="uniform"), start, models)
    assert got["steps"].tolist() == 5
    assert got["w"].tolist() == [1.0]


def test_a_server_optimizer_needs_a_model_to_step_from() -> None:
    adam = ServerOptimizer(lambda params: torch.optim.Adam(params))
    with pytest.raises(RunError, match="sent no arrays"):
        ended(FedRMS(server_optimizer=adam), NOTHING, [record(w=FLOATS)] * 2)
