"""FedRMS with a weighting of somebody's own, and the ways in which it was told before."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import fedrms
from fedrms.errors import ConfigError
from fedrms.server import FedRMS, baselines
from fedrms.server.weighed_by import weighed_by
from fedrms.weighting import AFL, TERM, Oracle, Weighted, Weighting

from .by_hand import HandClient, column, grid_of, numbers, record, train_round

START = record(w=[0.0])


def clients(**losses: Any) -> list[HandClient]:
    sizes = ((0, 1.0, 10), (1, 2.0, 30), (2, 4.0, 60))
    return [HandClient(k, record(w=[w]), examples=n, losses=losses) for k, w, n in sizes]


class Counting(Weighting):
    """Weighs the k-th client by k + 1 rounds, asks for something and needs something."""

    asks = {"flavour": "sweet"}  # noqa: RUF012
    needs = ("sugar",)

    def __init__(self, step: float = 1.0) -> None:
        self.step, self.rounds = step, 0

    def __call__(self, server_round, cohort, received) -> Weighted:
        self.rounds += 1
        count = self.step * np.array([client + 1.0 for client in cohort.clients])
        columns = {"rounds": np.full(len(count), self.rounds), "moved": self.moved(cohort)}
        return Weighted(cohort, np.ones(len(count)), columns, count=count)

    @staticmethod
    def moved(cohort) -> np.ndarray:
        return cohort.update_norms(torch.zeros(1))

    def state_dict(self) -> dict[str, Any]:
        return {"rounds": self.rounds}

    def load_state_dict(self, state) -> None:
        self.rounds = state["rounds"]


def test_it_decides_who_counts_how_much_and_what_clients_are_asked() -> None:
    strategy, grid = FedRMS(weighting=Counting()), grid_of(clients(sugar=1.0))
    arrays, _ = train_round(strategy, grid, START)
    assert numbers(arrays)["w"] == pytest.approx([(1 * 1 + 2 * 2 + 3 * 4) / 6])
    assert column(strategy, "weight") == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert column(strategy, "moved") == pytest.approx([1.0, 2.0, 4.0])
    config = grid.sent[0][0].content["config"]
    assert (config["flavour"], config["statistic"]) == ("sweet", "prequential")


def test_whoever_does_not_report_what_it_needs_is_left_out() -> None:
    strategy, told = FedRMS(weighting=Counting()), clients(sugar=1.0)
    told[1].losses = {"sugar": -1.0}
    train_round(strategy, grid_of(told), START)
    assert strategy.diagnostics is not None
    assert strategy.diagnostics.clients == [0, 2]
    assert "'sugar' is -1.0" in strategy.diagnostics.failures[1]
    with pytest.raises(ConfigError, match="Counting needs 'sugar'"):
        train_round(FedRMS(weighting=Counting()), grid_of(clients(salt=1.0)), START)


def test_its_state_is_kept_beside_the_estimates() -> None:
    first, grid = FedRMS(weighting=Counting()), grid_of(clients(sugar=1.0))
    train_round(first, grid, START)
    state = first.state_dict()
    assert state.keys() == {"scaler", "rounds", "server_optimizer"}
    second = FedRMS(weighting=Counting())
    second.load_state_dict(state)
    train_round(second, grid, START, server_round=2)
    assert column(second, "rounds") == [2.0, 2.0, 2.0]


def test_a_rule_of_combination_takes_its_weights() -> None:
    strategy = FedRMS(weighting=Counting(), combine="median")
    arrays, _ = train_round(strategy, grid_of(clients(sugar=1.0)), START)
    assert 2.0 <= numbers(arrays)["w"][0] <= 4.0


def test_a_part_of_the_model_is_averaged_over_its_senders_with_all_weight() -> None:
    draw = np.random.default_rng(0)
    cohort = fedrms.server.strategy.Cohort(
        [0, 1, 2], torch.zeros(3, 4), {"num-examples": np.ones(3)}
    )
    whole = Weighted(cohort, np.ones(3), weights=draw.uniform(0.1, 0.2, 3))
    part = whole.of_rows(np.array([0, 2]), torch.tensor([1, 3]))
    assert part.weights is not None
    assert part.weights.sum() == pytest.approx(whole.weights.sum())
    assert part.weights[0] / part.weights[1] == pytest.approx(whole.weights[0] / whole.weights[2])
    assert part.cohort.parameters.shape == (2, 2)


def test_a_learning_rate_cannot_be_scaled_by_what_is_not_known_before() -> None:
    for weighting in (Counting(), Oracle()):
        with pytest.raises(ConfigError, match="knows no weight before the round") as caught:
            FedRMS(weighting=weighting, apply_to="local_lr")
        assert caught.value.key == "apply_to"


def test_without_a_call_it_is_no_weighting(tmp_path) -> None:
    with pytest.raises(ConfigError, match="abstract") as caught:
        fedrms.run(["clients=3", f"strategy._target_={__name__}.Silent"], folder=tmp_path)
    assert caught.value.key == "strategy"


class Silent(Weighting):
    """Says nothing."""


@pytest.mark.parametrize("name", ["Counting", "SUGAR"])
def test_what_is_neither_a_strategy_nor_a_weighting_is_refused(name, tmp_path) -> None:
    target = f"{__name__}.{'clients' if name == 'SUGAR' else 'Counted'}"
    with pytest.raises(ConfigError, match=r"Weighting") as caught:
        fedrms.run(["clients=3", f"strategy._target_={target}"], folder=tmp_path)
    assert caught.value.key == "strategy._target_"


class Counted:
    """Not derived from anything."""


def test_an_option_that_nobody_takes_is_told_with_all_there_are(tmp_path) -> None:
    words = ["clients=3", "strategy=term", "+strategy.tilt=2"]
    with pytest.raises(ConfigError, match="no such option") as caught:
        fedrms.run(words, folder=tmp_path)
    assert caught.value.key == "strategy.tilt"
    assert caught.value.remedy.startswith("it takes t, ")
    assert "normalize" in caught.value.remedy


def test_the_old_names_of_baselines_make_the_same_strategies() -> None:
    told = clients(**{"loss-mean": 1.0})
    old, new = baselines.TERM(t=-1.0, clip_norm=9.0), weighed_by(TERM, t=-1.0, clip_norm=9.0)
    for strategy in (old, new):
        train_round(strategy, grid_of(told), START)
    assert isinstance(old, FedRMS)
    assert isinstance(old.weighting, TERM)
    assert column(old, "weight") == column(new, "weight")
    with pytest.raises(AttributeError, match="no attribute 'FedAvg'"):
        baselines.FedAvg  # noqa: B018


def test_a_configuration_with_a_baselines_old_name_runs(tmp_path) -> None:
    words = ["clients=3", "rounds=1", "data.examples_per_client=20", "strategy=afl"]
    for module in ("baselines", "baselines.afl"):
        target = f"strategy._target_=fedrms.server.{module}.AFL"
        result = fedrms.run([*words, target], folder=tmp_path / module, brief=True)
        assert result.summary["status"] == "finished"
        assert result.clients["weight"].to_numpy() == pytest.approx(1 / 3)
    assert isinstance(baselines.AFL().weighting, AFL)


def with_methods(**methods: Any) -> type[FedRMS]:
    with pytest.warns(DeprecationWarning, match="fedrms.weighting.Weighting"):
        return type("Own", (FedRMS,), methods)


def test_a_subclass_that_weighs_by_a_method_of_its_own_still_does() -> None:
    def weigh(self, cohort, received, scale):
        root = np.sqrt(cohort.metrics["num-examples"]) * scale
        return root / root.sum()

    strategy = with_methods(weigh=weigh)(law="uniform")
    train_round(strategy, grid_of(clients()), START)
    root = np.sqrt([10, 30, 60])
    assert column(strategy, "weight") == pytest.approx(root / root.sum())


def test_a_subclass_that_scales_by_a_method_of_its_own_still_does() -> None:
    def scale(self, server_round, cohort, statistic):
        found = FedRMS.scale(self, server_round, cohort, statistic)
        return fedrms.server.Scales(found.ema, 2 * found.rms, statistic / 8)

    strategy = with_methods(scale=scale)(law="uniform")
    train_round(strategy, grid_of(clients(**{"loss-second-moment": 4.0})), START)
    assert column(strategy, "scale") == [0.5, 0.5, 0.5]
    assert column(strategy, "rms") == [4.0, 4.0, 4.0]
    assert column(strategy, "weight") == pytest.approx([0.1, 0.3, 0.6])


def test_a_subclass_that_combines_by_a_method_of_its_own_is_told_the_new_way() -> None:
    with pytest.raises(TypeError, match="rule of a Weighting"):
        type("Own", (FedRMS,), {"combine": lambda *_: None})


def test_both_ways_of_giving_options_make_one_strategy() -> None:
    ours, theirs = FedRMS(weighting=AFL(mixture_learning_rate=0.5)), partial(weighed_by, AFL)
    other = theirs(mixture_learning_rate=0.5)
    for strategy in (ours, other):
        for server_round in (1, 2):
            train_round(strategy, grid_of(clients(**{"loss-mean": 2.0})), START, server_round)
    assert column(ours, "weight") == column(other, "weight")
