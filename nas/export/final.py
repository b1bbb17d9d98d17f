"""The exported folder of a network that was trained to the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.errors import DataError, ExportError
from nas.export.batch import stored_batch
from nas.export.folder import Exported, export_folder
from nas.export.latency import Measuring
from nas.export.origin import final_head
from nas.net.lower import lower
from nas.search.final import FinalResult
from nas.space.search_space import Architecture
from nas.train.data import Dataset


def export_final(
    result: FinalResult, out: Path, *, data: Dataset, formats: Sequence[str] = ("py",), found: Sequence[str] = (),
    command: str = "", measuring: Measuring | None = None,
) -> Exported:  # fmt: skip
    """Write the best weights of a finished training with their source, page, figures and test; see ``export_folder``.

    ``data`` is what it was trained on: the test takes labelled images of its validation split. ``found`` are lines for the head
    on the search that the network came from, ``command`` what made it. Raises ExportError; DataError for other data.
    """
    if result.metrics is None:
        raise ExportError("the training has not come to its end", where=str(result.folder),
                          hint="The same command goes on with it.")  # fmt: skip
    if data.fingerprint != (known := result.metrics["data"]["fingerprint"]):
        raise DataError("the data is not what this network was trained on", where=data.name, expected=known[:16],
                        got=data.fingerprint[:16])  # fmt: skip
    graph = lower(Architecture(result.spec))
    head = final_head(result.spec, graph, metrics=result.metrics, found=found, command=command)
    metrics = {key: value for key, value in result.metrics.items() if key != "curve"}
    return export_folder(result.spec, out, head=head, metrics=metrics, weights=result.weights, formats=formats,
                         batch=stored_batch(data), measuring=measuring)  # fmt: skip
