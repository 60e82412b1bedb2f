"""So many answers at once, so many that wait, and no more.

Workers are threads: ONNX Runtime's kernels run outside Python's lock, and one set of models does
for all. A runtime whose models one thread alone may run is opened once for each worker.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Self, TypeVar

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Form
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes import Runtime
from classkinfy_export.runtimes.session import Session

T = TypeVar("T")

_MEMORY = 0.1
"""Weight of the latest answer in the mean time of one."""


class Busy(Exception):  # noqa: N818  (no error: the answer is to come back later)
    """There is no place, or no answer came in time."""

    def __init__(self, reason: str, retry_after_s: int) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Pool:
    """Sessions of one bundle, and the threads that run them.

    Args:
        sessions: one for each worker; the same one where it runs in several threads.
        waiting: how many requests may wait for a worker.
        timeout_s: from when a request has come until its answer is there.
    """

    def __init__(self, sessions: Sequence[Session], waiting: int, timeout_s: float) -> None:
        self.places = len(sessions) + waiting
        self.inside = 0
        self.timeout_s = timeout_s
        self._workers = len(sessions)
        self._threads = ThreadPoolExecutor(len(sessions), thread_name_prefix="answer")
        self._free: SimpleQueue[Session] = SimpleQueue()
        for session in sessions:
            self._free.put(session)
        self._mean_s = 0.0

    def place(self) -> Place:
        """Give a request its place, before its body is read.

        Raises:
            Busy: there is none.
        """
        if self.inside >= self.places:
            raise Busy(f"{self.inside} requests are being answered or wait", self.retry_after_s())
        return Place(self)

    def submit(self, work: Callable[[Session], T], answers: int) -> Future[T]:
        """Have a worker run work on a session."""
        return self._threads.submit(self._timed, work, answers)

    def close(self) -> None:
        """Wait for what runs, and end the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _timed(self, work: Callable[[Session], T], answers: int) -> T:
        session = self._free.get()
        start = time.perf_counter()
        try:
            return work(session)
        finally:
            self._free.put(session)
            taken = (time.perf_counter() - start) / answers
            self._mean_s += (taken - self._mean_s) * (_MEMORY if self._mean_s else 1.0)

    def retry_after_s(self) -> int:
        """Return when those that are here now will have been answered."""
        return max(1, math.ceil(self.inside * self._mean_s / self._workers))


class Place:
    """One request's place, held from when it comes until its worker ends."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._pool.inside += 1
        self._working = False
        self._deadline = asyncio.get_running_loop().time() + pool.timeout_s

    async def read(self, body: Awaitable[T]) -> T:
        """Wait for the request's body. Raises Busy when it does not come in time."""
        try:
            async with asyncio.timeout_at(self._deadline):
                return await body
        except TimeoutError:
            raise self._late("the request did not come") from None

    async def run(self, work: Callable[[Session], T], answers: int = 1) -> T:
        """Run work on a session, in a worker.

        Args:
            work: what to do.
            answers: how many it makes.

        Raises:
            Busy: no answer came in time.
        """
        loop = asyncio.get_running_loop()
        future = self._pool.submit(work, answers)
        self._working = True
        # A request that nobody waits for any more still has its worker until it ends.
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._leave))
        try:
            async with asyncio.timeout_at(self._deadline):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise self._late("there is no answer") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._working:
            self._leave()

    def _leave(self) -> None:
        self._pool.inside -= 1

    def _late(self, what: str) -> Busy:
        return Busy(f"{what} within {self._pool.timeout_s:g} s", self._pool.retry_after_s())


def sessions(
    bundle: Bundle, runtime: Runtime, form: Form, precision: Precision, workers: int
) -> list[Session]:
    """Open a bundle for so many workers, every model file now: no request waits for one.

    Raises:
        BundleError: the bundle lacks what is asked.
        MissingDependencyError: the runtime is not installed.
    """
    opened: list[Session] = []
    for _ in range(workers):
        if opened and opened[0].engine.concurrent:
            opened.append(opened[0])
            continue
        session = Session(runtime.open(bundle, precision=precision, threads=1), form)
        for stage in ("pipeline",) if form == "fused" else [s.name for s in bundle.manifest.stages]:
            session.engine.load(stage)
        opened.append(session)
    return opened
