"""All clients' examples laid out in one array, with the truth about their noise."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.data.account import account_of
from fedrms.data.appearance import Appearance, decide_looks
from fedrms.data.client_data import ClientData, CohortRows, Validation
from fedrms.data.client_mix import class_counts, offsets_of
from fedrms.data.dataset import Dataset, Examples, Task
from fedrms.data.dealing import DEFAULT_CLIENTS, Partition
from fedrms.data.flower_partition import spelled
from fedrms.data.label_file import read_labels
from fedrms.data.lazy_sources import LAZY_SOURCES, build_population
from fedrms.data.levels import Dealt
from fedrms.data.noise import Noise, decide
from fedrms.data.open_federation import FromPython
from fedrms.data.own_parts import named
from fedrms.data.own_tests import block_a_look, class_groups, owners_groups, with_owners_looks
from fedrms.data.partition import settled, split
from fedrms.data.population import Population
from fedrms.data.sources import SOURCES, load
from fedrms.data.true_noise import Truth, known_labels, measured_noise, truth_of
from fedrms.errors import ConfigError
from fedrms.options import choose, whole
from fedrms.own_function import names_own


@dataclass(frozen=True, eq=False)
class Stage:
    """A stretch of rounds over which every client's noise stays the same."""

    start_round: int  # the first round (from 1) that it holds for
    x: NDArray[np.float32]
    """``[total, *shape]`` normalised features; client k has the rows ``offsets[k]:offsets[k + 1]``.
    The same object in every stage where noise does not touch features."""
    y: NDArray[Any]  # ``[total]`` labels or targets as the clients have them, noise included
    true_noise: NDArray[np.float64]
    """``[clients]`` each client's noise level: a rate, or a standard deviation; NaN where it is
    unknown."""


@dataclass(frozen=True, eq=False)
class Federation(FromPython, ClientData):
    """Who holds what, over all rounds, and the clean test set everyone is judged on.

    Parameters
    ----------
    task : {"classification", "multilabel", "regression"}
        What the targets are.
    num_classes : int or None
        Number of classes; None for regression and several labels.
    shape : tuple of int
        Shape of one example.
    offsets : array, int64 ``[clients + 1]``
        Where each client's rows begin.
    stages : tuple of Stage
        In order of rounds; the first begins in round 1.
    clean_y : array ``[total]``
        The targets before noise, for analysis only.
    test_x, test_y : arrays, float32 ``[test, *shape]`` and ``[test]``
        The global clean test set, normalised.
    test_groups : array, int64 ``[test]``
        The group of each test example: its class; the client it belongs to, where the
        source knows; a single group otherwise. Where clients look different, each look has
        the test set once, with groups of its own.
    client_mix : array, float64 ``[clients, groups]``
        How much each group counts in a client's own clean test mix; rows sum to 1.
    rare : array of bool, ``[clients]``
        Clients that alone hold certain classes.
    class_names : tuple of str or None
        Names of the classes in label order.
    names : array ``[clients]`` or None
        What clients are called in tables and messages; None for their numbers.
    looks : array ``[clients]`` or None
        What each client's inputs look like, see :mod:`fedrms.data.appearance`; None where
        nobody's look different.
    truth : {"simulated", "measured", "unknown"}
        Whence `true_noise` is known; NaN where it is not.
    account : str
        What was made of a person's own data, in a line; empty for built-in data.
    warnings : tuple of str
        What a person should look at, a sentence each.
    """

    task: Task
    num_classes: int | None
    shape: tuple[int, ...]
    offsets: NDArray[np.int64]
    stages: tuple[Stage, ...]
    clean_y: NDArray[Any]
    test_x: NDArray[np.float32]
    test_y: NDArray[Any]
    test_groups: NDArray[np.int64]
    client_mix: NDArray[np.float64]
    rare: NDArray[np.bool_]
    class_names: tuple[str, ...] | None
    names: NDArray[Any] | None = None
    looks: NDArray[Any] | None = None
    truth: Truth = "simulated"
    account: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def clients(self) -> int:
        """Number of clients."""
        return len(self.offsets) - 1

    @property
    def everyone(self) -> NDArray[np.int64]:
        """All clients, int64 ``[clients]``."""
        return np.arange(self.clients)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of training examples of each client, int64 ``[clients]``."""
        return np.diff(self.offsets)

    def stage(self, round: int) -> Stage:
        """Return the stage that `round` (from 1) falls into."""
        if round < 1:
            raise ValueError(f"rounds are counted from 1, not {round}")
        return self.stages[bisect_right([s.start_round for s in self.stages], round) - 1]

    def client(self, client: int, round: int = 1) -> Examples:
        """Return one client's training examples in one round, as views."""
        if not 0 <= client < self.clients:
            raise IndexError(f"client {client} is not one of 0 to {self.clients - 1}")
        stage = self.stage(round)
        rows = slice(int(self.offsets[client]), int(self.offsets[client + 1]))
        return Examples(stage.x[rows], stage.y[rows])

    def sizes_of(self, clients: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of training examples of some clients."""
        return self.offsets[clients + 1] - self.offsets[clients]

    def rare_of(self, clients: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of some clients alone hold certain classes."""
        return self.rare[clients]

    def looks_of(self, clients: NDArray[np.int64]) -> NDArray[Any] | None:
        """Return what some clients' inputs look like; None where nobody's look different."""
        return None if self.looks is None else self.looks[clients]

    def true_noise(self, round: int) -> NDArray[np.float64]:
        """Return everyone's noise level in a round, float64 ``[clients]``."""
        return self.stage(round).true_noise

    def true_noise_of(self, clients: NDArray[np.int64], round: int) -> NDArray[np.float64]:
        """Return the noise level of some clients in a round."""
        return self.true_noise(round)[clients]

    def clean_of(self, clients: NDArray[np.int64], rounds: int) -> NDArray[np.bool_]:
        """Return which clients are known to have no noise in any of the first rounds."""
        clean = np.ones(len(clients), np.bool_)
        for stage in self.stages:
            if stage.start_round <= rounds:
                clean &= stage.true_noise[clients] == 0
        return clean

    def rows_of(self, clients: NDArray[np.int64], round: int = 1) -> CohortRows:
        """Return the training examples of some clients in one round, copied together."""
        sizes = self.sizes_of(clients)
        offsets = offsets_of(sizes)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[clients] - offsets[:-1], sizes)
        stage = self.stage(round)
        return CohortRows(stage.x[rows], stage.y[rows], offsets)

    def laid_out(self, round: int) -> tuple[int, CohortRows]:
        """Return all rows of a round as they lie, and the round since when."""
        stage = self.stage(round)
        return stage.start_round, CohortRows(stage.x, stage.y, self.offsets)

    def hold_out(self, count: int) -> tuple[Federation, Validation | None]:
        """Take the last `count` clients out; what is left, and their examples of the first round.

        Partitions and noise are drawn without regard to the order of clients, so the last ones
        are as good as any.
        """
        if not count:
            return self, None
        left, first = self.clients - count, self.stages[0]
        cut = int(self.offsets[left])
        stages = tuple(
            Stage(s.start_round, s.x[:cut], s.y[:cut], s.true_noise[:left]) for s in self.stages
        )
        remaining = replace(
            self,
            offsets=self.offsets[: left + 1],
            stages=stages,
            clean_y=self.clean_y[:cut],
            client_mix=self.client_mix[:left],
            rare=self.rare[:left],
            names=None if self.names is None else self.names[:left],
            looks=None if self.looks is None else self.looks[:left],
        )
        return remaining, Validation(first.x[cut:], first.y[cut:])

    def class_table(self) -> NDArray[np.int64]:
        """Return how many examples of each class everyone holds, before noise."""
        if self.num_classes is None:
            return self.sizes[:, None]
        return class_counts(self.clean_y, self.offsets, self.num_classes)

    def test_mix(
        self, clients: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the group of each test example, and clients' mixes ``[clients, groups]``."""
        return self.test_groups, self.client_mix if clients is None else self.client_mix[clients]


AnyFederation = Federation | Population
"""Who holds what: laid out in memory, or made and read a cohort at a time."""


def build(
    *,
    seed: int,
    clients: int | str | None,
    data: Mapping[str, Any],
    partition: Mapping[str, Any],
    noise: Mapping[str, Any],
    aside: int = 0,
    appearance: Mapping[str, Any] | None = None,
) -> AnyFederation:
    """Load the examples, share them among clients, and add the noise.

    Sources in :data:`fedrms.data.lazy_sources.LAZY_SOURCES` give a :class:`Population`,
    whose rows are made or read a cohort at a time; all others a :class:`Federation`.

    Parameters
    ----------
    seed : int
        The run's seed: it decides the partition and the noise, never the test set of real data.
    clients : int or "auto"
        Number of clients; auto is all of them where a person's own data say whose each row is,
        and 20 otherwise.
    data, partition, noise : mapping
        ``name`` and the options of a source, a partition and a noise.
    aside : int
        Clients beyond `clients` that will be held out; with auto, some of the owners are.
    appearance : mapping, optional
        ``name`` and the options of a look; by default everyone looks alike.

    Raises
    ------
    ConfigError
        If a setting is unknown or out of range, or settings do not fit each other.
    """
    seed = whole("seed", seed, 0)
    wanted = None if clients in (None, "auto") else whole("clients", clients) + aside
    usual = DEFAULT_CLIENTS + aside
    data, partition, noise = named(data), spelled(named(partition)), named(noise)
    lazy = not names_own(data) and choose("data", data, {**SOURCES, **LAZY_SOURCES})
    if lazy in LAZY_SOURCES.values():
        return build_population(seed, wanted, data, partition, noise, appearance)
    dataset, examples_per_client = load(seed, wanted or usual, data)
    _refuse_spoilt_indices(dataset, appearance)
    partition = settled(partition, dataset)
    natural = partition["name"] == "natural"
    owners = dataset.natural_ids if natural and dataset.reading is not None else None
    if wanted is None:
        wanted = usual if owners is None else len(np.unique(owners))
    shared = split(seed, wanted, dataset, examples_per_client, partition)
    sizes = np.array([len(rows) for rows in shared.rows])
    looks = decide_looks(seed, len(sizes), appearance)
    decided = decide(seed, dataset, noise, Dealt(seed, shared.rare, sizes, looks.spared))
    by_owner = natural and dataset.test_natural_ids is not None
    federation = lay_out(seed, dataset, shared, decided, by_owner, looks)
    if owners is not None:
        federation = replace(federation, names=owners[[rows[0] for rows in shared.rows]])
    line, warnings = account_of(dataset, federation, partition, decided.name)
    return replace(federation, account=line, warnings=warnings)


def _refuse_spoilt_indices(dataset: Dataset, appearance: Mapping[str, Any] | None) -> None:
    """Refuse looks of inputs that are indices, of which near ones have nothing in common."""
    looks = (appearance or {}).get("name", "none") != "none"
    if looks and dataset.train.x.dtype.kind == "i":
        raise ConfigError(
            "appearance",
            "changes inputs, and these are indices (data.integer_inputs)",
            "set appearance=none",
        )


def lay_out(
    seed: int,
    dataset: Dataset,
    shared: Partition,
    noise: Noise,
    by_owner: bool = False,
    appearance: Appearance | None = None,
) -> Federation:
    """Lay a decided partition, noise and appearance out as a federation.

    With `by_owner`, a client is judged on the test examples that are its own
    (``dataset.test_natural_ids``), and on all of them where it has none.
    """
    looks = appearance or decide_looks(seed, len(shared.rows), None)
    offsets = offsets_of([len(rows) for rows in shared.rows])
    rows = np.concatenate(shared.rows)
    clean_x, given_y = dataset.raw(dataset.train, rows), dataset.train.y[rows]
    change = looks.learn(clean_x)
    if looks.different.any():
        mine = np.repeat(looks.different, np.diff(offsets))
        clean_x[mine] = change(clean_x[mine])
    clean_y, truth = given_y, truth_of(dataset, noise)
    if dataset.truth is not None:
        true_y = dataset.truth[rows]
        clean_y = np.where(known_labels(true_y), true_y, given_y)
    people = None
    if noise.kind.spread == "chosen":
        path, column = (noise.options[key] for key in ("path", "column"))
        people = read_labels(path, column, len(dataset.train), dataset.num_classes or 0)
    stages: list[Stage] = []
    normalised = None
    everyone = np.arange(len(shared.rows))
    for start in noise.levels.starts:
        levels = noise.levels.of(everyone, start)
        x, y = noise.spoil(clean_x, given_y, offsets, everyone, start, dataset)
        if x is not clean_x:
            x = dataset.normalise(x)
        else:
            if normalised is None:
                normalised = dataset.normalise(clean_x.copy())
            x = normalised
        if people is not None:
            theirs = np.repeat(levels > 0, np.diff(offsets))
            y = np.where(theirs, people[rows], given_y)
            levels = measured_noise(y, clean_y, offsets)
        if dataset.truth is not None:
            levels = measured_noise(y, true_y, offsets, dataset.task != "regression")
        elif truth == "unknown":
            levels = np.full(len(levels), np.nan)
        stages.append(Stage(start, x, y, levels))
    test_x, test_y = dataset.raw(dataset.test), np.asarray(dataset.test.y)
    if by_owner:
        groups, mix = owners_groups(dataset, rows[offsets[:-1]])
        test_x = with_owners_looks(test_x, groups, looks.different, change)
    else:
        groups, mix = class_groups(dataset, clean_y, offsets)
        if looks.different.any():
            test_x, test_y, groups, mix = block_a_look(
                test_x, test_y, groups, mix, looks.different, change
            )
    return Federation(
        task=dataset.task,
        num_classes=dataset.num_classes,
        shape=dataset.shape,
        offsets=offsets,
        stages=tuple(stages),
        clean_y=clean_y,
        test_x=dataset.normalise(test_x),
        test_y=test_y,
        test_groups=groups,
        client_mix=mix,
        rare=shared.rare,
        class_names=dataset.class_names,
        looks=looks.looks,
        truth=truth,
    )
