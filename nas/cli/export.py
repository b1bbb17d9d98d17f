"""``nas export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas.cli.arguments import Arguments
from nas.errors import NasError
from nas.export import export_folder
from nas.net.lower import lower
from nas.search.archive import Archive, open_archive
from nas.search.run import RunFolder
from nas.space.library import load_architecture


def run(arguments: Arguments) -> dict[str, Any]:
    """Export a trial of a run, or a page."""
    what = arguments.words[0]
    out = arguments.get("out")
    try:
        RunFolder.find(what)
    except NasError:
        document = _export_page(what, out)
    else:
        with open_archive(what) as archive:
            document = _export_trial(archive, arguments.get("trial", "best") or "best", out)
    if not arguments.json:
        print(_text(document))
    return document


def _export_page(what: str, out: str | None) -> dict[str, Any]:
    architecture = load_architecture(what)
    graph = lower(architecture)
    metrics = {"num_params": graph.num_params, "macs": graph.macs}
    folder = Path(out or f"export/{architecture.name}")
    files = export_folder(architecture.spec, folder, metrics=metrics)
    return {"out": str(folder), "files": [str(f) for f in files], "weights": "none", **metrics}


def _export_trial(archive: Archive, trial: str, out: str | None) -> dict[str, Any]:
    from nas.search.start import at_size

    record = archive.pick(trial)
    name = f"{archive.folder.path.name}-{record.number}"
    spec = at_size(archive.study.space.architecture(record.decisions), archive.deploy, name)
    weights = archive.folder.weights / f"{record.number}.pt"
    trained = archive.deploy == archive.proxy and weights.exists()
    metrics = {"trial": record.number, "space": archive.config.space, "data": archive.config.data, "seed": record.seed, **record.metrics,
               "latency_conditions": record.attrs.get("latency")}  # fmt: skip
    folder = Path(out or f"export/{name}")
    files = export_folder(spec, folder, metrics=metrics, weights=weights if trained else None)
    return {"out": str(folder), "files": [str(f) for f in files], "weights": "proxy-trained" if trained else "none", **metrics}


def _text(document: dict[str, Any]) -> str:
    said = {
        "none": "without weights: the network at deployed size has not been trained",
        "proxy-trained": "weights from the search's short training",
    }[document["weights"]]
    return "\n".join([
        f"{document['out']}: {', '.join(Path(f).name for f in document['files'])} ({said})",
        f'load it: python -c "import nas; network = nas.load_network({document["out"]!r})"',
    ])  # fmt: skip
