"""``nas report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas.cli.arguments import Arguments
from nas.report.page import Pictures, page
from nas.report.run.document import run_document
from nas.report.write import write_text
from nas.search.archive import open_archive


def run(arguments: Arguments) -> dict[str, Any]:
    """Write the page of a run, or serve it while the run goes on."""
    name = arguments.words[0]
    with open_archive(name) as archive:
        document, folder = run_document(archive), archive.folder.path
        if "serve" not in arguments.flags:
            text = page(document, Pictures().of(archive, document))
    if "serve" in arguments.flags:
        from nas.report.serve import serve

        serve(name, arguments.get("port"))
        return document
    out = Path(arguments.get("out") or folder / "report.html")
    write_text(out, text)
    if (front := arguments.get("front")) is not None:
        from nas.report.front import front_figure

        front_figure(document, Path(front))
    if not arguments.json:
        print("\n".join(f"written: {file}" for file in (out, front) if file))
    return document
