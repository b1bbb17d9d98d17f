"""The one family of errors. A user's mistake becomes a message, never a traceback.

Every message says where it happened, what was expected, what came instead, and what to write.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class NasError(Exception):
    """Base of every error that `nas` raises on purpose.

    The parts are keyword-only and all but ``message`` optional; ``str(error)`` is the text a user reads. ``where`` is a
    file and line, ``path`` the names that lead to the part of a page.
    """

    def __init__(
        self, message: str, *, where: str | None = None, expected: str | None = None, got: object = None,
        hint: str | None = None, path: str | None = None,
    ) -> None:  # fmt: skip
        self.message, self.where, self.expected, self.got, self.hint, self.path = message, where, expected, got, hint, path
        super().__init__(message, where, expected, got, hint, path)

    def at(self, where: str) -> NasError:
        """The same error, told from a place; a place that is already known is the more exact one and stays."""
        if self.where is None:
            self.where = where
        return self

    def along(self, path: str) -> NasError:
        """The same error, told with a path; one that is already known leads further and stays."""
        if self.path is None:
            self.path = path
        return self

    def __str__(self) -> str:
        parts = [": ".join(filter(None, (self.where, self.path, self.message)))]
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.got is not None:
            parts.append(f"got {self.got!r}" if isinstance(self.got, str) else f"got {self.got}")
        text = "; ".join(parts)
        return f"{text}. {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.message, self.where, self.expected, self.got, self.hint, self.path)


def _restore(kind: type[NasError], message: str, where: str | None, expected: str | None, got: object,
             hint: str | None, path: str | None) -> NasError:  # fmt: skip
    return kind(message, where=where, expected=expected, got=got, hint=hint, path=path)


class UsageError(NasError):
    """A command line or a configuration that cannot be understood."""


class SpaceError(NasError):
    """A page, a search space or an architecture that says something impossible."""


class ShapeError(SpaceError):
    """A wiring whose tensor shapes do not fit."""


class DataError(NasError):
    """A data set that cannot be found, read or used."""


class TrainError(NasError):
    """A training that cannot go on (diverged, or impossible settings)."""


class CheckpointError(TrainError):
    """A checkpoint that a training cannot go on from; without it the training starts over."""


class MeasureError(NasError):
    """A measurement that is refused, or that this machine cannot take."""


class UnsupportedError(MeasureError):
    """A network that an engine cannot take, or a device cannot run: another attempt would not help."""


class RunError(NasError):
    """A run's folder or study that cannot be opened, written or continued."""


class ExportError(NasError):
    """A network that cannot be exported as asked."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """``Did you mean ...?`` for a misspelt word, or None when nothing known is close."""
    names = list(known)
    close = get_close_matches(word, names, n=1, cutoff=0.5) or [n for n in names if n.startswith(word)][:1]
    return f"Did you mean {close[0]!r}?" if close else None
