"""Files that a client sends: received within limits, measured by a process of its own, then deleted.

On Linux the file never has a name: it is an unnamed temporary file that the measuring process inherits open, so that
nothing is left even if the server is killed. Elsewhere it lies in the system's folder for temporary files until it is
measured. No name from a client is ever used as a path.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import IO, Any, Literal

from autohr.errors import escape_controls
from autohr.service.config import ServiceConfig
from autohr.service.measuring import Job
from autohr.service.results import MEDIA_TYPES, Result, Results

MAX_NAME_LENGTH = 120
SLOW_AFTER_S = 20.0
"""Time after which an upload that is too slow is ended."""
RETRY_S = 15
"""Value of ``Retry-After`` when all places are taken: a minute of video is measured in half of it or less."""
MAX_ANSWER_BYTES = 64 * 2**20
"""Longest line from the measuring process. The page of half an hour has about 2 MB."""
OUR_FAULT = "autohr itself failed on this file; the server's terminal says more."
MAX_UPLOADS_KEPT = 64
"""Largest number of finished uploads whose state is remembered."""

_UNNAMED = sys.platform == "linux"


class Refused(Exception):
    """Upload that is not accepted: the HTTP status, and the reason."""

    def __init__(self, status: int, reason: str, retry_s: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_s = status, reason, retry_s


@dataclass
class Upload:
    """State of one upload, as ``GET /api/uploads/ID`` returns it."""

    id: str
    name: str
    state: Literal["receiving", "measuring", "measured", "refused"] = "receiving"
    done_s: float = 0.0
    total_s: float | None = None
    reason: str | None = None
    summary: dict[str, Any] | None = None
    result: str | None = None
    """Id of the ``Result``."""
    files: list[str] = dataclasses.field(default_factory=list)
    asked_s: float = dataclasses.field(default_factory=time.monotonic)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that a client may see."""
        fields = dataclasses.asdict(self)
        del fields["asked_s"]
        return fields


class Uploads:
    """All uploads of a server, used from its one event loop."""

    def __init__(self, config: ServiceConfig, results: Results) -> None:
        self._config, self._results = config, results
        self._uploads: dict[str, Upload] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.n_busy = 0
        """Number of files that are received or measured now."""
        self.n_files = 0
        """Number of temporary files there are now."""

    async def receive(self, chunks: AsyncIterator[bytes], name: str, content_length: int | None) -> Upload:
        """Receive a file and begin to measure it.

        Raises
        ------
        Refused
            It is too large, empty, too slow or cut off, no place is free, or the disk is full.
        """
        limit = self._config.max_upload_bytes
        if self.n_busy >= self._config.max_uploads:
            raise Refused(503, f"{self.n_busy} files are being measured already. Try again in {RETRY_S} s.", RETRY_S)
        if content_length is not None and content_length > limit:
            raise Refused(413, _too_large(content_length, limit))
        upload = Upload(secrets.token_urlsafe(16), shown_name(name))
        self.n_busy += 1
        file = None
        try:
            file = tempfile.TemporaryFile() if _UNNAMED else tempfile.NamedTemporaryFile(prefix="autohr-")
            self.n_files += 1
            await self._copy(chunks, file, limit)
        except BaseException as error:
            self._let_go(file)
            if isinstance(error, OSError):
                raise Refused(507, f"The server's disk does not take the file ({error.strerror}).") from None
            raise
        upload.state = "measuring"
        upload.asked_s = time.monotonic()
        self._uploads[upload.id] = upload
        while len(self._uploads) > MAX_UPLOADS_KEPT:
            done = next((key for key in self._uploads if key not in self._tasks), None)
            if done is None:
                break
            del self._uploads[done]
        self._tasks[upload.id] = asyncio.create_task(self._measure(upload, file))
        return upload

    def find(self, key: str) -> Upload | None:
        """Return the upload of an id, None if it is forgotten; note that the page still asks."""
        upload = self._uploads.get(key)
        if upload is not None:
            upload.asked_s = time.monotonic()
        return upload

    async def forget(self, key: str) -> bool:
        """Stop measuring and remove the result; return True if there was such an upload."""
        upload = self._uploads.pop(key, None)
        if upload is None:
            return False
        task = self._tasks.get(key)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if upload.result is not None:
            self._results.forget(upload.result)
        return True

    async def close(self) -> None:
        """Stop all measuring processes."""
        for task in list(self._tasks.values()):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def _copy(self, chunks: AsyncIterator[bytes], file: IO[bytes], limit: int) -> None:
        began_s, n_bytes = time.monotonic(), 0
        iterator = aiter(chunks)
        while True:
            try:
                async with asyncio.timeout(self._config.upload_idle_s):
                    chunk = await anext(iterator, None)
            except TimeoutError:
                raise Refused(
                    408, f"Nothing came for {self._config.upload_idle_s:g} s; the upload was ended."
                ) from None
            if chunk is None:
                break
            n_bytes += len(chunk)
            if n_bytes > limit:
                raise Refused(413, _too_large(None, limit))
            took_s = time.monotonic() - began_s
            if took_s > SLOW_AFTER_S and n_bytes < took_s * self._config.min_upload_bytes_per_s:
                raise Refused(408, f"The upload was ended: {n_bytes / took_s / 1e3:.0f} kB/s are too slow.")
            file.write(chunk)
        if n_bytes == 0:
            raise Refused(422, "The file is empty (0 bytes).")
        file.flush()

    def _let_go(self, file: IO[bytes] | None) -> None:
        self.n_busy -= 1
        if file is not None:
            self.n_files -= 1
            with contextlib.suppress(OSError):
                file.close()

    async def _measure(self, upload: Upload, file: IO[bytes]) -> None:
        """Measure the file; whatever happens, process and file are gone before the end is reported."""
        end: dict[str, Any] = {"refused": "The measurement was stopped."}
        try:
            async with asyncio.timeout(self._config.max_measuring_s):
                end = await self._run(upload, file)
        except TimeoutError:
            end = {"refused": f"Measuring took longer than {self._config.max_measuring_s / 60:g} minutes."}
        except Exception as bug:
            _print_error(f"measuring failed: {type(bug).__name__}: {bug}")
            end = {"refused": OUR_FAULT}
        finally:
            self._let_go(file)
            self._tasks.pop(upload.id, None)
            self._end(upload, end)

    async def _run(self, upload: Upload, file: IO[bytes]) -> dict[str, Any]:
        """Run the process; return its last line, or one in its place."""
        number = file.fileno()
        job = Job(
            path=f"/proc/self/fd/{number}" if _UNNAMED else file.name,
            name=upload.name,
            method=self._config.method,
            weights=self._config.weights,
            device=self._config.device,
            max_video_s=self._config.max_video_s,
            max_cpu_s=self._config.max_measuring_s * (os.cpu_count() or 1),
            max_memory_bytes=self._config.max_memory_bytes,
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "autohr.service.measuring"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(number,) if _UNNAMED else (),
            limit=MAX_ANSWER_BYTES,
            # A Ctrl-C in the terminal is for the server, which then ends this process.
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != "AUTOHR_TOKEN"},
        )
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        last_errors = asyncio.create_task(_read_last(process.stderr))
        try:
            with contextlib.suppress(ConnectionError):
                process.stdin.write(json.dumps(dataclasses.asdict(job)).encode() + b"\n")
                await process.stdin.drain()
                process.stdin.close()
            while line := await process.stdout.readline():
                message: dict[str, Any] = json.loads(line)
                if "done_s" not in message:
                    return message
                upload.done_s, upload.total_s = message["done_s"], message["total_s"]
                if time.monotonic() - upload.asked_s > self._config.poll_s:
                    return {"refused": "The page that sent the file has gone; the measurement was stopped."}
            code = await process.wait()
            _print_error(f"measuring ended with code {code}. {await last_errors}")
            return {"refused": _exit_reason(code, self._config)}
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            last_errors.cancel()

    def _end(self, upload: Upload, end: dict[str, Any]) -> None:
        if "measured" not in end:
            upload.state, upload.reason = "refused", str(end["refused"])
            return
        files = {name: str(text) for name, text in end["measured"]["files"].items() if name in MEDIA_TYPES}
        upload.summary = end["measured"]["summary"]
        upload.files = sorted(files)
        upload.result = self._results.keep(Result(files))
        upload.state = "measured"


def shown_name(name: str) -> str:
    """Return a client's name for a file as it can be shown: no folders, printable, not long."""
    last = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    plain = "".join(letter for letter in last if letter.isprintable()).strip()
    return plain[:MAX_NAME_LENGTH] or "video"


def _too_large(n_bytes: int | None, limit: int) -> str:
    has = "more" if n_bytes is None else f"{n_bytes / 1e6:.1f} MB"
    return (
        f"The file is too large: at most {limit / 1e6:.0f} MB are taken, and it has {has}. "
        "Cut it, or measure it with: autohr measure FILE"
    )


def _print_error(message: str) -> None:
    """Print a message for who runs the server; an uploaded file may have put words into it."""
    print(f"autohr serve: {escape_controls(message, keep_newlines=True)}", file=sys.stderr)


def _exit_reason(code: int, config: ServiceConfig) -> str:
    if code == -getattr(signal, "SIGXCPU", 24):
        return "Measuring this file took more processor time than it may."
    if code in (-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV):
        gib = config.max_memory_bytes / 2**30
        return f"The decoder failed on this file: it is damaged, or needs more memory than {gib:.1f} GiB."
    return OUR_FAULT


async def _read_last(stream: asyncio.StreamReader) -> str:
    """Read a stream to its end, so that its writer never waits; return the last lines."""
    kept: deque[bytes] = deque(maxlen=4)
    while chunk := await stream.read(2048):
        kept.append(chunk)
    return b"".join(kept)[-4096:].decode("utf-8", "replace")
