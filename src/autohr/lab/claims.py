"""Claims: who works on what, in a folder that several machines share. There is no server, only files.

    HOME/.claims/NAME       made with O_EXCL by whoever begins a job; holds host, pid and a token
                            its time of change is the sign of life: set anew every ``BEAT_S`` while the job lasts

A claim whose owner is dead may be taken over: on the same machine its pid is gone, elsewhere there was no sign of life
for ``STALE_S``, both by the clock of the file system. Claims save work, they do not protect results: two owners at a
time (one was paused for minutes) do the same job twice, with the same bytes, and each result is moved into place
whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autohr.errors import AutoHRError
from autohr.files import host_name, parse_json, read_limited_text

BEAT_S = 10.0
"""Time between two signs of life, in seconds. Ours: one change of a file's time costs about a millisecond on NFS."""
STALE_S = 120.0
"""Time without a sign of life after which an owner on another machine counts as dead. Ours: NFS may show a change of
time up to a minute late (acregmax)."""
FOLDER = ".claims"
MAX_BYTES = 2**12
"""Largest claim that is read, in bytes. Ours: one has about 100."""


@dataclass(frozen=True)
class Owner:
    """The process that holds a claim."""

    host: str
    pid: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextlib.contextmanager
def claimed(home: Path, name: str) -> Iterator[Owner | None]:
    """Hold the claim ``name`` of a folder and yield None; or yield the living owner that holds it.

    Raises OSError where the folder cannot be written.
    """
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    token = os.urandom(8).hex()
    content = json.dumps({"host": host_name(), "pid": os.getpid(), "token": token}).encode()
    while not _make(path, content):
        owner = _owner(path, folder)
        if owner is not None:
            yield owner
            return
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, token, done), daemon=True)
    beating.start()
    try:
        yield None
    finally:
        done.set()
        beating.join()
        if _token(path) == token:
            path.unlink(missing_ok=True)


def tidy(home: Path) -> None:
    """Remove the claims of dead owners from a folder, and what killed ones left half-made beside them."""
    folder = home / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            of_process = re.search(r"~(dead-|now-)?(?P<host>[A-Za-z0-9-]+)-(?P<pid>[0-9]+)-[0-9]+$", path.name)
            if of_process is None:
                _owner(path, folder)
                continue
            is_ours = of_process["host"] == host_name()
            if not (_is_alive(int(of_process["pid"])) if is_ours else _now_s(folder) - path.stat().st_mtime < STALE_S):
                path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _make(path: Path, content: bytes) -> bool:
    """Make the file if there is none; its content is there from its first moment."""
    # Written aside and linked, which fails like O_EXCL where the name exists; an O_EXCL file is empty at first.
    aside = path.with_name(f"{path.name}~{_here()}")
    try:
        handle = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileNotFoundError:
        # Removed by another one that found it empty.
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        os.write(handle, content)
        os.close(handle)
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        except OSError:
            return _make_plainly(path, content)
        return True
    finally:
        aside.unlink(missing_ok=True)


def _make_plainly(path: Path, content: bytes) -> bool:
    """Make the file with O_EXCL, on a file system without hard links."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    os.write(handle, content)
    os.close(handle)
    return True


def _owner(path: Path, folder: Path) -> Owner | None:
    """Return the living owner of a claim; None where it is free, or was the claim of a dead one and is removed."""
    text = _read(path)
    try:
        age_s = _now_s(folder) - path.stat().st_mtime
    except FileNotFoundError:
        return None
    try:
        claim = parse_json(text, "The claim")
        owner = Owner(str(claim["host"]), int(claim["pid"]))
    except (AutoHRError, ValueError, KeyError, TypeError):
        owner = Owner("an unknown machine", 0)
    if age_s < STALE_S and not (owner.host == host_name() and owner.pid and not _is_alive(owner.pid)):
        return owner
    # Moved before it is removed: of several that see it dead one does, and none removes a claim made since.
    dead = path.with_name(f"{path.name}~dead-{_here()}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(dead)
        if _read(dead) != text:
            with contextlib.suppress(OSError):
                os.link(dead, path)
        dead.unlink(missing_ok=True)
    return None


def _here() -> str:
    return f"{host_name()}-{os.getpid()}-{threading.get_ident()}"


def _read(path: Path) -> str:
    """Return the content of a claim; nothing where it cannot be read."""
    try:
        return read_limited_text(path, "claim", MAX_BYTES)
    except AutoHRError:
        return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _now_s(folder: Path) -> float:
    """Return the time by the clock of the file system, which other machines see too."""
    probe = folder / f"~now-{_here()}"
    probe.touch()
    now_s = probe.stat().st_mtime
    probe.unlink(missing_ok=True)
    return now_s


def _token(path: Path) -> str | None:
    try:
        return str(parse_json(_read(path), "The claim")["token"])
    except (AutoHRError, ValueError, KeyError, TypeError):
        return None


def _beat(path: Path, token: str, done: threading.Event) -> None:
    while not done.wait(BEAT_S):
        with contextlib.suppress(OSError):
            if _token(path) == token:
                os.utime(path)
