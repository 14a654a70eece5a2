"""Wrong labels or other inputs: what the variance of a client's losses within a class tells.

Wrong labels make a mixture: most examples of a class lose what clean ones do, and a fraction p of
them loses about as much as a random label, which is ``reach`` more. So an excess of p reach comes
with a variance of p (1 - p) reach^2 above that of clean clients. A client whose inputs look
different (another scanner, another style) has all its losses raised alike: the same excess, with
little variance. A server that punished it would make it worse, for who counts less is learned less
and exceeds more.

So an excess counts as noise as far as the variance bears it out: not at all below
:data:`UNLIKE` of what a mixture would have, and in full above :data:`ALIKE`. On MNIST, from the
third round on, label noise of 30 to 80 % has .75 and more of it, pair flips too, whichever classes
clients hold; inverted, blurred, faint and mirrored pictures have under .05, and turned ones under
.35.

What cannot be told apart: labels that are all wrong alike are another concept, and nothing that a
client says of its losses shows whose is right. Beyond a rate of :data:`MOST` the benefit of the
doubt is the client's: the variance asked for falls no further. Noise on the inputs with right
labels raises all losses too, and passes for other inputs.
"""

from __future__ import annotations

import numpy as np

UNLIKE, ALIKE = 0.4, 0.8
"""Shares of a mixture's variance: no evidence of wrong labels below, full evidence above."""

MOST = 0.85
"""Largest rate of wrong labels that is told from another concept."""

LEAST_REACH = 0.1
"""Below it the model does not yet tell right labels from wrong ones, nor mixtures from shifts."""


def reach_of(misfit: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` what a wrong label costs more than a right one.

    In units of the chance loss, for clients whose clean losses would be ``misfit`` of it.
    """
    return np.asarray(np.maximum(1.0 - misfit, LEAST_REACH))


def borne_out(share: np.ndarray, spread: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` how far the variance of its losses bears a client's excess out: 0 to 1.

    All are ``[clients]`` in units of the chance loss, or its square: the excess above what counts
    as clean, the variance of losses within classes above that of clean clients, and what
    :func:`reach_of` gives.
    """
    rate = np.clip(share / reach, 0.0, MOST)
    mixture = np.maximum(rate * (1.0 - rate), 1e-3) * np.square(reach)
    return np.asarray(np.clip((spread / mixture - UNLIKE) / (ALIKE - UNLIKE), 0.0, 1.0))
