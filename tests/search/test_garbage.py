import gc
from contextlib import suppress

from nas.search.garbage import OBJECTS, rare_collections


def test_the_collector_comes_seldom_within_a_search_and_as_before_after_it():
    before = gc.get_threshold()
    with rare_collections():
        assert gc.get_threshold()[0] == OBJECTS > before[0]
    assert gc.get_threshold() == before
    with suppress(RuntimeError), rare_collections():
        raise RuntimeError
    assert gc.get_threshold() == before
