"""The table of estimates where the truth is not known, as in a deployed run."""

import numpy as np
import pandas as pd
import pytest

from fedrms.results.report.client_tables import estimates


def rows(noise):
    """Return four rounds of one run; `noise` is each client's estimate in every round."""
    return pd.DataFrame(
        [
            {"run": "0", "round": t, "client": f"site {k}", "rms": value, "num_examples": 10}
            | {"scale": 1.0, "weight": 1 / len(noise), "participated": True, "failed": False}
            for t in range(1, 5)
            for k, value in enumerate(noise)
        ]
    )


def test_most_clients_without_noise_give_no_infinite_numbers():
    table = estimates(rows([0.0, 0.0, 0.4]))
    assert table.cells["client"].tolist()[0] == "site 2"
    assert "times the median" not in table.cells
    assert "trend" not in table.cells
    assert not table.cells.map(lambda cell: cell in ("inf", "nan", "-inf")).any().any()
    assert "median" not in table.note


def test_estimates_are_compared_with_the_median_client():
    table = estimates(rows([0.1, 0.2, 0.4]))
    assert list(table.numbers["times_the_median"]) == pytest.approx([2.0, 1.0, 0.5])
    assert np.allclose(table.numbers["trend"], 1.0)
    assert "estimated noise" in table.cells
    assert "Times the median" in table.note


def test_a_table_that_is_cut_says_how_many_rows_are_left():
    table = estimates(rows(np.linspace(0.1, 0.4, 203)))
    assert len(table.cells) == 200
    assert len(table.numbers) == 203
    assert table.note.endswith(" 3 more are in the CSV.")
