"""Clients of similar size, grouped."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedrms.client import similar_sizes as module
from fedrms.client.similar_sizes import similar_sizes


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=50))
def test_everyone_is_in_one_group_with_others_of_up_to_twice_its_size(sizes):
    sizes = np.array(sizes)
    groups = similar_sizes(sizes)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(sizes)))
    if len(groups) > 1:
        for group in groups:
            assert sizes[group].max() <= 2 * sizes[group].min()


def test_where_padding_costs_little_there_is_one_group():
    assert len(similar_sizes(np.array([1, 1000]))) == 1
    assert len(similar_sizes(np.array([1, 1000, 10 * module.WORTH_IT]))) == 3
