from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.ops.plugins import load_plugins
from tests.ops.plugins import MY_OPS, tables_restored


@pytest.fixture
def fresh_tables() -> Iterator[None]:
    with tables_restored():
        yield


@pytest.fixture
def my_ops(tmp_path: Path, fresh_tables: None) -> Path:
    """A user's file, loaded."""
    path = tmp_path / "my_ops.py"
    path.write_text(MY_OPS)
    load_plugins([str(path)])
    return path
