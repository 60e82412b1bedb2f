"""Ctrl-C and SIGTERM: one KeyboardInterrupt, wherever the signal lands."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 130
_AGAIN_AFTER_S = 0.05


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into a KeyboardInterrupt that cannot get lost.

    Python drops an exception that is raised in a destructor, and the work would go on: then it is
    raised again a moment later.
    """
    interrupted = False
    hook = sys.unraisablehook

    def interrupt(number: int, stack: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    def unraisable(ignored: sys.UnraisableHookArgs) -> None:
        if issubclass(ignored.exc_type, KeyboardInterrupt) and hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_AFTER_S)
        elif not interrupted:  # what was half-built complains when it is destroyed
            hook(ignored)

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not so under nohup
        numbers.append(signal.SIGINT)
    handlers = {number: signal.signal(number, interrupt) for number in numbers}
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        if interrupted:
            gc.collect()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
