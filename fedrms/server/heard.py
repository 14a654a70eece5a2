"""What came back of a round, before anything of it is believed, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from logging import INFO
from typing import TypeGuard

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp.strategy import FedAvg

from fedrms.errors import RunError
from fedrms.flower_log import log
from fedrms.options import few
from fedrms.replies.asked import Asked
from fedrms.replies.cohort import Cohort, StackedReplies, identity_in
from fedrms.replies.model_arrays import as_clients_have_it
from fedrms.replies.replies import NOT_STRUCTURAL, model_of

NAMED = 5
"""Most arrays or clients named in a line of the log."""


def stacked(replies: Iterable[Message]) -> TypeGuard[Sequence[Message]]:
    """Say whether an engine in this process put a stack beside its messages."""
    return getattr(replies, "stacked", None) is not None


def heard(strategy: FedAvg, replies: Iterable[Message], *, is_train: bool) -> Sequence[Message]:
    """Return the replies that Flower's hook lets through, the good ones first, and log them.

    An engine in this process numbers messages as they are made: a stack is left as it is.
    """
    told = "aggregate_train" if is_train else "aggregate_evaluate"
    if is_train and stacked(replies):
        stack: StackedReplies = replies.stacked  # type: ignore[attr-defined]
        good, bad = len(stack.clients), len(stack.failures)
        log(INFO, "%s: Received %s results and %s failures", told, good, bad)
        return replies
    answers = list(replies)
    if not hasattr(FedAvg, "_check_and_log_replies"):  # Flower 1.21
        good = sum(not reply.has_error() for reply in answers)
        log(INFO, "%s: Received %s results and %s failures", told, good, len(answers) - good)
        return sorted(answers, key=lambda reply: reply.has_error())
    parts = strategy._check_and_log_replies(answers, is_train=is_train, validate=False)
    return [reply for part in parts for reply in part]


def given_to_clients(
    asked: Asked | None, replies: Sequence[Message], key: str, *, steps_only: bool
) -> ArrayRecord:
    """Return the model that clients were given, zeros where nobody knows or none was.

    A plain average does not depend on it. Where ``steps_only`` follow and nobody knows it, that is
    a `RunError`.
    """
    given = asked.arrays if asked else ArrayRecord()
    if stacked(replies) or all(reply.has_error() for reply in replies):
        return given
    if not len(given) and steps_only:
        raise RunError(
            "steps from the model that clients were given need to know it, and there is "
            "none: configure_train was not called for this round, or sent no arrays; call "
            "it, or leave server_optimizer, normalize, clip_norm and clip_median as they are"
        )
    return as_clients_have_it(given, replies, key)


def refuse_nonsense(server_round: int, cohort: Cohort, replies: Sequence[Message]) -> None:
    """Raise where all replies, none of them in a stack, fail for one structural reason."""
    reasons = set(cohort.failures.values())
    if stacked(replies) or len(reasons) != 1:
        return
    reason = reasons.pop()
    if reason in NOT_STRUCTURAL or any(reply.has_error() for reply in replies):
        return
    raise RunError(
        f"no reply to round {server_round} can be used, and no earlier one could: {reason}; "
        "mend the client or the strategy's keys (arrayrecord_key, weighted_by_key)"
    )


def contents_of(cohort: Cohort, replies: Sequence[Message]) -> list[RecordDict]:
    """Return the replies of a cohort; of a stack, messages are made for it."""
    if not stacked(replies):
        return [cohort.replies[client].content for client in cohort.clients]
    valid = set(cohort.clients)  # messages for whom there is an error are not among them
    answers = [reply for reply in replies if not reply.has_error()]
    return [reply.content for reply in answers if identity_in(reply) in valid]


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
