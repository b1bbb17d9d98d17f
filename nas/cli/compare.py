"""``nas compare``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from nas.cli.arguments import Arguments
from nas.report.compare import compare_documents
from nas.report.page import compare_page
from nas.report.text import count, duration, milliseconds, percent, table
from nas.report.write import write_text
from nas.search.archive import open_archive


def run(arguments: Arguments) -> dict[str, Any]:
    """Compare runs: a table, and a page when ``out`` is given."""
    with ExitStack() as stack:
        document = compare_documents([stack.enter_context(open_archive(name)) for name in arguments.words])
    out = arguments.get("out")
    if out is not None:
        write_text(Path(out), compare_page(document))
    if not arguments.json:
        print(_text(document))
        if out is not None:
            print(f"\nwritten: {out}")
    return document


def _text(document: dict[str, Any]) -> str:
    rows = []
    for run in document["runs"]:
        best = run["best"] or {"metrics": {}, "test_accuracy": None}
        metrics = best["metrics"]
        rows.append((run["name"], run["strategy"], run["budget"], run["completed"], percent(metrics.get("accuracy")),
                     percent(best["test_accuracy"]), milliseconds(metrics.get("latency")), count(metrics.get("num_params")),
                     percent(run["at_equal"])))  # fmt: skip
    heads = ("run", "strategy", "budget", "completed", "best val", "test", "latency", "params",
             f"hypervolume at {duration(document['equal_s'])}")  # fmt: skip
    return "\n".join([table(heads, rows), *(f"note: {note}" for note in document["notes"])])
