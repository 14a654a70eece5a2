"""Between clients and a strategy: what cannot be averaged reaches it as an error, with the reason.

It stands where all replies of a round pass by (:class:`fedrms.engines.observed.ObservedGrid`), so
that the same checks hold for every strategy, and what they leave out is in the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from logging import WARNING

import numpy as np
from flwr.app import ArrayRecord, Error, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedrms.client.app import CLIENT_RAISED
from fedrms.engines.flower_border import number
from fedrms.engines.replies import CohortReplies
from fedrms.errors import shown
from fedrms.flower_log import log
from fedrms.replies.claims import Addressees
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import Cohort, identity_in
from fedrms.replies.limits import EXAMPLES_LIMIT
from fedrms.replies.membership import Membership, directory_of
from fedrms.replies.metric_ranges import Range, known_ranges
from fedrms.replies.records import array_records, config_records
from fedrms.replies.replies import bad_rows, check_metrics
from fedrms.server import FedRMS
from fedrms.server.evaluation import merged_metrics, sound_evaluations
from fedrms.server.soundness import Needs, loss_problem, single_record, sound_training


@dataclass
class Shield:
    """Checks the replies to a strategy; see :func:`shield_for`."""

    needs: Needs  # what the strategy reads
    own_checks: bool
    """The strategy looks at training replies for itself, and takes more than others can."""
    nonnegative: bool  # whether losses cannot be below 0
    members: Membership = field(default_factory=lambda: Membership(0, ask=True, timeout=60.0))
    """Who is behind which node."""

    def know(self, sent: Sequence[Message], grid: Grid) -> None:
        """Ask those who are sent something who they are, before what they say counts."""
        if self.own_checks or directory_of(grid) is not None:
            return
        nodes = {int(message.metadata.dst_node_id) for message in sent}
        unknown = sorted(node for node in nodes if not self.members.knows(node))
        if unknown:
            self.members.see(grid.get_node_ids())
            self.members.ask_names(grid, unknown)

    def training(self, sent: Sequence[Message], replies: Sequence[Message]) -> Sequence[Message]:
        """Return the replies to a TRAIN round, with an error for each that cannot be averaged."""
        if self.own_checks:
            return replies
        if isinstance(replies, CohortReplies):
            return self._stack(replies)
        given, server_round = _asked(sent)
        to = Addressees.of(sent, self.members, server_round)
        good, failures = sound_training(given, replies, to, self.needs)
        return self._with_errors(sent, replies, good, failures)

    def evaluation(self, sent: Sequence[Message], replies: Sequence[Message]) -> Sequence[Message]:
        """Return the replies to an EVALUATE round, likewise."""
        given, server_round = _asked(sent)
        sound = sound_evaluations(
            list(replies),
            Addressees.of(sent, self.members, server_round),
            given,
            weighted_by=self.needs.weighted_by,
            examples_limit=self.needs.examples_limit,
            ranges=self.needs.ranges,
            complete=not self.own_checks,
        )
        if not self.own_checks:
            for reply in sound.replies:
                kept = merged_metrics(reply.content)
                single_record(
                    reply, {k: v for k, v in kept.items() if k not in sound.reports.dropped}
                )
        return self._with_errors(sent, replies, sound.replies, sound.failures)

    def _stack(self, replies: CohortReplies) -> CohortReplies:
        """Leave out rows of the stack beneath an in-process engine's replies."""
        stacked = replies.record
        metrics = {name: np.asarray(column) for name, column in stacked.metrics.items()}
        cohort = Cohort(list(stacked.clients), stacked.parameters, metrics)
        bad = bad_rows(stacked.parameters)
        cohort = cohort.without({cohort.clients[row]: why for row, why in bad.items()})
        limits = self.needs.weighted_by, self.needs.examples_limit, self.nonnegative
        cohort = check_metrics(cohort, *limits)
        if self.needs.loss is not None:
            column = cohort.metrics.get(self.needs.loss)
            told = [None] * len(cohort.clients) if column is None else column.tolist()
            problems = [loss_problem(self.needs.loss, value) for value in told]
            why = {c: p for c, p in zip(cohort.clients, problems, strict=True) if p is not None}
            cohort = cohort.without(why)
        if not cohort.failures:
            return replies
        failures = dict(stacked.failures) | cohort.failures
        return replies.instead(
            replace(
                stacked,
                clients=cohort.clients,
                parameters=cohort.parameters,
                metrics=cohort.metrics,
                failures=failures,
                norms=None,
            )
        )

    def _with_errors(
        self,
        sent: Sequence[Message],
        replies: Iterable[Message],
        good: Sequence[Message],
        failures: Mapping[ClientId, str],
    ) -> list[Message]:
        """Put an error in place of each reply that is not good; strangers' answers are dropped."""
        kept = {id(reply) for reply in good}
        questions = {message.metadata.message_id: message for message in sent}
        answered: set[str] = set()
        passed: list[Message] = []
        for reply in replies:
            if id(reply) in kept or reply.has_error():
                passed.append(reply)
                continue
            question = questions.get(reply.metadata.reply_to_message_id)
            node = int(
                reply.metadata.src_node_id if question is None else question.metadata.dst_node_id
            )
            why = self._reason(node, identity_in(reply), failures)
            key = "" if question is None else question.metadata.message_id
            if question is None or key in answered:
                log(WARNING, "A reply of node %d is left out: %s", node, shown(why))
                continue
            answered.add(key)
            error = Message(Error(CLIENT_RAISED, why), reply_to=question)
            number(error)
            passed.append(error)
        return passed

    def _reason(self, node: int, claimed: ClientId | None, failures: Mapping[ClientId, str]) -> str:
        why = failures.get(self.members.client_of(node))
        if why is None and claimed is not None:
            why = failures.get(claimed)
        return why or "it answers nothing of this round"


def shield_for(strategy: Strategy, nonnegative: bool) -> Shield:
    """Return what stands before a strategy: ours, Flower's or anyone's.

    What it reads of replies is told by its attributes ``weighted_by_key``, ``arrayrecord_key`` and,
    where it has one, ``train_loss_key``.
    """
    own = strategy.metric_ranges if isinstance(strategy, FedRMS) else {}
    ranges: dict[str, Range | None] = {**known_ranges(nonnegative), **own}
    limit = strategy.examples_limit if isinstance(strategy, FedRMS) else EXAMPLES_LIMIT
    needs = Needs(
        weighted_by=str(getattr(strategy, "weighted_by_key", "num-examples")),
        arrays=str(getattr(strategy, "arrayrecord_key", "arrays")),
        loss=getattr(strategy, "train_loss_key", None),
        examples_limit=limit,
        ranges=ranges,
    )
    return Shield(needs, isinstance(strategy, FedRMS), nonnegative)


def _asked(sent: Sequence[Message]) -> tuple[ArrayRecord | None, int | None]:
    """Return the model that a round's messages carry, and the round that they name."""
    if not sent:
        return None, None
    content = sent[0].content
    arrays = next(iter(array_records(content).values()), None)
    named = [config.get("server-round") for config in config_records(content).values()]
    rounds = [int(value) for value in named if isinstance(value, int)]
    return arrays or None, rounds[0] if rounds else None
