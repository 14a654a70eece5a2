"""What a round's metrics and its line in the log say."""

import numpy as np
import pytest

from fedrms.server import FedRMS
from fedrms.server.round_metrics import weighed_down

from .by_hand import HandClient, grid_of, record, train_round

ZERO = record(w=[0.0])


def test_a_metric_that_some_report_is_averaged_over_them() -> None:
    clients = [HandClient(k, examples=10 * (k + 1), losses={}) for k in range(3)]
    clients[0].losses = {"auc": 0.5}
    clients[2].losses = {"auc": 0.9}
    _, metrics = train_round(FedRMS(law="uniform"), grid_of(clients), ZERO)
    assert metrics == pytest.approx({"auc": (10 * 0.5 + 30 * 0.9) / 40, "scale-min": 1.0})


def test_metrics_that_are_lists_are_averaged_place_by_place() -> None:
    clients = [HandClient(k, examples=10 * (k + 1)) for k in range(4)]
    for client, told in zip(clients, ([1.0, 2.0], [3.0, 4.0], [9.0], None), strict=True):
        client.losses = {} if told is None else {"by-class": told}  # type: ignore[dict-item]
    _, metrics = train_round(FedRMS(law="uniform"), grid_of(clients), ZERO)
    assert metrics is not None
    expected = [(10 * 1 + 20 * 3) / 30, (10 * 2 + 20 * 4) / 30]
    assert metrics["by-class"] == pytest.approx(expected)


def test_the_log_says_in_one_line_who_is_weighed_down(caplog: pytest.LogCaptureFixture) -> None:
    rms = [1.0, 1.0, 1.0, 6.0, 1.0, 6.0, 3.1]
    clients = [HandClient(k, losses={"loss-second-moment": r**2}) for k, r in enumerate(rms)]
    with caplog.at_level("INFO"):
        train_round(FedRMS(law="deadzone"), grid_of(clients), ZERO)
    line = "weighed down: 3 (0.062x), 5 (0.062x), 6 (0.23x); not believed: none"
    assert line in caplog.text


def test_many_names_are_cut() -> None:
    line = weighed_down(list(range(30)), np.full(30, 0.1), ["clinic"])
    assert line.endswith("9 (0.1x) and 20 more; not believed: clinic")
    assert weighed_down([1], np.ones(1), []) == "weighed down: none; not believed: none"


def test_the_noise_of_who_is_weighed_down_is_told_with_its_interval_where_that_is_known() -> None:
    scale, noise = np.array([1.0, 0.1, 0.2]), np.array([0.0, 0.5, 0.4])
    least, most = np.array([0.0, 0.431, np.nan]), np.array([0.02, 0.622, np.nan])
    line = weighed_down(["a", "b", "c"], scale, [], noise, least, most)
    assert line.startswith("weighed down: b (0.1x, noise 0.50, 0.43 to 0.62), c (0.2x); not")
