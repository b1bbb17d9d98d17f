"""``nas ops``."""

from __future__ import annotations

from typing import Any

from nas.cli.arguments import Arguments
from nas.ops import OPS, find
from nas.report.text import table


def run(arguments: Arguments) -> dict[str, Any]:
    """List the operations, or describe one."""
    specs = [find(arguments.words[0])] if arguments.words else list(OPS.values())
    if not arguments.json:
        rows = [(s.name, " ".join([*s.required, *(f"{w}={v}" for w, v in s.defaults.items())]), s.summary) for s in specs]
        print(table(("operation", "words", "what it is"), rows))
    return {"ops": [{"name": s.name, "summary": s.summary, "required": s.required, "defaults": dict(s.defaults)} for s in specs]}
