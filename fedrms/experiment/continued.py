"""A strategy that goes on from a later round than the first."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy


class Continued(Strategy):
    """Let Flower's loop, which counts from 1, drive a strategy that has some rounds behind it."""

    def __init__(self, strategy: Strategy, done: int) -> None:
        self._strategy = strategy
        self._done = done

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Have the strategy configure the round's training."""
        return self._strategy.configure_train(self._done + server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Have the strategy aggregate the round's replies."""
        return self._strategy.aggregate_train(self._done + server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Have the strategy configure the round's evaluation."""
        return self._strategy.configure_evaluate(self._done + server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Have the strategy aggregate the round's evaluation."""
        return self._strategy.aggregate_evaluate(self._done + server_round, replies)

    def summary(self) -> None:
        """Log the strategy's settings."""
        self._strategy.summary()
