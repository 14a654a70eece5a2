"""What clean clients lose by all others, against a federation of the clean ones alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedrms.results.attribution import NAN, Array, Floats
from fedrms.results.fairness import PROTECTION, share_size
from fedrms.results.recorder import CLIENTS_FILE
from fedrms.results.seal import read_table
from fedrms.results.summary import LAST_ROUNDS

HARD_SHARE: Final = 0.25


@dataclass(frozen=True, eq=False)
class CleanFederation:
    """How well a federation of the clean clients alone serves each client, round by round."""

    scores: Mapping[int, tuple[NDArray[np.int64], Floats]]
    """By evaluated round, client ids (sorted) and their test metric, each ``[clients]``."""
    higher_is_better: bool  # false for errors

    @classmethod
    def read(cls, folder: Path, metric: str, *, higher_is_better: bool) -> CleanFederation:
        """Read it from the folder of a run; ``clients.parquet`` tells all."""
        names = ["round", "client", f"test_{metric}"]
        table = read_table(folder / CLIENTS_FILE)
        rounds, clients, values = (table[name].to_numpy() for name in names)
        present, starts = np.unique(rounds, return_index=True)
        parts = zip(*(np.split(column, starts[1:]) for column in (clients, values)), strict=True)
        scores = {
            int(t): (ids.astype(np.int64), scored)
            for t, (ids, scored) in zip(present, parts, strict=True)
            if not np.isnan(scored).all()
        }
        return cls(scores, higher_is_better)

    def protection(
        self, server_round: int, clients: Array, values: Array, clean: Array, rare: Array
    ) -> dict[str, float]:
        """Return what the clean clients have beyond what they get among themselves in that round.

        All arrays are ``[clients]``; the values are the test metric of each on its own clean test
        mix. ``clean_protection`` is over the clean clients, and ``rare_protection`` over those of
        them with rare data: the mean of their metric here minus there (for errors there minus
        here). 0 is full protection, below 0 is what the other clients cost them. NaN if nobody is
        in both.
        """
        known, there = self.scores.get(server_round, (np.zeros(0, np.int64), np.zeros(0)))
        _, mine, theirs = np.intersect1d(clients, known, assume_unique=True, return_indices=True)
        gain = np.asarray(values, dtype=np.float64)[mine] - there[theirs]
        gain = gain if self.higher_is_better else -gain
        groups = (clean[mine], clean[mine] & rare[mine])
        means = (float(gain[group].mean()) if group.any() else NAN for group in groups)
        return dict(zip(PROTECTION, means, strict=True))

    def hard(self, candidates: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which clients are hard to serve although nobody's data is noisy.

        The worst quarter (at least one) of the candidates, the clean clients without rare data, by
        their mean metric over the last 5 evaluated rounds of the clean federation. The other
        clients, and the strategy that is judged, have no part in it. All candidates must have been
        evaluated.
        """
        last = sorted(self.scores)[-LAST_ROUNDS:]
        final = np.mean([self.scores[t][1] for t in last], axis=0)
        chosen = np.flatnonzero(candidates)
        worst_first = np.argsort(
            final[chosen] * (1 if self.higher_is_better else -1), kind="stable"
        )
        marks = np.zeros(len(candidates), dtype=np.bool_)
        if chosen.size:
            marks[chosen[worst_first[: share_size(chosen.size, HARD_SHARE)]]] = True
        return marks
