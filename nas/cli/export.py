"""``nas export``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nas.cli.arguments import Arguments
from nas.errors import NasError, RunError
from nas.export import Exported, export_folder
from nas.export.folder import parse_formats
from nas.export.origin import page_head, trial_head
from nas.net.lower import lower
from nas.search.archive import Archive, open_archive
from nas.search.run import RunFolder
from nas.search.study import Record
from nas.space.library import load_architecture
from nas.space.search_space import Architecture


def run(arguments: Arguments) -> dict[str, Any]:
    """Export a trial of a run, its whole front, or a page."""
    what, out = arguments.words[0], arguments.get("out")
    formats = parse_formats(arguments.get("formats"))
    try:
        RunFolder.find(what)
    except NasError:
        document = _export_page(what, out, formats)
    else:
        with open_archive(what) as archive:
            document = _export_run(archive, arguments.get("trial") or "best", out, formats)
    if not arguments.json:
        print("\n".join(map(_text, document["networks"])))
    return document


def _export_page(what: str, out: str | None, formats: tuple[str, ...]) -> dict[str, Any]:
    architecture = load_architecture(what)
    graph = lower(architecture)
    metrics = {"num_params": graph.num_params, "macs": graph.macs}
    head = page_head(architecture.spec, graph)
    folder = Path(out or Path("export", re.sub(r"\W+", "_", architecture.name)))
    exported = export_folder(architecture.spec, folder, head=head, metrics=metrics, formats=formats)
    return {"networks": [_document(exported, "none", metrics)]}


def _export_run(archive: Archive, trial: str, out: str | None, formats: tuple[str, ...]) -> dict[str, Any]:
    name = archive.folder.path.name
    if trial != "all-front":
        record = archive.pick(trial)
        return {"networks": [_export_trial(archive, record, Path(out or f"export/{name}-{record.number}"), formats)]}
    records = archive.front()
    if not records:
        raise RunError("no trial of this run is completed and within its limits", where=str(archive.folder.path))
    folder = Path(out or f"export/{name}-front")
    return {"networks": [_export_trial(archive, record, folder / f"trial-{record.number}", formats) for record in records]}


def _export_trial(archive: Archive, record: Record, folder: Path, formats: tuple[str, ...]) -> dict[str, Any]:
    from nas.search.front import at_size

    name = f"{archive.folder.path.name}-{record.number}"
    spec = at_size(archive.study.space.architecture(record.decisions), archive.deploy, name)
    graph = lower(Architecture(spec))
    weights = archive.folder.weights / f"{record.number}.pt"
    trained = archive.deploy == archive.proxy and weights.exists()
    config, attrs = archive.config, record.attrs
    said = "proxy-trained" if trained else "none"
    words = {word: getattr(config, word) for word in ("space", "data", "budget", "seed", "strategy")}
    metrics = {
        "trial": record.number, **words, "trial_seed": record.seed, **record.metrics, "num_params": graph.num_params,
        "macs": graph.macs, "weights": said, "latency_conditions": attrs.get("latency"),
    }  # fmt: skip
    head = trial_head(
        spec, graph, config=words, run=str(archive.folder.path), trial=record.number, seed=record.seed, metrics=record.metrics,
        latency=attrs.get("latency"), epochs=attrs.get("epochs"), trained=trained,
    )  # fmt: skip
    exported = export_folder(spec, folder, head=head, metrics=metrics, weights=weights if trained else None, formats=formats)
    return _document(exported, said, metrics)


def _document(exported: Exported, weights: str, metrics: dict[str, Any]) -> dict[str, Any]:
    files, checks = list(map(str, exported.files)), dict(exported.checks)
    return {**metrics, "out": str(exported.folder), "files": files, "weights": weights, "checks": checks}


def _text(document: dict[str, Any]) -> str:
    said = {
        "none": "without weights: the network at this size has not been trained",
        "proxy-trained": "weights are proxy-trained: from the search's short training",
    }[document["weights"]]
    pretrained = 'pretrained="weights.pt"' if document["weights"] != "none" else ""
    return "\n".join([
        f"{document['out']}: {', '.join(Path(f).name for f in document['files'])} ({said})",
        *(f"  {name}: {result}" for name, result in document["checks"].items()),
        f"  use it: from network import build; network = build({pretrained})",
        f"  prove it: python {document['out']}/test_network.py",
    ])  # fmt: skip
