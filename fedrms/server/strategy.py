"""FedRMS: a Flower strategy that scales each client's update by its loss noise.

A thin adapter around a chain of small pieces, each in its own file:

    read replies -> weigh each client -> clip and combine -> server optimizer

Any weighting will do (:mod:`fedrms.weighting`). With every scale equal it is FedAvg, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords
from torch import Tensor

from fedrms.combining.aggregation import Aggregation
from fedrms.combining.columns import LEAST
from fedrms.combining.combine import Rule
from fedrms.combining.server_optimizer import ServerOptimizer
from fedrms.flower_log import log
from fedrms.one_thread import one_thread_an_operation
from fedrms.options import number, one_of
from fedrms.other_units import OTHER_UNITS, UnitWatch
from fedrms.replies.asked import Asked, NotesWhatIsAsked
from fedrms.replies.claims import Addressees
from fedrms.replies.client_index import ClientId
from fedrms.replies.cohort import Cohort, Layout, having, identity_in
from fedrms.replies.limits import EXAMPLES_LIMIT
from fedrms.replies.membership import Membership
from fedrms.replies.metric_ranges import Range, known_ranges
from fedrms.replies.model_arrays import whole_numbers
from fedrms.replies.orders import Orders
from fedrms.replies.replies import read_replies
from fedrms.server.apply_to import Scaling, refuse_beside_a_sum, refuse_unfit_grid
from fedrms.server.diagnostics import Diagnostics
from fedrms.server.evaluation import aggregate_evaluations
from fedrms.server.heard import (
    PartialModels,
    contents_of,
    given_to_clients,
    heard,
    refuse_nonsense,
    stacked,
)
from fedrms.server.next_model import Chain, as_record
from fedrms.server.old_hooks import OldHooks
from fedrms.server.record import Record, described
from fedrms.server.round_metrics import averaged as averaged_metrics
from fedrms.server.round_metrics import weighed_down
from fedrms.server.running_statistics import (
    norms_without,
    refuse_running_statistics,
    statistic_columns,
)
from fedrms.weighting.client_scaler import ClientScaler
from fedrms.weighting.excess_scaler import ExcessScaler
from fedrms.weighting.laws import Law
from fedrms.weighting.noise_estimate import NoiseEstimate
from fedrms.weighting.python_names import SpeaksPython
from fedrms.weighting.weighting import Weighted, Weighting


class FedRMS(NotesWhatIsAsked, OldHooks, SpeaksPython, FedAvg):
    """Scale each client's update by the inverse root of an average of its loss noise.

    Drop-in for Flower's ``FedAvg`` where clients add ``class_losses(scores, labels)`` of the
    model they received to their metrics, or ``loss_moments(losses)``.

    Parameters
    ----------
    statistic : str, optional
        Where clients read their losses: ``prequential`` (while training, before each
        update; tells noisy from merely rare), ``incoming`` (at the received model) or
        ``holdout``. Sent to clients as ``statistic``; fedrms clients follow it. By default
        what the law reads: ``incoming`` for ``excess``, ``prequential`` for the others.
    moment : str (default: "second_moment")
        Which moment of the losses is the noise: ``second_moment`` (rises with the label
        noise all the way), ``variance`` (falls again past one half) or ``mad`` (for heavy
        tails).
    weighting : Weighting, optional
        Who counts how much, in place of the law: ``FedRMS(weighting=TERM(t=-2.0))``. The noise
        estimate is then watched beside it, for the tables.
    law : str or callable, optional
        From noise to scale; by default ``excess``, and ``uniform`` beside a weighting. ``excess``
        compares each client's losses with those of clean clients on the same classes
        (:mod:`fedrms.weighting.excess_scaler`); clients that report one moment of their losses
        alone are scaled by ``deadzone`` among each other. The others read one moment a client
        (:mod:`fedrms.weighting.laws`); ``uniform`` is FedAvg.
    law_options : mapping, optional
        The law's parameters, such as ``{"tilt": 0.0}``.
    num_classes : int, optional
        Classes by which the law ``excess`` asks fedrms clients for losses; the simulator sets
        it. None asks for the losses of all examples together, as in regression.
    decay : float, optional
        beta: how much of a client's past is kept each round. By default 0.5 for ``excess``,
        whose statistic is steady, so that it follows noise that moves; 0.9 for the others.
    bias_correction, staleness, warmup, memory
        See :class:`ClientScaler`.
    apply_to : str (default: "update")
        ``update`` scales what a client sends; ``local_lr`` sends the scale to the client,
        which multiplies its learning rate by it (measured worse; the idea names it). ``client``
        sends it for a secure sum (:class:`fedrms.server.SecureSum`), in which the client weighs
        itself: by the estimate of the rounds before, 1 in its first.
    normalize, combine, combine_options, clip_norm, clip_median, noise_multiplier
        See :class:`fedrms.combining.aggregation.Aggregation`.
    require_evidence : bool (default: False)
        Leave out clients that report nothing that the law reads. Otherwise they weigh as in
        FedAvg, with scale 1, which is what a clean client has; so set it where clients may be
        silent to hide their noise.
    examples_limit : float or None (default: 1e6)
        Largest number of examples a client may claim, in multiples of the cohort's median
        (:func:`fedrms.replies.replies.implausible`); who claims more is left out. The default
        stops nonsense alone. Set it to the largest ratio that your clients can honestly have.
    metric_ranges : mapping, optional
        Least and largest value that clients may report of a metric when they evaluate, such as
        ``{"loss": (0, 100)}``; None for no limit. Accuracies, shares and errors have their own
        (:mod:`fedrms.replies.metric_ranges`).
    server_optimizer : ServerOptimizer, optional
        Defaults to SGD with learning rate 1.
    fraction_train, fraction_evaluate, min_train_nodes, min_evaluate_nodes, \
min_available_nodes, weighted_by_key, arrayrecord_key, configrecord_key, \
train_metrics_aggr_fn, evaluate_metrics_aggr_fn
        As in Flower's ``FedAvg``.
    seed : int (default: 0)
        Decides who is sampled in each round.
    identify : str (default: "replies")
        ``replies`` learns who is behind a node from its training replies; ``query`` asks
        first, so that samples do not depend on Flower's random node ids. ``local_lr``
        always asks: it must know whose scale it sends.
    wait_timeout : float (default: 600)
        Longest wait for ``min_available_nodes``, in seconds.
    record : path, optional
        Folder for tables of the rounds, as simulations write them: ``fedrms.load_runs`` and
        ``fedrms-report`` read it. A later run there gets a folder of its own in it, ``run-2``.
        ``start`` ends the tables; a loop of your own calls :meth:`end_record`.

    Attributes
    ----------
    diagnostics : Diagnostics or None
        What was done with each client in the latest round.
    evaluation_failures : mapping
        Reason by client id of those left out of the latest evaluation.
    weighting : Weighting
        Who counts how much.
    estimate : NoiseEstimate
        Of every client's noise; the weighting itself where no other was given.
    nonnegative_losses : bool
        Whether losses cannot be below 0, as cross-entropy and squared error cannot: mean losses
        that are, in training or evaluation, are then not believed. A simulator or
        ``fedrms-server`` knows it from the task.

    Raises
    ------
    ConfigError
        For an option that does not exist, when the strategy is made; and in the first
        round if evidence is required and no client reports any, or another strategy writes
        to ``record``.
    """

    nonnegative_losses = False

    def __init__(
        self,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_train_nodes: int = 2,
        min_evaluate_nodes: int = 2,
        min_available_nodes: int = 2,
        weighted_by_key: str = "num-examples",
        arrayrecord_key: str = "arrays",
        configrecord_key: str = "config",
        train_metrics_aggr_fn: Callable[[list[RecordDict], str], MetricRecord] | None = None,
        evaluate_metrics_aggr_fn: Callable[[list[RecordDict], str], MetricRecord] | None = None,
        *,
        weighting: Weighting | None = None,
        statistic: str | None = None,
        moment: str = "second_moment",
        law: str | Law | None = None,
        law_options: Mapping[str, Any] | None = None,
        num_classes: int | None = None,
        decay: float | None = None,
        bias_correction: bool = True,
        staleness: float = 0.0,
        warmup: int = 0,
        memory: str = "ema",
        normalize: str = "sum",
        apply_to: str = "update",
        combine: str | Rule = "mean",
        combine_options: Mapping[str, Any] | None = None,
        clip_norm: float | None = None,
        clip_median: float | None = None,
        noise_multiplier: float = 0.0,
        require_evidence: bool = False,
        examples_limit: float | None = EXAMPLES_LIMIT,
        metric_ranges: Mapping[str, Range | None] | None = None,
        server_optimizer: ServerOptimizer | None = None,
        seed: int = 0,
        identify: str = "replies",
        wait_timeout: float = 600.0,
        record: str | Path | None = None,
    ) -> None:
        super().__init__(
            fraction_train,
            fraction_evaluate,
            min_train_nodes,
            min_evaluate_nodes,
            min_available_nodes,
            weighted_by_key,
            arrayrecord_key,
            configrecord_key,
            train_metrics_aggr_fn,
            evaluate_metrics_aggr_fn,
        )
        one_of("strategy.identify", identify, ("replies", "query"))
        number("client.fraction", fraction_train, 0, 1)
        if examples_limit is not None:
            number("strategy.examples_limit", examples_limit, 1)
        chosen: dict[str, Any] = {
            **{"normalize": normalize, "combine": combine, "combine_options": combine_options},
            **{"clip_norm": clip_norm, "clip_median": clip_median},
        }
        if weighting is not None:
            scaling = {"law": law, "law_options": law_options, "apply_to": apply_to}
            weighting.check({**chosen, **scaling})
            statistic = statistic or weighting.asks.get("statistic")
        self.estimate = NoiseEstimate(
            statistic=statistic,
            moment=moment,
            law=law or ("excess" if weighting is None else "uniform"),
            law_options=law_options,
            num_classes=num_classes,
            require=require_evidence,
            memory={
                **{"bias_correction": bias_correction, "staleness": staleness},
                **{"warmup": warmup, "memory": memory},
                **({} if decay is None else {"decay": decay}),  # each scaler has its own default
            },
        )
        self.weighting = weighting or self.estimate
        self._scaling = Scaling(apply_to, self.weighting)
        if apply_to == "client":
            optional = {"noise_multiplier": noise_multiplier, "weighted_by_key": weighted_by_key}
            refuse_beside_a_sum({**chosen, **optional})
        self.aggregation = Aggregation(**chosen, noise_multiplier=noise_multiplier)
        self.examples_limit = examples_limit
        self._seed = seed
        self.apply_to = apply_to
        self.server_optimizer = server_optimizer or ServerOptimizer()
        self.metric_ranges = dict(metric_ranges or {})
        self.evaluation_failures: Mapping[ClientId, str] = {}
        ask = identify == "query" or apply_to == "local_lr"
        self._members = Membership(seed, ask=ask, timeout=wait_timeout)
        self._received: ArrayRecord = ArrayRecord()
        self.diagnostics: Diagnostics | None = None
        self._trained = False
        self._name: Callable[[ClientId], str] = str
        self._unit_watch = UnitWatch()
        self._partial = PartialModels()
        self._record: Record | None = None
        if record is not None:
            told = described(self.weighting, self.estimate, type(self), chosen, apply_to, seed)
            self._record = Record(record, weighted_by_key, told)

    @property
    def scaler(self) -> ClientScaler | ExcessScaler:
        """The estimates of every client."""
        return self.estimate.scaler

    @property
    def statistic(self) -> str:
        """Where clients are told to read their losses."""
        return self.estimate.statistic

    @property
    def _chain(self) -> Chain:
        return Chain(
            self.estimate,
            self.weighting,
            self._scaling,
            self.aggregation,
            self.server_optimizer,
            self._seed,
        )

    def summary(self) -> None:
        """Log the strategy's settings, and FedAvg's below them."""
        log(INFO, "\t├──> Client scaling: %s", type(self.weighting).__name__)
        for line in self.estimate.settings():
            log(INFO, "\t│\t├── %s", line)
        log(INFO, "\t│\t└── Applied to: %s", self.apply_to)
        log(INFO, "\t├──> Normalize: %s", self.aggregation.normalize)
        log(INFO, "\t├──> Combine: %s", self.aggregation.combine)
        super().summary()

    def name_clients(self, client_name: Callable[[ClientId], str]) -> None:
        """Take what clients are called in messages; the simulator calls this."""
        self._name = client_name

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Train for some rounds, and keep the tables that ``record`` asks for; see Flower's."""
        layout = Layout.of(initial_arrays)  # in one piece, no round makes a copy of it
        initial_arrays = layout.unflatten(layout.flatten(initial_arrays), initial_arrays)
        kept = self._record and self._record.kept(num_rounds, evaluate_fn)
        with kept or nullcontext(evaluate_fn) as evaluate:
            return super().start(
                grid,
                initial_arrays,
                num_rounds,
                timeout,
                train_config,
                evaluate_config,
                evaluate,
            )

    def end_record(self) -> None:
        """End the tables that ``record`` asks for with their summary, as ``start`` does."""
        if self._record is not None:
            self._record.end()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Choose the cohort by client id and address it; see Flower's ``Strategy``."""
        if self.fraction_train == 0:
            return []
        refuse_unfit_grid(grid, self.apply_to)
        if self._record is not None:
            self._record.begin(server_round)
        if self.aggregation.noise_multiplier:
            refuse_running_statistics(Layout.of(arrays))
        nodes = self._sampled(grid, server_round, is_train=True)
        config["server-round"] = server_round
        config.update(self._chain.asks)
        record = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: config})
        messages = self._construct_messages(record, nodes, MessageType.TRAIN)
        return self._scaling.told(messages, nodes, self._members.client_of, self.configrecord_key)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Clip, scale and combine the round's replies, and step the server optimizer."""
        asked = self.asked("configure_train", server_round)
        replies = heard(self, replies, is_train=True)
        self._received = given_to_clients(
            asked, replies, self.arrayrecord_key, steps_only=self._chain.needs_steps
        )
        layout = Layout.of(self._received)
        cells = (len(asked.messages) if asked else len(replies)) * sum(layout.sizes)
        with nullcontext() if cells >= LEAST else one_thread_an_operation():
            arrays, metrics, cohort = self._aggregate(server_round, replies, layout, asked)
        self._received = ArrayRecord()  # not kept in memory while the next one is trained
        if self._record is not None and self.diagnostics is not None:
            self._record.trained(cohort, self.diagnostics, self._name, metrics)
        return arrays, metrics

    def _aggregate(
        self, server_round: int, replies: Sequence[Message], layout: Layout, asked: Asked | None
    ) -> tuple[ArrayRecord | None, MetricRecord | None, Cohort | None]:
        """Return the next model, the round's metrics and who is in both; None where nobody is."""
        cohort = self._read(server_round, replies, layout, asked)
        current = layout.flatten(self._received)
        statistics = statistic_columns(layout)
        if len(statistics) and cohort.norms is None:
            cohort.norms = norms_without(cohort, current, statistics)
        known = asked is not None and len(asked.arrays) > 0 and len(current) > 0
        cohort.lengths_tell = known and self.apply_to == "update"
        weighted = Weighted(cohort, np.ones(0))
        if cohort.clients:
            weighted = self._chain.weighed(server_round, cohort, current)
            weighted = self._hooked(server_round, weighted, current)
            cohort = weighted.cohort
        for client, reason in cohort.failures.items():
            name = self._name(client)
            log(WARNING, "Round %d: client %s left out: %s", server_round, name, reason)
        if not cohort.clients:
            self.diagnostics = Diagnostics(server_round, [], {}, cohort.failures)
            return None, None, None
        self._trained = True
        arrays = self._stepped(server_round, weighted, layout, current)
        return arrays, self._metrics(weighted, replies), cohort

    def _read(
        self, server_round: int, replies: Sequence[Message], layout: Layout, asked: Asked | None
    ) -> Cohort:
        """Return those whose replies can be used, and have what the weighting needs."""
        addressees = Addressees(members=self._members)
        if asked and not stacked(replies):
            addressees = Addressees.of(asked.messages, self._members, server_round)
        cohort = read_replies(
            replies,
            layout,
            addressees,
            arrays=self.arrayrecord_key,
            weighted_by=self.weighted_by_key,
            examples_limit=self.examples_limit,
            asks=self._chain.asks,
            given=self._received,
            nonnegative=self.nonnegative_losses,
            whole=whole_numbers(asked.arrays) if asked else frozenset(),
        )
        self._partial.tell(cohort, self._received, self.arrayrecord_key)
        if not cohort.clients and not self._trained:
            refuse_nonsense(server_round, cohort, replies)
        for client, reply in cohort.replies.items():
            self._members.learn(reply.metadata.src_node_id, client)
        for needed in self.weighting.needs:
            cohort = having(cohort, needed, type(self.weighting).__name__, "strategy")
        return cohort

    def _stepped(
        self, server_round: int, weighted: Weighted, layout: Layout, current: Tensor
    ) -> ArrayRecord:
        """Return the model after the server's step, and say what was done with each client."""
        cohort = weighted.cohort
        following, weights = self._chain.stepped(server_round, weighted, layout, current)
        self.diagnostics = Diagnostics(
            server_round,
            cohort.clients,
            {**weighted.columns, "scale": weighted.scale, "weight": weights},
            cohort.failures,
            self.server_optimizer.lr_used,
        )
        noise, least, most = map(weighted.columns.get, ("rms", "rms_low", "rms_high"))
        who = (cohort.clients, weighted.scale, weighted.not_believed)
        log(INFO, "\t> %s", weighed_down(*who, noise, least, most, self._name))
        units = weighted.columns.get(OTHER_UNITS)
        if text := self._unit_watch.found(cohort.clients, units, self._name):
            log(WARNING, "Round %d: %s", server_round, text)
        return as_record(following, layout, self._received, cohort, weights, self.arrayrecord_key)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Choose who evaluates the new model; see Flower's ``Strategy``."""
        if self.fraction_evaluate == 0:
            return []
        nodes = self._sampled(grid, server_round, is_train=False)
        config["server-round"] = server_round
        record = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: config})
        return self._construct_messages(record, nodes, MessageType.EVALUATE)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Average the evaluations that can be, as Flower's ``FedAvg`` does."""
        replies = heard(self, replies, is_train=False)
        if not replies:
            return None
        asked = self.asked("configure_evaluate", server_round)
        metrics, self.evaluation_failures = aggregate_evaluations(
            server_round,
            replies,
            Addressees.of(asked.messages, self._members, server_round) if asked else None,
            weighted_by=self.weighted_by_key,
            examples_limit=self.examples_limit,
            ranges=known_ranges(self.nonnegative_losses) | self.metric_ranges,
            aggregate=self.evaluate_metrics_aggr_fn,
            sent=asked.arrays if asked else None,
        )
        if self._record is not None:
            self._record.evaluated(server_round, replies, self._sender, self._name, metrics)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return everything that lives across rounds, for a checkpoint."""
        return self._chain.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state from :meth:`state_dict` back."""
        self._chain.load_state_dict(state)

    def _sender(self, reply: Message) -> ClientId:
        told = identity_in(reply)
        return self._members.client_of(reply.metadata.src_node_id) if told is None else told

    def _construct_messages(
        self, record: RecordDict, node_ids: list[int], message_type: str
    ) -> Iterable[Message]:
        """Return one message a node; FedAvg's hook for subclasses."""
        return Orders(node_ids, message_type, self.arrayrecord_key, self.configrecord_key, record)

    def _sampled(self, grid: Grid, server_round: int, *, is_train: bool) -> list[int]:
        """Return the nodes that are asked in a round."""
        nodes = self._members.sample(
            grid,
            "participation" if is_train else "evaluation",
            server_round,
            fraction=self.fraction_train if is_train else self.fraction_evaluate,
            least=self.min_train_nodes if is_train else self.min_evaluate_nodes,
            available=self.min_available_nodes,
        )
        hook = "configure_train" if is_train else "configure_evaluate"
        log(INFO, "%s: Sampled %s nodes (out of %s)", hook, len(nodes), self._members.available)
        return nodes

    def _metrics(self, weighted: Weighted, replies: Sequence[Message]) -> MetricRecord:
        cohort = weighted.cohort
        if self.train_metrics_aggr_fn is not aggregate_metricrecords:  # FedAvg's default
            return self.train_metrics_aggr_fn(contents_of(cohort, replies), self.weighted_by_key)
        return averaged_metrics(cohort, self.weighted_by_key, weighted.scale)
