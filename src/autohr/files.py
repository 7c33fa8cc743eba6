"""Files written whole or not at all, files that grow, and files read within limits."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import math
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import tomllib
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from autohr.errors import AutoHRError, in_short

if TYPE_CHECKING:
    from filelock import BaseFileLock

MAX_JSON_BYTES = 2**28
"""Largest JSON file that is read, in bytes. Chosen by us: a results file of an hour of video has about 1 MB."""


MAX_DEPTH = 100
"""Most lists and tables within one another in a file that is read. Chosen by us: our own files have about ten."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; on leaving without an error, that file takes the place of ``path`` at once.

    The content reaches the disk before the name does: a crash of the machine, too, leaves the old file or the new one.
    A link is followed. A device, a pipe or one of the process's own streams (``/dev/stdout``) is not replaced: the
    finished content is written into it.

    Raises
    ------
    AutoHRError
        The disk is full, the folder cannot be written, or ``path`` is a folder.
    BrokenPipeError
        The reader of a pipe went away.
    """
    aside: Path | None = None
    try:
        target = Path(os.path.realpath(path)) if path.is_symlink() and own_stream(path) is None else path
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        in_place = own_stream(path) is not None or (target.exists() and not target.is_file())
        if in_place:
            handle, name = tempfile.mkstemp(prefix="autohr-")
            os.close(handle)
            aside = Path(name)
        else:
            aside = hidden_beside(target, f"{host_name()}-{os.getpid()}-{threading.get_ident()}.part")
        yield aside
        if in_place:
            with open_output(path) as stream, aside.open("rb") as finished:
                shutil.copyfileobj(finished, stream)
            return
        with aside.open("rb+") as written:
            os.fsync(written.fileno())
        aside.replace(target)
        if os.name == "posix":
            # Some file systems cannot do this for a folder; the file itself is on the disk.
            with contextlib.suppress(OSError):
                folder = os.open(target.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if aside is not None:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)


def open_output(path: Path) -> BinaryIO:
    """Open a file, device or pipe for writing from its start, unbuffered.

    One of the process's own streams is written on at its place, after what was printed before. Errors are those of
    ``open``.
    """
    handle = own_stream(path)
    if handle is None:
        return path.open("wb", buffering=0)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    for number, ours, original in ((1, sys.stdout, sys.__stdout__), (2, sys.stderr, sys.__stderr__)):
        if handle == number and ours is not None and ours is not original:
            return cast(BinaryIO, _Replaced(ours))
    return os.fdopen(os.dup(handle), "wb", buffering=0)


class _Replaced(io.RawIOBase):
    """Writer to a ``sys.stdout`` or ``sys.stderr`` that a notebook or a test has replaced; never closes it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, content: Any) -> int:
        """Write UTF-8 as text."""
        self._stream.write(self._decoder.decode(bytes(content)))
        return len(content)


def own_stream(path: Path) -> int | None:
    """Return the number of the open file that a name such as ``/dev/stdout`` or ``/dev/fd/3`` stands for, else None."""
    name = path.as_posix()
    if name in ("/dev/stdout", "/dev/stderr"):
        return 1 if name == "/dev/stdout" else 2
    found = re.fullmatch(r"/(?:dev|proc/self)/fd/([0-9]{1,6})", name)
    return None if found is None else int(found[1])


def is_plain(path: Path) -> bool:
    """Return True where a path names a regular file, or none yet, and not a device, pipe or stream."""
    try:
        return own_stream(path) is None and (path.is_file() or not path.exists())
    except OSError:
        return False


class GrowingFile:
    """File to which bytes are appended. Those that the disk refuses wait in memory: there may be room later.

    A device, pipe or stream is written on at its place. Nothing is opened before the first bytes.

    Parameters
    ----------
    path
        The file; None for one without a name, which is gone when it is closed.
    n_kept
        Length of its content that stays; the rest is cut off.

    Raises
    ------
    OSError
        With ``n_kept``: the file cannot be opened.
    """

    def __init__(self, path: Path | None, n_kept: int = 0) -> None:
        self._path = path
        self._is_plain = path is None or is_plain(path)
        self._file: BinaryIO | None = None
        self._n_bytes = n_kept
        self._waiting = b""
        self._error: OSError | None = None
        if path is not None and n_kept:
            self._file = path.open("rb+", buffering=0)
            self._file.truncate(n_kept)

    def append(self, content: bytes) -> slice:
        """Write content, after what still waits; return where it is."""
        start = self._n_bytes + len(self._waiting)
        self._waiting += content
        try:
            if self._file is None:
                self._file = self._open()
            _write_all(self._file, self._waiting, self._n_bytes if self._is_plain else None)
        except BrokenPipeError:
            self._waiting = b""
            raise
        except OSError as error:
            self._error = error
        else:
            self._n_bytes += len(self._waiting)
            self._waiting, self._error = b"", None
        return slice(start, start + len(content))

    def _open(self) -> BinaryIO:
        if self._path is None:
            return cast(BinaryIO, tempfile.TemporaryFile(buffering=0))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._path.open("wb+", buffering=0) if self._is_plain else open_output(self._path)

    def read(self, place: slice) -> bytes:
        """Read back what ``append`` wrote to a plain file; the open file can be read even if it was removed."""
        if place.start >= self._n_bytes:
            return self._waiting[place.start - self._n_bytes : place.stop - self._n_bytes]
        assert self._file is not None
        self._file.seek(place.start)
        content = b""
        while len(content) < place.stop - place.start:
            piece = self._file.read(place.stop - place.start - len(content))
            if not piece:
                name = "A temporary file" if self._path is None else repr(str(self._path))
                raise AutoHRError(f"{name} was cut by another program while it was in use. Run again.")
            content += piece
        return content

    def close(self) -> None:
        """Write what still waits, and all of it again if the file was removed meanwhile.

        Raises
        ------
        AutoHRError
            Something could not be written.
        """
        try:
            if self._was_removed():
                content = self.read(slice(0, self._n_bytes)) + self._waiting
                self._close()
                self._n_bytes, self._waiting = 0, content
            if self._waiting:
                self.append(b"")
            self._close()
        except BrokenPipeError:
            raise
        except OSError as error:
            self._error = error
        if self._error is not None and self._path is not None:
            raise cannot_write(self._path, self._error)

    def _was_removed(self) -> bool:
        is_named = self._path is not None and self._is_plain
        return is_named and self._file is not None and not os.fstat(self._file.fileno()).st_nlink

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def keep(self) -> Path | None:
        """Close the file as far as it can be written; return its path if it holds anything, else remove it."""
        opened = self._file is not None
        with contextlib.suppress(AutoHRError):
            self.close()
        if self._path is None or not self._path.exists():
            return None
        if opened and not self._n_bytes and self._is_plain:
            self._path.unlink(missing_ok=True)
        return self._path if self._n_bytes else None

    def remove(self) -> None:
        """Close the file and delete it, but not another one that has taken its name."""
        if self._file is not None and self._path is not None:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(self._file.fileno()), self._path.stat()):
                    self._path.unlink()
        self._close()


def _write_all(file: BinaryIO, content: bytes, at: int | None) -> None:
    """Write all bytes to an unbuffered file at an offset, or at the end with None.

    Raises
    ------
    OSError
        The disk refuses; the file is then cut to its content before.
    """
    if at is not None:
        file.seek(at)
    rest = memoryview(content)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        if at is not None:
            with contextlib.suppress(OSError):
                file.truncate(at)
        raise


def _shortened(name: str, n_bytes: int = 150) -> str:
    """Return the start of a file name, so that a longer name made of it fits the 255 bytes of file systems.

    A name that is cut ends in a checksum of the whole, so that two names stay two.
    """
    whole = os.fsencode(name)
    return name if len(whole) <= n_bytes else f"{os.fsdecode(whole[:n_bytes])}~{zlib.crc32(whole):08x}"


def host_name() -> str:
    """Return the name of this machine, as a part of a file name: several may write into one folder."""
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return re.sub(r"[^A-Za-z0-9]+", "-", name)[:40].strip("-") or "host"


def hidden_beside(path: Path, suffix: str) -> Path:
    """Return the hidden file that belongs to ``path``: ``out.json`` and "resume.jsonl" give ``.out.json.resume.jsonl``.

    Examples
    --------
    >>> hidden_beside(Path("a/out.json"), "resume.jsonl").as_posix()
    'a/.out.json.resume.jsonl'
    """
    return path.with_name(f".{_shortened(path.name)}.{suffix}")


def make_folder(path: Path) -> None:
    """Make a folder and those above it; one that is there already is kept.

    Raises
    ------
    AutoHRError
        It cannot be made, or is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a kill leaves the old content or the new, never a part; errors as in ``replacing``."""
    with replacing(path) as aside:
        aside.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write text as ``write_bytes`` does; see ``utf8`` for text that is no Unicode."""
    write_bytes(path, utf8(text))


def utf8(text: str) -> bytes:
    r"""Return the text as UTF-8; lone surrogates (bytes of a file name that are no UTF-8) as ``\udce9``."""
    return text.encode("utf-8", "backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as strict JSON (NaN and infinities become null), all of it or nothing."""
    write_bytes(path, (json.dumps(strict_json(value), indent=2, allow_nan=False) + "\n").encode())


def check_file(path: Path, what: str, max_bytes: int, error: type[AutoHRError] = AutoHRError) -> None:
    """Check that a path names a regular file of at most ``max_bytes`` bytes, without reading it.

    For files that a library opens itself; ``read_limited`` checks and reads.

    Parameters
    ----------
    what
        Noun for the file in the message, such as "recipe".
    error
        Class of the error.

    Raises
    ------
    AutoHRError
        In one line: the path is missing, a folder, a device, a pipe or a socket, cannot be read, or holds more bytes.
    """
    with _open_limited(path, what, max_bytes, error):
        pass


def read_limited(path: Path, what: str, max_bytes: int, error: type[AutoHRError] = AutoHRError) -> bytes:
    """Return the bytes of a regular file that holds at most ``max_bytes`` of them.

    Never waits on a pipe and never reads more than ``max_bytes + 1`` bytes, even of a file that grows or whose size
    is unknown. Parameters and errors are those of ``check_file``.
    """
    with _open_limited(path, what, max_bytes, error) as file:
        try:
            content = file.read(max_bytes + 1)
        except OSError as cause:
            raise error(f"Cannot read {what} {str(path)!r}: {cause.strerror or cause}.") from cause
    if len(content) > max_bytes:
        raise _too_large(path, what, f"more than {max_bytes}", max_bytes, error)
    return content


def read_limited_text(path: Path, what: str, max_bytes: int, error: type[AutoHRError] = AutoHRError) -> str:
    """Return the text of a UTF-8 file, as ``read_limited`` does; a byte order mark at its start is left out.

    Raises
    ------
    AutoHRError
        As in ``check_file``, and where the file is not UTF-8.
    """
    try:
        return read_limited(path, what, max_bytes, error).decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(
            f"The {what} {str(path)!r} is not UTF-8 text (byte {cause.start} does not fit). "
            "Give a text file, or save it as UTF-8."
        ) from None


def read_json(
    path: Path, what: str = "file", max_bytes: int = MAX_JSON_BYTES, error: type[AutoHRError] = AutoHRError
) -> Any:
    """Return the content of a JSON file of at most ``max_bytes`` bytes, nested at most ``MAX_DEPTH`` deep.

    Raises
    ------
    AutoHRError
        The file is missing, not a regular file, too large, not UTF-8, not JSON, or nested too deeply; of the class
        ``error``, as in ``check_file``.
    """
    return parse_json(read_limited_text(path, what, max_bytes, error), repr(str(path)), error)


def read_json_object(
    path: Path,
    *keys: str,
    what: str = "file",
    max_bytes: int = MAX_JSON_BYTES,
    error: type[AutoHRError] = AutoHRError,
) -> dict[str, Any]:
    """Return the object in a JSON file, which must have these keys; errors as ``read_json``."""
    value = read_json(path, what, max_bytes, error)
    if not isinstance(value, dict):
        raise error(f"{str(path)!r} holds {type(value).__name__} and no JSON object. {AGAIN}")
    missing = [key for key in keys if key not in value]
    if missing:
        raise error(f"{str(path)!r} lacks {', '.join(missing)}. {AGAIN}")
    return value


AGAIN = "Remove it or write it again."


def parse_json(text: str | bytes, where: str, error: type[AutoHRError] = AutoHRError, advice: str = AGAIN) -> Any:
    """Return the value of JSON text that was read from ``where``: the message of an error begins with that.

    Raises
    ------
    AutoHRError
        The text is not JSON, or nested more than ``MAX_DEPTH`` deep.

    Examples
    --------
    >>> parse_json('{"fps": 30}', "The header")
    {'fps': 30}
    """
    return _parse(json.loads, text, "JSON", where, error, advice)


def read_toml(path: Path, what: str, max_bytes: int, error: type[AutoHRError] = AutoHRError) -> dict[str, Any]:
    """Return the table in a TOML file; limits and errors as ``read_json``."""
    text = read_limited_text(path, what, max_bytes, error)
    table: dict[str, Any] = _parse(tomllib.loads, text, "TOML", repr(str(path)), error, AGAIN)
    return table


def _parse(
    loads: Callable[[Any], Any], text: str | bytes, kind: str, where: str, error: type[AutoHRError], advice: str
) -> Any:
    try:
        value = loads(text)
        is_deep = is_too_deep(value)
    except RecursionError:
        is_deep = True
    except ValueError as cause:
        raise error(f"{where} is not {kind} ({in_short(cause)}). {advice}".rstrip()) from None
    if is_deep:
        raise error(f"{where} is {kind} nested too deeply, over {MAX_DEPTH} lists or tables. {advice}".rstrip())
    return value


def is_too_deep(value: Any) -> bool:
    """Return True for lists and tables nested more than ``MAX_DEPTH`` deep, over which a function could not recurse."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        containers = (one.values() if isinstance(one, dict) else one for one in level)
        level = [inner for one in containers for inner in one if isinstance(inner, (dict, list))]
        if not level:
            return False
    return True


def _open_limited(path: Path, what: str, max_bytes: int, error: type[AutoHRError]) -> BinaryIO:
    """Open a regular file of at most ``max_bytes`` bytes. Opening a pipe does not wait for its writer."""
    # The kind is asked of the open file, not of the path, which may change in between; O_NONBLOCK is for pipes.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)
    try:
        if path.is_dir():
            raise error(f"{str(path)!r} is a folder; give the {what} itself, a file.")
        handle = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"There is no {what} {str(path)!r}. Check the path.") from None
    except (OSError, ValueError) as cause:  # ValueError: a zero byte in the path
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else cause
        raise error(f"Cannot read {what} {str(path)!r}: {reason}.") from cause
    file = os.fdopen(handle, "rb")
    try:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise error(f"{str(path)!r} is a device, pipe or socket; give the {what} as a regular file.")
        if state.st_size > max_bytes:
            raise _too_large(path, what, str(state.st_size), max_bytes, error)
    except BaseException:
        file.close()
        raise
    return file


def _too_large(path: Path, what: str, found: str, max_bytes: int, error: type[AutoHRError]) -> AutoHRError:
    return error(f"{str(path)!r} has {found} bytes; a {what} has at most {max_bytes}. Give another file.")


def cannot_write(path: Path, error: OSError) -> AutoHRError:
    """Return the error that says in one line which file could not be written, why, and what to do."""
    advice = "Make room or choose another folder, and run again."
    if error.errno == errno.ENAMETOOLONG:
        advice = "Choose a shorter name."
    elif error.errno == errno.EISDIR:
        advice = "Name a file in it."
    shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:100]}...{str(path)[-60:]}"
    return AutoHRError(f"Cannot write {shown!r}: {error.strerror or error}. {advice}")


def strict_json(value: Any) -> Any:
    """Return ``value`` as strict JSON can hold it: tuples as lists, paths as text, NaN and infinities as None.

    Examples
    --------
    >>> strict_json({"hr_bpm": float("nan"), "band_bpm": (40, 180)})
    {'hr_bpm': None, 'band_bpm': [40, 180]}
    """
    if isinstance(value, Mapping):
        return {str(key): strict_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def take_lock(path: Path, message: str, *, again: bool = False) -> BaseFileLock:
    """Take the lock file ``path``, and return the lock that this process then holds.

    It is released by its ``release()``, when the object is gone, and when the process ends, also by a kill. The file
    stays. With ``again`` this process may take a lock that it holds already.

    Raises
    ------
    AutoHRError
        Another process holds the lock, and ``message`` says so; or the file cannot be written.
    """
    from filelock import FileLock, Timeout  # Not at the top: `autohr --help` must be quick.

    lock = FileLock(path, timeout=0, is_singleton=again)
    try:
        lock.acquire()
    except Timeout:
        raise AutoHRError(message) from None
    except OSError as error:
        raise cannot_write(path, error) from error
    return lock


@contextlib.contextmanager
def locked(path: Path, message: str) -> Iterator[None]:
    """Hold the lock file ``path``; see ``take_lock``."""
    lock = take_lock(path, message)
    try:
        yield
    finally:
        lock.release()
