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

from fedrms.errors import ConfigError

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
COLOUR_REMEDY = "convert the pictures to 8-bit grey or RGB"


def decode(blobs: Sequence[bytes | None], origin: str) -> Pixels:
    """Decode encoded pictures of one size.

    Parameters
    ----------
    blobs : sequence of bytes
        One encoded picture each (PNG, JPEG, or anything else that Pillow reads).
    origin : str
        Where they come from, for error messages.

    Returns
    -------
    array, uint8 ``[n, channels, height, width]``
        One channel where every picture is grey, three (RGB) otherwise.

    Raises
    ------
    ConfigError
        If a picture is missing, unreadable, deeper than 8 bits, or of another size.
    """
    pictures = [_decode_one(blob, f"row {row} of {origin}") for row, blob in enumerate(blobs)]
    if not pictures:
        return np.zeros((0, 1, 1, 1), np.uint8)
    sizes = {picture.shape[:2] for picture in pictures}
    if len(sizes) > 1:
        (h, w), (g, v) = sorted(sizes)[:2]
        raise ConfigError(
            "data.image_column",
            f"{origin} holds pictures of different sizes ({h}x{w} and {g}x{v}, height x width)",
            "resize them to one size",
        )
    if any(picture.ndim == 3 for picture in pictures):
        rgb = [p if p.ndim == 3 else np.repeat(p[:, :, None], 3, axis=2) for p in pictures]
        return np.ascontiguousarray(np.stack(rgb).transpose(0, 3, 1, 2))
    return np.stack(pictures)[:, None]


def _decode_one(blob: bytes | None, where: str) -> Pixels:
    import io

    from PIL import Image

    if blob is None:
        raise ConfigError(
            "data.image_column", f"{where} has no picture bytes", "drop the row or embed the bytes"
        )
    try:
        with Image.open(io.BytesIO(blob)) as picture:
            mode = picture.mode
            decoded = picture.convert("L" if mode in ("L", "1") else "RGB")
    except (OSError, SyntaxError, ValueError) as fault:
        raise ConfigError(
            "data.image_column", f"{where} cannot be read as a picture ({fault})", "drop the row"
        ) from fault
    if mode.startswith(("I", "F")):
        raise ConfigError("data.image_column", f"{where} is deeper than 8 bits", COLOUR_REMEDY)
    return np.asarray(decoded)


def cached(file: Path, column: str, decode_file: Callable[[], Pixels]) -> Pixels:
    """Return the decoded pictures of a file, from the cache folder where it holds them.

    The cache is ``$FEDRMS_CACHE``, or ``~/.cache/fedrms``; an entry is keyed by the file's
    path, size and modification time, and written whole or not at all. A broken entry is
    replaced, and a folder that cannot be written to only costs the time of decoding again.
    """
    entry = _entry(file, column)
    if entry is None:
        return decode_file()
    try:
        stored: NDArray[Any] = np.load(entry, mmap_mode="r", allow_pickle=False)
        if stored.dtype == np.uint8 and stored.ndim == 4:
            return stored
    except (OSError, ValueError, EOFError):
        pass
    logger.info("decoding the pictures of %s", file)
    pixels = decode_file()
    _store(entry, pixels)
    return pixels


def _entry(file: Path, column: str) -> Path | None:
    try:
        folder = os.environ.get("FEDRMS_CACHE") or Path.home() / ".cache" / "fedrms"
        status = file.stat()
        identity = (str(file.resolve()), status.st_size, status.st_mtime_ns, column)
    except (OSError, RuntimeError):
        return None
    return Path(folder) / f"{hashlib.sha256(repr(identity).encode()).hexdigest()[:32]}.npy"


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
