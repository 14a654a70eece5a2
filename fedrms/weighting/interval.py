"""Between which ends a client's rate of wrong labels lies, nine times of ten.

Below, 1.645 standard errors under the estimate. Above, estimates are too small in ways that an
error about them does not tell, so that end is one of its own: 1.645 errors above the largest of

- the estimate;
- the rate of the mixture that has the client's excess and variance,
  ``excess^2 / (excess^2 + variance)``, which does not depend on what a wrong label costs: less than
  a random one, where the model has begun to learn what is wrong, or where labels are wrong alike;
- all that the client loses above the classes' references, rho_0 included and over what a wrong
  label costs: who passes for clean may be noisy, and a client's own share says more than the prior
  where it is like no other.

The last two only where its losses are a mixture as far as the law goes: with other inputs they say
nothing of labels. Then what passes for clean is asked: clean clients lose ``misfit`` of the chance
loss, and as far as their losses vary as those of a mixture with such a rate would, it may be one.
No weight depends on this.
"""

from __future__ import annotations

import numpy as np

from fedrms.weighting.mixture import borne_out, reach_of
from fedrms.weighting.persistence import rate_of

SURE = 1.645
"""Standard errors to each side that hold 90 % of a normal distribution."""


def lower_end(noise: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` the lower end about noise estimates with their errors."""
    return np.asarray(np.maximum(noise - SURE * error, 0.0))


def upper_end(
    noise: np.ndarray,
    error: np.ndarray,
    share: np.ndarray,
    least: float,
    spread: np.ndarray,
    misfit: np.ndarray,
    within: np.ndarray,
    mixed: np.ndarray,
) -> np.ndarray:
    """Return ``[clients]`` the upper end.

    Parameters
    ----------
    noise, error : np.ndarray
        ``[clients]`` estimates and their standard errors.
    share : np.ndarray
        ``[clients]`` rho_k.
    least : float
        rho_0.
    spread, within : np.ndarray
        ``[clients]`` variance of losses within classes above that of clean clients, and that of
        clean clients on the same classes, in the square of the chance loss.
    misfit : np.ndarray
        ``[clients]`` what clean clients lose on the same classes.
    mixed : np.ndarray
        ``[clients]`` boolean: whose losses count as a mixture at all.
    """
    rate = rate_of(share - least, spread)
    whole = np.maximum(share, 0.0) / reach_of(misfit)
    most = np.where(mixed, np.maximum(np.maximum(rate, whole), noise), noise)
    high = np.minimum(most + SURE * error, 1.0)
    hidden = misfit * borne_out(misfit, within, np.ones_like(misfit))
    return np.asarray(np.maximum(high + hidden * (1.0 - high), noise))
