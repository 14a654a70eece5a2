"""Examples from folders of pictures: a folder a class, perhaps in a folder a client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedrms.data.assemble import assemble
from fedrms.data.dataset import Dataset
from fedrms.data.files import Part
from fedrms.data.table_options import TableOptions
from fedrms.errors import ConfigError
from fedrms.options import one_of, sequence, whole

IMAGE, CLASS, CLIENT = "image", "class", "client"
PARTS = ("train", "test")
LAYOUT = "lay them out as FOLDER/CLASS/picture.png or FOLDER/CLIENT/CLASS/picture.png"


def images(
    seed: int,
    clients: int,
    *,
    path: str | None = None,
    size: int | Sequence[int] | None = None,
    colour: str = "auto",
    classes: list[str] | None = None,
    pool: int = 1,
    train_examples: int | None = None,
    test_examples: int | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """Load folders of pictures, ``CLASS/picture.png`` or ``CLIENT/CLASS/picture.png``.

    Both may be under ``train`` and ``test``, of which only the former need have clients. Without a
    `size` pictures must be alike; a `colour` of auto is grey where every picture is.
    """
    if path is None:
        raise ConfigError("data.path", "data=images needs a folder", f"set data.path; {LAYOUT}")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ConfigError("data.path", f"there is no folder {folder}", LAYOUT)
    parted = (folder / "train").is_dir()
    roots = [folder / name for name in PARTS if (folder / name).is_dir()] if parted else [folder]
    how = {"size": _size(size), "colour": one_of("data.colour", colour, ("auto", "grey", "rgb"))}
    parts, skipped = [], []
    for root in roots:
        table, others = _table(root)
        skipped += others
        parts.append(Part(table=table, called=str(root), pictures=how))
    owned = CLIENT in parts[0].table.column_names
    wanted = TableOptions(
        label_column=CLASS,
        client_column=CLIENT if owned else None,
        classes=classes,
        train_examples=train_examples,
        test_examples=test_examples,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )
    test = parts[1] if len(parts) > 1 else None
    made = assemble(parts[0], test, wanted, image_column=IMAGE, pool=pool)
    if skipped and made.reading is not None:
        told = f"{len(skipped)} files are no pictures and are left aside, such as {skipped[0]}"
        made = replace(made, reading=replace(made.reading, warnings=(*made.reading.warnings, told)))
    return made


def _table(root: Path) -> tuple[Any, list[str]]:
    """Return the pictures under a folder with their classes, and the files that are none."""
    import pyarrow as pa
    from PIL import Image

    known = Image.registered_extensions()
    pictures: list[Path] = []
    others: list[str] = []
    for file in sorted(root.rglob("*")):
        inside = file.relative_to(root)
        if not file.is_file() or any(part.startswith(".") for part in inside.parts):
            continue
        if file.suffix.lower() in known:
            pictures.append(inside)
        else:
            others.append(str(inside))
    if not pictures:
        raise ConfigError("data.path", f"there is no picture in {root}", LAYOUT)
    depths = {len(picture.parts): picture for picture in pictures}
    if len(depths) > 1 or next(iter(depths)) not in (2, 3):
        told = " and ".join(str(picture) for picture in depths.values())
        raise ConfigError("data.path", f"{root} holds pictures such as {told}", LAYOUT)
    columns = {
        IMAGE: pa.array([(root / picture).read_bytes() for picture in pictures], pa.binary()),
        CLASS: pa.array([picture.parts[-2] for picture in pictures]),
    }
    if 3 in depths:
        columns[CLIENT] = pa.array([picture.parts[0] for picture in pictures])
    return pa.table(columns, metadata={"pictures": "\n".join(map(str, pictures))}), others


def _size(given: int | Sequence[int] | None) -> tuple[int, int] | None:
    if given is None:
        return None
    sides = [given, given] if isinstance(given, int) else sequence("data.size", given)
    if len(sides) != 2:
        raise ConfigError("data.size", f"is {given!r}", "set one number, or [height,width]")
    height, width = (whole("data.size", side) for side in sides)
    return height, width
