"""Optimizers and tasks by configuration."""

import json

import pytest

import fedrms
from fedrms.errors import ConfigError
from fedrms.experiment import compose_config
from fedrms.experiment.build import build_settings
from fedrms.experiment.config import plain


def settings(*overrides):
    return build_settings(plain(compose_config(overrides)))


def test_an_optimizer_brings_its_learning_rate_or_takes_the_clients():
    assert settings("client.lr=0.3").lr == 0.3
    assert settings("client.lr=0.3", "optimizer=gd").lr == 0.3
    assert settings("client.lr=0.3", "optimizer=adam").lr == 0.01
    assert settings("client.lr=0.3", "optimizer=adam", "optimizer.lr=null").lr == 0.3


def test_its_options_travel_with_the_orders():
    sent = settings("optimizer=rmsprop", "optimizer.alpha=0.5").to_record()
    order = json.loads(fedrms.client.LocalSettings.from_record(sent).optimizer)
    assert (order["_target_"], order["alpha"]) == ("torch.optim.RMSprop", 0.5)
    assert settings("optimizer=sgd").optimizer == ""


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["optimizer=sgd", "+optimizer.alpha=0.5"], r"optimizer\.alpha"),
        (["optimizer=rmsprop", "+optimizer.beta=0.5"], "optimizer"),
        (["optimizer=adam", "optimizer.betas=[0.9,1.5]"], "optimizer"),
        (["optimizer=rmsprop", "client.momentum=0.9"], r"client\.momentum"),
    ],
)
def test_wrong_options_are_refused(overrides, key):
    with pytest.raises(ConfigError, match=key):
        settings(*overrides)


@pytest.mark.parametrize("name", ["rmsprop", "median_rms"])
def test_the_same_seed_gives_the_same_run_on_both_executors(name, tmp_path):
    base = ["rounds=2", "client.epochs=1", f"optimizer={name}", "clients=5"]
    scores = [
        fedrms.run([*base, f"engine.executor={executor}"], folder=tmp_path / executor).summary
        for executor in ("stacked", "loop")
    ]
    assert scores[0]["final_loss"] == pytest.approx(scores[1]["final_loss"], rel=1e-4)


@pytest.mark.parametrize("target", ["fedrms.tasks.models.MLP", "fedrms.tasks.Nothing"])
def test_what_is_no_task_is_refused(target, tmp_path):
    with pytest.raises(ConfigError, match="task"):
        fedrms.run([f"+task._target_={target}"], folder=tmp_path)


def test_a_clients_level_is_the_deviation_of_its_gradients_noise(tmp_path):
    """A client of a unit bowl that takes one step of rate 1 lands on the mean of its draws."""
    result = fedrms.run(
        [
            *("data=zeros", "model.condition=1.0", "model.start=3.0", "clients=2", "rounds=1"),
            *("noise=feature", "noise.levels=[0.0,0.0]", "strategy=fedavg", "client.steps=1"),
            *("client.batch_size=64", "client.lr=1.0"),
        ],
        folder=tmp_path,
    )
    assert result.summary["final_value"] == 0.0
    assert result.clients["update_norm"].tolist() == pytest.approx([18**0.5] * 2)
