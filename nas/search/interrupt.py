"""Ctrl-C as a wish and not as an exception: nothing is torn in the middle of a write."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def as_ctrl_c() -> Iterator[None]:
    """Within the block a SIGTERM that nobody else waits for raises KeyboardInterrupt, as Ctrl-C does."""
    deaf = threading.current_thread() is not threading.main_thread()
    if deaf or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def on_interrupt(ask: Callable[[], None]) -> Iterator[None]:
    """Within the block the first SIGINT or SIGTERM calls ``ask``; a second one does what it did before.

    A signal that the process was started to ignore (``nohup``, ``&`` in a script) stays ignored, and a thread other than the main
    one, which gets no signals, changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        ask()

    for number, handler in before.items():
        if handler not in (signal.SIG_IGN, None):
            signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
