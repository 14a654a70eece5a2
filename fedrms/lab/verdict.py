"""What is claimed, by what it is judged, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["holds", "holds in part", "does not hold"]


@dataclass(frozen=True)
class Claim:
    """A claim, with the criterion that is written before anything is measured."""

    text: str  # what is claimed, in a sentence
    criterion: str  # when it holds, and when in part; it does not hold otherwise

    def judge(
        self,
        holds: bool,
        in_part: bool = False,
        *,
        numbers: Mapping[str, float],
        remark: str = "",
    ) -> Verdict:
        """Return the verdict: whether the criterion is met, or else the one for a part.

        ``numbers`` is what was measured, by name, and ``remark`` what a reader should know beside
        it.
        """
        outcome: Outcome = "does not hold"
        if holds:
            outcome = "holds"
        elif in_part:
            outcome = "holds in part"
        return Verdict(self, outcome, {k: float(v) for k, v in numbers.items()}, remark)


@dataclass(frozen=True)
class Verdict:
    """What came out of a claim."""

    claim: Claim  # what was claimed
    outcome: Outcome  # ``holds``, ``holds in part`` or ``does not hold``
    numbers: Mapping[str, float] = field(default_factory=dict)  # what was measured, by name
    remark: str = ""  # what a reader should know beside it
