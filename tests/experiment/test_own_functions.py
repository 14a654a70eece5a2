"""Functions of a person's own are checked and tried before anybody trains."""

import functools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import fedrms
from fedrms import FedRMS
from fedrms.errors import ConfigError
from fedrms.experiment import compose_config
from fedrms.experiment.parts import build_parts

SMALL = ["clients=4", "rounds=2", "client.epochs=1", "model=linear"]
MODULE = """
import numpy as np
import torch
from fedrms.data import Dataset, Examples, Partition
from fedrms.engines import Lie

class Scaled: pass
def nothing_said(rms, known): return rms
def other_names(a, b) -> np.ndarray: return a
def any_options(rms, known, **options) -> np.ndarray: return rms
def needs_option(rms, known, *, power) -> np.ndarray: return rms ** power
def raises(rms, known) -> np.ndarray: raise ZeroDivisionError("by nought")
def negative(rms, known) -> np.ndarray: return -rms
def short(rms, known) -> np.ndarray: return rms[:0]
def typo(rms, known, *, power=1.0) -> np.ndarray: return rms

def rule_of_lists(parameters, received, weights) -> torch.Tensor: return [1.0]
def rule_of_all(parameters, received, weights) -> torch.Tensor: return parameters
def rule_of_nan(parameters, received, weights) -> torch.Tensor: return received * torch.nan

def in_place(rows, level, draw, dataset) -> Examples:
    rows.x[:] = 0.0
    return rows
def fewer(rows, level, draw, dataset) -> Examples: return Examples(rows.x[1:], rows.y[1:])
def eleven(rows, level, draw, dataset) -> Examples: return Examples(rows.x, rows.y + 100)
def not_finite(rows, level, draw, dataset) -> Examples: return Examples(rows.x / 0.0, rows.y)
def rows_of_nothing(rows, level, draw, dataset) -> Examples: return None
def relabelled(rows, level, draw, dataset) -> Examples:
    return Examples(rows.x, np.where(draw.random(len(rows.y)) < level, 0, rows.y))

def everything(seed, clients, dataset, n) -> Partition:
    return Partition([np.arange(10)] * clients, np.zeros(clients, bool))
def too_far(seed, clients, dataset, n) -> Partition:
    return Partition([np.array([k + 10**6]) for k in range(clients)], np.zeros(clients, bool))
def three(seed, clients, dataset, n) -> Partition:
    return Partition([np.arange(3)] * 3, np.zeros(3, bool))
def nobody(seed, clients, dataset, n) -> Partition:
    rows = [np.arange(5)] + [np.arange(0)] * (clients - 1)
    return Partition(rows, np.zeros(clients, bool))

def _data(x, y, task="classification", classes=2, shape=(2,)):
    return Dataset(Examples(x, y), Examples(x, y), task, classes, shape)
def no_classes(seed, clients) -> Dataset: return _data(np.zeros((9, 2)), np.full(9, 0.5))
def more_classes(seed, clients) -> Dataset: return _data(np.zeros((9, 2)), np.arange(9))
def other_shape(seed, clients) -> Dataset: return _data(np.zeros((9, 3)), np.zeros(9, int))
def nan_rows(seed, clients) -> Dataset: return _data(np.full((9, 2), np.nan), np.zeros(9, int))
def uneven(seed, clients) -> Dataset: return _data(np.zeros((9, 2)), np.zeros(8, int))

def texts(values) -> float: return "much"
def losing(losses) -> float: raise KeyError("x")
def largest(losses) -> float: return float(np.max(losses))

def silent(update, metrics, draw) -> Lie: return None
def long(update, metrics, draw) -> Lie: return Lie(np.append(update, 1.0), metrics)
def chatty(update, metrics, draw) -> Lie: return Lie(update, {**metrics, "more": 1.0})
def turned(update, metrics, draw) -> Lie: return Lie(-update, {})
"""


@pytest.fixture(scope="module", autouse=True)
def own_module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_things.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


LAW, RULE = (
    "strategy.law={{_target_: own_things.{}}}",
    "strategy.combine={{_target_: own_things.{}}}",
)
NOISE = "noise=own noise._target_=own_things.{}"
PARTITION, DATA = (
    "partition=own partition._target_=own_things.{}",
    "data=own data._target_=own_things.{}",
)
METRIC = "+fairness.own.mine={{_target_: own_things.{}}}"
STATISTIC = "client.statistics={{mine: {{_target_: own_things.{}}}}}"
LIAR = "adversary=own adversary._target_=own_things.{}"


@pytest.mark.parametrize(
    ("word", "name", "key", "problem"),
    [
        (LAW, "absent", "strategy.law._target_", "no attribute 'absent'"),
        (LAW, "Scaled", "strategy.law._target_", "is a class, not a law (def f(rms"),
        (LAW, "nothing_said", "strategy.law._target_", "not a law (def f(rms, known"),
        (LAW, "other_names", "strategy.law._target_", "(a, b)"),
        (LAW, "any_options", "strategy.law._target_", "is not a law"),
        (LAW, "needs_option", "strategy.law.power", "is needed by own_things.needs_option"),
        (LAW, "raises", "strategy.law", "ZeroDivisionError: by nought"),
        (LAW, "negative", "strategy.law", "gives [-1.5, -0.5, -4.0]"),
        (LAW, "short", "strategy.law", "gives shape (0,)"),
        (RULE, "rule_of_lists", "strategy.combine", "gives list"),
        (RULE, "rule_of_all", "strategy.combine", "gives (4, 2)"),
        (RULE, "rule_of_nan", "strategy.combine", "nan"),
        (NOISE, "in_place", "noise", "read-only"),
        (NOISE, "fewer", "noise", "gives x of shape"),
        (NOISE, "eleven", "noise", "not classes from 0 to 9"),
        (NOISE, "not_finite", "noise", "gives x that is not finite"),
        (NOISE, "rows_of_nothing", "noise", "gives a NoneType"),
        (PARTITION, "everything", "partition", "a row to two clients"),
        (PARTITION, "too_far", "partition", "gives rows 1000000 to 1000003, of"),
        (PARTITION, "three", "partition", "rows for 3 and rare for 3 of 4 clients"),
        (PARTITION, "nobody", "partition", "client 1 is left without examples"),
        (DATA, "no_classes", "data", "of type float64, not class numbers"),
        (DATA, "more_classes", "data", "gives classes 0 to 8, of 2"),
        (DATA, "other_shape", "data", "says examples are (2,)"),
        (DATA, "nan_rows", "data", "gives train x that is not finite"),
        (DATA, "uneven", "data", "y of shape (8,) for 9 examples"),
        (METRIC, "texts", "fairness.own.mine", "gives 'much'"),
        (STATISTIC, "losing", "client.statistics.mine", "KeyError"),
        (LIAR, "silent", "adversary", "gives a NoneType"),
        (LIAR, "long", "adversary", "gives an update of shape (5,)"),
        (LIAR, "chatty", "adversary", "a metric 'more'"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_does_not_fit_is_said_before_training(word, name, key, problem, tmp_path):
    words = word.format(name)
    words = [words] if words.startswith(("strategy", "+", "client")) else words.split(" ")
    with pytest.raises(ConfigError) as caught:
        fedrms.run([*SMALL, *words], folder=tmp_path / "run")
    assert caught.value.key == key
    assert problem in str(caught.value)
    assert not (tmp_path / "run" / "rounds.parquet").exists()


@pytest.mark.parametrize(
    ("words", "key", "problem"),
    [
        (["noise=own"], "noise._target_", "name a noise kind (def f(rows, level"),
        (["data=own"], "data._target_", "name a data source"),
        (["+fairness.own.client_std={_target_: own_things.largest}"], "fairness", "is taken"),
        (["+fairness.own.mine=3"], "fairness.own.mine", "write {_target_"),
        (["client.statistics={variance: {_target_: own_things.largest}}"], "client", "is taken"),
        (["strategy.law={_target_: own_things.typo, pover: 2}"], "strategy.law.pover", "power"),
        (["strategy.moment=largest"], "strategy.moment", "there is no 'largest'"),
        (
            [
                "data=population",
                "noise=own",
                "noise._target_=own_things.eleven",
                "noise.fraction=1",
            ],
            "noise",
            "labels that are not classes from 0 to 9",
        ),
        (
            [
                "client.statistics={mine: {_target_: own_things.largest}}",
                "client.statistic_dp={clip: 1.0, epsilon: 1.0}",
            ],
            "client.statistics",
            "statistic_dp",
        ),
    ],
)
def test_a_key_that_cannot_be_is_refused(words, key, problem, tmp_path):
    with pytest.raises(ConfigError) as caught:
        build_parts(compose_config([*SMALL, *words]))
    assert caught.value.key.startswith(key)
    assert problem in str(caught.value)


def test_noise_of_ones_own_touches_noisy_clients_alone_and_shares_inputs():
    words = [*SMALL, "noise=own", "noise._target_=own_things.relabelled", "noise.fraction=0.5"]
    words += ["noise.low=1.0", "noise.high=1.0", "noise.drift=[{round: 2, levels: shuffle}]"]
    federation = build_parts(compose_config(words)).side.federation
    first, second = federation.stages
    assert first.x is second.x
    assert first.true_noise.sum() == 2
    for client, level in enumerate(first.true_noise):
        rows = slice(federation.offsets[client], federation.offsets[client + 1])
        truth = federation.clean_y[rows]
        assert (first.y[rows] == (0 if level else truth)).all()


@pytest.mark.parametrize("engine", ["engine.executor=loop", "engine.memory=150KB"])
def test_own_lies_and_statistics_are_the_same_on_every_executor(engine, tmp_path):
    words = [*SMALL, "clients=6", "adversary=own", "adversary._target_=own_things.turned"]
    words += ["adversary.fraction=0.5", "client.statistics={top: {_target_: own_things.largest}}"]
    tables = [
        fedrms.run([*words, how], folder=tmp_path / how, brief=True).clients
        for how in ("engine.executor=stacked", engine)
    ]
    assert tables[0]["adversary"].sum() == 6
    assert (tables[0]["loss_top"] >= tables[0]["loss_mean"]).all()
    for name in ("loss_top", "loss_mean", "update_norm", "weight", "test_accuracy"):
        np.testing.assert_allclose(tables[0][name], tables[1][name], rtol=1e-3, atol=1e-5)


class Told(FedRMS):
    """Adds a column in the second round alone."""

    def aggregate_train(self, server_round, replies):
        result = super().aggregate_train(server_round, replies)
        if server_round == 2:
            told = self.diagnostics
            more = np.arange(len(told.clients))
            self.diagnostics = replace(told, columns={**told.columns, "place": more})
        return result


def test_a_number_that_a_strategy_adds_is_a_column(tmp_path):
    words = [*SMALL, "strategy=fedavg", f"strategy._target_={__name__}.Told"]
    fedrms.run(words, folder=tmp_path / "run", brief=True)
    place = pd.read_parquet(tmp_path / "run" / "clients.parquet")["place"]
    assert place.isna().tolist() == [True] * 4 + [False] * 4
    assert place.tolist()[4:] == [0.0, 1.0, 2.0, 3.0]


def powered(rms, known, power=1.0):
    return np.where(rms > np.median(known), 0.5**power, 1.0)


@pytest.mark.parametrize(
    ("law", "options", "least"),
    [
        (powered, {"power": 2.0}, 0.25),
        (functools.partial(powered, power=3.0), None, 0.125),
        (functools.partial(functools.partial(powered), power=1.0), {"power": 2.0}, 0.25),
        (lambda rms, known: np.full_like(rms, 0.5), None, 0.5),
    ],
)
def test_a_law_may_be_any_function(law, options, least):
    strategy = FedRMS(law=law, law_options=options)
    scales = strategy.scaler.update(1, [0, 1, 2], np.array([1.0, 4.0, 9.0]))
    assert scales.scale.min() == least
    strategy.summary()


def test_a_partial_law_without_such_an_option_is_named():
    with pytest.raises(ConfigError, match="'powered' has no such option") as caught:
        FedRMS(law=functools.partial(powered, power=1.0), law_options={"pover": 1.0})
    assert caught.value.key == "law_options['pover']"
