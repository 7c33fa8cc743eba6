"""A run directory: what one training or evaluation was, said on the way, and left behind.

    RUN/config.json      what was run, written once, first
    RUN/log.jsonl        one JSON object per line, in the order things happened
    RUN/checkpoints/     weights, and the state to resume from
    RUN/results/         tables and pictures, made from the log and the checkpoints

Everything but the log is written aside and moved into place, so a kill at any moment leaves the old file or the new
one. The log is only appended to; a last line cut short by a kill is left out when it is read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autohr.errors import AutoHRError, BadRecipe
from autohr.files import cannot_write, make_folder, read_json, read_limited, strict_json, write_json, write_text

CONFIG = "config.json"
LOG = "log.jsonl"
FOLDERS = ("checkpoints", "results")
OURS = frozenset({CONFIG, LOG, *FOLDERS})
"""What a run directory may hold; overwriting removes these and nothing else."""
MAX_LOG_BYTES = 2**30
"""Largest log.jsonl that is read, in bytes. Chosen by us: a line of a training step has about 200 bytes, so a log of
a million steps fits five times."""


@dataclass(frozen=True)
class Run:
    """A run directory that exists. Made by ``create_run`` and ``open_run``."""

    root: Path
    config: Mapping[str, Any]
    """Content of config.json."""

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def results(self) -> Path:
        return self.root / "results"

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to log.jsonl."""
        line = json.dumps(strict_json(record), allow_nan=False) + "\n"
        try:
            with (self.root / LOG).open("ab") as file:
                file.write(line.encode())
        except OSError as error:
            raise cannot_write(self.root / LOG, error) from error

    def read_log(self) -> list[dict[str, Any]]:
        """Every record of log.jsonl, oldest first; [] before the first one."""
        path = self.root / LOG
        if not path.exists():
            return []
        *lines, _cut_short = read_limited(path, "log", MAX_LOG_BYTES).split(b"\n")
        records = []
        for number, line in enumerate(lines, 1):
            try:
                records.append(json.loads(line))
            except (ValueError, RecursionError):
                raise AutoHRError(f"{str(path)!r}, line {number} is not JSON; remove that line.") from None
        return records

    def keep_log(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Rewrite log.jsonl with only the records that ``keep`` accepts.

        Used on resuming: what was logged after the checkpoint will happen, and be logged, again.
        """
        path = self.root / LOG
        if path.exists():
            kept = [json.dumps(record) + "\n" for record in self.read_log() if keep(record)]
            write_text(path, "".join(kept))


def create_run(root: Path, config: Mapping[str, Any], *, overwrite: bool = False) -> Run:
    """The run directory ``root`` for ``config``: a new one, or the one that the same config already began.

    The same config finds its own checkpoints again, so a killed command goes on by being repeated. One process at a
    time may do so; half-written files of killed ones are cleared away.

    Raises:
        BadRecipe: the directory holds a run made with another config and ``overwrite`` is False.
        AutoHRError: the directory holds something that is not a run; it is never overwritten.
    """
    config = json.loads(json.dumps(strict_json(config)))
    try:
        begun = _prepare_run(root, config, overwrite)
        for folder in FOLDERS:
            (root / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(root, error) from error
    if begun:
        return open_run(root)
    write_json(root / CONFIG, config)
    return Run(root, config)


def _prepare_run(root: Path, config: Any, overwrite: bool) -> bool:
    """Clear the folder of a run that is overwritten; whether the same run has begun in it already.

    Raises:
        OSError: the folder cannot be read or cleared.
        BadRecipe, AutoHRError: as ``create_run``.
    """
    if not root.exists():
        return False
    if not root.is_dir():
        raise AutoHRError(f"{str(root)!r} is a file; name a folder for the run.")
    held = {path.name for path in root.iterdir() if not path.name.endswith(".part")}
    if held - OURS:
        stranger = min(held - OURS)
        raise AutoHRError(f"{str(root)!r} holds {stranger!r} and is no run folder; name a new or empty one.")
    if CONFIG in held and not overwrite:
        before = read_json(root / CONFIG)
        if before != config:
            raise BadRecipe(
                f"{str(root)!r} holds a run made with another config ({_first_difference(before, config)}). "
                "Name another folder, go back to that config, or ask to overwrite it."
            )
        for litter in (path for folder in (root, *map(root.joinpath, FOLDERS)) for path in folder.glob(".*.part")):
            litter.unlink()
        return True
    # config.json goes last, so that a kill in between leaves a folder that is still seen as a run of ours.
    for name in (*FOLDERS, LOG, CONFIG):
        path = root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return False


def open_run(root: Path) -> Run:
    """The run in ``root``.

    Raises AutoHRError where there is none.
    """
    try:
        is_run = (root / CONFIG).is_file()
    except OSError as error:
        raise AutoHRError(f"Cannot read {str(root)!r}: {error.strerror or error}. Check the path.") from None
    if not is_run:
        raise AutoHRError(f"{str(root)!r} is no run folder: it holds no {CONFIG}.")
    for folder in FOLDERS:
        make_folder(root / folder)
    return Run(root, read_json(root / CONFIG))


def _first_difference(before: Any, after: Any, where: str = "") -> str:
    """The first field in which two configs differ, with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in (*before, *(key for key in after if key not in before)):
            if before.get(key) != after.get(key):
                return _first_difference(before.get(key), after.get(key), f"{where}.{key}" if where else key)
    return f"{where or 'config'}: {before!r} there, {after!r} now"
