"""Run folders: what one training, search or evaluation was, its log, and its results.

    RUN/config.json      what was run, written once, first
    RUN/log.jsonl        one JSON object per line, in order of time
    RUN/checkpoints/     weights, and the state to resume from
    RUN/results/         tables and pictures, made from the log and the checkpoints
    RUN/lock             held by the process that works in the folder

Everything but the log is written aside and moved into place, so a kill at any moment leaves the old file or the new
one. The log is only appended to; a last line cut short by a kill is left out when it is read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autohr.errors import AutoHRError, BadRecipe
from autohr.files import (
    cannot_write,
    make_folder,
    parse_json,
    read_json,
    read_json_object,
    read_limited,
    strict_json,
    take_lock,
    write_json,
    write_text,
)

CONFIG, LOG, LOCK = "config.json", "log.jsonl", "lock"
FOLDERS = ("checkpoints", "results")
OURS = frozenset({CONFIG, LOG, LOCK, *FOLDERS})
"""Names that a run folder may hold."""
MAX_LOG_BYTES = 2**30
"""Largest log.jsonl that is read, in bytes. Chosen by us: a line of a training step has about 200 bytes, so a log of
a million steps fits five times."""


OnLog = Callable[[Mapping[str, Any]], None]
"""Function that is called with each line of a run's log after it was written, such as ``tensorboard_writer`` gives."""


@dataclass(frozen=True)
class Run:
    """A run folder that exists, made by ``create_run`` or ``open_run``."""

    root: Path
    config: Mapping[str, Any]
    """Content of config.json."""
    lock: object = field(default=None, compare=False, repr=False)
    """Lock that keeps other processes out of the folder for as long as this object lives; none after ``open_run``."""
    on_log: OnLog | None = field(default=None, compare=False, repr=False)

    @property
    def checkpoints(self) -> Path:
        """Folder of weights and of the state to resume from."""
        return self.root / "checkpoints"

    @property
    def results(self) -> Path:
        """Folder of tables and pictures."""
        return self.root / "results"

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to log.jsonl."""
        line = json.dumps(strict_json(record), allow_nan=False) + "\n"
        try:
            with (self.root / LOG).open("ab") as file:
                file.write(line.encode())
        except OSError as error:
            raise cannot_write(self.root / LOG, error) from error
        if self.on_log is not None:
            self.on_log(record)

    def read_log(self) -> list[dict[str, Any]]:
        """Return every record of log.jsonl, oldest first."""
        path = self.root / LOG
        if not path.exists():
            return []
        *lines, _cut_short = read_limited(path, "log", MAX_LOG_BYTES).split(b"\n")
        records = []
        for number, line in enumerate(lines, 1):
            where = f"{str(path)!r}, line {number}"
            record = parse_json(line, where, advice="Remove that line.")
            if not isinstance(record, dict):
                raise AutoHRError(f"{where} is no JSON object. Remove that line.")
            records.append(record)
        return records

    def keep_log(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Rewrite log.jsonl with only the records that ``keep`` accepts.

        Used when resuming: the steps after the checkpoint will be made, and logged, again.
        """
        path = self.root / LOG
        if path.exists():
            write_text(path, "".join(json.dumps(record) + "\n" for record in self.read_log() if keep(record)))


def create_run(root: Path, config: Mapping[str, Any], *, overwrite: bool = False) -> Run:
    """Return the run folder ``root`` for ``config``: a new one, or the one that the same config already began.

    The same config finds its own checkpoints again, so a killed command goes on by being repeated. One process at a
    time may do so; half-written files of killed ones are removed.

    Raises
    ------
    BadRecipe
        The folder holds a run made with another config and ``overwrite`` is False.
    AutoHRError
        The folder holds something that is not a run, which is never overwritten; or another process works in it.
    """
    config = json.loads(json.dumps(strict_json(config)))
    try:
        _refuse_strangers(root)
        root.mkdir(parents=True, exist_ok=True)
        taken = f"Another autohr is at work in {str(root)!r}. Wait for it, or name another folder."
        lock = take_lock(root.resolve() / LOCK, taken, again=True)
        begun = (root / CONFIG).exists() and not overwrite
        if begun:
            before = read_json(root / CONFIG)
            if before != config:
                raise BadRecipe(
                    f"{str(root)!r} holds a run made with another config ({_first_difference(before, config)}). "
                    "Name another folder, go back to that config, or ask to overwrite it."
                )
            for part in (path for folder in (root, *map(root.joinpath, FOLDERS)) for path in folder.glob(".*.part")):
                part.unlink()
        else:
            # config.json goes last, so that a kill in between leaves a folder that is still seen as a run.
            for path in map(root.joinpath, (*FOLDERS, LOG, CONFIG)):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        for folder in FOLDERS:
            (root / folder).mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(root, error) from error
    if not begun:
        write_json(root / CONFIG, config)
    return Run(root, read_json_object(root / CONFIG), lock)


def open_run(root: Path) -> Run:
    """Return the run in ``root``, for reading.

    Raises
    ------
    AutoHRError
        There is none.
    """
    try:
        is_run = (root / CONFIG).is_file()
    except OSError as error:
        raise AutoHRError(f"Cannot read {str(root)!r}: {error.strerror or error}. Check the path.") from None
    if not is_run:
        raise AutoHRError(f"{str(root)!r} is no run folder: it holds no {CONFIG}.")
    for folder in FOLDERS:
        make_folder(root / folder)
    return Run(root, read_json_object(root / CONFIG))


def _refuse_strangers(root: Path) -> None:
    """Refuse a folder that holds anything but a run."""
    if root.exists() and not root.is_dir():
        raise AutoHRError(f"{str(root)!r} is a file; name a folder for the run.")
    names = {path.name for path in root.iterdir()} if root.exists() else set()
    strangers = {name for name in names - OURS if not name.endswith(".part")}
    if strangers:
        raise AutoHRError(f"{str(root)!r} holds {min(strangers)!r} and is no run folder; name a new or empty one.")


def _first_difference(before: Any, after: Any, where: str = "") -> str:
    """Return the first field in which two configs differ, with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in (*before, *(key for key in after if key not in before)):
            if before.get(key) != after.get(key):
                return _first_difference(before.get(key), after.get(key), f"{where}.{key}" if where else key)
    return f"{where or 'config'}: {before!r} there, {after!r} now"
