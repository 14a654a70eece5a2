"""Replies whose parts come late, never, or are no message: they fail for their sender alone.

A client announces a reply and then sends its parts. Flower's grid looks for those at growing
intervals of seconds for up to hours, and what it cannot read ends the run. Both happen in functions
that are not part of its public API; where they are not, this changes nothing.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flwr.app import Message

from fedrms.deployment.bell import Bell
from fedrms.errors import shown

QUICKEST, SLOWEST = 0.05, 2.0
"""Seconds between the first two looks for a part, and most between two."""


@contextmanager
def whole_replies(until: float, bell: Bell | None = None) -> Iterator[None]:
    """Wait for parts of replies for a bounded time, and tell what cannot be read from a fault.

    What is whole by then, by ``time.monotonic``, is taken. The bell says of which replies no more
    parts come, as their sender is gone.
    """
    try:
        grid: Any = importlib.import_module("flwr.superlink.grid.http_grid")
        utils: Any = importlib.import_module("flwr.supercore.inflatable.inflatable_utils")
        usual: Any = grid.pull_objects, grid.inflate_object_from_contents
    except (ImportError, AttributeError):
        usual = None
    if usual is None:
        yield
        return
    made: list[Message] = []

    def pull_objects(object_ids: list[str], pull_object_fn: Callable[[str], bytes]) -> Any:
        root = object_ids[-1]

        def pull(object_id: str) -> bytes:
            try:
                return pull_object_fn(object_id)
            except utils.ObjectUnavailableError:
                if bell is not None and bell.given_up(root):
                    why = "its sender is gone, and has not sent it whole"
                    raise utils.ObjectPullError(root, why) from None
                raise

        parts = usual[0](
            object_ids,
            pull,
            max_time=max(0.0, until - time.monotonic()),
            max_tries_per_object=None,
            initial_backoff=QUICKEST,
            backoff_cap=SLOWEST,
        )
        try:
            whole = utils.inflate_object_from_contents(root, dict(parts))
        except Exception as error:
            why = f"it cannot be read: {shown(f'{type(error).__name__}: {error}')}"
            raise utils.ObjectPullError(root, why) from error
        if not isinstance(whole, Message):
            raise utils.ObjectPullError(root, f"it is no message but a {type(whole).__name__}")
        made[:] = [whole]
        return parts

    grid.pull_objects = pull_objects
    grid.inflate_object_from_contents = lambda *_: made.pop()  # asked right after, for the same
    try:
        yield
    finally:
        grid.pull_objects, grid.inflate_object_from_contents = usual
