"""Games: eigenvalues by hand, and the verdicts."""

import math

import numpy as np
import pytest
import torch

from fedrms.lab.alone import alone
from fedrms.lab.bilinear import distances, dynamics, spectral_radius
from fedrms.lab.gan import covered, energy_distance


@pytest.mark.long
def test_the_verdicts_hold_on_the_quick_size(quick):
    outcomes = {key: verdict.outcome for key, verdict in quick("gan").verdicts.items()}
    assert outcomes["spiral"] == "holds"
    assert outcomes["RMSProp damps"] == "holds in part"
    assert outcomes["momentum"] == "holds in part"


@pytest.mark.parametrize("eta", [0.01, 0.3])
def test_gradient_steps_have_the_eigenvalues_of_theory(eta):
    both = np.linalg.eigvals(dynamics(eta, 0.0, alternating=False))
    largest = sorted(both, key=abs)[-2:]
    assert sorted(z.imag for z in largest) == pytest.approx([-eta, eta])
    assert [z.real for z in largest] == pytest.approx([1.0, 1.0])
    # Alternating steps preserve areas, and turn.
    assert spectral_radius(dynamics(eta, 0.0, alternating=True)) == pytest.approx(1.0)


@pytest.mark.parametrize(("name", "beta"), [("gd", 0.0), ("momentum .9", 0.9)])
def test_the_game_follows_its_matrix(name, beta):
    state = np.eye(4)[0]
    for _ in range(50):
        state = dynamics(0.1, beta, alternating=False) @ state
    assert distances(name, [0.3, 0.1], 50)[-1, 1] == pytest.approx(math.hypot(*state[:2]), rel=1e-4)


def test_negative_momentum_converges_with_alternating_steps_alone():
    assert spectral_radius(dynamics(0.1, -0.5, alternating=True)) < 1
    assert spectral_radius(dynamics(0.1, -0.5, alternating=False)) > 1


def test_two_points_have_the_energy_distance_by_hand():
    made, real = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    # Between: (0 + 2) / 2; within the made ones: (0 + 2 + 2 + 0) / 4.
    assert energy_distance(made, real) == pytest.approx(2 * 1.0 - 1.0)
    assert energy_distance(made, made) == pytest.approx(0.0)


def test_a_mode_is_covered_by_enough_points_near_it():
    task = alone("gan").task
    made = torch.cat([task.centres[:1].expand(500, 2) + 0.2, task.centres[3:4].expand(10, 2)])
    far = torch.full((490, 2), 9.0)
    assert covered(torch.cat([made, far]), task) == 1
