"""The inside of a reader process: limits first, then one item after another. See `pool.py`."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import struct
import sys
import threading
from typing import Any, BinaryIO

from medgraft.errors import BadImage, MedgraftError

_SPARE_SECONDS = 10


def serve(memory_bytes: int, timeout_s: float) -> None:
    """Answer every item on stdin until it closes. Results go to stdout; prints go to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a decoder that prints must not write into the answers
    _limit(memory_bytes)
    try:
        work = pickle.loads(_take(source) or b"")  # noqa: S301 - written by our own parent
        import medgraft.files.pixels
        import medgraft.files.read  # noqa: F401
    except BaseException as error:
        _answer(answers, f"{type(error).__name__}: {error}")
        os._exit(1)
    _answer(answers, "ready")
    inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(source, inbox), daemon=True).start()
    while (data := inbox.get()) is not None:
        ref = pickle.loads(data)  # noqa: S301 - written by our own parent
        # When the parent is gone nobody stops a hung decoder: the alarm's default action ends this process.
        if hasattr(signal, "alarm"):
            signal.alarm(int(timeout_s) + _SPARE_SECONDS)
        result = _do(work, ref)
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        try:
            _answer(answers, result)
        except OSError:
            break
    os._exit(0)  # at once: the listening thread may hold stdin, which an orderly shutdown would trip over


def _limit(memory_bytes: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        wanted = memory_bytes if most == resource.RLIM_INFINITY else min(memory_bytes, most)
        resource.setrlimit(resource.RLIMIT_AS, (wanted, most))


def _do(work: Any, ref: Any) -> Any:
    try:
        return work(ref)
    except BadImage as error:
        return error
    except MedgraftError as error:
        return BadImage(error.what, where=error.where or ref, do=error.do)
    except MemoryError:
        return BadImage("decoding it needs more memory than a reader process may take", where=ref)
    except BaseException as error:  # nothing but the parent ends this process
        said = " ".join(str(error).split())[:300]
        return BadImage(f"reading it failed ({type(error).__name__}: {said})", where=ref)


def _listen(source: BinaryIO, inbox: queue.SimpleQueue[bytes | None]) -> None:
    """Empty the pipe all the time, so that the parent never waits to hand over an item."""
    while True:
        data = _take(source)
        inbox.put(data)
        if data is None:
            return


def _take(source: BinaryIO) -> bytes | None:
    head = source.read(8)
    if len(head) < 8:
        return None
    (count,) = struct.unpack("<Q", head)
    data = source.read(count)
    return data if len(data) == count else None


def _answer(answers: Any, result: Any) -> None:
    """Write one answer: sizes, pickle, then the arrays' own bytes."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        body = pickle.dumps(result, protocol=5, buffer_callback=buffers.append)
        views = [buffer.raw() for buffer in buffers]
    except Exception as error:
        views = []
        body = pickle.dumps(BadImage(f"the result cannot be sent ({type(error).__name__}: {error})"), protocol=5)
    head = struct.pack(f"<QQ{len(views)}Q", len(body), len(views), *(view.nbytes for view in views))
    for part in (head + body, *views):
        view = memoryview(part)
        while view.nbytes:
            written = answers.write(view)
            view = view[written:]
