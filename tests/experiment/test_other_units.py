"""Clean clients in regression whose targets or inputs are in other units."""

from pathlib import Path

import numpy as np
import pytest

import fedrms
from fedrms.other_units import UnitWatch
from fedrms.results.report import write_report

UNITS = {
    "tripled": lambda x, y: (x, 3 * y),
    "shifted": lambda x, y: (x, y + 3),
    "wide": lambda x, y: (3 * x, y),
    "two targets": lambda x, y: (x, 3 * np.stack([y, y - x[:, 0]], axis=1)),
}


def shares(unit, *options: str) -> np.ndarray:
    """Weights of eight clients over an even one: two in other units first, a noisy one last."""
    draw = np.random.default_rng(3)
    usual = UNITS["two targets"] if unit is UNITS["two targets"] else lambda x, y: (x, y)
    train = {}
    for client in range(8):
        x = draw.normal(size=(80, 5))
        y = x @ np.array([1.0, -0.5, 0.5, 0.25, 0.0])
        y += (2.0 if client == 7 else 0.3) * draw.normal(size=80)
        x, y = unit(x, y) if client < 2 else usual(x, y)
        train[f"site {client}"] = (
            x.astype("f4"),
            (y if client < 2 or y.ndim < 2 else y / 3).astype("f4"),
        )
    found = fedrms.simulate(
        fedrms.Federation.from_arrays(train),
        model="linear",
        strategies=["fedrms"],
        rounds=12,
        lr=0.02,
        overrides=["client.batch_size=10", "counterfactual=none", *options],
    ).clients
    last = found[found["round"] == 12].sort_values("client")
    return last.weight.to_numpy() * 8


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("unit", UNITS)
def test_they_keep_their_weight_and_the_noisy_one_does_not(unit) -> None:
    share = shares(UNITS[unit])
    assert share[:2].min() > 0.8
    assert share[2:7].min() > 0.8
    assert share[7] < 0.6


@pytest.mark.parametrize(
    "option",
    [
        "+strategy.law_options.mixture=0",
        "loss._target_=torch.nn.functional.smooth_l1_loss",
        "client.statistic_dp={clip: 50, epsilon: 50}",
    ],
)
def test_they_do_not_where_units_are_noise_or_nothing_is_told(option) -> None:
    share = shares(UNITS["tripled"], option)
    assert share[:2].max() < 0.4


@pytest.mark.parametrize(
    ("unit", "options", "named"),
    [
        ("shifted", [], "clients site 0, site 1: their targets or inputs"),
        ("shifted", ["+strategy.law_options.mixture=0"], ""),  # nothing is forgiven
        (None, [], ""),  # a noisy client, and the same units everywhere
    ],
)
def test_the_log_says_once_and_the_page_once_who_is_forgiven(unit, options, named, caplog) -> None:
    pytest.importorskip("plotly", reason="needs the extra report")
    with caplog.at_level("WARNING", logger="flwr"):
        shares(UNITS[unit] if unit else lambda x, y: (x, y), *options)
    said = [text for text in caplog.messages if "other units" in text]
    page = write_report([Path()], static=False)
    notes = [text for text in page.problems if "other units" in text]
    assert len(said) == len(notes) == bool(named)
    assert all(named in text and "mixture=0" in text for text in [*said, *notes])


def test_a_client_is_told_of_once_after_three_rounds_on_end() -> None:
    watch = UnitWatch()
    rounds = [[1, 1], [1, 0], [1, 1], [1, 1], [np.nan, 1], [1, 1]]
    said = [watch.found(["a", "b"], np.array(each, float)) for each in rounds]
    assert [text[: text.find(":")] for text in said] == ["", "", "client a", "", "client b", ""]
    assert watch.found(["c"], None) == ""
