"""Garbage collection during rounds: cheap, and as before afterwards."""

import gc
import weakref

import pytest

from fedrms.engines.garbage import settled_objects


class Ring:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


def test_what_was_there_before_is_not_looked_through():
    kept = Ring()
    with settled_objects():
        assert not any(one is kept for one in gc.get_objects())
    assert any(one is kept for one in gc.get_objects())


def test_what_is_made_meanwhile_is_collected():
    with settled_objects():
        ring = weakref.ref(Ring())
        gc.collect()
        assert ring() is None


def test_an_error_ends_it_too():
    with pytest.raises(ZeroDivisionError), settled_objects():
        _ = 1 / 0
    assert gc.get_freeze_count() == 0


def test_who_has_frozen_objects_keeps_them_frozen():
    gc.freeze()
    try:
        with settled_objects():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
