"""Writing what a person opens: all of a file or nothing."""

from __future__ import annotations

from pathlib import Path

from nas.errors import UsageError


def write_text(path: Path, text: str) -> None:
    """Replace a file's text in one step; its folder is made. Raises UsageError when it cannot be written."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UsageError("the file cannot be written", where=str(path), got=error.strerror) from None
