"""The projection on the simplex: by hand, by its conditions, and against a general solver."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize

from fedrms.weighting.afl import project_on_simplex

from .by_hand import quickly

points = arrays(np.float64, st.integers(1, 12), elements=st.floats(-10, 10, width=32))


@pytest.mark.parametrize(
    ("point", "total", "expected"),
    [
        ([0.2, 0.3, 0.5], 1.0, [0.2, 0.3, 0.5]),
        ([0.7, 0.8, 0.9], 1.0, [7 / 30, 10 / 30, 13 / 30]),  # everyone loses 1.4 / 3
        ([2.0, 0.5, 0.1], 1.0, [1.0, 0.0, 0.0]),
        ([1.0, 0.6, -5.0], 1.0, [0.7, 0.3, 0.0]),
        ([0.1, 0.1], 0.5, [0.25, 0.25]),
        ([0.3, 0.1], 0.0, [0.0, 0.0]),
        ([-4.0], 1.0, [1.0]),
    ],
)
def test_the_projection_by_hand(point: list[float], total: float, expected: list[float]) -> None:
    assert project_on_simplex(np.array(point), total) == pytest.approx(expected)


@quickly
@given(point=points, total=st.floats(0.01, 5))
def test_what_is_kept_loses_one_number_and_the_rest_would_fall_below_zero(
    point: np.ndarray, total: float
) -> None:
    projected = project_on_simplex(point, total)
    assert projected.min() >= 0
    assert projected.sum() == pytest.approx(total)
    kept = projected > 0
    lost = (point - projected)[kept]
    assert lost == pytest.approx(np.full(kept.sum(), lost[0]))
    assert (point[~kept] <= lost[0] + 1e-9).all()


def test_a_general_solver_finds_no_nearer_point() -> None:
    rng = np.random.default_rng(2)
    for _ in range(5):
        point = rng.normal(size=6)
        found = minimize(
            lambda x, point=point: np.square(x - point).sum(),
            np.full(6, 1 / 6),
            bounds=[(0, None)] * 6,
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        assert project_on_simplex(point) == pytest.approx(found.x, abs=1e-5)
