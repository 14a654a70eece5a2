"""Say of replies with some of a model's arrays whose each is, and what is not used."""

from __future__ import annotations

from logging import INFO

from flwr.app import ArrayRecord

from fedrms.flower_log import log
from fedrms.options import few
from fedrms.replies.cohort import Cohort
from fedrms.replies.replies import model_of

NAMED = 5
"""Most arrays or clients named in a line of the log."""


class PartialModels:
    """Say once who sends adapters or a head alone, and what is not used."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, cohort: Cohort, given: ArrayRecord, key: str) -> None:
        """Log which arrays are not sent, or sent and not known, once as long as it is the same."""
        if cohort.lacking:
            names = sorted(set().union(*cohort.lacking.values()))
            what, who = few(names, NAMED), few([*cohort.lacking], NAMED)
            self._once(f"arrays {what} are averaged without clients {who}, who do not send them")
        models = [model_of(reply, key)[0] for reply in cohort.replies.values()]
        extra = sorted({name for model in models if model for name in model if name not in given})
        if extra:
            self._once(
                f"arrays {few(extra, NAMED)} are not in the model that was sent, and are not used"
            )

    def _once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log(INFO, "\t> %s", text)
