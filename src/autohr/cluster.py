"""Work shared out to the machines of a dask.distributed scheduler, as ``workers.side_by_side`` does on this one.

The scheduler is the user's: ``dask scheduler``, dask-jobqueue (Slurm, PBS, LSF), dask-kubernetes. Its workers need this
package and the same folders under the same names.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from autohr.errors import AutoHRError, WorkerDied
from autohr.workers import Report, side_by_side

if TYPE_CHECKING:
    from distributed import Client

Job = TypeVar("Job")
Result = TypeVar("Result")

CONNECT_S = 20.0
"""Longest time in which a scheduler must answer, in seconds. Ours."""
LOST_S = 60.0
"""Longest time without a word of the scheduler before it counts as gone, in seconds. Ours."""


def share_out(
    work: Callable[[Job, Report], Result],
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    cluster: str | None = None,
) -> Generator[tuple[int, Result | WorkerDied], None, None]:
    """Yield (index of the job, its result) in the order in which jobs end. Nothing is done with what jobs report.

    They are done by the workers of ``cluster``, if it is given (``on_cluster``); by ``workers`` processes of this
    machine (``workers.side_by_side``), one for each processor if None; with one, in this process.
    """
    if cluster is not None:
        return on_cluster(work, jobs, cluster)
    count = min(workers if workers is not None else os.cpu_count() or 1, len(jobs))
    if count <= 1:
        return ((number, work(job, lambda content: None)) for number, job in enumerate(jobs))
    return side_by_side(work, jobs, count)


def on_cluster(
    work: Callable[[Job, Report], Result],
    jobs: Sequence[Job],
    address: str,
    *,
    on_death: Callable[[int, WorkerDied], None] | None = None,
) -> Generator[tuple[int, Result | WorkerDied], None, None]:
    """Yield (index of the job, its result) as ``workers.side_by_side`` does, done by the workers of a scheduler.

    A job whose worker died is tried once more when all others are done, by itself; if it dies again, that is its
    result. Reports of how far a job is do not come through.

    Parameters
    ----------
    work
        It must pickle, be small (it is sent with each job), and be importable by the workers. An exception of it is
        raised here, and ends the rest.
    address
        Such as tcp://HOST:8786, or the path of a scheduler file.

    Raises
    ------
    AutoHRError
        ``distributed`` is not installed; the scheduler does not answer, or went away.
    """
    with connected(address) as client:
        from distributed import CancelledError, as_completed
        from distributed.scheduler import KilledWorker

        def submit(number: int) -> Any:
            # Keys are unique, or the scheduler would give the result of an earlier command.
            key = f"autohr-{os.urandom(8).hex()}-{number}"
            return client.submit(_do, work, jobs[number], here, key=key, pure=False, retries=0, priority=-number)

        def outcome_of(future: Any) -> Any:
            try:
                return future.result()
            except KilledWorker as killed:
                worker = getattr(killed, "last_worker", None)
                return WorkerDied(f"its worker {getattr(worker, 'address', '') or 'process'} died")
            except CancelledError:
                raise _gone(address) from None
            finally:
                future.release()

        again, here = deque[int](), str(Path.cwd())
        try:
            number_of = {future.key: (number, future) for number, future in enumerate(map(submit, range(len(jobs))))}
            waiting = as_completed([future for _, future in number_of.values()], loop=client.loop)
            for future in waiting:
                number, _ = number_of.pop(future.key)
                outcome = outcome_of(future)
                if not isinstance(outcome, WorkerDied):
                    yield number, outcome
                    continue
                again.append(number)
                if on_death is not None:
                    on_death(number, outcome)
            while again:
                number = again.popleft()
                yield number, outcome_of(submit(number))
        except (OSError, TimeoutError) as error:
            if client.status == "running" and not isinstance(error, TimeoutError):
                raise
            raise _gone(address) from None


def _do(work: Callable[[Job, Report], Result], job: Job, here: str) -> Result:
    """Do a job in a worker of the cluster, in the folder of the command, for paths may be relative to it."""
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        os.chdir(here)
    except OSError as error:
        raise AutoHRError(
            f"A worker of the cluster cannot enter {here!r} ({error.strerror}). Run the command in a folder that all "
            "machines share."
        ) from None
    return work(job, lambda content: None)


def _gone(address: str) -> AutoHRError:
    return AutoHRError(
        f"The scheduler {address!r} went away. What was finished is kept: start another one and run the same command."
    )


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """Give a client of the scheduler at an address, or of a scheduler file. Errors are those of ``on_cluster``."""
    try:
        import dask
        from distributed import Client
    except ModuleNotFoundError as missing:
        if missing.name not in ("dask", "distributed"):
            raise
        raise AutoHRError("--cluster needs dask.distributed: pip install 'autohr[cluster]'.") from None
    # Its lines on workers that come and go are not for the user of a command.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if "://" in address:
        place: dict[str, Any] = {"address": address}
    elif Path(address).is_file():
        place = {"scheduler_file": address}
    else:
        raise AutoHRError(
            f"--cluster {address!r} is neither an address such as tcp://HOST:8786 nor a scheduler file that is there."
        )
    with dask.config.set({"distributed.comm.timeouts.tcp": f"{LOST_S:g}s", "distributed.comm.retry.count": 2}):
        try:
            client = Client(timeout=CONNECT_S, set_as_default=False, **place)
            # A job that kills its workers would otherwise kill four of them before it is given up.
            client.run_on_scheduler(_give_up_soon)
        except (OSError, TimeoutError, ValueError) as error:
            raise AutoHRError(
                f"No scheduler answers at {address!r} ({type(error).__name__}). Start one with: dask scheduler"
            ) from None
        try:
            yield client
        finally:
            client.close(timeout=CONNECT_S)


def _give_up_soon(dask_scheduler: Any = None) -> None:
    dask_scheduler.allowed_failures = 0
