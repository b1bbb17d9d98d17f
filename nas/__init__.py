"""Neural architecture search on PyTorch: declarative spaces, measured latency, standalone networks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import nas.search.samplers as samplers
    from nas.net.build import build
    from nas.net.graph import Size
    from nas.net.lower import lower
    from nas.ops.plugins import load_plugins, op
    from nas.search.vary import crossover, mutate, neighbors
    from nas.space.library import load_architecture, load_space
    from nas.space.search_space import Architecture, SearchSpace

__all__ = [
    "Architecture", "SearchSpace", "Size", "build", "crossover", "load_architecture", "load_plugins", "load_space", "lower",
    "mutate", "neighbors", "op", "samplers",
]  # fmt: skip

_HOMES = {
    "Architecture": "nas.space.search_space", "SearchSpace": "nas.space.search_space", "Size": "nas.net.graph",
    "build": "nas.net.build", "lower": "nas.net.lower", "load_architecture": "nas.space.library",
    "load_space": "nas.space.library", "load_plugins": "nas.ops.plugins", "op": "nas.ops.plugins",
    "crossover": "nas.search.vary", "mutate": "nas.search.vary", "neighbors": "nas.search.vary",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: importing ``nas`` costs nothing."""
    if name == "samplers":
        return import_module("nas.search.samplers")
    if name not in _HOMES:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
