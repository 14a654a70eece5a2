"""The bound of Gauss and Markov, against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from fedrms import data
from fedrms.reproduce.best_linear_fit import weighted_fit_error


@pytest.mark.parametrize("equally", [True, False])
def test_the_weighted_fit_is_scikit_learns(equally):
    federation = data.build(
        seed=0,
        clients=5,
        data={"name": "regression", "features": 4},
        partition={"name": "iid"},
        noise={"name": "target", "low": 0.1, "high": 3.0, "fraction": 1.0},
    )
    stage = federation.stage(1)
    weight = np.repeat(stage.true_noise**-2.0, federation.sizes)
    model = LinearRegression().fit(stage.x, stage.y, sample_weight=None if equally else weight)
    expected = np.mean((model.predict(federation.test_x) - federation.test_y) ** 2)
    assert weighted_fit_error(federation, equally=equally) == pytest.approx(expected, rel=1e-4)
