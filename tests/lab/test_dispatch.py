"""Economic dispatch: expected costs and their optimum."""

import numpy as np
import pytest

from fedrms.lab.expected_dispatch import expected_cost, optimum
from fedrms.lab.tasks.generators import SYSTEMS, system


@pytest.mark.long
def test_the_verdicts_hold_on_the_quick_size(quick):
    outcomes = {key: verdict.outcome for key, verdict in quick("dispatch").verdicts.items()}
    assert outcomes == {
        "near the optimum": "holds in part",
        "nearer than fixed steps": "does not hold",
        "one step size for all": "does not hold",
        "noisy regions": "holds",
    }


def test_the_expected_cost_is_the_mean_over_drawn_loads():
    units = system("three_units")
    outputs = np.array([400.0, 300.0, 120.0])
    loads = units.load * (1 + 0.05 * np.random.default_rng(0).standard_normal(400_000))
    short = loads - outputs.sum()
    market = units.price() * np.where(short > 0, 1.5 * short, 0.75 * short)
    drawn = units.cost(outputs) + market.mean()
    assert expected_cost(units, outputs, 0.05) == pytest.approx(drawn, abs=1.0)


@pytest.mark.parametrize("name", SYSTEMS)
def test_without_uncertainty_the_optimum_is_the_published_dispatch(name):
    units = system(name)
    outputs, cost = optimum(units, deviation=1e-4)
    assert outputs.tolist() == pytest.approx(units.output(units.price()).tolist(), abs=0.5)
    assert cost == pytest.approx(units.cost(units.output(units.price())), rel=1e-4)


@pytest.mark.parametrize("name", SYSTEMS)
def test_no_dispatch_nearby_is_cheaper_than_the_optimum(name):
    units = system(name)
    outputs, cost = optimum(units)
    draw = np.random.default_rng(1).standard_normal((2000, len(outputs)))
    nearby = np.clip(outputs + draw, units.low, units.high)
    assert (expected_cost(units, nearby) >= cost - 1e-6).all()
