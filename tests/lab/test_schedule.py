"""Schedules."""

import numpy as np
import pytest
import torch

from fedrms.client.warm_up import CancelWarmUp
from fedrms.lab import schedule


@pytest.mark.long
def test_the_verdicts_hold_on_the_quick_size(quick):
    outcomes = {key: verdict.outcome for key, verdict in quick("schedule").verdicts.items()}
    assert outcomes == {
        "rate times warm-up": "holds",
        "exact cancellation": "holds",
        "cycles break correction": "holds in part",
        "noisy clients": "does not hold",
    }


def test_cancelling_rates_are_those_of_the_formula():
    stepping = torch.optim.RMSprop([torch.zeros(1, requires_grad=True)], lr=0.2, alpha=0.5)
    plan = CancelWarmUp(stepping, beta=0.5)
    rates = []
    for _ in range(4):
        rates.append(stepping.param_groups[0]["lr"])
        stepping.step()
        plan.step()
    assert rates == pytest.approx([0.2 * np.sqrt(1 - 0.5**t) for t in (1, 2, 3, 4)])


def test_an_exponential_schedule_is_read_off_gradient_descent():
    rates = schedule._rates(schedule.SCHEDULES["exponential"])
    assert rates[:3] == pytest.approx([1.0, 0.995, 0.995**2])
