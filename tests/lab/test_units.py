"""The unit of the loss."""

import pytest


@pytest.mark.long
def test_the_verdicts_hold_on_the_quick_size(quick):
    outcomes = {key: verdict.outcome for key, verdict in quick("units").verdicts.items()}
    assert outcomes == {
        "same path": "holds in part",
        "not for GD": "holds",
        "same clients": "holds",
    }


def test_without_eps_what_is_left_is_rounding(quick):
    table = quick("units").table
    own = table.query("part == 'path' and name == 'rmsprop, eps 0'")["value"]
    assert len(own) == 2
    assert own.max() < 1e-6
