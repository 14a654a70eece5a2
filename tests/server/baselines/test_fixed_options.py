"""What every loss-driven baseline refuses, and whom it leaves out."""

from functools import partial
from typing import Any

import pytest

from fedrms.errors import ConfigError
from fedrms.server.weighed_by import weighed_by
from fedrms.weighting import AFL, DGA, QFFL, TERM, TieredTERM

from ..by_hand import HandClient, column, grid_of, record, train_round

MAKERS: dict[str, Any] = {
    "qffl": partial(weighed_by, QFFL, client_learning_rate=0.1),
    "afl": partial(weighed_by, AFL),
    "term": partial(weighed_by, TERM),
    "term_tiered": partial(weighed_by, TieredTERM),
    "dga": partial(weighed_by, DGA),
}
REPORTS = {"loss-mean": 1.0, "loss-variance": 1.0, "train-loss": 1.0}
every_baseline = pytest.mark.parametrize("name", MAKERS)


@every_baseline
@pytest.mark.parametrize(
    "option", [{"law": "deadzone"}, {"law_options": {"eps": 1}}, {"apply_to": "local_lr"}], ids=str
)
def test_a_law_that_would_change_nothing_is_refused(name: str, option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="does not follow") as caught:
        MAKERS[name](**option)
    assert caught.value.key == f"{next(iter(option))}"


@pytest.mark.parametrize("name", ["qffl", "afl", "dga"])
def test_weights_of_its_own_are_normalised_its_own_way(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MAKERS[name](normalize="none")
    assert caught.value.key == "normalize"
    assert caught.value.remedy == "leave it at sum"


@pytest.mark.parametrize(
    "option", [{"combine": "median"}, {"clip_norm": 1.0}, {"clip_median": 2.0}], ids=str
)
def test_q_fedavg_steps_along_the_sum_of_whole_updates(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        MAKERS["qffl"](**option)
    assert caught.value.key == f"{next(iter(option))}"


@every_baseline
def test_a_cohort_that_reports_no_loss_is_told_what_is_missing(name: str) -> None:
    grid = grid_of([HandClient(0), HandClient(1)])
    with pytest.raises(ConfigError, match="no client reports it") as caught:
        train_round(MAKERS[name](), grid, record(w=[0.0]))
    assert caught.value.key == "strategy"


@every_baseline
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_a_client_without_a_usable_loss_is_left_out_with_a_reason(name: str, bad: float) -> None:
    strategy = MAKERS[name]()
    clients = [HandClient(k, losses=REPORTS) for k in range(3)]
    clients[1].losses = dict.fromkeys(REPORTS, bad)
    arrays, _ = train_round(strategy, grid_of(clients), record(w=[0.0]))
    assert arrays is not None
    assert strategy.diagnostics.clients == [0, 2]
    assert "not a number of 0 or more" in strategy.diagnostics.failures[1]
    # Two clients alike, with updates of no length: half the step each.
    assert column(strategy, "weight") == pytest.approx([0.5, 0.5])


@every_baseline
def test_the_noise_estimate_is_watched_where_it_is_reported(name: str) -> None:
    strategy = MAKERS[name]()
    clients = [
        HandClient(k, losses={**REPORTS, "loss-second-moment": (1.0 + k) ** 2}) for k in range(2)
    ]
    train_round(strategy, grid_of(clients), record(w=[0.0]))
    assert column(strategy, "rms") == pytest.approx([1.0, 2.0])
