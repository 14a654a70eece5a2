from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fedrms.data import Federation, build, images
from fedrms.errors import ConfigError
from fedrms.label_names import LABEL_NAMES

REAL = Path(os.environ.get("FEDRMS_DATA", Path(__file__).parents[3] / "shared" / "data"))


def png(pixels: Any, mode: str | None = None) -> dict[str, Any]:
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels), mode).save(stream, "png")
    return {"bytes": stream.getvalue(), "path": None}


def write(file: Path, names: list[str] | None = None, **columns: Any) -> Path:
    table = pa.table(columns)
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        described = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": described})
    pq.write_table(table, file)
    return file


def load(path: Path, name: str = "parquet", clients: int = 1, **options: Any) -> Federation:
    return build(
        seed=0,
        clients=clients,
        data={"name": name, "path": str(path), **options},
        partition={"name": "natural" if "client_column" in options else "iid"},
        noise={"name": "none"},
    )


def greys(count: int, size: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size), np.uint8)


def test_pictures_come_back_as_they_were_written(tmp_path: Path) -> None:
    pixels = greys(12)
    labels = np.arange(12) % 3
    names = ["ant", "bee", "cat"]
    images_of = [png(p) for p in pixels]
    write(tmp_path / "train.parquet", names, image=images_of[:8], label=labels[:8])
    write(tmp_path / "test.parquet", names, image=images_of[8:], label=labels[8:])
    federation = load(tmp_path)
    assert federation.class_names == ("ant", "bee", "cat")
    assert federation.shape == (1, 4, 4)
    raw = pixels / 255
    expected = (raw[8:, None] - raw[:8].mean()) / raw[:8].std()
    assert federation.test_x == pytest.approx(expected, abs=1e-5)
    assert federation.test_y.tolist() == labels[8:].tolist()


def test_pooling_averages_windows(tmp_path: Path) -> None:
    picture = np.array([[0, 100], [50, 250]], np.uint8)
    file = write(tmp_path / "a.parquet", image=[png(picture)] * 10, label=[0, 1] * 5)
    federation = load(file, pool=2, test_fraction=0.4)
    assert federation.shape == (1, 1, 1)
    # One value only: the mean, and a standard deviation of 0 counted as 1.
    assert np.unique(federation.test_x) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ConfigError, match="3 does not divide pictures of 2x2") as caught:
        load(file, pool=3)
    assert caught.value.key == "data.pool"


def test_one_colour_picture_makes_all_of_them_rgb(tmp_path: Path) -> None:
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[..., 2] = 255
    pictures = [png(colour), png(greys(1)[0])] * 5
    federation = load(write(tmp_path / "a.parquet", image=pictures, label=[0, 1] * 5))
    assert federation.shape == (3, 4, 4)


def test_decoded_pictures_are_cached_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "a.parquet", image=[png(p) for p in greys(10)], label=[0, 1] * 5)
    first = load(file)
    with monkeypatch.context() as patch:
        patch.setattr(images, "decode", lambda *_: pytest.fail("decoded twice"))
        assert np.array_equal(load(file).test_x, first.test_x)
    write(file, image=[png(p) for p in greys(10, seed=1)], label=[0, 1] * 5)
    os.utime(file, ns=(1, 1))
    assert not np.array_equal(load(file).test_x, first.test_x)


def test_a_broken_or_unwritable_cache_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "a.parquet", image=[png(p) for p in greys(10)], label=[0, 1] * 5)
    first = load(file)
    for content in (b"", b"not an array", b"\x93NUMPY\x01\x00"):
        (entry,) = Path(os.environ["FEDRMS_CACHE"]).iterdir()
        entry.write_bytes(content)
        assert np.array_equal(load(file).test_x, first.test_x)
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-5])
    assert np.array_equal(load(file).test_x, first.test_x)
    assert entry.read_bytes() == whole
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    monkeypatch.setenv("FEDRMS_CACHE", str(blocked))
    assert np.array_equal(load(file).test_x, first.test_x)


def test_a_table_is_standardised_by_its_training_rows(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet", a=[1.0, 3.0], b=[10, 10], y=[0.5, 1.5], note=["p", "q"])
    write(tmp_path / "test-0.parquet", a=[5.0], b=[11], y=[2.5], note=["r"])
    federation = load(tmp_path)
    assert federation.task == "regression"
    assert federation.num_classes is None
    # a: mean 2, std 1; b: mean 10, std 0 counted as 1.
    assert federation.test_x.tolist() == [[3.0, 1.0]]
    assert federation.test_y.tolist() == [2.5]
    assert np.sort(federation.stages[0].x[:, 0]).tolist() == [-1.0, 1.0]


def test_feature_noise_on_a_table_is_in_standard_deviations(tmp_path: Path) -> None:
    draws = np.random.default_rng(0).normal(0, [1.0, 1000.0], (4000, 2))
    file = write(tmp_path / "a.parquet", a=draws[:, 0], b=draws[:, 1], y=2 * draws[:, 0])
    clean, noisy = (
        build(
            seed=0,
            clients=1,
            data={"name": "parquet", "path": str(file)},
            partition={"name": "iid"},
            noise=noise,
        )
        for noise in ({"name": "none"}, {"name": "feature", "levels": [0.5]})
    )
    added = noisy.stages[0].x - clean.stages[0].x
    assert added.std(axis=0) == pytest.approx([0.5, 0.5], rel=0.06)


@pytest.mark.parametrize(
    ("labels", "names", "classes"),
    [
        (["no", "yes"] * 5, ("no", "yes"), [0, 1]),
        ([7, 3] * 5, ("3", "7"), [1, 0]),
        ([True, False] * 5, ("False", "True"), [1, 0]),
        (pa.array(["u", "v"] * 5).dictionary_encode(), ("u", "v"), [0, 1]),
    ],
)
def test_labels_of_any_kind_become_classes(
    tmp_path: Path, labels: Any, names: tuple[str, ...], classes: list[int]
) -> None:
    write(tmp_path / "train.parquet", x=np.arange(10.0), label=labels)
    write(tmp_path / "test.parquet", x=np.arange(10.0), label=labels)
    federation = load(tmp_path)
    assert federation.class_names == names
    assert federation.num_classes == 2
    assert federation.test_y.tolist() == classes * 5


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (["no", "yes"] * 5, ["maybe", "yes", "no"]),
        ([0, 1] * 5, ["2", "1", "0"]),
        ([0.0, 1.0] * 5, [2, 1, 0]),
    ],
)
def test_classes_that_the_person_names_keep_their_order_and_need_not_occur(
    tmp_path: Path, labels: Any, named: list[Any]
) -> None:
    for name in ("train.parquet", "test.parquet"):
        write(tmp_path / name, x=np.arange(10.0), label=labels)
    federation = load(tmp_path, classes=named, task="classification")
    assert federation.class_names == tuple(str(name) for name in named)
    assert federation.num_classes == 3
    assert federation.test_y.tolist() == [2, 1] * 5


def test_declared_names_find_their_place_among_named_classes(tmp_path: Path) -> None:
    for name in ("train.parquet", "test.parquet"):
        write(tmp_path / name, names=["cat", "dog"], x=np.arange(4.0), label=[0, 1, 1, 0])
    assert load(tmp_path, classes=["cow", "dog", "cat"]).test_y.tolist() == [2, 1, 1, 2]


def test_a_label_that_is_not_among_the_named_classes_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", x=np.arange(10.0), label=["no", "yes"] * 5)
    with pytest.raises(ConfigError, match=r"data\.classes: a label is 'yes'"):
        load(tmp_path, classes=["no", "maybe"])


def test_labels_stay_with_their_rows(tmp_path: Path) -> None:
    x = np.arange(100.0)
    labels = np.where(x < 30, "low", "top")
    federation = load(write(tmp_path / "a.parquet", x=x, label=labels))
    train, test = federation.stages[0], federation.test_y
    assert train.x[train.y == 0].max() < train.x[train.y == 1].min()
    # A fifth of each class is held out.
    assert np.bincount(test).tolist() == [6, 14]


def test_a_float_label_is_a_class_only_when_asked(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", x=np.arange(10.0), label=[0.0, 2.0] * 5)
    assert load(file).task == "regression"
    assert load(file, task="classification").class_names == ("0", "2")
    whole = write(tmp_path / "b.parquet", x=np.arange(10.0), label=[4, 6] * 5)
    assert load(whole, task="regression").test_y.dtype == np.float32


def test_natural_clients_come_from_their_column(tmp_path: Path) -> None:
    owners = ["ann"] * 10 + ["bob"] * 20
    file = write(tmp_path / "a.parquet", x=np.arange(30.0), label=[0, 1] * 15, who=owners)
    federation = load(file, clients=2, client_column="who")
    assert federation.shape == (1,)
    assert federation.sizes.sum() == 24
    assert federation.client(0).x.max() < federation.client(1).x.min()
    assert federation.client_mix.shape == (2, 3)


def test_first_rows_are_kept_when_fewer_are_asked(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", x=np.arange(8.0), label=[0, 1] * 4)
    write(tmp_path / "test.parquet", x=np.arange(8.0), label=[0, 0, 1, 1] * 2)
    federation = load(tmp_path, train_examples=4, test_examples=3)
    assert federation.sizes.tolist() == [4]
    assert federation.test_y.tolist() == [0, 0, 1]
    # Training rows 0 to 3: mean 1.5, variance 1.25.
    assert federation.test_x[:, 0] == pytest.approx((np.arange(3) - 1.5) / np.sqrt(1.25))


@pytest.mark.parametrize(
    ("columns", "options", "key", "words"),
    [
        ({"x": [1.0, None] * 5, "label": [0, 1] * 5}, {}, "data", "column 'x' has 5 missing"),
        ({"x": [1.0, np.nan] * 5, "label": [0, 1] * 5}, {}, "data", "column 'x' has 5 missing"),
        ({"x": [1.0, 2] * 5, "label": [0, None] * 5}, {}, "data", "column 'label' has 5 missing"),
        ({"x": [1.0, 2] * 5, "why": [0, 1] * 5}, {}, "data.label_column", "there are: x, why"),
        ({"x": [1.0] * 4, "y": [0] * 4}, {"label_column": "z"}, "data.label_column", "'z'"),
        ({"s": ["a"] * 4, "y": [0] * 4}, {}, "data.feature_columns", "no numeric column"),
        (
            {"s": [b"a"] * 4, "y": [0] * 4},
            {"feature_columns": ["s"]},
            "data.feature_columns",
            "'s' is binary",
        ),
        ({"x": [1.0] * 4, "y": [0] * 4}, {"image_column": "x"}, "data.image_column", "is double"),
        (
            {"x": [1.0] * 4, "y": [0] * 4},
            {"image_column": "x", "feature_columns": ["x"]},
            "data.image_column",
            "is set as well",
        ),
        (
            {"x": [1.0] * 4, "y": [0] * 4},
            {"client_column": "who"},
            "data.client_column",
            "no column 'who'",
        ),
        ({"x": [1.0] * 4, "y": [0.5] * 4}, {"task": "classification"}, "data.task", "fractions"),
        ({"x": [1.0] * 4, "y": ["a"] * 4}, {"task": "regression"}, "data", "'y' is not numeric"),
        ({"x": [1.0] * 4, "y": [0] * 4}, {"task": "ranking"}, "data.task", "'ranking'"),
        ({"x": [1.0] * 4, "y": [0] * 4}, {"test_fraction": 2}, "data.test_fraction", "2"),
        ({"x": [1.0] * 4, "y": [0] * 4}, {"test_fraction": 0}, "data", "test set is empty"),
        ({"x": [1.0] * 4, "y": [0] * 4}, {"pool": 2}, "data.pool", "cannot be pooled"),
        ({"x": [1.0] * 4, "y": [0] * 4}, {"hub": "name"}, "data.path", "either"),
        ({"image": [{"bytes": None}] * 4, "y": [0] * 4}, {}, "data.image_column", "no picture"),
        ({"image": [{"bytes": b"no"}] * 4, "y": [0] * 4}, {}, "data.image_column", "row 0 of"),
        (
            {"image": [png(greys(1)[0]), png(greys(1, 5)[0])] * 2, "y": [0] * 4},
            {},
            "data.image_column",
            "4x4 and 5x5",
        ),
    ],
)
def test_unusable_columns_are_named(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], key: str, words: str
) -> None:
    file = write(tmp_path / "a.parquet", **columns)
    with pytest.raises(ConfigError, match=words) as caught:
        load(file, **options)
    assert caught.value.key == key


def test_labels_beyond_the_declared_classes_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", ["p", "q"], x=np.arange(4.0), label=[0, 1, -1, 1])
    with pytest.raises(ConfigError, match="labels run from -1 to 1, but 2 classes"):
        load(file)


def test_unusable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no training data") as caught:
        load(tmp_path)
    assert caught.value.key == "data.path"
    (tmp_path / "train.parquet").write_text("not parquet")
    with pytest.raises(ConfigError, match=r"cannot read .*train\.parquet"):
        load(tmp_path)
    write(tmp_path / "train.parquet", x=[1.0] * 4, label=[0] * 4)
    write(tmp_path / "test.parquet", x=[1.0] * 4)
    with pytest.raises(ConfigError, match="no column 'label'") as caught:
        load(tmp_path)
    assert "test.parquet" in caught.value.key


def test_test_pictures_of_another_shape_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", image=[png(p) for p in greys(4)], label=[0] * 4)
    write(tmp_path / "test.parquet", image=[png(p) for p in greys(4, 5)], label=[0] * 4)
    with pytest.raises(ConfigError, match="different shapes"):
        load(tmp_path)


def test_mnist_refuses_a_folder_of_something_else(tmp_path: Path) -> None:
    for part in ("train", "test"):
        pictures = [png(p) for p in greys(4)]
        write(tmp_path / f"{part}.parquet", image=pictures, label=[0] * 4)
    with pytest.raises(ConfigError, match=r"shape \[1, 4, 4\], not \[1, 28, 28\]"):
        load(tmp_path, "mnist")


def test_a_hub_name_that_cannot_be_loaded_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra fedrms[hub]")

    def offline(name: str) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(ConfigError, match=r"cannot load 'a/b'.*no route") as caught:
        build(
            seed=0,
            clients=1,
            data={"name": "parquet", "hub": "a/b"},
            partition={"name": "iid"},
            noise={"name": "none"},
        )
    assert caught.value.key == "data.hub"
    assert "set data.path" in caught.value.remedy


def test_a_hub_data_set_is_read_like_files(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra fedrms[hub]")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["p", "q"])}
    )
    columns = {"image": [png(p) for p in greys(10)], "label": [0, 1] * 5}
    stored = datasets.Dataset.from_dict(columns, features=features)
    loaded = datasets.DatasetDict({"train": stored, "test": stored.select([3, 2])})
    monkeypatch.setattr(datasets, "load_dataset", lambda name: loaded)
    federation = build(
        seed=0,
        clients=2,
        data={"name": "parquet", "hub": "a/b"},
        partition={"name": "iid"},
        noise={"name": "none"},
    )
    assert federation.class_names == ("p", "q")
    assert federation.test_y.tolist() == [1, 0]
    assert federation.shape == (1, 4, 4)
    assert federation.sizes.tolist() == [5, 5]


@pytest.mark.skipif(
    not (REAL / "mnist" / "test.parquet").exists(),
    reason=f"real data are absent: set FEDRMS_DATA to a folder holding mnist/ ({REAL} does not)",
)
def test_mnist_is_scaled_by_its_published_constants(tmp_path: Path) -> None:
    # The 10,000 test pictures serve as both parts, so that the test stays fast.
    for part in ("train", "test"):
        (tmp_path / f"{part}.parquet").symlink_to(REAL / "mnist" / "test.parquet")
    federation = load(tmp_path, "mnist", clients=20, examples_per_client=200, test_examples=5000)
    assert federation.stages[0].x.shape == (4000, 1, 28, 28)
    assert federation.test_x.shape == (5000, 1, 28, 28)
    assert federation.test_x.min() == pytest.approx(-0.1307 / 0.3081)
    assert federation.test_x.max() == pytest.approx((1 - 0.1307) / 0.3081)
    assert federation.test_x.mean() == pytest.approx(0, abs=0.03)
    labels = pq.read_table(REAL / "mnist" / "test.parquet", columns=["label"])
    assert federation.test_y.tolist() == labels.column("label").to_pylist()[:5000]
    pooled = load(tmp_path, "mnist", pool=2)
    windows = federation.test_x.reshape(5000, 1, 14, 2, 14, 2).mean(axis=(3, 5))
    assert pooled.shape == (1, 14, 14)
    np.testing.assert_allclose(pooled.test_x[:5000], windows, atol=1e-5)


@pytest.mark.parametrize("name", LABEL_NAMES)
def test_the_label_is_found_by_any_of_its_usual_names(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / "a.parquet", x=np.arange(10.0), **{name: [0, 1] * 5})
    assert f"predict {name!r}" in load(file).account
