"""Fronts of fronts: the fast way for two columns is the general one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas.search.samplers.ranking import ranks


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40))
def test_ranks_of_two_columns_are_those_of_three_with_one_that_says_nothing(rows):
    table = np.array(rows, dtype=float).reshape(-1, 2)
    general = ranks(np.column_stack([table, np.zeros(len(table))]))
    assert ranks(table).tolist() == general.tolist()
