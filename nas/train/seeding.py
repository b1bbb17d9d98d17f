"""Everything random follows from one seed, and the caller's random state is left as it was."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seed_everything(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed Python, NumPy and torch inside the ``with``; they and torch's CPU and ``device`` are restored after it.

    Build a network inside it: equal seeds give equal initial weights.
    """
    devices = [device] if torch.device(device).type == "cuda" else []
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=devices):
        try:
            reseed(seed)
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def reseed(seed: int) -> None:
    """Seed Python, NumPy and torch for good."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def derive_seed(seed: int, *path: int | str) -> int:
    """A seed of its own (63 bits) for every path below a seed, such as ``derive_seed(7, "epoch", 3)``."""
    digest = hashlib.sha256("/".join(map(str, (seed, *path))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
