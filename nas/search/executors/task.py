"""The worker's side of a job, the same for every executor: find the task by name, and tell failures apart."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from nas.errors import TrainError, UnsupportedError, UsageError
from nas.search.executors.base import Report, Task, Values

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""Allocators that raise a bare RuntimeError, known by their words (torch 2.13, CPU and CUDA); a measurement tells them on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An exception of a job, told in plain values.

    ``spoilt``: the process cannot be trusted with another job, since a CUDA error stays in the context for ever.
    """

    kind: Literal["error", "diverged", "out_of_memory"]
    reason: str
    detail: str
    spoilt: bool


def check_path(path: str) -> str:
    """``path`` itself when it reads ``package.module:function``; UsageError otherwise."""
    module, colon, name = path.partition(":")
    if not (colon and all(part.isidentifier() for part in (*module.split("."), *name.split(".")))):
        raise UsageError("not the import path of a function", expected="'package.module:function'", got=path)
    return path


def load(path: str) -> Callable[..., Any]:
    """The function that ``package.module:function`` names; raises what its import raises."""
    module, _, name = check_path(path).partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise UsageError("a task has to be a function", where=path, got=type(found).__name__)
    return found  # type: ignore[no-any-return]


def call(task: Task, payload: Values, report: Report) -> Values:
    """The task's result, checked to be a mapping; None counts as an empty one."""
    result = task(payload, report)
    if result is None:
        return {}
    if not isinstance(result, Mapping):
        raise UsageError("a task returns a mapping of plain values", got=type(result).__name__)
    return result


def failure(error: BaseException) -> Failure:
    """What to tell of an exception. Goes by names and words, so that a worker needs no torch to know torch's errors."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return Failure(
        kind=_kind(error, name, text),
        reason=shorten(f"{name}: {text}" if text else name),
        detail="".join(traceback.format_exception(error)),
        spoilt=name == "AcceleratorError" or "CUDA error" in text,
    )


def _kind(error: BaseException, name: str, text: str) -> Literal["error", "diverged", "out_of_memory"]:
    if isinstance(error, MemoryError) or name == "OutOfMemoryError":
        return "out_of_memory"
    if isinstance(error, RuntimeError | UnsupportedError) and any(words in text for words in OUT_OF_MEMORY):
        return "out_of_memory"
    if isinstance(error, TrainError) and "diverge" in text:
        return "diverged"
    return "error"


def shorten(text: str, limit: int = 300) -> str:
    """``text`` cut to at most ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
