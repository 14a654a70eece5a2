"""Numbers out of a tidy table."""

import math

import pandas as pd
import pytest

from fedrms.lab.tidy import slope, values


def test_rows_of_the_same_keys_become_one_number():
    table = pd.DataFrame({"a": ["x", "x", "y"], "b": [1, 1, 2], "value": [1.0, 4.0, 7.0]})
    assert values(table, "a", "b") == {("x", 1): 2.5, ("y", 2): 7.0}
    assert values(table, "a", how="max") == {"x": 4.0, "y": 7.0}


def test_the_slope_of_a_power_law_is_its_power_and_what_never_ended_is_left_out():
    assert slope({10.0: 3e2, 100.0: 3e4, 1000.0: math.inf}) == pytest.approx(2.0)
    assert math.isnan(slope({10.0: 1.0}))
