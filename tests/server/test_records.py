"""Reading a content's records leaves no cycle that holds them."""

import gc
import weakref

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedrms.replies.orders import Orders
from fedrms.replies.records import array_records, config_records, metric_records


@pytest.fixture
def without_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def content():
    return RecordDict(
        {
            "model": ArrayRecord({"w": Array(np.ones(3, np.float32))}),
            "orders": ConfigRecord({"server-round": 1}),
            "told": MetricRecord({"loss": 0.5}),
        }
    )


def test_records_are_those_of_flowers_views():
    given = content()
    assert array_records(given) == dict(given.array_records)
    assert config_records(given) == dict(given.config_records)
    assert metric_records(given) == dict(given.metric_records)


@pytest.mark.parametrize("read", [array_records, config_records, metric_records])
def test_a_model_that_was_read_is_freed_at_once(read, without_collection):
    given = content()
    model = weakref.ref(given["model"])
    read(given)
    del given
    assert model() is None


def test_a_rounds_orders_do_not_outlive_it(without_collection):
    given = content()
    model = weakref.ref(given["model"])
    orders = Orders([2, 3], "train", "model", "orders", given)
    assert orders.arrays is model()
    assert len(list(orders)) == 2
    del given, orders
    assert model() is None
