"""Tiny real searches: a data set and a space that train in a tenth of a second."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nas.search.config import SearchConfig
from nas.search.result import Result
from nas.search.start import search
from tests.search.fakes import MANY


def write_data(path: Path, *, images: int = 90, seed: int = 0, shape: tuple[int, int] = (8, 8)) -> Path:
    """An .npz of small images in three classes that can be told apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 3
    pixels = rng.integers(0, 80, (images, *shape), dtype=np.uint8) + (60 * labels[:, None, None]).astype(np.uint8)
    cut = images * 2 // 3
    np.savez(path, x_train=pixels[:cut], y_train=labels[:cut], x_test=pixels[cut:], y_test=labels[cut:])
    return path


def write_page(path: Path, text: str = MANY) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def config_of(data: Path, page: Path, run: Path, **words: Any) -> SearchConfig:
    return SearchConfig.from_words({"space": str(page), "data": str(data), "run": str(run), "budget": "3trials", "workers": "1",
                                    "epochs": "2", "objectives": "accuracy,num_params", **words})  # fmt: skip


def quietly(config: SearchConfig, said: list[str] | None = None) -> Result:
    """Run a search without a view."""
    return search(config, say=(said if said is not None else []).append, view=no_view)


@contextmanager
def no_view():
    yield lambda status: None
