"""A round's orders: how they travel, and which are refused."""

from dataclasses import asdict

import numpy as np
import pytest
from flwr.app import ConfigRecord
from hypothesis import given
from hypothesis import strategies as st

from fedrms.client import LocalSettings
from fedrms.errors import ConfigError

share = st.floats(0, 1)
amount = st.floats(0, 100)


@given(
    st.builds(
        LocalSettings,
        seed=st.integers(0, 2**63 - 1),
        lr=st.floats(1e-6, 10),
        epochs=st.integers(1, 100),
        steps=st.integers(0, 100),
        batch_size=st.integers(1, 1000),
        momentum=amount,
        weight_decay=amount,
        clip_norm=amount,
        proximal_mu=amount,
        statistic=st.sampled_from(["prequential", "incoming", "holdout"]),
        holdout_fraction=st.floats(0.01, 0.99),
        dropout=share,
        straggler_fraction=share,
        min_work=share,
        most_work=st.floats(1, 100),
        lr_spread=st.floats(1, 10),
        batch_spread=st.floats(1, 10),
        hard_workers=st.floats(0, 1),
        gradient_decay=st.floats(0, 0.999),
    )
)
def test_settings_survive_the_way_through_a_config_record(settings):
    assert LocalSettings.from_record(ConfigRecord(settings.to_record())) == settings


def test_a_record_has_kebab_case_keys_and_all_settings():
    record = LocalSettings(batch_size=7).to_record()
    assert record["batch-size"] == 7
    assert {key.replace("-", "_") for key in record} == set(asdict(LocalSettings()))
    assert not any("_" in key for key in record)


def test_what_a_record_lacks_has_its_default_and_what_it_has_besides_is_not_read():
    record = ConfigRecord({"lr": 0.5, "server-round": 3, "somebody-elses": "business"})
    assert LocalSettings.from_record(record) == LocalSettings(lr=0.5)


def test_flowers_proximal_mu_is_read():
    """The key that Flower's own ``FedProx`` sends."""
    assert LocalSettings.from_record({"proximal-mu": 0.3}).proximal_mu == 0.3


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("lr", [1e-9, 1, np.float32(0.5)]),
        ("momentum", [0, 0.99]),
        ("clip_norm", [0.0, 5]),
        ("dropout", [0, 1, 1.0]),
        ("min_work", [0.0, 1.0]),
        ("holdout_fraction", [1e-3, 0.999]),
        ("batch_size", [1, np.int64(3)]),
    ],
)
def test_the_ends_of_each_range_are_allowed(name, values):
    for value in values:
        assert getattr(LocalSettings(**{name: value}), name) == value


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("seed", "seed", [-1, 0.5]),
        ("lr", "client.lr", [0, -0.1, NAN, "fast", None]),
        ("epochs", "client.epochs", [0, -1, 1.5, "two", True]),
        ("steps", "client.steps", [-1, 2.5]),
        ("batch_size", "client.batch_size", [0, -3, 2.5]),
        ("momentum", "client.momentum", [-0.1, NAN]),
        ("weight_decay", "client.weight_decay", [-1e-9, NAN]),
        ("clip_norm", "client.clip_norm", [-1, NAN, None]),
        ("proximal_mu", "client.proximal_mu", [-0.5, NAN]),
        ("statistic", "strategy.statistic", ["outgoing", "", None]),
        ("holdout_fraction", "client.holdout_fraction", [0, 1, -0.1, 1.5, NAN, "half"]),
        ("dropout", "heterogeneity.dropout", [-0.1, 1.1, NAN, "often"]),
        ("straggler_fraction", "heterogeneity.straggler_fraction", [-0.1, 2, NAN]),
        ("min_work", "heterogeneity.min_work", [-1, 1.01, NAN]),
        ("most_work", "heterogeneity.most_work", [0, 0.99, NAN]),
        ("lr_spread", "heterogeneity.lr_spread", [0, 0.99, NAN]),
        ("batch_spread", "heterogeneity.batch_spread", [0, 0.99, NAN]),
        ("hard_workers", "heterogeneity.hard_workers", [-0.1, 1.1, NAN]),
        ("gradient_decay", "strategy.gradient_decay", [-0.1, 1.0, NAN]),
        ("class_losses", "strategy.num_classes", [-1, 2.5]),
    ],
)
def test_orders_that_no_client_can_follow_name_the_config_key(name, key, values):
    for value in values:
        with pytest.raises(ConfigError) as caught:
            LocalSettings(**{name: value})
        assert caught.value.key == key
        assert repr(value) in caught.value.problem
        assert caught.value.remedy
