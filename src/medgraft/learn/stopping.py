"""A flag that SIGTERM and SIGINT set and that every long loop polls.

The handler only sets the flag: a checkpoint written inside a handler can hang
or store half a step. A second signal ends the process at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from medgraft.errors import Interrupted

_asked: list[int] = []


@contextlib.contextmanager
def watching() -> Iterator[None]:
    """Catch SIGTERM and SIGINT while the block runs; outside the main thread this does nothing."""
    _asked.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()


def _handle(number: int, frame: object) -> None:
    if _asked:
        os._exit(128 + number)
    _asked.append(number)


def asked() -> bool:
    """Say whether someone asked the process to stop."""
    return bool(_asked)


def check() -> None:
    """Stop here when asked.

    Raises:
        Interrupted: a signal came since `watching` began.
    """
    if _asked:
        name = signal.Signals(_asked[0]).name
        raise Interrupted(f"stopped by {name}; what was done is saved", do="Go on with --resume.")
