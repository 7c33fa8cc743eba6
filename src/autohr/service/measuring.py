"""Program that measures one uploaded file: ``python -m autohr.service.measuring``, a process of its own.

A video decoder reads what strangers wrote, so it runs here, with a ceiling on memory, processor time and files. The
job comes as one line of JSON on stdin. Lines of JSON go out: ``{"done_s", "total_s"}`` some times a second, then one
``{"measured": ...}`` or ``{"refused": ...}``. A process that ends without either has failed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from autohr.errors import AutoHRError, VideoError
from autohr.measure import measure
from autohr.methods import load_method
from autohr.reports.measurement import render_measurement_page
from autohr.reports.readings import readings_csv
from autohr.types import Measurement
from autohr.video.decode import open_video

PROGRESS_EVERY_S = 0.2


@dataclasses.dataclass(frozen=True)
class Job:
    """File to measure, method, and limits."""

    path: str
    name: str
    """Name that the client gives the file: shown, never opened."""
    method: str | None
    weights: str | None
    device: str
    max_video_s: float
    max_cpu_s: float
    max_memory_bytes: int


def main() -> None:
    """Measure the job on stdin."""
    # Whatever a library prints goes to stderr; stdout is for our lines alone.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = Job(**json.loads(sys.stdin.readline()))
    limit_process(job)
    try:
        files, summary = measure_upload(job, out)
    except AutoHRError as error:
        _send(out, {"refused": str(error).replace(repr(job.path), repr(job.name)).replace(job.path, job.name)})
    except Exception as failure:
        # Libraries that get no memory raise what they like: an ImportError where a library cannot be mapped.
        if not isinstance(failure, MemoryError) and not has_filled(job.max_memory_bytes):
            raise
        gib = job.max_memory_bytes / 2**30
        _send(out, {"refused": f"Measuring {job.name!r} takes more memory than the {gib:.1f} GiB that it may use."})
    else:
        _send(out, {"measured": {"files": files, "summary": summary}})


def limit_process(job: Job) -> None:
    """Limit what this process may use. Limits that the system does not have (on Windows all) are left out."""
    with_gpu = job.device != "cpu"
    try:
        import resource
    except ModuleNotFoundError:
        return
    ceilings = {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": int(job.max_cpu_s),
        # No file is written but matplotlib's list of fonts.
        "RLIMIT_FSIZE": 16 * 2**20,
        "RLIMIT_AS": None if with_gpu else job.max_memory_bytes,
    }
    for name, ceiling in ceilings.items():
        if ceiling is None or not hasattr(resource, name):
            continue
        try:
            resource.setrlimit(getattr(resource, name), (ceiling, ceiling))
        except (ValueError, OSError):
            # Lower already, or a system (macOS) that refuses to bound the address space.
            continue
    # Cameras that are measured live go first.
    os.nice(5)


def has_filled(n_bytes: int) -> bool:
    """Return True if this process once mapped nearly this much address space; False on systems other than Linux."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmPeak:")), "0")
    return int(peak) * 1024 > 0.95 * n_bytes


def measure_upload(job: Job, out: TextIO) -> tuple[dict[str, str], dict[str, Any]]:
    """Measure the file; return the files of the result and its summary.

    Raises
    ------
    AutoHRError
        As ``measure``; the video may also be too long.
    """
    # Opened once before the method is loaded, so that a file that is no video is refused at once.
    with open_video(job.path) as video:
        _check_length(job, video.duration_s or 0.0)
        _send(out, {"done_s": 0.0, "total_s": video.duration_s})
    method = load_method(job.method, job.weights, job.device)
    last_s = time.monotonic()

    def progress(done_s: float, total_s: float | None) -> None:
        nonlocal last_s
        _check_length(job, done_s)
        if time.monotonic() - last_s >= PROGRESS_EVERY_S:
            last_s = time.monotonic()
            _send(out, {"done_s": done_s, "total_s": total_s})

    measured = measure(job.path, method, progress=progress)
    result = dataclasses.replace(
        measured, path=job.name, notes=tuple(note.replace(job.path, job.name) for note in measured.notes)
    )
    return measurement_files(result), summary_of(result)


def measurement_files(result: Measurement, command: str | None = None) -> dict[str, str]:
    """Return the files of a measurement by name (``results.MEDIA_TYPES``); ``command`` as the page names it."""
    return {
        "report.html": render_measurement_page([result], made_at=time.strftime("%Y-%m-%d %H:%M"), command=command),
        "measurement.json": json.dumps(result.as_dict(), indent=1, allow_nan=False) + "\n",
        "readings.csv": readings_csv([result]),
    }


def summary_of(result: Measurement) -> dict[str, Any]:
    """Return the rate of ``Measurement.face`` with its confidence, and the rates of the other faces."""
    face = result.face
    return {
        "hr_bpm": face.hr_bpm,
        "confidence": face.confidence,
        "reliable": face.reliable,
        "why": face.why_unreliable,
        "duration_s": result.duration_s,
        "method": result.method,
        "others": [
            {"hr_bpm": other.hr_bpm, "reliable": other.reliable, "start_s": other.start_s, "end_s": other.end_s}
            for other in result.faces
            if other is not face
        ],
    }


def _check_length(job: Job, seconds: float) -> None:
    if seconds > job.max_video_s:
        raise VideoError(
            f"{job.name!r} is longer than the {job.max_video_s / 60:g} minutes that this page takes. "
            "Cut it, or measure it with: autohr measure FILE"
        )


def _send(out: TextIO, line: dict[str, Any]) -> None:
    out.write(json.dumps(line, allow_nan=False) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
