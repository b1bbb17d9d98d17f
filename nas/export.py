"""A found network as a folder that can be rebuilt: its page at deployed size, its weights, its figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from nas.errors import ExportError
from nas.space.parse import parse_file
from nas.space.search_space import Architecture
from nas.space.spec import Spec
from nas.space.unparse import to_page

if TYPE_CHECKING:
    from torch import nn

PAGE, WEIGHTS, METRICS = "architecture.yaml", "weights.pt", "metrics.json"


def export_folder(spec: Spec, out: Path, *, metrics: Mapping[str, Any], weights: Path | None = None) -> list[Path]:
    """Write ``architecture.yaml``, ``metrics.json`` and, where there are trained ones, ``weights.pt``; the files written.

    Raises ExportError when the folder holds something else or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(p.name not in {PAGE, WEIGHTS, METRICS} for p in out.iterdir())):
        raise ExportError("the folder holds other files", where=str(out), hint="Choose another with out=DIR.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / PAGE).write_text(yaml.safe_dump(to_page(spec), sort_keys=False, width=120), encoding="utf-8")
        (out / METRICS).write_text(json.dumps(dict(metrics), indent=2) + "\n", encoding="utf-8")
        (out / WEIGHTS).unlink(missing_ok=True)
        if weights is not None:
            shutil.copyfile(weights, out / WEIGHTS)
    except OSError as error:
        raise ExportError("the folder cannot be written", where=str(out), got=error.strerror, hint="Choose another with out=DIR.") from None
    return [out / name for name in (PAGE, METRICS, WEIGHTS) if (out / name).exists()]


def load_network(folder: str | Path) -> nn.Module:
    """The network of an exported folder in eval mode, with its weights where the folder has them.

    It maps (N, C, H, W) float images, normalised as in training, to (N, classes) logits. Raises SpaceError or TrainError.
    """
    from nas.net.build import build
    from nas.net.graph import Size
    from nas.net.lower import lower
    from nas.search.evaluator import load_weights

    folder = Path(folder)
    network = build(lower(Architecture(parse_file(folder / PAGE)), Size()))
    if (folder / WEIGHTS).exists():
        load_weights(network, folder / WEIGHTS)
    return network.eval()
