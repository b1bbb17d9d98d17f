"""Graph to one readable file of Python that imports torch alone."""

from nas.net.render.network import Head, render

__all__ = ["Head", "render"]
