"""Inputs as people have them: each is right, or refused in one sentence before anyone trains."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from torch import nn
from torch.utils.data import IterableDataset

import fedrms
from fedrms.errors import ConfigError
from tests.own_data import laid_out

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(120, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
SITES = np.repeat(list("nesw"), 30)
FRAME = pd.DataFrame(X, columns=list("abcd")).assign(site=SITES, label=Y)
From = fedrms.Federation


class Endless(IterableDataset):
    def __iter__(self):
        yield from zip(X, Y, strict=True)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path / "cache"))


def of_frame(**more):
    return From.from_frame(FRAME.assign(**more), client="site")


def hugging(rows=slice(None), names=("no", "yes")):
    datasets = pytest.importorskip("datasets", reason="needs the extra fedrms[hub]")
    features = datasets.Features(
        {
            "x": datasets.Sequence(datasets.Value("float32"), 4),
            "label": datasets.ClassLabel(names=list(names)),
        }
    )
    return datasets.Dataset.from_dict({"x": X[rows].tolist(), "label": Y[rows].tolist()}, features)


REFUSED = {
    "numbers that 32 bits hold as zeros": (
        lambda: of_frame(a=X[:, 0] * np.float64(1e-60)),
        "32 bits",
    ),
    "arrays that 32 bits round away": (
        lambda: From.from_arrays((X.astype(np.float64) + 1e9, Y)),
        "closer together than 32 bits can tell: around 1e+09",
    ),
    "arrays too large for 32 bits": (
        lambda: From.from_arrays((X * np.float64(1e60), Y)),
        "too large for 32 bits",
    ),
    "clients in another encoding": (
        lambda: of_frame(site=["K\u00f6ln".encode("latin-1"), b"Bonn"] * 60),
        "column 'site' holds bytes that are no UTF-8 text",
    ),
    "a test set of other labels": (
        lambda: From.from_frame(
            FRAME, client="site", label="label", test=FRAME[:9].assign(label="ill")
        ),
        "no label of the test set (ill) is one of training (0, 1)",
    ),
    "sparse columns": (
        lambda: of_frame(a=pd.arrays.SparseArray(np.zeros(120))),
        "Sparse pandas data",
    ),
    "complex column": (lambda: of_frame(a=X[:, 0] + 1j), "cannot be read as a table"),
    "masked array": (lambda: From.from_arrays((np.ma.masked_greater(X, 2), Y)), "missing"),
    "pairs in a list": (lambda: From.from_arrays([(X, Y), (X[:9], Y[:9])]), "no array can be made"),
    "no inputs": (lambda: From.from_arrays((X[:, :0], Y)), "there is no row"),
    "years": (
        lambda: From.from_arrays((X, np.where(Y, np.datetime64("2020"), np.datetime64("2021")))),
        "an array of datetime64[Y] cannot be kept",
    ),
    "half a character": (lambda: From.from_arrays({"\ud800": (X, Y)}), "cannot be written"),
    "truth by name": (lambda: From.from_arrays((X, Y), true_label=Y), "arrays have no columns"),
    "complex array": (lambda: From.from_arrays((X + 1j, Y)), "complex numbers"),
    "two types in a column": (lambda: of_frame(a=[1, "x"] * 60), "give each column one type"),
    "missing integers": (
        lambda: of_frame(a=pd.array([None] * 3 + [1] * 117, dtype="Int64")),
        "column 'a' has 3 missing values",
    ),
    "missing categories": (
        lambda: of_frame(a=pd.Categorical([None] * 3 + ["x", "y", "z"] * 39)),
        "column 'a' has 3 missing values",
    ),
    "infinite": (
        lambda: of_frame(a=np.where(np.arange(120) == 5, np.inf, X[:, 0])),
        "column 'a' has 1 infinite values",
    ),
    "times to predict": (
        lambda: of_frame(label=pd.date_range("2024-01-01", periods=120)),
        "labels in column 'label' are a time",
    ),
    "one class": (lambda: of_frame(label="ill"), "are of one class"),
    "missing labels": (
        lambda: of_frame(label=np.where(np.arange(120) < 2, np.nan, Y)),
        "column 'label' has 2 missing",
    ),
    "rows of nobody": (lambda: of_frame(site=[None, *SITES[1:]]), "1 of 120 rows have no 'site'"),
    "no rows": (lambda: From.from_frame(FRAME[:0], client="site"), "has no rows"),
    "a list": (lambda: From.from_frame([1, 2, 3]), "is a list, and no table"),
    "a mapping": (lambda: From.from_frame({"a": X[:, 0]}), "is a dict, and no table"),
    "a series": (lambda: From.from_frame(FRAME["a"]), "is a Series, and no table"),
    "a single number": (lambda: From.from_arrays((np.float32(1), np.float32(2))), "no row"),
    "a client without rows": (
        lambda: From.from_arrays({"a": (X, Y), "b": (X[:0], Y[:0])}),
        "client 'b': there is no row",
    ),
    "rows apart": (lambda: From.from_arrays((X, Y[:-1])), "x has shape (120, 4) and labels (119,)"),
    "an empty client's data set": (
        lambda: From.from_datasets({"a": list(zip(X, Y, strict=True)), "b": []}),
        "client 'b': there is no row",
    ),
    "a path for a frame": (lambda: From.from_frame("rows.csv"), "use from_csv or from_parquet"),
    "intervals": (lambda: of_frame(a=pd.cut(FRAME.a, 4)), "astype"),
    "other classes of a client": (
        lambda: From.from_datasets({"a": hugging(), "b": hugging(names=["yes", "no"])}),
        "client 'b' has other columns, types or classes",
    ),
    "no length": (lambda: From.from_datasets(Endless()), "Endless has no length"),
    "another shape": (
        lambda: From.from_arrays({"a": (X, Y), "b": (X[:, :3], Y)}),
        "lists of different lengths (3 to 4)",
    ),
    "numbers that no column holds": (lambda: of_frame(a=[10**30] * 120), "cannot be read"),
    "no columns": (lambda: From.from_frame(pd.DataFrame(), client="site"), "has no columns"),
    "one list of labels": (
        lambda: From.from_frame(FRAME.assign(label=[[1, 0]] * len(FRAME)), client="site"),
        "all 96 lists in 'label' are the same",
    ),
    "one number to predict": (
        lambda: From.from_frame(FRAME.assign(label=2.5), client="site"),
        "all 96 numbers in 'label' are the same",
    ),
    "no such numbered column": (
        lambda: From.from_frame(FRAME, client="site", label=3),
        "there is no column '3'",
    ),
    "a feature less": (
        lambda: From.from_frame(FRAME, client="site", test=FRAME.drop(columns="b")),
        "there is no column 'b'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learned_from_is_refused_in_a_sentence(name):
    make, message = REFUSED[name]
    with pytest.raises(ConfigError) as caught:
        laid_out(make())
    assert message in str(caught.value)
    assert str(caught.value).count("\n") == 1  # what is wrong, and the remedy


WHOLE = {
    "other bytes": lambda: From.from_arrays((X.astype(">f8"), Y.astype(">i4"))),
    "long doubles": lambda: From.from_arrays((X.astype(np.longdouble), Y)),
    "sparse tensor": lambda: From.from_arrays((torch.from_numpy(X).to_sparse(), Y)),
    "sparse matrix": lambda: From.from_arrays((scipy.sparse.csr_matrix(X), Y)),
    "lists": lambda: From.from_arrays((X.tolist(), Y.tolist())),
    "a tensor with a gradient": lambda: From.from_arrays(
        (torch.from_numpy(X).requires_grad_(), torch.from_numpy(Y))
    ),
    "dicts": lambda: From.from_datasets(
        [{"img": x, "label": y} for x, y in zip(X, Y, strict=True)]
    ),
    "a list of pairs": lambda: From.from_datasets(list(zip(X, Y, strict=True))),
}


@pytest.mark.parametrize("name", WHOLE)
def test_arrays_in_other_clothes_are_the_same_data(name):
    made, plain = laid_out(WHOLE[name]()), laid_out(From.from_arrays((X, Y)))
    np.testing.assert_array_equal(made.stages[0].x, plain.stages[0].x)
    np.testing.assert_array_equal(made.stages[0].y, plain.stages[0].y)


@pytest.mark.parametrize("column", ["v", "site"])
def test_text_that_arrow_keeps_as_views_is_text(column):
    text = pa.array(["p", "q"] * 60)
    plain = pa.Table.from_pandas(FRAME.drop(columns=column, errors="ignore"), preserve_index=False)
    views, given = (
        laid_out(From.from_frame(plain.append_column(column, kind), client="site", label="label"))
        for kind in (text.cast(pa.string_view()), text)
    )
    assert views.names.tolist() == given.names.tolist()
    np.testing.assert_array_equal(views.test_x, given.test_x)


def test_lists_of_yes_and_no_are_numbers():
    made = laid_out(of_frame(v=[[True, False], [False, True]] * 60))
    assert made.shape == (6,)
    assert set(np.unique(made.test_x[:, 4:])) == {-1.0, 1.0}


def test_numbers_as_small_as_32_bits_hold_are_scaled_as_others():
    small, usual = (laid_out(of_frame(a=X[:, 0] * np.float64(k))) for k in (1e-30, 1.0))
    np.testing.assert_allclose(small.test_x, usual.test_x, atol=1e-5)


def test_hugging_face_data_sets_of_clients_are_one_table():
    parts = {"north": hugging(slice(60)), "south": hugging(slice(60, 120))}
    made = laid_out(From.from_datasets(parts, test=hugging(), label="label"))
    assert made.names.tolist() == ["north", "south"]
    assert tuple(made.class_names) == ("no", "yes")
    assert made.stages[0].x.shape == (120, 4)
    assert laid_out(From.from_datasets(hugging())).class_names == made.class_names


def test_half_precision_of_either_kind_becomes_float32():
    for narrow in (torch.from_numpy(X).bfloat16(), torch.from_numpy(X).half()):
        made = laid_out(From.from_arrays((narrow, Y), test=(narrow, Y)))
        assert made.test_x.dtype == np.float32
        np.testing.assert_array_equal(made.test_x, narrow.float().numpy())


@pytest.mark.parametrize(
    ("site", "names"),
    [
        (np.repeat([1.0, 2.0, 3.0, 4.0], 30), [1, 2, 3, 4]),
        (pd.Categorical(SITES, categories=list("abnesw")), list("ensw")),
        (np.repeat([True, False], 60), ["False", "True"]),
    ],
)
def test_clients_are_named_by_any_kind_of_column(site, names):
    assert laid_out(of_frame(site=site)).names.tolist() == names


def test_columns_that_pandas_counts_are_named_by_their_numbers():
    counted = FRAME.set_axis(range(6), axis=1)
    made = laid_out(From.from_frame(counted, client=4, label=5))
    plain = laid_out(From.from_frame(FRAME, client="site", label="label"))
    assert made.names.tolist() == list("ensw")
    np.testing.assert_array_equal(made.stages[0].x, plain.stages[0].x)


def test_a_client_in_the_index_is_found_and_no_category_is_made_up():
    made = laid_out(From.from_frame(FRAME.set_index("site"), client="site"))
    assert made.names.tolist() == list("ensw")
    labels = pd.Categorical(np.where(Y, "ill", "well"), categories=["dead", "ill", "well"])
    assert set(laid_out(of_frame(label=labels)).class_names) >= {"ill", "well"}


def run(tmp_path, data=None, **more):
    told = {"model": lambda: nn.Linear(4, 2), "strategies": ["fedavg"], "rounds": 1} | more
    return fedrms.simulate(data or of_frame(), folder=tmp_path / "runs", **told)


class Both(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)

    def forward(self, x):
        return {"logits": super().forward(x)}


@pytest.mark.parametrize(
    ("told", "key", "message"),
    [
        ({"model": lambda: nn.Linear(5, 2)}, "model", "4"),
        ({"model": lambda: nn.Linear(4, 3)}, "model", "[examples, 2]"),
        ({"model": lambda: nn.Linear(4, 1)}, "model", "[examples, 2]"),
        ({"model": lambda: nn.Linear(4, 2).double()}, "model", "dtype"),
        ({"model": nn.Flatten}, "model", "no trainable parameter"),
        ({"model": Both}, "model", "returns a dict"),
        ({"model": lambda: 1 / 0}, "model", "ZeroDivisionError"),
        ({"model": lambda: 3}, "model", "gives a int"),
        ({"loss": nn.CrossEntropyLoss}, "loss", "give an object of it: CrossEntropyLoss()"),
        ({"loss": lambda o, y: nn.functional.cross_entropy(o, y)}, "loss", "one loss for each"),
        ({"loss": lambda o, y: (o.argmax(-1) != y).float()}, "loss", "gradient"),
        ({"loss": lambda o, y: o[:, 0] * float("nan")}, "loss", "is nan for outputs"),
        ({"loss": "cross_entropy"}, "loss", "is a str"),
        ({"metric": "acc"}, "metric", "choose from accuracy"),
        ({"strategies": ["fedrsm"]}, "strategy", "did you mean fedrms"),
    ],
)
def test_models_losses_and_metrics_that_do_not_fit_are_refused_before_training(
    told, key, message, tmp_path
):
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, **told)
    assert caught.value.key == key
    assert message in str(caught.value)
    assert not list((tmp_path / "runs").glob("*/rounds.parquet"))


def test_outputs_that_are_probabilities_are_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "fedrms"):
        run(tmp_path, model=lambda: nn.Sequential(nn.Linear(4, 2), nn.Softmax(-1)))
        assert sum("its outputs are probabilities" in m for m in caplog.messages) == 1
        caplog.clear()
        run(tmp_path / "scores")
        assert not [m for m in caplog.messages if "probabilities" in m]
