"""Results as files: every window of every recording, with the wave, its clock, the rate and the truth.

    RUN/config.json                         the protocol and every recording expected, written first
    RUN/log.jsonl                           what was done, in the order in which it happened
    RUN/results/pos/                        one folder for each method
        method.json                         name, title, weights and their digest, written first
        ubfc-s1-vid-9c41d2aa.json           one recording: its state, and its windows
        ubfc-s1-vid-9c41d2aa.npy            the waves of those windows, one after the other, float32

No table, plot or page needs more than these files: neither a model nor a video. A recording's .npy is written before
its .json, each whole or not at all, so a recording is either there or not; a killed evaluation goes on behind the last
one. The bytes do not depend on when, or in how many pieces, they were made.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import numpy as np
from pydantic import BaseModel, Field, ValidationError, create_model

from autohr.errors import AutoHRError
from autohr.files import check_file, make_folder, read_json, write_bytes, write_json
from autohr.lab.datasets.recording import file_stem
from autohr.lab.evaluate.stored import array_damage
from autohr.lab.evaluate.validation import error_line, parse
from autohr.lab.runs import open_run
from autohr.methods import METHODS
from autohr.types import Float

SCHEMA = "autohr.results/1"

MAX_WAVES_BYTES = 2**31
"""Largest file of waves that is read, 2 GiB: a recording of 100 days in windows that do not overlap. Ours."""

State = Literal["scored", "unscored", "excluded", "absent", "training", "pending"]
"""State of a recording. scored: at least one window has a rate and a truth. unscored: none has. excluded: preparation
left it out. absent: it is not in this copy of the dataset. training: the protocol's split trains on it and does not
test it. pending: it is still to be evaluated."""
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class WindowResult:
    """Estimate of one method in one window, beside the truth. A window that could not be scored says why."""

    recording_id: str
    dataset: str
    subject: str
    session: str
    fold: int | None
    """Fold of the protocol, counted from 1; None without folds."""
    groups: Mapping[str, str]
    start_s: float
    """Time of the first frame in the video."""
    end_s: float
    fps: float
    """Frame rate of the uniform clock of both waves."""
    bvp: Float | None = None
    """(T,) the method's wave; None where there is none, or the method gives rates only."""
    hr_bpm: float | None = None
    """Rate by ``signals.rate.estimate_heart_rate``, or by the net itself where it gives rates only."""
    confidence: float = 0.0
    reliable: bool = False
    snr_db: float | None = None
    """Signal-to-noise ratio around ``hr_bpm``, known without the truth. Presets compute theirs around the truth."""
    why: str | None = None
    """Reason for which there is no rate or no truth or, where both are there, for which the rate is not reliable."""
    true_bvp: Float | None = None
    """(T,) reference wave as recorded, on the same clock; None where the reference has none."""
    true_hr_bpm: float | None = None
    """Mean of the reference's rate over the window: the device's own where the dataset has it, otherwise of its wave;
    None where it is not known."""
    true_wave_hr_bpm: float | None = None
    """Rate of ``true_bvp`` by ``signals.rate.estimate_heart_rate``."""
    method: str = ""
    """Label under which the method's results are kept."""
    weights: str | None = None

    @property
    def duration_s(self) -> float:
        """Length of the window."""
        return self.end_s - self.start_s

    @property
    def scored(self) -> bool:
        """True where there is a rate, and a truth to hold it against."""
        return self.hr_bpm is not None and self.true_hr_bpm is not None


@dataclass(frozen=True)
class Account:
    """State of one recording under one method. Every recording that was expected has one."""

    recording_id: str
    state: State
    reason: str | None
    """Reason for which it is not scored; None for ``scored``."""
    n_windows: int
    """The protocol's windows in it; 0 for a recording that gives none."""
    n_scored: int
    """Windows with a rate and a truth."""
    dataset: str = ""
    subject: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodInfo:
    """Method that gave the results."""

    label: str
    """Folder of the results, and name in tables."""
    name: str
    """Name in ``METHODS``."""
    title: str
    """Name as papers spell it."""
    weights: str | None = None
    folds: Mapping[str, str | None] = field(default_factory=dict)
    """Fold -> weights, where every fold has its own net."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """File of weights -> first 16 digits of its SHA-256."""


@dataclass(frozen=True)
class Results:
    """Results of one method under one protocol."""

    method: MethodInfo
    protocol: Mapping[str, Any]
    """The protocol's fields as in config.json (``evaluate.protocols.Protocol``)."""
    windows: tuple[WindowResult, ...]
    """Windows in order of recording and time, those not scored included."""
    accounts: tuple[Account, ...]

    @property
    def rate_only(self) -> bool:
        """True for a method that gives rates and no wave: presets cannot re-score it, and tables mark it."""
        return bool(self.windows) and all(w.bvp is None for w in self.windows) and any(w.scored for w in self.windows)

    @property
    def counts(self) -> dict[str, int]:
        """Number of recordings in each state that occurs, then of windows and scored windows."""
        states = [account.state for account in self.accounts]
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        return counts | {"windows": len(self.windows), "scored_windows": sum(w.scored for w in self.windows)}


_WAVES = ("bvp", "true_bvp")
_PLAIN = tuple(name for name in WindowResult.__dataclass_fields__ if name not in (*_WAVES, "method"))
_Range = Annotated[list[int], Field(min_length=2, max_length=2)] | None
"""First and last sample of a wave in the recording's .npy."""
_StoredWindow: type[BaseModel] = create_model(  # type: ignore[call-overload]
    "_StoredWindow",
    # NaN is written as null.
    **{
        name: (hint | None if hint is float else hint, ...)
        for name, hint in get_type_hints(WindowResult).items()
        if name in _PLAIN
    },
    **dict.fromkeys(_WAVES, (_Range, ...)),
)


class _StoredRecording(BaseModel):
    """One recording's JSON file."""

    schema_: Literal["autohr.results/1"] = Field(alias="schema")
    stamp: dict[str, Any]
    account: Account
    windows: list[_StoredWindow]  # type: ignore[valid-type]


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def method_folder(run_dir: Path, label: str) -> Path:
    """Return the folder of one method's results; a label that cannot name a folder raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,79}", label):
        raise ValueError(f"label={label!r} must be 1 to 80 letters, digits or any of ._+=-, a letter or digit first.")
    return run_dir / "results" / label


def write_recording(folder: Path, account: Account, windows: Sequence[WindowResult], stamp: Mapping[str, Any]) -> None:
    """Write one recording's windows into a method's folder.

    ``stamp`` is what the results depend on; ``written_account`` finds them again by it.
    """
    stem = file_stem(account.recording_id)
    waves: list[Float] = []
    rows = []
    n_samples = 0
    for window in windows:
        row = {name: getattr(window, name) for name in _PLAIN}
        for name in _WAVES:
            wave = getattr(window, name)
            row[name] = None if wave is None else [n_samples, n_samples + len(wave)]
            if wave is not None:
                n_samples += len(wave)
                waves.append(wave)
        rows.append(row)
    content = io.BytesIO()
    np.save(content, (np.concatenate(waves) if waves else np.zeros(0)).astype(np.float32))
    write_bytes(folder / f"{stem}.npy", content.getvalue())
    write_json(folder / f"{stem}.json", {"schema": SCHEMA, "stamp": stamp, "account": vars(account), "windows": rows})


def written_account(folder: Path, recording_id: str, stamp: Mapping[str, Any]) -> Account | None:
    """Return a recording's account if its results are there, whole, and made from the same ``stamp``."""
    stem = file_stem(recording_id)
    try:
        record = _StoredRecording.model_validate(read_json(folder / f"{stem}.json"))
    except (AutoHRError, OSError, ValueError):
        return None
    is_same = record.stamp == json.loads(json.dumps(stamp)) and (folder / f"{stem}.npy").is_file()
    return record.account if is_same else None


def write_method(folder: Path, info: MethodInfo) -> None:
    """Write which method gave a folder's results."""
    make_folder(folder)
    write_json(folder / "method.json", {"schema": SCHEMA, **vars(info)})


def read_method(folder: Path) -> MethodInfo:
    """Return the method of a folder of results; AutoHRError where its file is missing or damaged."""
    file = folder / "method.json"
    try:
        return parse(MethodInfo, read_json(file))
    except ValueError as error:
        raise AutoHRError(f"{str(file)!r} is damaged ({error}); remove its folder, evaluate again.") from None


def write_results(run_dir: Path, results: Results) -> None:
    """Write all results of a method into a run directory that exists (``runs.create_run``)."""
    folder = method_folder(run_dir, results.method.label)
    write_method(folder, results.method)
    for account in results.accounts:
        own = [window for window in results.windows if window.recording_id == account.recording_id]
        write_recording(folder, account, own, {})


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def read_results(run_dir: Path) -> tuple[Results, ...]:
    """Return the results of every method in a run directory, in the order of ``METHODS``, then of label.

    Raises AutoHRError where there is no run directory, no results in it, or a damaged file.
    """
    run = open_run(Path(run_dir))
    folders = sorted(path.parent for path in run.results.glob("*/method.json"))
    if not folders:
        raise AutoHRError(f"{str(run_dir)!r} holds no results of an evaluation; make some with autohr evaluate.")
    everything = [read_method_results(folder, run.config) for folder in folders]
    order = {name: place for place, name in enumerate(METHODS)}
    return tuple(sorted(everything, key=lambda one: (order.get(one.method.name, len(order)), one.method.label)))


def read_side_by_side(runs: Sequence[Path]) -> tuple[Results, ...]:
    """Return the results of several run directories, to be shown in one table.

    Labels that are in more than one run get the run's path before them. Raises AutoHRError as
    ``read_results``, and for runs of different protocols.
    """
    found = [(run, results) for run in runs for results in read_results(run)]
    protocols = {str(results.protocol.get("name")): run for run, results in found}
    if len(protocols) > 1:
        (one, its), (other, others), *_ = protocols.items()
        raise AutoHRError(
            f"{str(its)!r} was judged by protocol {one} and {str(others)!r} by {other}; one table is of one protocol."
        )
    count = Counter(results.method.label for _, results in found)
    return tuple(
        results if count[results.method.label] == 1 else _renamed(results, f"{run}: {results.method.label}")
        for run, results in found
    )


def _renamed(results: Results, label: str) -> Results:
    windows = tuple(replace(window, method=label) for window in results.windows)
    return replace(results, method=replace(results.method, label=label), windows=windows)


def read_method_results(folder: Path, config: Mapping[str, Any]) -> Results:
    """Return the results of one method from its folder; ``config`` is the run's.

    Raises AutoHRError for a damaged file, or a run that is no evaluation.
    """
    protocol, expected = config.get("protocol"), config.get("recordings")
    if not isinstance(protocol, dict) or not isinstance(expected, dict):
        raise AutoHRError(f"{str(folder.parent.parent)!r} is a run, but no evaluation.")
    info = read_method(folder)
    accounts, windows = [], []
    for file in sorted(folder.glob("*.json")):
        if file.name == "method.json" or file.name.startswith("."):
            continue
        try:
            record = _StoredRecording.model_validate(read_json(file))
            check_file(file.with_suffix(".npy"), "file of waves", MAX_WAVES_BYTES)
            waves = _read_waves(file.with_suffix(".npy"))
            accounts.append(record.account)
            windows += [_window(dict(row), waves, info.label) for row in record.windows]
        except (OSError, ValueError, EOFError) as error:
            reason = error_line(error) if isinstance(error, ValidationError) else error
            raise AutoHRError(
                f"{str(file)!r} or its waves are damaged ({reason}); remove it, evaluate again."
            ) from None
    missing = sorted(set(expected) - {account.recording_id for account in accounts})
    accounts += [Account(one, "pending", "not evaluated yet", 0, 0) for one in missing]
    accounts.sort(key=lambda account: account.recording_id)
    windows.sort(key=lambda window: (window.recording_id, window.start_s, window.end_s))
    return Results(info, protocol, tuple(windows), tuple(accounts))


def _read_waves(path: Path) -> Float:
    """Return the waves of a recording (N,); ValueError where the file is damaged, OSError where it cannot be read."""
    with array_damage():
        waves = np.load(path)
    if not isinstance(waves, np.ndarray) or waves.ndim != 1 or waves.dtype.kind != "f":
        raise ValueError("they are no row of numbers")
    return waves


def _window(row: dict[str, Any], waves: Float, label: str) -> WindowResult:
    for name in _WAVES:
        if row[name] is not None:
            first, end = row[name]
            if end > len(waves):
                raise ValueError("fewer samples than the windows need")
            row[name] = waves[first:end].astype(np.float64)
    return WindowResult(**row, method=label)
