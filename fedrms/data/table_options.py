"""What a person says of a table, whichever file it is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedrms.errors import ConfigError
from fedrms.options import number, one_of, optional_whole, sequence, switch, whole

TASKS = ("auto", "classification", "multilabel", "regression")


@dataclass(frozen=True)
class TableOptions:
    """What a person says of a table: options of every source that reads one."""

    label_column: str | Sequence[str] | None = None
    """What to predict; by default the column named as labels usually are. Several columns, or one
    of lists, are several labels of yes or no where all are 0 or 1, else several targets."""
    true_label_column: str | Sequence[str] | None = None
    """What the label should be, where that is known: then clients' noise is the share of their
    labels that differ (for regression the root mean square difference), and the model is judged by
    it. Never learned from."""
    feature_columns: Sequence[str] | None = None
    """Columns to learn from, or patterns such as ``f*``; by default all the others that are
    numbers, categories or lists of one shape, but for the index of pandas, numbers of rows and
    copies of the label. Categories become one-hot. Scaled to training mean 0 and standard deviation
    1."""
    drop_columns: Sequence[str] | None = None  # columns, or patterns, that are not learned from
    client_column: str | None = None
    """Who each row belongs to, for ``partition=natural``. A test set without it is everyone's."""
    group_column: str | None = None
    """Rows that stay together where a part of them is held out: a patient, a day. Never learned
    from."""
    categories: Mapping[str, Sequence[Any]] | None = None
    """All categories of text columns, by column, where they must be alike at several places; other
    text columns are then left aside. By default those that training rows have."""
    impute: str | None = None
    """``median`` fills missing numbers with the training median; by default they are
    refused."""
    standardise: bool = True  # scale columns of numbers; false leaves them as they are
    integer_inputs: bool = False
    """Leave whole numbers int64, as ``torch.nn.Embedding`` takes them, and do not scale them."""
    classes: Sequence[str] | None = None
    """Names of all classes in order, where a file may lack some of them; by default those that
    occur."""
    task: str = "auto"
    """One of ``auto``, ``classification``, ``multilabel``, ``regression``: auto is regression
    exactly for floating-point labels."""
    train_examples: int | None = None
    test_examples: int | None = None
    """Keep only the first so many rows."""
    test_fraction: float = 0.2
    split_seed: int = 0
    """The share held out for testing where no test file exists, of each class and client, or of
    groups; and the seed of that split, which is not the run's."""

    def checked(self) -> TableOptions:
        """Return the options with lists as such; refuse what none of them can be."""
        features, classes = self.feature_columns, self.classes
        optional_whole("data.train_examples", self.train_examples)
        optional_whole("data.test_examples", self.test_examples)
        if self.impute is not None:
            one_of("data.impute", self.impute, ("median",))
        return replace(
            self,
            feature_columns=(
                None if features is None else sequence("data.feature_columns", features)
            ),
            drop_columns=sequence("data.drop_columns", self.drop_columns or []),
            categories=_categories(self.categories),
            standardise=switch("data.standardise", self.standardise),
            integer_inputs=switch("data.integer_inputs", self.integer_inputs),
            classes=None if classes is None else [*map(str, sequence("data.classes", classes))],
            task=one_of("data.task", self.task, TASKS),
            test_fraction=number("data.test_fraction", self.test_fraction, 0, 1),
            split_seed=whole("data.split_seed", self.split_seed, 0),
        )


USUAL = TableOptions()


def _categories(given: Mapping[str, Sequence[Any]] | None) -> dict[str, list[str]] | None:
    key = "data.categories"
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ConfigError(key, f"{given!r} is not a mapping", "write it as {column: [a,b]}")
    return {str(c): [*map(str, sequence(f"{key}.{c}", listed))] for c, listed in given.items()}
