"""Which columns of a person's own table are learned from, and how."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedrms.data.dataset import Dataset
from fedrms.data.sources import load
from fedrms.errors import ConfigError

N = 40
DRAW = np.random.default_rng(0)
LABEL = DRAW.permutation(np.repeat([0, 1], N // 2))
X = DRAW.normal(size=N)

Read = Callable[..., Dataset]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read tables, in memory or as pandas writes them, as a person's own data."""

    def read_one(train: Any, test: Any = None, **options: Any) -> Dataset:
        for name, table in (("train", train), ("test", test)):
            if isinstance(table, pd.DataFrame):
                table.to_parquet(tmp_path / f"{name}.parquet")
            elif table is not None:
                table = pa.table(table) if isinstance(table, dict) else table
                pq.write_table(table, tmp_path / f"{name}.parquet")
        return load(0, 1, {"name": "parquet", "path": str(tmp_path), **options})[0]

    return read_one


def features(dataset: Dataset) -> tuple[str, ...]:
    assert dataset.reading is not None
    return dataset.reading.features


def aside(dataset: Dataset) -> dict[str, str]:
    assert dataset.reading is not None
    return dict(dataset.reading.aside)


def warnings(dataset: Dataset) -> str:
    assert dataset.reading is not None
    return "\n".join(dataset.reading.warnings)


FRAME = pd.DataFrame({"a": X, "b": X[::-1].copy(), "label": LABEL})


@pytest.mark.parametrize(
    "frame",
    [
        FRAME.iloc[DRAW.permutation(N)],
        FRAME[FRAME.a < 1.5],
        FRAME.rename_axis("row_id").iloc[::-1],
        FRAME.set_index(pd.Index(X + 5, name="when")),
        FRAME.set_index([pd.Index(LABEL, name="site"), pd.RangeIndex(N, name="visit")]),
        FRAME.set_index(pd.MultiIndex.from_arrays([LABEL, X])),
        FRAME.set_index(pd.date_range("2020", periods=N)),
        FRAME.set_index(pd.Index([f"p{i}" for i in range(N)])),
        FRAME.rename(columns=str).assign(**{"Unnamed: 0": np.arange(N) * 2}),
        FRAME.iloc[::-1].reset_index(),
        FRAME.iloc[::2].reset_index(),
    ],
)
def test_an_index_is_never_a_feature(read: Read, frame: pd.DataFrame) -> None:
    dataset = read(frame)
    assert features(dataset) == ("a", "b")
    assert dataset.shape == (2,)


def test_an_index_is_known_by_its_name_where_nothing_describes_the_file(read: Read) -> None:
    table = pa.Table.from_pandas(FRAME.iloc[DRAW.permutation(N)]).replace_schema_metadata(None)
    assert "__index_level_0__" in table.column_names
    assert features(read(table)) == ("a", "b")


def test_an_index_is_a_feature_a_label_or_an_owner_if_a_person_says_so(read: Read) -> None:
    named = FRAME.drop(columns="label").set_index(pd.Index(LABEL, name="site"))
    dataset = read(named.assign(label=LABEL[::-1].copy()), client_column="site")
    assert dataset.natural_ids is not None
    assert features(dataset) == ("a", "b")
    assert features(read(named, label_column="site")) == ("a", "b")
    asked = read(named.assign(label=LABEL[::-1].copy()), feature_columns=["a", "site"])
    assert features(asked) == ("a", "site")


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (np.arange(N), "another number in each row"),
        (np.arange(7, 7 + N)[::-1].copy(), "another number in each row"),
        ([f"name {i}" for i in range(N)], f"text with {N} different values"),
        (["same"] * N, "the same in all rows"),
        ([datetime(2020, 1, 1 + i % 28) for i in range(N)], "a time"),
        ([date(2020, 1, 1 + i % 28) for i in range(N)], "a time"),
        ([b"ab"] * N, "binary"),
        ([{"p": 1}] * N, "struct"),
        (pa.nulls(N), "empty in all rows"),
        (pa.array([None] * N, pa.float64()), "empty in all rows"),
        ([[1.0] * (1 + i % 2) for i in range(N)], "lists of different lengths (1 to 2)"),
        ([["a"]] * N, "lists of no numbers"),
        (LABEL, "'label' in other words"),
        (["no" if y else "yes" for y in LABEL], "'label' in other words"),
        (LABEL.astype(float) * 7, "'label' in other words"),
    ],
)
def test_what_is_no_feature_is_left_aside_and_said(read: Read, column: Any, why: str) -> None:
    dataset = read({"a": X, "odd": column, "label": LABEL})
    assert features(dataset) == ("a",)
    assert why in aside(dataset)["odd"]


@pytest.mark.parametrize("name", ["true_label", "label_clean", "label.true", "Gold_Label"])
def test_another_version_of_the_label_is_left_aside_with_a_warning(read: Read, name: str) -> None:
    noisy = np.where(X > 1, 1 - LABEL, LABEL)
    dataset = read({"a": X, name: noisy, "label": LABEL})
    assert features(dataset) == ("a",)
    assert f"data.true_label_column={name}" in warnings(dataset)


def test_what_gives_the_label_away_is_learned_from_only_where_it_is_named(read: Read) -> None:
    table = {"a": X, "copy": LABEL, "label": LABEL}
    assert "data.feature_columns takes it" in warnings(read(table))
    named = read(table, feature_columns=["a", "copy"])
    assert features(named) == ("a", "copy")
    assert "'copy' is learned from, and is 'label' in other words" in warnings(named)


GAPS = np.arange(N) + np.arange(N) // 3


@pytest.mark.parametrize(
    ("name", "column", "why"),
    [
        ("Row", GAPS * 1000, "another number in each row"),
        ("idx", GAPS.astype(float), "another number in each row"),
        ("case", GAPS, "numbers of rows in order, with gaps"),
        ("case", GAPS[::-1].astype("uint8"), "numbers of rows in order, with gaps"),
        ("index", np.arange(N) % (N // 2), "numbers of rows, begun anew"),
        ("day", np.arange(N) % (N // 2), None),
        ("price", DRAW.permutation(GAPS), None),
        ("stamp", 1_600_000_000 + 60 * np.arange(N), None),
        ("dose", np.arange(float(N)), None),
    ],
)
def test_numbers_of_rows_are_left_aside_after_rows_were_taken_out_or_tables_joined(
    read: Read, name: str, column: Any, why: str | None
) -> None:
    dataset = read({"a": X, name: column, "label": LABEL})
    assert aside(dataset).get(name) == why
    assert features(dataset) == (("a",) if why else ("a", name))


def test_ids_are_warned_of(read: Read) -> None:
    dataset = read({"a": X, "patient_id": np.arange(N) // 3 * 17, "label": LABEL})
    assert features(dataset) == ("a", "patient_id")
    assert "data.drop_columns=[patient_id]" in warnings(dataset)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([Decimal(i) / 8 for i in range(N)], np.arange(N) / 8),
        (pa.array(np.arange(N) % 7, pa.uint8()), np.arange(N) % 7),
        (pa.array(np.arange(N) % 7, pa.int8()), np.arange(N) % 7),
        (np.array(X, np.float16), np.array(X, np.float16).astype(float)),
        (X > 0, X > 0),
        (pa.array([2**63 + 2**20 * (i % 5) for i in range(N)], pa.uint64()), np.arange(N) % 5),
        (np.arange(N) % 5 + 1_700_000_000_000, np.arange(N) % 5),
        (1e15 + np.arange(N) % 5, np.arange(N) % 5),
    ],
)
def test_numbers_of_any_kind_keep_what_sets_them_apart(
    read: Read, column: Any, expected: Any
) -> None:
    dataset = read({"n": column, "label": LABEL}, {"n": column, "label": LABEL})
    expected = np.asarray(expected, float)
    seen = dataset.normalise(dataset.raw(dataset.train))[:, 0]
    np.testing.assert_allclose(seen, (expected - expected.mean()) / expected.std(), atol=1e-4)


@pytest.mark.parametrize("encoded", [False, True])
def test_categories_become_one_hot(read: Read, encoded: bool) -> None:
    colours = pa.array((["red", "blue", "green"] * N)[:N])
    colours = colours.dictionary_encode() if encoded else colours
    dataset = read({"c": colours, "label": LABEL})
    assert dataset.shape == (3,)
    assert features(dataset) == ("c (one-hot, 3)",)
    assert set(np.unique(dataset.train.x)) == {0.0, 1.0}
    assert np.all(dataset.train.x.sum(axis=1) == 1)


def test_numbers_that_pandas_held_as_categories_are_categories(read: Read) -> None:
    dataset = read(FRAME.assign(c=pd.Categorical([7, 3, 5, 3] * (N // 4))))
    assert features(dataset) == ("a", "b", "c (one-hot, 3)")


def test_a_category_that_only_the_test_set_has_belongs_to_none(read: Read) -> None:
    train = {"c": ["p", "q"] * (N // 2), "a": X, "label": LABEL}
    dataset = read(train, {"label": [0, 1], "a": [0.0, 1.0], "c": ["z", "q"]})
    assert dataset.test.x.tolist() == [[0, 0, 0], [0, 1, 1]]
    assert "categories that training has not ('z')" in warnings(dataset)


def test_named_categories_are_the_same_at_every_site(read: Read) -> None:
    table = {"c": ["p", "q"] * (N // 2), "a": X, "label": LABEL}
    dataset = read(table, categories={"c": ["q", "r", "p"]})
    assert dataset.shape == (4,)
    assert not dataset.train.x[:, 1].any()
    with pytest.raises(ConfigError, match=r"data\.categories\.c: a value is 'q'"):
        read(table, categories={"c": ["p"]})
    assert features(read(table, categories={})) == ("a",)


def test_lists_of_one_shape_are_features(read: Read) -> None:
    windows = DRAW.normal(size=(N, 3, 2))
    dataset = read({"w": windows.tolist(), "label": LABEL})
    assert dataset.shape == (3, 2)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(windows.reshape(-1)), 6)
    mixed = read({"w": flat, "a": X, "label": LABEL})
    assert mixed.shape == (7,)
    assert features(mixed) == ("w (lists)", "a")


def test_patterns_choose_and_drop(read: Read) -> None:
    table = {"lab_1": X, "lab_2": X * X, "age": X[::-1], "label": LABEL}
    assert features(read(table, feature_columns=["age", "lab_*"])) == ("age", "lab_1", "lab_2")
    dropped = read(table, drop_columns=["lab_*"])
    assert features(dropped) == ("age",)
    assert aside(dropped)["lab_1"] == "data.drop_columns"
    assert features(read(table, feature_columns=["lab_*"], drop_columns=["lab_2"])) == ("lab_1",)
    with pytest.raises(ConfigError, match=r"data\.drop_columns: there is no column 'lap_\*'"):
        read(table, drop_columns=["lap_*"])
    with pytest.raises(ConfigError, match="column 'label' is what is predicted"):
        read(table, feature_columns=["age", "label"])


def test_columns_of_the_test_set_may_stand_in_another_order_beside_others(read: Read) -> None:
    train = {"a": X, "b": X * X, "label": LABEL}
    dataset = read(train, {"more": ["x", "y"], "label": [1, 0], "b": [5.0, 6.0], "a": [1.0, 2.0]})
    assert dataset.test.x.tolist() == [[1, 5], [2, 6]]
    with pytest.raises(ConfigError, match="there is no column 'b'") as caught:
        read(train, {"label": [1, 0], "a": [1.0, 2.0]})
    assert caught.value.key == "data.path (test.parquet)"
    with pytest.raises(ConfigError, match="'b' is numeric in training and string in the test set"):
        read(train, {"label": [1, 0], "a": [1.0, 2.0], "b": ["p", "q"]})


def gappy() -> dict[str, Any]:
    values = X.copy()
    values[:4] = np.nan
    return {"a": values, "c": [None, *["p", "q"] * N][:N], "b": X, "label": LABEL}


def test_missing_values_are_named_and_counted(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"'a' has 4 missing values; .*'c' has 1 missing") as told:
        read(gappy())
    assert f"in {N} training rows" in str(told.value)
    assert "data.impute=median" in told.value.remedy
    infinite = {**gappy(), "a": np.where(X > 1, np.inf, X), "c": X * 1e300}
    with pytest.raises(ConfigError, match=r"'a' has \d+ infinite values; .*'c' has \d+ too large"):
        read(infinite, impute="median")
    whole = {"a": X, "b": X, "c": ["p", "q"] * (N // 2), "label": LABEL}
    with pytest.raises(ConfigError, match=f"in {N} test rows"):
        read(whole, gappy())


def test_missing_numbers_are_filled_with_the_training_median(read: Read) -> None:
    whole = {"a": [3.0, np.nan], "b": [0.0, 0.0], "c": ["p", None], "label": [0, 1]}
    dataset = read(gappy(), whole, impute="median")
    median = np.median(X[4:])
    assert dataset.train.x[:4, 0] == pytest.approx(median)
    assert dataset.test.x[1, 0] == pytest.approx(median)
    assert dataset.test.x[1, 1:3].tolist() == [0, 0]  # neither p nor q
    assert dataset.reading is not None
    assert dict(dataset.reading.imputed) == {"a": 4, "c": 1}


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        ({"a": X, "label": [["x"]] * N}, {}, r"data\.label_column: .*lists of no numbers"),
        ({"a": X, "label": [[1]] + [[1, 0]] * (N - 1)}, {}, r"data\.label_column: .*1 to 2"),
        ({"a": X, "label": [{"p": 1}] * N}, {}, r"data\.label_column: .*struct"),
        ({"a": X, "label": [date(2020, 1, 1)] * N}, {}, r"data\.label_column: .*a time"),
        ({"a": X, "label": pa.nulls(N)}, {}, r"data\.label_column: .*empty in all rows"),
        ({"a": X, "label": np.arange(N)}, {}, "one example each, nothing to hold out: is 'label'"),
        ({"a": X, "label": [f"p{i}" for i in range(N)]}, {}, "one example each"),
        ({"a": X, "label": [0] * N}, {}, f"all {N * 4 // 5} labels in 'label' are of one class"),
        ({"a": X, "label": [None, *LABEL[1:].tolist()]}, {}, f"1 missing .*in {N} rows"),
        ({"a": X, "label": ["", None] * (N // 2)}, {}, f"20 missing .*in {N} rows"),
        ({"a": X[:4], "label": [0, 0, 1, 1]}, {}, "none to test on"),
        ({"a": X, "label": LABEL}, {"client_column": "label"}, "'label' is what is predicted"),
        ({"a": X, "label": LABEL}, {"true_label_column": "z"}, "no column 'z'"),
        ({"a": X, "o": [None, *X[1:]], "label": LABEL}, {"client_column": "o"}, "1 of 40 rows"),
        ({"a": X, "o": range(N), "label": LABEL}, {"client_column": "o"}, "an id of rows"),
        ({"a": X, "w": [[1.0, None]] * N, "label": LABEL}, {}, "'w' hold 40 missing values"),
        ({"a": X[:0], "label": LABEL[:0]}, {}, r"train\.parquet has no rows"),
        ({"label": LABEL}, {}, "no numeric column to learn from"),
        ({"a": X, "label": LABEL}, {"impute": "mean"}, r"data\.impute: there is no 'mean'"),
    ],
)
def test_labels_and_tables_of_no_use_are_refused_in_a_sentence(
    read: Read, table: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        read(table, **options)


def test_two_columns_of_one_name_are_refused(read: Read) -> None:
    table = pa.table([pa.array(X), pa.array(X), pa.array(LABEL)], names=["a", "a", "label"])
    with pytest.raises(ConfigError, match=r"'a' occurs 2 times in train\.parquet"):
        read(table)


def test_a_path_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file or folder") as caught:
        load(0, 1, {"name": "parquet", "path": str(tmp_path / "nowhere")})
    assert caught.value.key == "data.path"


def test_oddities_of_labels_are_told(read: Read) -> None:
    three = np.where(X > 1, 2, LABEL)
    dataset = read({"a": X, "label": three}, {"a": [1.0], "label": [0]})
    assert "the test set has no row of class 1, 2" in warnings(dataset)
    dataset = read({"a": X, "label": LABEL}, {"a": [1.0, 2, 3], "label": [0, 1, 5]})
    assert "class 5 is tested and in no training row" in warnings(dataset)
    whole = read({"a": X, "label": LABEL.astype(float)})
    assert whole.task == "regression"
    assert "data.task=classification for classes" in warnings(whole)
    assert "data.task" not in warnings(read({"a": X, "label": X * 2}))


def test_labels_of_two_types_are_one_set_of_classes(read: Read) -> None:
    dataset = read({"a": X, "label": LABEL}, {"a": [1.0, 2.0], "label": ["1", "0"]})
    assert dataset.class_names == ("0", "1")
    assert dataset.test.y.tolist() == [1, 0]


def test_owners_that_pandas_made_fractions_are_whole_numbers(read: Read) -> None:
    table = {"a": X, "o": [7.0, 3.0] * (N // 2), "label": LABEL}
    ids = read(table, client_column="o").natural_ids
    assert ids is not None
    assert set(ids.tolist()) == {3, 7}
    assert ids.dtype == np.int64
