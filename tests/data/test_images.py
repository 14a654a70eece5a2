"""Folders of pictures: by class, by client and class, of any depth, colour and turn."""

import numpy as np
import pytest
from PIL import Image

import fedrms
from fedrms.data.sources import load
from fedrms.errors import ConfigError

DRAW = np.random.default_rng(0)


def grey(side=4, dtype=np.uint8):
    return DRAW.integers(0, np.iinfo(dtype).max + 1, size=(side, side)).astype(dtype)


def save(path, pixels, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **more)


def by_class(root, count=10, classes=("cat", "dog"), make=grey):
    for name in classes:
        for i in range(count):
            save(root / name / f"{i}.png", make())


def read(root, **options):
    return load(0, 1, {"name": "images", "path": str(root), **options})[0]


def one_pixel_kind(tmp_path, picture, name="a.png", **more):
    """Return the pixels of one picture beside grey ones of its size."""
    by_class(tmp_path / "train")
    save(tmp_path / "test" / "cat" / name, picture, **more)
    return read(tmp_path)


def test_a_folder_is_a_class_and_its_pictures_are_pixels(tmp_path):
    by_class(tmp_path)
    data = read(tmp_path, test_fraction=0.2)
    assert data.class_names == ("cat", "dog")
    assert data.shape == (1, 4, 4)
    assert (len(data.train), len(data.test)) == (16, 4)
    first = np.asarray(Image.open(tmp_path / "cat" / "0.png"))
    assert any((row[0] == first).all() for row in (*data.train.x, *data.test.x))
    assert data.natural_ids is None


def test_folders_of_clients_are_the_clients(tmp_path):
    for site in ("Ulm", "Bonn"):
        by_class(tmp_path / "train" / site, 6)
    by_class(tmp_path / "test", 3)
    data = read(tmp_path)
    assert sorted(set(data.natural_ids.tolist())) == ["Bonn", "Ulm"]
    assert len(data.test) == 6
    runs = fedrms.simulate(
        fedrms.Federation.from_images(tmp_path),
        model="softmax",
        rounds=1,
        strategies=["fedrms"],
        folder=tmp_path / "runs",
    )
    assert set(runs.clients.client) == {"Bonn", "Ulm"}
    assert runs.rounds.test_accuracy.notna().all()


def test_pictures_with_sixteen_bits_keep_them(tmp_path):
    deep = [grey(dtype=np.uint16) for _ in range(20)]
    pictures = iter(deep)
    by_class(tmp_path, make=lambda: next(pictures))
    data = read(tmp_path)
    assert data.train.x.dtype == np.uint16
    raw = data.raw(data.train)
    np.testing.assert_allclose(raw, data.train.x / np.float32(65535), rtol=1e-6)
    assert any((row[0] == deep[0]).all() for row in (*data.train.x, *data.test.x))


def test_pictures_with_eight_bits_beside_deep_ones_are_as_bright(tmp_path):
    by_class(tmp_path, 9)
    save(tmp_path / "cat" / "deep.png", grey(dtype=np.uint16))
    save(tmp_path / "cat" / "white.png", np.full((4, 4), 255, np.uint8))
    data = read(tmp_path)
    brightest = [part.x.max(axis=(1, 2, 3)) for part in (data.train, data.test)]
    assert 65535 in np.concatenate(brightest)


def test_a_picture_is_turned_as_its_exif_says(tmp_path):
    upright = np.zeros((4, 4), np.uint8)
    upright[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    stored = Image.fromarray(np.rot90(upright, 1))
    data = one_pixel_kind(tmp_path, stored, exif=exif)
    np.testing.assert_array_equal(data.test.x[0, 0], upright)


@pytest.mark.parametrize(
    ("mode", "pixel", "seen"),
    [
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("LA", (10, 255), (10,)),
        ("LA", (10, 0), (255,)),
        ("1", 1, (255,)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("L", 7, (7,)),
    ],
)
def test_modes_become_grey_or_colour_and_what_is_transparent_lies_on_white(
    mode, pixel, seen, tmp_path
):
    picture = Image.new(mode, (4, 4), pixel)
    by_class(tmp_path / "train", make=lambda: picture)
    by_class(tmp_path / "test", 1, make=lambda: picture)
    data = read(tmp_path)
    assert data.shape == (len(seen), 4, 4)
    assert tuple(data.test.x[0, :, 0, 0].tolist()) == seen


def test_a_palette_and_ink_become_colour(tmp_path):
    by_class(tmp_path / "train", make=lambda: Image.new("RGB", (4, 4)))
    save(tmp_path / "test" / "cat" / "a.gif", Image.new("RGB", (4, 4), (255, 0, 0)).convert("P"))
    save(tmp_path / "test" / "cat" / "b.tiff", Image.new("CMYK", (4, 4), (0, 255, 255, 0)))
    data = read(tmp_path)
    assert data.test.x[:, :, 0, 0].tolist() == [[255, 0, 0], [255, 0, 0]]


def test_sizes_and_colours_are_made_alike_where_asked(tmp_path):
    by_class(tmp_path)
    save(tmp_path / "cat" / "wide.png", np.full((6, 9, 3), 90, np.uint8))
    with pytest.raises(ConfigError, match=r"set data\.size"):
        read(tmp_path)
    assert read(tmp_path, size=5).shape == (3, 5, 5)
    assert read(tmp_path, size=[5, 7], colour="grey").shape == (1, 5, 7)
    assert read(tmp_path, size=4, colour="rgb").shape == (3, 4, 4)


def test_the_preview_that_a_camera_adds_is_left_aside(tmp_path):
    photo, preview = (Image.fromarray(grey(side)) for side in (4, 2))
    both = {"format": "MPO", "save_all": True, "append_images": [preview], "quality": 95}
    found = one_pixel_kind(tmp_path, photo, "a.jpg", **both).test.x[0]
    assert found.shape == (1, 4, 4)


def test_what_is_no_picture_is_left_aside_and_told(tmp_path):
    by_class(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("a cat")
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"\0")
    (told,) = read(tmp_path).reading.warnings
    assert "1 files are no pictures" in told
    assert "notes.txt" in told


def broken(root):
    by_class(root)
    (root / "cat" / "3.png").write_bytes(b"no picture")


def cut_short(root):
    by_class(root)
    whole = (root / "dog" / "3.png").read_bytes()
    (root / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])


def of_fractions(root):
    by_class(root)
    save(root / "cat" / "deep.tiff", np.full((4, 4), 0.5, np.float32))


def of_several_pages(root):
    by_class(root)
    pages = [Image.fromarray(grey()) for _ in range(3)]
    save(root / "cat" / "slices.tiff", pages[0], save_all=True, append_images=pages[1:])


def moving(root):
    by_class(root)
    frames = [Image.fromarray(grey()) for _ in range(2)]
    save(root / "dog" / "moving.gif", frames[0], save_all=True, append_images=frames[1:])


def without_classes(root):
    save(root / "a.png", grey())


def of_two_depths(root):
    by_class(root)
    by_class(root / "site")


def of_one_class(root):
    by_class(root, classes=("cat",))


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (lambda root: None, {}, "there is no picture"),
        (broken, {}, r"cat/3\.png .* cannot be read"),
        (cut_short, {}, r"dog/3\.png .* cannot be read"),
        (of_fractions, {}, r"cat/deep\.tiff .* is deeper than 16 bits\s+-> convert"),
        (of_several_pages, {}, r"cat/slices\.tiff in \S+ holds 3 pictures\s+-> save the one"),
        (moving, {}, r"dog/moving\.gif in \S+ holds 2 pictures\s+-> save the one"),
        (without_classes, {}, r"FOLDER/CLASS/picture\.png"),
        (of_two_depths, {}, "pictures such as"),
        (of_one_class, {}, "one class"),
        (by_class, {"size": 0}, r"data\.size"),
        (by_class, {"size": [1, 2, 3]}, r"data\.size"),
        (by_class, {"colour": "cmyk"}, r"data\.colour"),
        (by_class, {"classes": ["cat"]}, r"data\.classes"),
        (by_class, {"path": None}, r"data\.path"),
        (by_class, {"path": "/nowhere/at/all"}, "there is no folder"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_in_a_sentence(make, options, said, tmp_path):
    make(tmp_path)
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, **options) if "path" not in options else load(
            0, 1, {"name": "images", **options}
        )
