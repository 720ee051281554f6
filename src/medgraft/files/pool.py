"""Work on many images in worker processes that may die.

A worker is a fresh Python that knows nothing of torch or of the caller's
`__main__`. It gets a few items ahead through a pipe, so it never waits, and
sends arrays back as raw buffers. When it is killed, aborts or takes too long,
only the item in its hands is lost, and comes back as a `BadImage` that names
the cause.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from medgraft.errors import BadImage

MEMORY_BYTES = 8 << 30
_AHEAD = 4
_LENGTH = struct.Struct("<QQ")
_START_SECONDS = 60.0
_TRIES = 3


class _Died(Exception):
    """A worker ended or hung; the text says how."""


def read_many(
    refs: Iterable[Any],
    work: Callable[[Any], Any],
    *,
    workers: int,
    timeout_s: float = 60.0,
    memory_bytes: int = MEMORY_BYTES,
    prefetch: int | None = None,
) -> Iterator[tuple[int, Any]]:
    """Do `work(ref)` for every ref in worker processes; get (position, result) in the order of `refs`.

    Args:
        refs: what to read; drawn from as results are taken, so it may be endless.
        work: a function of a module (or `functools.partial` of one); its result must pickle. Arrays travel as buffers.
        workers: how many processes; 0 still means one, for reading never happens in the caller.
        timeout_s: longest time for one item.
        memory_bytes: limit of a worker's address space.
        prefetch: how many results may lie ready; default 8 a worker.

    Yields:
        (position, what `work` returned), or (position, `BadImage`) for an item that failed, crashed its
        worker or took too long.

    Example:
        >>> from functools import partial
        >>> from medgraft.files import read_many, read_pixels
        >>> work = partial(read_pixels, size=(64, 64), channels=1)
        >>> [(n, type(result).__name__) for n, result in read_many(["no.png"], work, workers=1)]
        [(0, 'BadImage')]
    """
    count = max(1, workers)
    crew = _Crew(work, count, timeout_s, memory_bytes)
    ahead = prefetch if prefetch is not None else 8 * count
    ahead = max(ahead, count * _AHEAD)
    source = iter(refs)
    sent = taken = 0
    exhausted = False
    try:
        while True:
            while not exhausted and sent - taken < ahead:
                try:
                    ref = next(source)
                except StopIteration:
                    exhausted = True
                    break
                crew.tasks.put((sent, ref))
                sent += 1
            if taken == sent:
                return
            yield taken, crew.take(taken)
            taken += 1
    finally:
        crew.close()


class _Crew:
    """Threads that each mind one worker process."""

    def __init__(self, work: Callable[[Any], Any], count: int, timeout_s: float, memory_bytes: int) -> None:
        self.tasks: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        self._results: dict[int, Any] = {}
        self._ready = threading.Condition()
        self._closed = False
        self._broken: BaseException | None = None
        self._setup = pickle.dumps((list(sys.path), memory_bytes, timeout_s))
        self._work = pickle.dumps(work)
        self._timeout_s = timeout_s
        self._workers: list[_Worker] = []
        self._threads = [threading.Thread(target=self._mind, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def take(self, position: int) -> Any:
        """Wait for one result."""
        with self._ready:
            while position not in self._results:
                if self._broken is not None:
                    raise self._broken
                self._ready.wait(1.0)
            return self._results.pop(position)

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        self._closed = True
        for _ in self._threads:
            self.tasks.put(None)
        for worker in list(self._workers):
            worker.kill()
        for thread in self._threads:
            thread.join(5.0)

    def _put(self, position: int, result: Any) -> None:
        with self._ready:
            self._results[position] = result
            self._ready.notify_all()

    def _mind(self) -> None:
        """Feed one worker and replace it when it dies."""
        waiting: deque[tuple[int, Any]] = deque()
        try:
            while not self._closed:
                worker = self._hire()
                if not self._run(worker, waiting):
                    return
        except BaseException as error:
            with self._ready:
                self._broken = error
                self._ready.notify_all()

    def _hire(self) -> _Worker:
        for attempt in range(_TRIES):
            worker = _Worker(self._setup, self._work)
            self._workers.append(worker)
            try:
                worker.wait_ready()
                return worker
            except _Died as error:
                worker.kill()
                self._workers.remove(worker)
                if self._closed or attempt == _TRIES - 1:
                    raise RuntimeError(f"a reader process could not be started: {error}") from error
        raise AssertionError("not reached")

    def _run(self, worker: _Worker, waiting: deque[tuple[int, Any]]) -> bool:
        """Serve until there is nothing left (False) or the worker died (True)."""
        flying: deque[tuple[int, Any]] = deque()
        try:
            while True:
                if not self._fill(worker, waiting, flying):
                    return False
                answer = worker.receive(self._timeout_s)
                position, _ = flying.popleft()
                self._put(position, answer)
        except _Died as error:
            if self._closed:
                return False
            if flying:
                position, ref = flying.popleft()
                self._put(position, BadImage(str(error), where=str(ref)))
            waiting.extendleft(reversed(flying))
            return True
        finally:
            worker.kill()
            with contextlib.suppress(ValueError):
                self._workers.remove(worker)

    def _fill(self, worker: _Worker, waiting: deque[tuple[int, Any]], flying: deque[tuple[int, Any]]) -> bool:
        """Hand out items until the worker has enough ahead; False when all is done."""
        while len(flying) < _AHEAD:
            if waiting:
                task: tuple[int, Any] | None = waiting.popleft()
            elif flying:
                try:
                    task = self.tasks.get_nowait()
                except queue.Empty:
                    return True
                if task is None:
                    self.tasks.put(None)
                    return True
            else:
                task = self.tasks.get()
            if task is None:
                return False
            try:
                worker.send(task[1])
            except _Died:
                waiting.appendleft(task)  # it never got there; what did is answered, or to blame
                if not flying:
                    raise
                return True
            flying.append(task)
        return True


class _Worker:
    """One process and its two pipes."""

    def __init__(self, setup: bytes, work: bytes) -> None:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            process_group=0,  # Ctrl-C in the terminal is for the caller, who ends us
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._began = time.monotonic()
        with contextlib.suppress(OSError):
            _widen(self._out.fileno())
            for part in (setup, work):
                self._in.write(struct.pack("<Q", len(part)) + part)
            self._in.flush()

    def wait_ready(self) -> None:
        """Wait until it has imported what the work needs."""
        answer = self.receive(_START_SECONDS)
        if answer != "ready":
            raise RuntimeError(str(answer))

    def send(self, ref: Any) -> None:
        """Hand over one item."""
        data = pickle.dumps(ref, protocol=5)
        try:
            self._in.write(struct.pack("<Q", len(data)) + data)
            self._in.flush()
        except OSError as error:
            raise _Died(self._cause()) from error

    def receive(self, timeout_s: float) -> Any:
        """Wait for one answer.

        Raises:
            _Died: the worker ended or took too long.
        """
        deadline = time.monotonic() + timeout_s
        sizes, count = _LENGTH.unpack(self._exactly(_LENGTH.size, deadline, timeout_s))
        lengths = struct.unpack(f"<{count}Q", self._exactly(8 * count, deadline, timeout_s))
        body = self._exactly(sizes, deadline, timeout_s)
        buffers = [self._exactly(length, deadline, timeout_s) for length in lengths]
        return pickle.loads(body, buffers=buffers)  # noqa: S301 - written by our own worker

    def _exactly(self, count: int, deadline: float, timeout_s: float) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        place = 0
        handle = self._out.fileno()
        while place < count:
            ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.kill()
                raise _Died(f"decoding took longer than {timeout_s:g} s and was stopped")
            got = os.readv(handle, [view[place:]])
            if not got:
                raise _Died(self._cause())
            place += got
        return data

    def _cause(self) -> str:
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return "the decoder stopped answering"
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            more = ", perhaps for want of memory" if name == "SIGKILL" else ""
            return f"the decoder crashed ({name}{more})"
        return f"the decoder ended (exit code {code})"

    def kill(self) -> None:
        """End it now."""
        with contextlib.suppress(OSError):
            self._process.kill()
        with contextlib.suppress(OSError, ValueError):
            self._in.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        with contextlib.suppress(OSError, ValueError):
            self._out.close()


def _widen(handle: int) -> None:
    """Let a pipe hold 1 MiB, so that a worker can go on while its answer waits."""
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, 1 << 20)


_BOOT = """
import struct, sys, pickle
def take(file):
    head = file.read(8)
    return file.read(struct.unpack("<Q", head)[0]) if len(head) == 8 else None
setup = take(sys.stdin.buffer)
if setup is not None:
    sys.path[:], memory, timeout = pickle.loads(setup)
    from medgraft.files.worker import serve
    serve(memory, timeout)
"""
