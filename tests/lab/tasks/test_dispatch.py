"""Dispatch: published optima, and costs by the plain formula."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize

from fedrms.errors import ConfigError
from fedrms.lab.tasks.dispatch import Dispatch
from fedrms.lab.tasks.generators import SYSTEMS, system


def test_the_published_optimum_of_three_units_is_found():
    """Wood and Wollenberg, example 3A."""
    units = system("three_units")
    assert units.price() == pytest.approx(9.148, abs=5e-4)
    assert units.output(units.price()).tolist() == pytest.approx([393.2, 334.6, 122.2], abs=0.05)


def test_the_optimum_of_three_units_is_that_of_equal_incremental_costs():
    """Within all limits ``sum (price - b) / 2c = load``."""
    units = system("three_units")
    price = (units.load + (units.b / (2 * units.c)).sum()) / (1 / (2 * units.c)).sum()
    outputs = (price - units.b) / (2 * units.c)
    assert ((units.low < outputs) & (outputs < units.high)).all()
    assert units.price() == pytest.approx(price, rel=1e-12)
    assert units.output(units.price()).tolist() == pytest.approx(outputs.tolist(), rel=1e-9)
    assert units.cost(outputs) == pytest.approx(8194.356, abs=1e-3)


def test_the_cost_of_three_units_is_heat_rate_times_price_of_fuel():
    """Wood and Wollenberg give MBtu/h, and $1.1 a MBtu of coal for the first unit."""
    units = system("three_units")
    heat = np.array([510.0, 7.2, 0.00142])
    assert [units.a[0], units.b[0], units.c[0]] == pytest.approx((1.1 * heat).tolist())


def test_the_ieee_system_without_losses_costs_what_is_derived_by_hand():
    """Three units at their minima, the others at one incremental cost for what is left."""
    units = system("ieee30")
    rest = units.load - units.low[3:].sum()
    b, c = units.b[:3], units.c[:3]
    price = (rest + (b / (2 * c)).sum()) / (1 / (2 * c)).sum()
    assert units.price() == pytest.approx(price, rel=1e-12)
    # No unit at its minimum would put out more at this price.
    assert (units.b[3:] + 2 * units.c[3:] * units.low[3:] > price).all()
    assert units.cost(units.output(price)) == pytest.approx(767.602, abs=1e-3)


@pytest.mark.parametrize("name", SYSTEMS)
def test_equal_incremental_costs_are_what_a_solver_finds(name):
    units = system(name)
    found = minimize(
        units.cost,
        (units.low + units.high) / 2,
        jac=lambda p: units.b + 2 * units.c * p,
        bounds=list(zip(units.low, units.high, strict=True)),
        constraints={"type": "eq", "fun": lambda p: p.sum() - units.load},
        method="SLSQP",
        options={"ftol": 1e-12},
    )
    assert units.output(units.price()).tolist() == pytest.approx(found.x.tolist(), abs=0.01)
    assert units.cost(units.output(units.price())) == pytest.approx(found.fun, rel=1e-9)


def test_three_units_of_the_ieee_system_stay_at_their_minima():
    units = system("ieee30")
    best = units.output(units.price())
    assert (best == units.low).tolist() == [False, False, False, True, True, True]
    assert best.sum() == pytest.approx(units.load)


def test_a_load_that_cannot_be_met_is_refused():
    with pytest.raises(ValueError, match="1300"):
        system("three_units").price(1300.0)
    with pytest.raises(ConfigError, match="three_units"):
        system("nine_units")


@pytest.mark.parametrize("change", [-0.8, -0.3, -0.01, 0.0, 0.02, 0.4, 0.7])
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_value_is_the_cost_above_that_of_a_known_load(name, change):
    module = Dispatch((1,), name_of_system=name)
    units = module.system
    price, load = units.price(), units.load * (1 + change)

    def cost(outputs):
        short = load - outputs.sum()
        return units.cost(outputs) + price * (1.5 * max(short, 0) - 0.75 * max(-short, 0))

    # With the load known, units follow one price, and it is the market's where they cannot.
    low, high = 0.75 * price, 1.5 * price
    gap = [units.output(p).sum() - load for p in (low, high)]
    inside = brentq(lambda p: units.output(p).sum() - load, low, high) if gap[0] < 0 < gap[1] else 0
    known = cost(units.output(inside or (low if gap[0] >= 0 else high)))
    own = cost((units.low + units.high) / 2)
    assert module(torch.tensor([[change]])).item() == pytest.approx(own - known, abs=0.01)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_best_outputs_lose_nothing_at_the_expected_load(name):
    module = Dispatch((1,), name_of_system=name)
    module.output.data = module.best.clone()
    assert module(torch.zeros(1, 1)).item() == pytest.approx(0.0, abs=1e-3)
    assert (module(torch.tensor([[-0.1], [0.1]])) > 1.0).all()


def test_outputs_beyond_a_limit_cost_what_the_limit_costs_and_are_led_back():
    module = Dispatch((1,), name_of_system="ieee30")
    at_limit, beyond = (module.low.clone().requires_grad_() for _ in range(2))
    beyond.data[3] -= 5.0
    apply = torch.func.functional_call
    values = [apply(module, {"output": w}, torch.zeros(1, 1))[0] for w in (at_limit, beyond)]
    assert values[0].item() == values[1].item()
    (slope,) = torch.autograd.grad(values[1], beyond)
    assert slope[3] < 0


def test_prices_that_let_one_earn_by_imbalance_are_refused():
    with pytest.raises(ValueError, match="shortage"):
        Dispatch((1,), shortage=0.9)
