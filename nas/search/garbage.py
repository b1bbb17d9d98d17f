"""How often Python looks for garbage while a search runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS = 100_000
"""So many objects more than at its last look, and Python's collector looks at the new ones."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Within the block Python's collector comes seldom.

    A search keeps all its trials and leaves no cycles behind, but the collector walks through all that is kept whenever a quarter
    as much seems to have come, and takes the networks in flight for that: a tenth of the driver's time.
    """
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
