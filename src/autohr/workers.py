"""Work shared out to processes of this machine: a pool that ends at the first death, and one that outlives it.

Workers are spawned, not forked: a fork copies locks that other threads (torch's) may hold, and waits for them for ever.
Each uses one thread, and ends when its parent is killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import Any, Generic, TypeVar

from autohr.errors import AutoHRError, WorkerDied

Job = TypeVar("Job")
Result = TypeVar("Result")
Report = Callable[[Any], None]
"""Function by which a worker tells its parent how far its job is."""

GRACE_S = 5.0
"""Time in which an idle worker must end when it is told to, before it is killed. Chosen by us: it takes 0.1 s."""


def in_workers(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Result]]:
    """Yield (job, work(job)) for each of ``jobs``, in the order in which they end, from up to ``workers`` processes.

    One worker or one job is run in this process. ``work``, jobs and results must pickle. An exception of ``work`` is
    raised here, and ends the others.

    Raises
    ------
    AutoHRError
        A worker was killed.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        for job in jobs:
            yield job, work(job)
        return
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker)
    try:
        tasks = {pool.submit(work, job): job for job in jobs}
        for task in as_completed(tasks):
            yield tasks[task], task.result()
    except BrokenProcessPool:
        raise AutoHRError(
            f"One of {workers} worker processes was killed, perhaps for want of memory. "
            "Run again, with fewer workers; what was finished is kept."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def side_by_side(
    work: Callable[[Job, Report], Result],
    jobs: Sequence[Job],
    workers: int,
    *,
    on_report: Callable[[int, Any], None] | None = None,
    on_death: Callable[[int, WorkerDied], None] | None = None,
) -> Generator[tuple[int, Result | WorkerDied], None, None]:
    """Yield (index of the job, its result) in the order in which jobs end; the death of a worker costs no other job.

    A job whose worker died is tried once more, while no other runs: it may then have the memory that it lacked. If its
    worker dies again, the death is its result. At most ``workers`` results are in memory. Close the iterator to stop:
    workers at a job are then killed.

    Parameters
    ----------
    work
        Called in a worker as ``work(job, report)``. It is sent to each worker once, so what it keeps (a network that
        was loaded) is there for the next job. It must pickle, as jobs, reports and results must. It should raise
        nothing: an exception ends its worker.
    workers
        Number of processes, 1 or more; no more than there are jobs, or than the system gives, are started.
    on_report
        Called with the index of a job and what its worker reported.
    on_death
        Called with the index of a job that will be tried once more, and how its worker died.

    Examples
    --------
    >>> def double(job: int, report: Report) -> int:
    ...     return 2 * job
    >>> sorted(side_by_side(double, [1, 2, 3], 2))  # doctest: +SKIP
    [(0, 2), (1, 4), (2, 6)]
    """
    waiting, again = deque(range(len(jobs))), deque[int]()
    has_died: set[int] = set()
    pool: list[_Worker[Job, Result]] = []

    def hand_out() -> None:
        """Give a job to every worker that may have one, and start those that are missing."""
        nonlocal workers
        while True:
            running = {worker.number for worker in pool if worker.number is not None}
            if again and not running:
                number = again.popleft()
            elif waiting and not again and len(running) < workers and not running & has_died:
                number = waiting.popleft()
            else:
                return
            # The system may have killed one that had nothing to do.
            pool[:] = [worker for worker in pool if worker.is_alive()]
            idle = next((worker for worker in pool if worker.number is None), None)
            if idle is None:
                try:
                    idle = _Worker(work)
                except OSError:
                    if not pool:
                        raise
                    # No more processes or open files are to be had: those that are there do the work.
                    workers = len(pool)
                    waiting.appendleft(number)
                    return
                pool.append(idle)
            idle.begin(number, jobs[number])

    try:
        hand_out()
        while busy := {worker.connection: worker for worker in pool if worker.number is not None}:
            # Not for ever: on Windows, Ctrl-C does not end a wait.
            for connection in multiprocessing.connection.wait(list(busy), timeout=0.5):
                worker = busy[connection]  # type: ignore[index]
                number = worker.number
                assert number is not None
                try:
                    kind, content = worker.connection.recv()
                except (EOFError, OSError):
                    death = worker.bury()
                    pool.remove(worker)
                    is_last = number in has_died
                    if is_last:
                        has_died.remove(number)
                    else:
                        has_died.add(number)
                        again.append(number)
                    hand_out()
                    if is_last:
                        yield number, death
                    elif on_death is not None:
                        on_death(number, death)
                    continue
                if kind == "report":
                    if on_report is not None:
                        on_report(number, content)
                    continue
                worker.number = None
                has_died.discard(number)
                hand_out()
                yield number, content
    finally:
        for worker in pool:
            worker.end()
        for worker in pool:
            worker.wait()


class _Worker(Generic[Job, Result]):
    """A process that does one job at a time, and the pipe to it."""

    def __init__(self, work: Callable[[Job, Report], Result]) -> None:
        self.number: int | None = None
        """Index of the job that it is at, None where it has none."""
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _terminal_signals_blocked():
            self._process.start()
        # The worker's end of the pipe is then open in the worker alone, so that its death closes it.
        theirs.close()
        self._send(work)

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def begin(self, number: int, job: Job) -> None:
        self.number = number
        self._send(job)

    def _send(self, content: object) -> None:
        # A worker that is dead shows when it is read from.
        with contextlib.suppress(OSError):
            self.connection.send(content)

    def bury(self) -> WorkerDied:
        """Return the death of a worker whose end of the pipe is closed."""
        self.connection.close()
        self.wait()
        code = self._process.exitcode or 0
        if code >= 0:
            return WorkerDied(f"its worker process ended with exit code {code}")
        try:
            name = f" ({signal.Signals(-code).name})"
        except ValueError:
            name = ""
        return WorkerDied(f"its worker process was killed by signal {-code}{name}")

    def end(self) -> None:
        """Kill a worker that is at a job; tell one that is idle to end."""
        if self.number is not None:
            self._process.kill()
        self.connection.close()

    def wait(self) -> None:
        """Wait for the end of the process, and kill it where that takes too long."""
        self._process.join(GRACE_S)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()


_TERMINAL_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]
"""Signals that a terminal sends to every process of a command; the parent alone decides what they end."""


@contextlib.contextmanager
def _terminal_signals_blocked() -> Iterator[None]:
    """Start a process in which Ctrl-C is blocked from its first moment; here it comes after the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Otherwise started with the first process, which unblocks SIGINT here.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINAL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: multiprocessing.connection.Connection) -> None:
    """Do the jobs that come through a pipe, until its other end is closed."""
    for number in _TERMINAL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # Before the work is read, which imports the libraries that these limits are for.
    _begin_worker()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        work = connection.recv()
        while True:
            job = connection.recv()
            connection.send(("answer", work(job, lambda content: connection.send(("report", content)))))


def _begin_worker() -> None:
    """Limit libraries to one thread in a worker, and end the worker when its parent is killed."""
    # The variables are for libraries that are imported later, the call for an OpenCV that is there already.
    os.environ["OPENCV_FOR_THREADS_NUM"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(parent_sentinel: int) -> None:
    multiprocessing.connection.wait([parent_sentinel])
    os._exit(1)
