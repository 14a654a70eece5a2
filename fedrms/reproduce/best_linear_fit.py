r"""The bound that Gauss and Markov prove: least squares with the true variances.

On all clients' examples together, with an intercept,

.. math:: \hat w = (X^T \Sigma^{-1} X)^{-1} X^T \Sigma^{-1} y, \quad
          \Sigma = diag(\sigma_{k(i)}^2),

has the least variance of all linear unbiased estimators (Aitken 1935). No weighting of clients
can be expected to do better on a linear model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedrms import data
from fedrms.data import AnyFederation
from fedrms.errors import ConfigError
from fedrms.experiment import compose_config
from fedrms.experiment.config import plain
from fedrms.reproduce.plan import Plan


def gauss_markov(plan: Plan) -> list[str]:
    """Return a sentence for each scenario: the best fit's error on the plan's seeds."""
    sentences = []
    for scenario in plan.scenarios:
        config = plain(compose_config(plan.overrides_of(scenario, plan.baseline, 0)))
        federations = [_federation(config | {"seed": seed}) for seed in plan.seeds]
        best = [weighted_fit_error(each) for each in federations]
        equal = [weighted_fit_error(each, equally=True) for each in federations]
        sentences.append(
            f"{scenario}: least squares on all clients' examples with the true variances "
            f"(Gauss and Markov's bound for linear models) has a test error of {_told(best)}, "
            f"with equal weights {_told(equal)}, over the same seeds."
        )
    return sentences


def weighted_fit_error(federation: AnyFederation, *, equally: bool = False) -> float:
    """Return the mean squared test error of the weighted least squares fit.

    Noise levels are standard deviations, all above 0; ``equally`` weighs all examples the same.
    """
    rows = federation.rows_of(np.arange(federation.clients))
    x, y = _with_intercept(rows.x), np.asarray(rows.y, np.float64)
    sigma = np.repeat(federation.true_noise(1), np.diff(rows.offsets))
    root = np.ones_like(sigma) if equally else 1.0 / sigma
    fitted = np.linalg.lstsq(x * root[:, None], y * root, rcond=None)[0]
    error = _with_intercept(federation.test_x) @ fitted - federation.test_y
    return float(np.mean(error**2))


DATA_KEYS = ("seed", "clients", "data", "partition", "noise")
"""Config keys that a federation is built from."""


def _federation(config: Mapping[str, Any]) -> AnyFederation:
    built = data.build(**{key: config[key] for key in DATA_KEYS})
    if built.task != "regression":
        raise ConfigError("reference", "gauss_markov needs a regression", "leave it out")
    return built


def _with_intercept(x: np.ndarray) -> np.ndarray:
    flat = x.reshape(len(x), -1).astype(np.float64)
    return np.concatenate([flat, np.ones((len(x), 1))], axis=1)


def _told(errors: list[float]) -> str:
    spread = f" ± {np.std(errors, ddof=1):.2g}" if len(errors) > 1 else ""
    return f"{np.mean(errors):.4g}{spread}"
