"""``nas resume``."""

from __future__ import annotations

from typing import Any

from nas.cli.arguments import Arguments
from nas.cli.search import outputs, report
from nas.search.config import whole_number
from nas.search.run import RunFolder


def run(arguments: Arguments) -> dict[str, Any]:
    """Go on with a run and print its front."""
    folder = RunFolder.find(arguments.words[0])
    workers = whole_number("workers", arguments.get("workers"))
    from nas.report.loggers import open_loggers
    from nas.search.start import resume

    say, view = outputs(arguments.json)
    callbacks = open_loggers(str(folder.read_config().get("log") or ""))
    result = resume(folder, budget=arguments.get("budget"), workers=workers, say=say, view=view, callbacks=callbacks)
    return report(result, arguments.json, say)
