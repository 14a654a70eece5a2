"""Loss-driven baselines as options of ``strategy``: they run, and tables hold their weights."""

import numpy as np
import pytest

import fedrms
from fedrms.errors import ConfigError

OPTIONS = ["qffl", "afl", "term", "term_tiered", "dga_loss", "dga_variance"]
QUICK = ["rounds=2", "client.epochs=1", "client.batch_size=16", "client.fraction=0.5"]


@pytest.mark.parametrize("name", OPTIONS)
def test_two_rounds_run_and_the_tables_hold_the_weights(name, tmp_path):
    result = fedrms.run([f"strategy={name}", *QUICK], folder=tmp_path)
    assert result.summary["status"] == "finished"
    there = result.clients[result.clients["participated"]]
    weights = there.pivot(index="round", columns="client", values="weight")
    assert there["scale"].notna().all()
    assert len(weights) == 2
    total = weights.sum(axis=1)
    if name == "qffl":  # q-FedAvg shortens the step
        assert total.between(0.05, 0.95).all()
    else:
        assert total.to_numpy() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "neutral", "expected"),
    [
        ("qffl", "q=0", 0.1),
        ("afl", "mixture_learning_rate=0", 0.1),
        ("dga_loss", "beta=0", 0.1),
        ("dga_variance", "beta=0", 0.1),
        ("term", "t=0", None),
        ("term_tiered", "t=0", None),
    ],
)
def test_the_neutral_value_of_each_is_an_average(name, neutral, expected, tmp_path):
    options = [f"strategy={name}", f"strategy.{neutral}", "partition=quantity"]
    clients = fedrms.run([*options, *QUICK], folder=tmp_path).clients
    there = clients[clients["participated"]]
    if expected is None:  # by examples, as FedAvg
        total = there.groupby("round")["num_examples"].transform("sum")
        np.testing.assert_allclose(there["weight"], there["num_examples"] / total)
        assert np.ptp(there["weight"]) > 0.01
    else:
        np.testing.assert_allclose(there["weight"], expected)


def test_an_option_that_a_baseline_does_not_follow_ends_the_run_before_it_starts(tmp_path):
    with pytest.raises(ConfigError) as caught:
        fedrms.run(["strategy=afl", "strategy.normalize=none"], folder=tmp_path)
    assert caught.value.key == "strategy.normalize"
