"""Worker processes: their order, their deaths, and their end with the one who started them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from autohr import workers as processes
from autohr.errors import WorkerDied
from autohr.workers import Report, side_by_side

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="kills by signal")]


class Work:
    """Do what a job says, and note in a file when it begins and ends and in which process."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.n_done = 0

    def note(self, words: str) -> None:
        with self.log.open("a") as log:
            log.write(f"{words} {os.getpid()}\n")

    def __call__(self, job: str, report: Report) -> tuple[str, int]:
        self.note(f"begin {job}")
        report(job.upper())
        name, *rest = job.split("-")
        if name == "kill" or (name == "once" and self.log.read_text().count(f"begin {job} ") == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "exit":
            os._exit(3)
        time.sleep(float(rest[0]) if rest else 0)
        self.n_done += 1
        self.note(f"end {job}")
        return job, self.n_done


def test_results_come_as_they_end_from_workers_that_keep_what_they_have(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reports: list[tuple[int, str]] = []
    jobs = ["a-1", "b", "c", "d"]
    ended = list(side_by_side(Work(log), jobs, 2, on_report=lambda *pair: reports.append(pair)))
    assert sorted(number for number, _ in ended) == [0, 1, 2, 3]
    assert sorted(reports) == [(number, job.upper()) for number, job in enumerate(jobs)]
    results = dict(ended)
    assert all(not isinstance(result, WorkerDied) and result[0] == jobs[number] for number, result in results.items())
    pids = {line.split()[-1] for line in log.read_text().splitlines()}
    assert len(pids) == 2 and str(os.getpid()) not in pids
    # The work is sent to a worker once, so that its counter goes on.
    assert max(result[1] for result in results.values() if not isinstance(result, WorkerDied)) >= 2


def test_no_job_and_few_jobs_start_no_idle_worker(tmp_path: Path) -> None:
    assert list(side_by_side(Work(tmp_path / "log"), [], 4)) == []
    assert list(side_by_side(Work(tmp_path / "log"), ["a"], 4)) == [(0, ("a", 1))]


def test_a_death_costs_no_other_job_and_is_tried_again_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    deaths: list[tuple[int, str]] = []
    jobs = ["kill", "b-1", "once", "exit", "e-0.3", "f"]
    ended = dict(side_by_side(Work(log), jobs, 2, on_death=lambda number, death: deaths.append((number, str(death)))))
    killed, exited = (
        "its worker process was killed by signal 9 (SIGKILL)",
        "its worker process ended with exit code 3",
    )
    assert sorted(deaths) == [(0, killed), (2, killed), (3, exited)]
    assert isinstance(ended[0], WorkerDied) and str(ended[0]) == killed
    assert isinstance(ended[3], WorkerDied) and str(ended[3]) == exited
    done = {number: result[0] for number, result in ended.items() if not isinstance(result, WorkerDied)}
    assert done == {1: "b-1", 2: "once", 4: "e-0.3", 5: "f"}

    lines = [line.split()[:2] for line in log.read_text().splitlines()]
    for job in ("kill", "once", "exit"):
        _, second = (at for at, line in enumerate(lines) if line == ["begin", job])
        running = {name for what, name in lines[:second] if what == "begin"} - {
            name for what, name in lines[:second] if what == "end"
        }
        # Those that died have no end.
        assert running <= {"kill", "once", "exit"}, f"{running} beside {job}"


def test_a_worker_that_is_killed_while_idle_is_replaced(tmp_path: Path) -> None:
    log = tmp_path / "log"
    outcomes = side_by_side(Work(log), ["a", "b-1", "once"], 3)
    assert next(outcomes) == (0, ("a", 1))
    # Nothing waits, so the worker of "a" is idle until "once" is tried again, after "b-1".
    (idle,) = (int(line.split()[-1]) for line in log.read_text().splitlines() if line.startswith("end a "))
    os.kill(idle, signal.SIGKILL)
    assert {number: result[0] for number, result in outcomes if not isinstance(result, WorkerDied)} == {
        1: "b-1",
        2: "once",
    }


def test_fewer_workers_do_where_the_system_gives_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, n_started = processes._Worker, 0

    def scarce(work: Work) -> object:
        nonlocal n_started
        n_started += 1
        if n_started > 1:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real(work)

    monkeypatch.setattr(processes, "_Worker", scarce)
    assert [number for number, _ in side_by_side(Work(tmp_path / "log"), ["a", "b", "c"], 3)] == [0, 1, 2]


def test_closing_ends_the_workers_at_once(tmp_path: Path) -> None:
    outcomes = side_by_side(Work(tmp_path / "log"), ["a", "b-600", "c-600"], 2)
    next(outcomes)
    workers = [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]
    assert len(workers) == 2
    outcomes.close()
    assert not psutil.wait_procs(workers, timeout=10)[1]


def test_an_impatient_terminal_reaches_no_worker(tmp_path: Path) -> None:
    """Ctrl-C goes to all processes of a command; the parent alone decides."""
    log = tmp_path / "log"
    outcomes = side_by_side(Work(log), ["a", "b-1"], 2)
    next(outcomes)
    for worker in psutil.Process().children():
        if "spawn_main" in " ".join(worker.cmdline()):
            worker.send_signal(signal.SIGINT)
            worker.send_signal(signal.SIGHUP)
    assert next(outcomes) == (1, ("b-1", 1))
