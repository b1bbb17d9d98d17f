"""The folder a user walks away with: one file of source, weights, page, figures, and a test that proves them."""

from nas.export.folder import Exported, export_folder

__all__ = ["Exported", "export_folder"]
