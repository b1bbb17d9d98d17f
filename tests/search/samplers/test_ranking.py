"""Fronts of fronts: the fast way for two columns is the general one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas.search.samplers.ranking import crowding, ranks


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40))
def test_ranks_of_two_columns_are_those_of_three_with_one_that_says_nothing(rows):
    table = np.array(rows, dtype=float).reshape(-1, 2)
    general = ranks(np.column_stack([table, np.zeros(len(table))]))
    assert ranks(table).tolist() == general.tolist()


def crowding_by_hand(table, rank):
    """Front by front, one member after the other."""
    distance = np.zeros(len(table))
    for level in set(rank.tolist()):
        members = [i for i in range(len(table)) if rank[i] == level]
        for column in table.T:
            along = sorted(members, key=lambda i: column[i])
            distance[[along[0], along[-1]]] = np.inf
            width = column[along[-1]] - column[along[0]]
            for before, here, after in zip(along, along[1:], along[2:], strict=False):
                distance[here] += (column[after] - column[before]) / width if width else 0.0
    return distance


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2)), max_size=30))
def test_crowding_of_all_fronts_at_once_is_that_of_each(rows):
    table = np.array(rows, dtype=float).reshape(-1, 3)
    rank = ranks(table)
    assert crowding(table, rank).tolist() == crowding_by_hand(table, rank).tolist()
