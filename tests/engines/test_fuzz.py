"""A few hundred mutated replies; ``python -m tests.engines.fuzz 2000`` tries more."""

from __future__ import annotations

import pytest

from .fuzz import run

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.mark.long
def test_no_mutated_reply_is_accepted_wrongly_or_ends_a_round_under_any_strategy() -> None:
    assert run(240, seed=1) == []
