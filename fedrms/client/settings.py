"""What a client is told to do in a round, and how it travels in a Flower message."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import inf
from typing import Any

from fedrms.errors import ConfigError
from fedrms.options import number, one_of, whole

STATISTICS = ("prequential", "incoming", "holdout")
"""Where a client's losses are read for its noise statistic (see :mod:`local_update`)."""

RUNNING = ("averaged", "local")
"""Whose running statistics of batch normalisation judge a model (see :mod:`own_normalising`)."""


def _setting(
    default: Any, low: float = 0, high: float = inf, ends: str = "[]", *, key: str | None = None
) -> Any:
    """Return a field with the range of its number; ``key`` is the config's, if not ``client.NAME``.

    A key that ends in a dot is a group, whose option has the field's name.
    """
    return field(default=default, metadata={"range": (low, high, ends), "key": key})


@dataclass(frozen=True)
class LocalSettings:
    """One round's orders to a client; the same for the whole cohort.

    Travels in the TRAIN message's ``ConfigRecord`` with kebab-case keys (``batch-size``),
    because Flower's simulation leaves ``context.run_config`` empty.

    Attributes
    ----------
    seed : int
        The run's seed; with the round and the client it decides every local draw.
    lr : float
        Local learning rate.
    epochs : int
        Passes over the local data.
    steps : int
        Mini-batch steps in place of epochs; 0 means by epochs.
    batch_size : int
        Examples a mini-batch; an epoch's last batch may be smaller.
    momentum, weight_decay : float
        As in ``torch.optim.SGD``; the momentum buffer starts at zero each round.
    clip_norm : float
        Largest L2 norm of a mini-batch gradient; 0 means no clipping.
    proximal_mu : float
        Weight of FedProx's term mu/2 ||w - w_received||^2 (arXiv:1812.06127, eq. 2).
    statistic : str
        ``prequential``, ``incoming`` or ``holdout``.
    holdout_fraction : float
        Share of local examples kept out of training by ``holdout``.
    dropout : float
        Probability that a client drops out of a round.
    straggler_fraction : float
        Probability that a client is a straggler in a round (FedProx, section 5.2).
    min_work : float
        A straggler does a share of its steps drawn uniformly from [min_work, 1).
    most_work : float
        Clients differ for good: each does so many times the steps, log-uniform in [1, most_work].
    hard_workers : float
        Above 0 a client does either most_work times the steps, with this probability, or as many as
        ordered.
    lr_spread : float
        Each has its own learning rate: the ordered one times a factor that lasts, log-uniform in
        [1 / lr_spread, lr_spread].
    batch_spread : float
        Each has its own batch size: the ordered one times a factor that lasts, log-uniform in
        [1 / batch_spread, batch_spread], rounded, and at least 1.
    class_losses : int
        Report the losses of the received model by so many classes; 1 takes all examples as
        one class, 0 means none.
    gradient_decay : float
        beta_2 of the running mean of squared mini-batch gradients, as Adam keeps it
        (arXiv:1412.6980), that is returned beside the model; 0 means none.
    statistic_clip, statistic_epsilon : float
        Largest loss that counts, and the privacy budget of a round for what is said of losses
        (see :mod:`fedrms.client.statistic_privacy`); 0 for no privacy.
    optimizer : str
        What steps in place of SGD, see :func:`fedrms.client.local_optimizer.optimizer_order`;
        empty means SGD.
    statistics : str
        Further statistics of the losses, see :mod:`fedrms.client.own_statistics`; empty means none.
    running_statistics : str
        ``averaged`` by the server, or ``local``: see :mod:`fedrms.client.own_normalising`.
    """

    seed: int = _setting(0, key="seed")
    lr: float = _setting(0.1, ends="(]")
    epochs: int = _setting(1, 1)
    steps: int = _setting(0)
    batch_size: int = _setting(32, 1)
    momentum: float = _setting(0.0)
    weight_decay: float = _setting(0.0)
    clip_norm: float = _setting(0.0)
    proximal_mu: float = _setting(0.0)
    statistic: str = _setting("prequential", key="strategy.")
    holdout_fraction: float = _setting(0.2, 0, 1, "()")
    dropout: float = _setting(0.0, 0, 1, key="heterogeneity.")
    straggler_fraction: float = _setting(0.0, 0, 1, key="heterogeneity.")
    min_work: float = _setting(0.1, 0, 1, key="heterogeneity.")
    most_work: float = _setting(1.0, 1, key="heterogeneity.")
    hard_workers: float = _setting(0.0, 0, 1, key="heterogeneity.")
    lr_spread: float = _setting(1.0, 1, key="heterogeneity.")
    batch_spread: float = _setting(1.0, 1, key="heterogeneity.")
    class_losses: int = _setting(0, key="strategy.num_classes")
    gradient_decay: float = _setting(0.0, 0, 1, "[)", key="strategy.")
    statistic_clip: float = _setting(0.0, key="client.statistic_dp.clip")
    statistic_epsilon: float = _setting(0.0, key="client.statistic_dp.epsilon")
    optimizer: str = _setting("", key="optimizer")
    statistics: str = _setting("")
    running_statistics: str = _setting("averaged")

    def __post_init__(self) -> None:
        """Refuse orders that no client can follow."""
        for item in fields(self):
            key, value = config_key(item.name), getattr(self, item.name)
            low, high, ends = item.metadata["range"]
            if item.type == "int":
                whole(key, value, low)
            elif item.type == "float" and not (item.name.startswith("statistic_") and value == inf):
                number(key, value, low, high, ends)
        one_of(config_key("statistic"), self.statistic, STATISTICS)
        one_of(config_key("running_statistics"), self.running_statistics, RUNNING)
        if self.optimizer and self.momentum:
            raise ConfigError(
                config_key("momentum"),
                f"is {self.momentum}, and belongs to optimizer=sgd",
                "set it to 0, and give the optimizer its own (optimizer=momentum)",
            )
        if self.class_losses and self.statistic != "incoming":
            raise ConfigError(
                config_key("statistic"),
                f"is {self.statistic!r}, and losses by class are those of the received model",
                "set it to incoming",
            )
        if bool(self.statistic_clip) != bool(self.statistic_epsilon) or self.statistic_clip == inf:
            raise ConfigError(
                config_key("statistic_clip"),
                f"is {self.statistic_clip}, with epsilon {self.statistic_epsilon}",
                "set both above 0, and clip to the largest loss that shall count",
            )
        if self.statistic_epsilon and self.statistics:
            raise ConfigError(
                config_key("statistics"),
                "would be told beside losses that client.statistic_dp hides",
                "leave one of the two away",
            )
        if self.statistic_epsilon and self.statistic != "incoming":
            raise ConfigError(
                config_key("statistic"),
                f"is {self.statistic!r}: one example can change the losses of all later ones, so "
                "that noise hides none (client.statistic_dp)",
                "set it to incoming",
            )

    @property
    def scores_chance(self) -> bool:
        """Whether losses are scored with their chance losses: those by class are read so."""
        return self.class_losses > 0

    @property
    def row_parts(self) -> int:
        """Numbers that a client returns for each parameter: 2 with its squared gradients."""
        return 2 if self.gradient_decay else 1

    def to_record(self) -> dict[str, int | float | str]:
        """Return the flat kebab-case mapping that a ``ConfigRecord`` takes."""
        return {f.name.replace("_", "-"): getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> LocalSettings:
        """Read settings from a ``ConfigRecord``; unknown keys are other people's business."""
        keys = {f.name: f.name.replace("_", "-") for f in fields(cls)}
        values = [(name, record[key]) for name, key in keys.items() if key in record]
        return _checked(tuple((name, value, type(value)) for name, value in values))


@functools.lru_cache(maxsize=64)
def _checked(values: tuple[tuple[str, Any, type], ...]) -> LocalSettings:
    """Make settings, and check them, once for a run's rounds; 1, 1.0 and True differ."""
    return LocalSettings(**{name: value for name, value, _ in values})


def config_key(name: str) -> str:
    """Return the config key that a setting is read from."""
    key: str = LocalSettings.__dataclass_fields__[name].metadata["key"] or "client."
    return key + name if key.endswith(".") else key
