"""How far clients that send anything at all can pull the model, under each defence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrms.server import FedRMS

from .by_hand import HandClient, grid_of, losses_told, numbers, quickly, record, train_round

SIZE, ZERO = 6, record(w=[0.0] * 6)


def step(honest: np.ndarray, sent: np.ndarray, claim: float, **options: Any) -> np.ndarray:
    """The step of a round: honest clients lose .5, attackers claim something else."""
    models = [*honest, *sent]
    told = [0.5] * len(honest) + [claim] * len(sent)
    clients = [
        HandClient(k, record(w=model.astype(np.float32)), losses=losses_told(mean))
        for k, (model, mean) in enumerate(zip(models, told, strict=True))
    ]
    arrays, _ = train_round(FedRMS(**options), grid_of(clients), ZERO)
    return numbers(arrays)["w"].astype(np.float64)


claims = st.sampled_from([0.0, 1e-6, 0.5])


@quickly
@given(st.integers(0, 2**32 - 1), st.floats(1.0, 1e12), claims)
def test_with_clip_median_a_step_is_never_longer_than_the_usual_update(
    seed: int, times: float, claim: float
) -> None:
    draw = np.random.default_rng(seed)
    honest, sent = draw.normal(size=(8, SIZE)), times * draw.normal(size=(2, SIZE))
    moved = step(honest, sent, claim, clip_median=1.0)
    usual = np.median(np.linalg.norm([*honest, *sent], axis=1))
    assert np.linalg.norm(moved) <= usual * (1 + 1e-5)


@quickly
@given(st.integers(0, 2**32 - 1), st.floats(1.0, 1e12), claims)
def test_a_fifth_of_attackers_cannot_move_the_geometric_median_far(
    seed: int, times: float, claim: float
) -> None:
    """Minsker 2015 (arXiv:1308.1334), lemma 2.1: if a share below alpha lies outside of a ball,
    the median is within (1 - alpha) / sqrt(1 - 2 alpha) radii of its centre.
    """
    draw = np.random.default_rng(seed)
    centre = draw.normal(size=SIZE)
    honest = centre + 0.1 * draw.normal(size=(8, SIZE))
    sent = times * draw.normal(size=(2, SIZE))
    moved = step(honest, sent, claim, combine="geometric_median")
    radius = np.linalg.norm(honest - centre, axis=1).max()
    alpha = 0.201
    bound = (1 - alpha) / np.sqrt(1 - 2 * alpha) * radius
    assert np.linalg.norm(moved - centre) <= bound * (1 + 1e-3)


@pytest.mark.parametrize("claim", [0.0, 1e-6, 0.5])
def test_no_claim_buys_more_than_the_weight_of_a_clean_client(claim: float) -> None:
    """Nine clean clients stay, one sends 1: with weights alike the step is a tenth of it."""
    moved = step(np.zeros((9, SIZE)), np.ones((1, SIZE)), claim)
    assert (moved <= 0.1 + 1e-6).all()
