"""``nas ops``."""

from __future__ import annotations

from typing import Any

from nas.cli.arguments import Arguments
from nas.report.text import table
from nas.ops import OPS, find


def run(arguments: Arguments) -> dict[str, Any]:
    """List the operations, or describe one."""
    specs = [find(arguments.words[0])] if arguments.words else list(OPS.values())
    rows = [
        {"name": s.name, "summary": s.summary, "words": {**dict.fromkeys(s.required), **s.defaults}} for s in specs
    ]  # fmt: skip
    if not arguments.json:
        print(table(("operation", "words", "what it is"),
                    [(r["name"], " ".join(w if v is None else f"{w}={v}" for w, v in r["words"].items()), r["summary"]) for r in rows]))  # fmt: skip
    return {"ops": rows}
