"""Wrong labels or other inputs: what time tells.

Losses that a mixture of right and wrong labels makes have two unknowns, the rate p of wrong
labels and what one costs, d: an excess of p d, with a variance of p (1 - p) d^2 above that of
clean clients. So p is estimated by excess^2 / (excess^2 + variance). As the model trains, it learns
what noisy clients say too: d falls, and p stays. Where inputs look different and labels are
right, the model learns more and more of them: p falls with the excess.

On digits and MNIST, while the excess fell to between a half and a third, p of clients with flips
of 30 to 80 % stayed within a tenth (or rose), and that of clients with turned, mirrored, blurred,
faint or inverted pictures fell to two thirds and less; one turned client of twenty had .8 of it.

A client has its full weight until then, which makes the test fair: who counts less is learned
less, and its excess would not fall. The verdict stays until the excess has all but gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

FITTED = 0.5
"""Watching begins when clean clients lose less than this share of chance."""

NOTABLE = 0.05
"""Smallest excess that is watched, in units of the chance loss."""

FALLEN = 0.8
"""The excess must have fallen to this share of its largest."""

STAYED = 0.9
"""Noise keeps at least this share of its largest rate meanwhile."""

ALIKE = 0.8
"""Above this rate nearly all losses are raised alike, as with other inputs: no verdict."""

GONE = 0.02
"""A verdict ends below this excess."""


class Persistence:
    """Watch clients' excess and rate from when the model has fitted half of what it can.

    Columns of the state: largest excess and rate since watching began (0 before), the verdict, and
    how sure it has been at most that inputs differ.
    """

    def __init__(self) -> None:
        self._state = np.zeros((0, 4))

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        return self._state.nbytes

    def watch(
        self,
        where: np.ndarray,
        share: np.ndarray,
        spread: np.ndarray,
        misfit: np.ndarray,
        inputs: np.ndarray,
    ) -> None:
        """Take in a round of clients at some places, ``[clients]``, in units of the chance loss.

        ``share`` and ``spread`` are the excess above what counts as clean, and the variance of
        losses within classes above that of clean clients (in the square of the unit); ``misfit`` is
        what clean clients would lose on the same classes. ``inputs`` is how sure it is that the
        client's differ, 0 to 1.
        """
        short = int(where.max(initial=-1)) + 1 - len(self._state)
        if short > 0:
            self._state = np.pad(self._state, ((0, short + len(self._state) // 8), (0, 0)))
        rate = rate_of(share, spread)
        most, highest, verdict, differ = self._state[where].T
        watched = (most > 0.0) | ((misfit <= FITTED) & (share >= NOTABLE))
        most = np.where(watched, np.maximum(most, share), 0.0)
        highest = np.where(watched, np.maximum(highest, rate), 0.0)
        noise = (share <= FALLEN * most) & (rate >= STAYED * highest) & (rate <= ALIKE)
        verdict = np.where(share < GONE, 0.0, np.where(watched & noise, 1.0, verdict))
        self._state[where] = np.stack([most, highest, verdict, np.maximum(differ, inputs)], axis=1)

    def verdict(self, where: np.ndarray) -> np.ndarray:
        """Return ``[clients]`` 1 for those whose excess time has shown to be noise, else 0."""
        return self._known(where, 2)

    def differed(self, where: np.ndarray) -> np.ndarray:
        """Return ``[clients]`` how sure it has been at most that inputs differ; -1 is nobody.

        It lasts: as the model learns such a client, its losses tell less and less of it.
        """
        return self._known(where, 3)

    def _known(self, where: np.ndarray, column: int) -> np.ndarray:
        known = (where >= 0) & (where < len(self._state))
        found = np.zeros(len(where))
        found[known] = self._state[where[known], column]
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        return {"watched": self._state.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state back."""
        watched = np.array(state["watched"], dtype=np.float64)
        short = 4 - watched.shape[-1]  # checkpoints before 2026-12 have no last column
        self._state = np.pad(watched, ((0, 0), (0, short)))


def rate_of(share: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return ``[clients]`` p of the mixture that has an excess and a variance, 0 to 1."""
    excess = np.square(np.maximum(share, 0.0))
    return np.asarray(excess / np.maximum(excess + np.maximum(spread, 0.0), 1e-12))
