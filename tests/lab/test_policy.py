"""On-policy policy gradient: directions by torch.optim, and the best return."""

import numpy as np
import pytest
import torch

from fedrms.lab import policy
from fedrms.lab.descent import Descent
from fedrms.lab.staleness import BETA, best_return, directions, expected_returns, stale_mean

pytest.importorskip("gymnasium", reason="needs the extra lab")


@pytest.mark.long
def test_the_verdicts_hold_on_the_quick_size(quick):
    outcomes = {key: verdict.outcome for key, verdict in quick("policy").verdicts.items()}
    assert outcomes == {
        "stale gradients are biased": "holds",
        "bias outweighs averaging": "does not hold",
        "no momentum earns more": "does not hold",
        "noisy rewards": "does not hold",
    }


def test_directions_are_read_off_the_steps_of_torchs_sgd():
    draw = np.random.default_rng(0)
    gradients = draw.standard_normal((30, 1, 3))
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    stepping = torch.optim.SGD([w], lr=0.5, momentum=BETA)
    params = [np.zeros((1, 3))]
    for gradient in gradients:
        w.grad = torch.from_numpy(gradient[0])
        stepping.step()
        params.append(w.detach().numpy()[None].copy())
    path = Descent(np.stack(params), np.zeros((30, 1)), np.array([0.5]), 1, {})
    fresh, averaged = directions(path)
    np.testing.assert_allclose(fresh, gradients, atol=1e-12)
    np.testing.assert_allclose(averaged, stale_mean(gradients), atol=1e-12)
    # Of constant gradients the mean is that constant, from the first step on.
    np.testing.assert_allclose(stale_mean(np.ones((9, 1, 2))), 1.0)


def test_no_policy_of_the_softmax_earns_more_than_value_iteration():
    lake = policy.task()
    best = best_return(lake.tables, lake)
    params = 20 * np.random.default_rng(0).standard_normal((500, 64))
    assert expected_returns(lake, params).max() <= best
    assert best == pytest.approx(0.425, abs=0.001)
