"""Data sets of torch and of Hugging Face as people have them: right, or refused in a sentence."""

from __future__ import annotations

import io
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, StackDataset, Subset, TensorDataset

from fedrms import Federation, simulate
from fedrms.errors import ConfigError
from tests.own_data import laid_out

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
PIXELS = DRAW.integers(0, 255, (60, 4, 6, 3)).astype(np.uint8)
PICTURES = [Image.fromarray(rows) for rows in PIXELS]
Named = namedtuple("Named", "label x")


class Items(Dataset):
    """What a function gives, item by item."""

    def __init__(self, item, count=60):
        self.item, self.count = item, count

    def __len__(self):
        return self.count

    def __getitem__(self, row):
        return self.item(row)


def of(item, **options):
    return Federation.from_datasets(Items(item), **options)


def hugging(label=(), **columns):
    datasets = pytest.importorskip("datasets", reason="needs the extra fedrms[hub]")
    given = {"a": X[:, 0].tolist(), "b": X[:, 1].tolist(), "label": Y.tolist()} | columns
    made = datasets.Dataset.from_dict(given)
    if label:
        made = made.cast_column("label", datasets.ClassLabel(names=list(label)))
    return made


def of_hugging(made, **options):
    return Federation.from_datasets(made, **options)


def turned(row):
    """Return a picture that lies on its side and says so."""
    file, picture = io.BytesIO(), PICTURES[row].transpose(Image.Transpose.ROTATE_90)
    exif = picture.getexif()
    exif[0x112] = 6
    picture.save(file, "PNG", exif=exif)
    return Image.open(file)


def pooled_pictures():
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_dict({"image": PICTURES, "label": Y.tolist()}).cast_column(
        "image", datasets.Image(mode="L")
    )


def splits():
    datasets = pytest.importorskip("datasets")
    return datasets.DatasetDict(train=hugging(), test=hugging())


REFUSED = {
    "a third part that is the row": (lambda: of(lambda i: (X[i], Y[i], i)), "items have 3 parts"),
    "a third part that could be a label": (
        lambda: Federation.from_datasets(TensorDataset(*map(torch.tensor, (X, Y, 1 - Y)))),
        "what comes after x and y may be anything",
    ),
    "parts that no name tells apart": (
        lambda: of(lambda i: {"x": X[i], "z": X[i], "label": Y[i]}),
        "items have the parts x, z, label",
    ),
    "inputs of several shapes": (
        lambda: of(lambda i: (X[i][: 3 + i % 2], Y[i])),
        "inputs have different shapes ([3] and [4])",
    ),
    "labels of several shapes": (
        lambda: of(lambda i: (X[i], [0] * (1 + i % 2))),
        "labels have different shapes",
    ),
    "parts of several shapes": (lambda: of(lambda i: ((X[i], X[i][:2]), Y[i])), "are no arrays"),
    "inputs that are dicts": (lambda: of(lambda i: ({"a": X[i]}, Y[i])), "inputs are dicts"),
    "a length that is too long": (
        lambda: Federation.from_datasets(Items(lambda i: (X[i], Y[i]), 65)),
        "item 60 of 65 in a Items cannot be read (IndexError",
    ),
    "a file that is not there": (
        lambda: of(lambda i: (Image.open("/absent/x"), Y[i])),
        "item 0 of 60 in a Items cannot be read (FileNotFoundError",
    ),
    "splits as clients": (
        lambda: Federation.from_datasets(
            {"train": Items(lambda i: (X[i], Y[i])), "test": Items(lambda i: (X[i], Y[i]), 9)}
        ),
        "train and test are parts of one data set, and would be clients",
    ),
    "splits of Hugging Face as clients": (lambda: of_hugging(splits()), "train and test are parts"),
    "a label's name for pairs": (
        lambda: of(lambda i: (X[i], Y[i]), label="ill"),
        "label='ill' names a part, and items are pairs",
    ),
    "a client's column for pairs": (
        lambda: of(lambda i: (X[i], Y[i]), client="site"),
        "client='site' names a column",
    ),
    "pictures beside arrays": (
        lambda: of(lambda i: (PICTURES[i] if i else PIXELS[i], Y[i])),
        "inputs are dicts, or pictures beside arrays",
    ),
    "pictures of several sizes": (
        lambda: of(lambda i: (PICTURES[i].resize((4 + i % 2, 4)), Y[i])),
        "pictures of different sizes",
    ),
    "a stream": (
        lambda: of_hugging(hugging().to_iterable_dataset()),
        "IterableDataset, which is read as a stream",
    ),
    "a stream of a client": (
        lambda: of_hugging({"a": hugging().to_iterable_dataset()}),
        "IterableDataset, which is read as a stream",
    ),
    "a transformed frame": (
        lambda: Federation.from_frame(hugging().with_transform(lambda rows: rows)),
        "has a transform",
    ),
    "pictures read as another mode": (
        lambda: of_hugging(pooled_pictures()),
        "pictures that are to be read as mode 'L'",
    ),
    "test classes in another order": (
        lambda: of_hugging(hugging(("no", "yes")), test=hugging(("yes", "no"))),
        "stand for yes, no in one place and for no, yes in another",
    ),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_read_wrongly_is_refused_in_a_sentence(name):
    make, message = REFUSED[name]
    with pytest.raises(ConfigError) as caught:
        laid_out(make())
    assert message in str(caught.value)
    assert str(caught.value).count("\n") == 1


PLAIN = {
    "named tuples": lambda: of(lambda i: Named(Y[i], X[i])),
    "a label named so": lambda: of(lambda i: {"ill": Y[i], "x": X[i]}, label="ill"),
    "stacked data sets": lambda: Federation.from_datasets(StackDataset(x=X, label=Y)),
    "parts put together": lambda: Federation.from_datasets(
        ConcatDataset(
            [
                Subset(TensorDataset(torch.tensor(X), torch.tensor(Y)), range(*ends))
                for ends in ((0, 20), (20, 60))
            ]
        )
    ),
    "a transform of Hugging Face's": lambda: of_hugging(
        hugging(x=X.tolist())
        .remove_columns(["a", "b"])
        .with_transform(
            lambda rows: {"x": [torch.tensor(x) for x in rows["x"]], "label": rows["label"]}
        )
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_pairs_in_other_clothes_are_the_same_data(name):
    made, plain = laid_out(PLAIN[name]()), laid_out(Federation.from_arrays((X, Y)))
    np.testing.assert_array_equal(made.stages[0].x, plain.stages[0].x)
    np.testing.assert_array_equal(made.stages[0].y, plain.stages[0].y)


@pytest.mark.parametrize(
    "item",
    [
        lambda row: PICTURES[row],
        turned,
        lambda row: PICTURES[row].convert("RGBA"),
    ],
    ids=["plain", "turned", "with alpha"],
)
def test_pictures_are_channels_of_what_people_see(item):
    rows = Items(lambda i: (item(i), int(Y[i])))
    made = laid_out(Federation.from_datasets(rows, test=rows))
    assert made.shape == (3, 4, 6)
    for channel in range(3):  # scaled as pictures in files are
        seen, given = made.test_x[:, channel].ravel(), PIXELS[..., channel].ravel()
        assert np.corrcoef(seen, given)[0, 1] > 0.99999


def test_pictures_of_clients_keep_whose_they_are():
    pairs = [(picture.convert("P"), int(y)) for picture, y in zip(PICTURES, Y, strict=True)]
    made = laid_out(Federation.from_datasets({"p": pairs[:30], "q": pairs[30:]}))
    assert made.names.tolist() == ["p", "q"]
    assert made.shape == (3, 4, 6)  # the colours, not their numbers in a palette


def test_hugging_face_shows_what_its_format_shows():
    told = hugging(leak=Y.tolist()).with_format("torch", columns=["a", "b", "label"])
    assert laid_out(of_hugging(told)).shape == (2,)
    every = told.with_format("torch", columns=["a", "label"], output_all_columns=True)
    assert laid_out(of_hugging(every.remove_columns("leak"))).shape == (2,)


def test_hugging_face_columns_may_say_whose_a_row_is_and_stand_in_any_order():
    sites = hugging(site=["north", "south"] * 30)
    assert laid_out(of_hugging(sites, client="site")).names.tolist() == ["north", "south"]
    made = of_hugging({"p": hugging(), "q": hugging().select_columns(["label", "b", "a"])})
    assert laid_out(made).shape == (2,)


def test_hugging_face_arrays_and_pictures_by_path_are_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        x=datasets.Array2D((2, 2), "float32"), label=datasets.ClassLabel(names=["no", "yes"])
    )
    given = {"x": X.reshape(60, 2, 2).tolist(), "label": Y.tolist()}
    made = laid_out(of_hugging(datasets.Dataset.from_dict(given, features)))
    assert made.shape == (2, 2)
    paths = [str(tmp_path / f"{row}.png") for row in range(60)]
    for path, picture in zip(paths, PICTURES, strict=True):
        picture.save(path)
    by_path = datasets.Dataset.from_dict({"image": paths, "label": Y.tolist()})
    by_path = by_path.cast_column("image", datasets.Image())
    assert laid_out(of_hugging(by_path)).shape == (3, 4, 6)


def test_columns_beside_pictures_are_said_to_be_left_aside(tmp_path, caplog):
    datasets = pytest.importorskip("datasets")
    given = {"image": PICTURES, "age": X[:, 0].tolist(), "label": Y.tolist()}
    made = datasets.Dataset.from_dict(given).cast_column("image", datasets.Image())
    told = {"model": "softmax", "strategies": ["fedavg"], "rounds": 1, "clients": 2}
    with caplog.at_level("INFO", "fedrms"):
        simulate(of_hugging(made), partition="iid", folder=tmp_path / "runs", **told)
    assert "left aside: age (beside the pictures)" in caplog.text
