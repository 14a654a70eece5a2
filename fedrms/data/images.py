"""Decode PNG and JPEG bytes to pixels, once: decoded arrays are kept in a cache folder."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrms.cache_folder import cache_folder
from fedrms.errors import ConfigError

logger = logging.getLogger(__name__)

Pixels = NDArray[Any]
"""uint8, or uint16 where a picture is deeper."""

DEEP = 257
"""What an 8-bit grey is in 16 bits."""
DECODER = 2
"""Changes where the same bytes give other pixels, so that nothing old is taken from the cache."""


def decode(
    blobs: Sequence[bytes | None],
    origin: str,
    *,
    called: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    colour: str = "auto",
) -> Pixels:
    """Decode encoded pictures of one size, uint8 or uint16 ``[n, channels, height, width]``.

    They are turned as their EXIF data say. What is transparent lies on white. Pictures with 16 bits
    keep them, and others beside them are brought to 16; auto is grey where every picture is.
    Refused, by the names in ``called`` or by row, are pictures that are missing, unreadable, one of
    several in a file, deeper than 16 bits, or of another size.
    """
    pictures = []
    for row, blob in enumerate(blobs):
        where = f"row {row} of {origin}" if called is None else f"{called[row]} in {origin}"
        pictures.append(_decode_one(blob, where, size, colour))
    if not pictures:
        return np.zeros((0, 1, 1, 1), np.uint8)
    sizes = {picture.shape[:2] for picture in pictures}
    if len(sizes) > 1:
        (h, w), (g, v) = sorted(sizes)[:2]
        raise ConfigError(
            "data.image_column" if called is None else "data.size",
            f"{origin} holds pictures of different sizes ({h}x{w} and {g}x{v}, height x width)",
            "resize them to one size" if called is None else "set data.size=[height,width]",
        )
    if any(picture.dtype == np.uint16 for picture in pictures):
        pictures = [p if p.dtype == np.uint16 else p.astype(np.uint16) * DEEP for p in pictures]
    if any(picture.ndim == 3 for picture in pictures):
        rgb = [p if p.ndim == 3 else np.repeat(p[:, :, None], 3, axis=2) for p in pictures]
        return np.ascontiguousarray(np.stack(rgb).transpose(0, 3, 1, 2))
    return np.stack(pictures)[:, None]


def _decode_one(
    blob: bytes | None, where: str, size: tuple[int, int] | None, colour: str
) -> Pixels:
    import io

    from PIL import Image, ImageOps

    if blob is None:
        raise ConfigError(
            "data.image_column", f"{where} has no picture bytes", "drop the row or embed the bytes"
        )
    try:
        with Image.open(io.BytesIO(blob)) as opened:
            _refuse_several(opened, where)
            picture = ImageOps.exif_transpose(opened)
            deep = _sixteen_bits(picture, where)
            if deep is not None:
                return _deep_sized(deep, size, colour)
            picture = _on_white(picture)
            grey = colour == "grey" or (colour == "auto" and picture.mode in ("L", "1"))
            picture = picture.convert("L" if grey else "RGB")
            if size is not None and picture.size != size[::-1]:
                picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
            return np.asarray(picture)
    except ConfigError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        raise ConfigError(
            "data.image_column", f"{where} cannot be read as a picture ({fault})", "drop it"
        ) from fault


def _refuse_several(picture: Any, where: str) -> None:
    """Refuse an animation or a stack of pages; the further pictures of a camera are previews."""
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise ConfigError(
            "data.image_column",
            f"{where} holds {frames} pictures",
            "save the one that counts by itself, or each as an example",
        )


def _sixteen_bits(picture: Any, where: str) -> Pixels | None:
    """Return the pixels of a grey picture with 16 bits; None for 8."""
    if not picture.mode.startswith(("I", "F")):
        return None
    values = np.asarray(picture)
    whole = values.dtype.kind in "iu" and values.size
    if not whole or values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        raise ConfigError(
            "data.image_column",
            f"{where} is deeper than 16 bits",
            "convert the pictures to 8 or 16 bits",
        )
    return values.astype(np.uint16)


def _deep_sized(values: Pixels, size: tuple[int, int] | None, colour: str) -> Pixels:
    from PIL import Image

    if size is not None and values.shape != size:
        wide = Image.fromarray(values.astype(np.float32), "F")
        sized = np.asarray(wide.resize(size[::-1], Image.Resampling.BILINEAR))
        values = np.rint(sized).astype(np.uint16)
    return np.repeat(values[:, :, None], 3, axis=2) if colour == "rgb" else values


def _on_white(picture: Any) -> Any:
    """Return a picture without transparency, grey where it was grey."""
    from PIL import Image

    if not picture.has_transparency_data:
        return picture
    grey = picture.mode in ("L", "LA", "La", "1")
    clear = picture.convert("RGBA")
    white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
    laid = Image.alpha_composite(white, clear)
    return laid.convert("L" if grey else "RGB")


def cached(file: Path, column: str, decode_file: Callable[[], Pixels]) -> Pixels:
    """Return the decoded pictures of a file, from the cache folder where it holds them.

    An entry is keyed by the file's path, size and modification time, and written whole or not at
    all. A broken one is replaced, and a folder that cannot be written to only costs the time of
    decoding again.
    """
    entry = _entry(file, column)
    if entry is None:
        return decode_file()
    try:
        stored: NDArray[Any] = np.load(entry, mmap_mode="r", allow_pickle=False)
        if stored.dtype in (np.uint8, np.uint16) and stored.ndim == 4:
            return stored
    except (OSError, ValueError, EOFError):
        pass
    logger.info("decoding the pictures of %s", file)
    pixels = decode_file()
    _store(entry, pixels)
    return pixels


def _entry(file: Path, column: str) -> Path | None:
    try:
        folder = cache_folder()
        status = file.stat()
        identity = (str(file.resolve()), status.st_size, status.st_mtime_ns, column, DECODER)
    except (OSError, RuntimeError):
        return None
    return folder / f"{hashlib.sha256(repr(identity).encode()).hexdigest()[:32]}.npy"


def _store(entry: Path, pixels: Pixels) -> None:
    partial = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=entry.parent, suffix=".partial")
        partial = Path(name)
        with os.fdopen(handle, "wb") as stream:
            np.save(stream, pixels)
        partial.replace(entry)
    except OSError as fault:
        logger.info("decoded pictures are not cached: %s", fault)
        if partial is not None:
            partial.unlink(missing_ok=True)
