"""FedRMS inside Flower's wrappers for differential privacy: it still weighs noisy clients down."""

from typing import Any

import numpy as np
import pytest
from flwr.serverapp import strategy as flower

from fedrms.server import FedRMS

from .by_hand import HandClient, grid_of, losses_told, numbers, record

ZERO = record(w=[0.0, 0.0])


def clients() -> list[HandClient]:
    """Six clients; the last one's losses say that its labels are noise, and it goes elsewhere."""
    good = [HandClient(k, record(w=[1.0, 0.0]), losses=losses_told(0.2)) for k in range(5)]
    noisy = losses_told(1.8) | {"loss-variance-by-class": [1.0]}
    return [*good, HandClient(5, record(w=[0.0, 1.0]), losses=noisy)]


@pytest.mark.parametrize("side", ["ServerSideFixedClipping", "ServerSideAdaptiveClipping"])
def test_a_wrapper_that_clips_on_the_server_leaves_the_scales_to_fedrms(side: str) -> None:
    def trained(inner: Any) -> np.ndarray:
        wrapper = getattr(flower, f"DifferentialPrivacy{side}")
        options = {"noise_multiplier": 0.0, "num_sampled_clients": 6}
        if side.endswith("FixedClipping"):
            options["clipping_norm"] = 0.5
        else:
            options["initial_clipping_norm"] = 0.5
            options["clipped_count_stddev"] = 0.0
        return numbers(
            wrapper(inner, **options).start(grid_of(clients()), ZERO, num_rounds=1).arrays
        )["w"]

    inner = FedRMS(fraction_evaluate=0.0)
    ours = trained(inner)
    theirs = trained(flower.FedAvg(fraction_evaluate=0.0))
    assert inner.diagnostics is not None
    assert inner.diagnostics.columns["scale"][5] < 0.5
    assert np.linalg.norm(theirs) <= 0.5  # every update was clipped
    assert ours[1] < 0.6 * theirs[1]  # the noisy client's direction
