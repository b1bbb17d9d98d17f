"""``nas best``."""

from __future__ import annotations

import shlex
from typing import Any

from nas.cli.arguments import Arguments
from nas.report.text import count, milliseconds, percent
from nas.search.archive import open_archive, parse_limits
from nas.search.front import best_of, front_row


def run(arguments: Arguments) -> dict[str, Any]:
    """Answer from the archive, without any new training."""
    name, *words = arguments.words
    with open_archive(name) as archive:
        limits = parse_limits(words, archive)
        record = best_of(archive.within(limits), archive.objectives, archive.checks, (*archive.constraints, *limits))
        best = None if record is None else front_row(record, archive.tested.get(record.number), archive.checks)
        document: dict[str, Any] = {"run": str(archive.folder.path), "limits": list(map(str, limits)), "best": best}
    if not arguments.json:
        print(_text(document))
    return document


def _text(document: dict[str, Any]) -> str:
    best, limits = document["best"], ", ".join(document["limits"]) or "no further limit"
    if best is None:
        return f"no completed network within {limits}"
    return "\n".join([
        f"trial {best['trial']} ({limits}): {percent(best['val_accuracy'])} on validation, {milliseconds(best['latency_ms'])}, "
        f"{count(best['num_params'])} params, {count(best['macs'])} MACs",
        f"export: nas export {shlex.quote(document['run'])} trial={best['trial']}",
    ])  # fmt: skip
