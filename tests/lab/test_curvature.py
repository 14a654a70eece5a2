"""Curvatures against the whole Hessian."""

import pytest
import torch
from torch.func import hessian

from fedrms.lab.curvature import curvature


def test_a_quadratic_has_the_trace_and_top_eigenvalue_of_its_matrix():
    factor = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = factor @ factor.T + torch.diag(torch.arange(6.0, dtype=torch.float64) * 5)
    at = torch.arange(1.0, 7.0, dtype=torch.float64)
    found = curvature(lambda w: 0.5 * w @ matrix @ w, at, probes=5000, iterations=200, seed=1)
    assert found.trace == pytest.approx(matrix.trace().item(), rel=0.02)
    assert found.top == pytest.approx(torch.linalg.eigvalsh(matrix)[-1].item(), rel=1e-6)
    scaled = (matrix.diagonal() * at.square()).sum().item()
    assert found.scaled_trace == pytest.approx(scaled, rel=0.04)


def two_layers(w):
    """A network with one hidden ReLU: 2 inputs, 2 hidden units, 1 output; squared error."""
    x = torch.tensor([[1.0, -0.5], [0.3, 2.0], [-1.0, 1.0]], dtype=torch.float64)
    hidden = (x @ w[:4].view(2, 2).T).relu()
    return (hidden @ w[4:] - torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)).square().mean()


def test_the_scaled_trace_alone_does_not_change_where_layers_are_rescaled():
    w = torch.tensor([0.5, 0.2, -0.3, 0.8, 1.0, -0.7], dtype=torch.float64)
    other = torch.cat([4 * w[:4], w[4:] / 4])  # the same function
    assert two_layers(other).item() == pytest.approx(two_layers(w).item())
    exact = [hessian(two_layers)(at).diagonal() for at in (w, other)]
    first, second = (
        curvature(two_layers, at, probes=4000, iterations=50, seed=0) for at in (w, other)
    )
    assert first.trace == pytest.approx(exact[0].sum().item(), rel=0.1)
    assert second.trace == pytest.approx(exact[1].sum().item(), rel=0.1)
    assert second.trace > 2 * first.trace
    assert first.scaled_trace == pytest.approx((exact[0] * w.square()).sum().item(), rel=0.1)
    assert second.scaled_trace == pytest.approx(first.scaled_trace, rel=1e-6)
