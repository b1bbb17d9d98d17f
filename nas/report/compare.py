"""Several runs side by side: their fronts, and how fast each came there, in one box."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from nas.errors import UsageError
from nas.report.run.document import BASELINE, SEARCH, command, run_document
from nas.report.run.hypervolume import Scale, growth
from nas.search.archive import Archive


def compare_documents(archives: Sequence[Archive]) -> dict[str, Any]:
    """What ``nas compare --json`` prints. Raises UsageError for runs that were judged by different objectives."""
    objectives = archives[0].objectives
    for archive in archives:
        if archive.objectives != objectives:
            raise UsageError("these runs have different objectives", expected=",".join(map(str, objectives)),
                             got=f"{','.join(map(str, archive.objectives))} in {archive.folder.path}")  # fmt: skip
    scale = Scale(list(chain.from_iterable(archive.within(()) for archive in archives)), objectives)
    rows = [_row(archive, scale) for archive in archives]
    equal = min((row["growth"]["end_s"] for row in rows if row["growth"]["share"]), default=0.0)
    for row in rows:
        curve = row["growth"]
        row["at_equal"] = max((v for s, v in zip(curve["spent_s"], curve["share"], strict=True) if s <= equal), default=None)
    return {"runs": rows, "objectives": [o.name for o in objectives], "equal_s": equal, "reference": scale.reference(),
            "notes": _notes(rows)}  # fmt: skip


def _row(archive: Archive, scale: Scale) -> dict[str, Any]:
    document = run_document(archive)
    front = [t for t in document["trials"] if t["front"]]
    best = max(front, key=lambda t: t["metrics"].get("accuracy") or 0.0, default=None)
    head, environment = document["run"], document["environment"]
    phase = SEARCH if any(t["phase"] == SEARCH for t in document["trials"]) else BASELINE
    return {
        **{key: head[key] for key in ("name", "path", "space", "data", "strategy", "seed", "budget")},
        "command": command(archive.config), "completed": document["counts"]["completed"], "best": best, "front": front,
        "growth": growth(archive, scale, phase), "images": document["images"]["validation"],
        "hardware": ", ".join(map(str, [environment.get("cpu"), *(environment.get("gpus") or ())])),
        "epochs": archive.config.epochs, "proxy": head["proxy"],
    }  # fmt: skip


def _notes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What of these runs does not compare."""
    said = {
        "data": "accuracies do not compare", "hardware": "latencies and device seconds do not compare",
        "epochs": "accuracies do not compare", "proxy": "the networks that were trained are of different sizes",
    }  # fmt: skip
    return [f"{key} differs: {words}" for key, words in said.items() if len({str(row[key]) for row in rows}) > 1]
