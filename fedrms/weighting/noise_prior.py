"""Which excess clients truly have: an empirical Bayes estimate from the cohort itself.

A client with forty examples has a large excess now and then by chance, and among clean clients
somebody always has the largest. How much of an excess to believe depends on what the others
have: where all shares agree within their errors, differences are chance; where some are far off,
a share near theirs is likely noise. So the distribution of the true shares is estimated first,
as the one under which the reported ones are most likely (nonparametric maximum likelihood,
Kiefer and Wolfowitz 1956, by EM on a grid, Laird 1978), and each client's is then averaged over
its posterior (Robbins 1956; Efron, "Large-Scale Inference", 2010, ch. 1).

A share x of a client with n examples is taken as normal about its true value g with variance

    error^2 + g (reach - g) / n          0 where g is not in (0, reach)

the sampling variance of clean losses, and that of how many labels are wrong: if a fraction p is,
each costing ``reach``, then g = p reach and the variance of the mean is p (1 - p) reach^2 / n.
"""

from __future__ import annotations

import numpy as np

GRID = np.concatenate(
    [
        np.linspace(-0.3, -0.02, 11, endpoint=False),
        np.linspace(-0.02, 0.1, 24, endpoint=False),
        np.linspace(0.1, 1.5, 57),
    ]
)
"""True shares that are told apart, in units of the chance loss: finely where it matters."""

PASSES = 60
"""Of EM; stopping there keeps the prior smooth, so that no client makes a peak of its own."""

FINENESS = np.gradient(GRID) / 4.0
"""Standard deviation added at each true share, so that a share between two of them is near both."""


def likelihood(
    share: np.ndarray, error: np.ndarray, reach: np.ndarray, examples: np.ndarray
) -> np.ndarray:
    """Return ``[clients, grid]`` how likely each client's share is, given a true one.

    Up to a factor a client, which changes neither the prior nor a posterior. All are ``[clients]``,
    in units of the chance loss: the excess share, its sampling error if the client is clean, and
    what a wrong label costs more than a right one (``reach``); beside n_k.
    """
    true = GRID[None]
    flips = np.maximum(true, 0.0) * np.maximum(reach[:, None] - true, 0.0)
    variance = np.square(error)[:, None] + flips / examples[:, None] + np.square(FINENESS)
    distance = np.square(np.clip(share, GRID[0], GRID[-1])[:, None] - true)
    logarithm = -0.5 * (distance / variance + np.log(variance))
    return np.asarray(np.exp(logarithm - logarithm.max(axis=1, keepdims=True)))


def fit(likelihoods: np.ndarray) -> np.ndarray:
    """Return ``[grid]`` the distribution of true shares, from :func:`likelihood`."""
    clients, grid = likelihoods.shape
    shares = likelihoods / clients
    prior = np.full(grid, 1.0 / grid)
    marginal, grown = np.empty(clients), np.empty(grid)
    for _ in range(PASSES):  # of small products, where fresh arrays would cost as much
        np.divide(1.0, np.dot(likelihoods, prior, out=marginal), out=marginal)
        np.multiply(prior, np.dot(marginal, shares, out=grown), out=prior)
    return prior


def posterior(likelihoods: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Return ``[clients, grid]`` what each client's true share is, given its own."""
    joint = likelihoods * prior
    return np.asarray(joint / joint.sum(axis=1, keepdims=True))


def quantile(prior: np.ndarray, share: float) -> float:
    """Return the smallest true share that at least so many of the clients stay within."""
    reached = np.cumsum(prior) >= share - 1e-9
    return float(GRID[int(reached.argmax())])
