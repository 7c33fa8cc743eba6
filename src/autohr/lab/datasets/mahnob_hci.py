"""MAHNOB-HCI (HCI-Tagging): 27 people who watch films and pictures, filmed at 61 frames per second, with an ECG.

    ROOT/Sessions/                  or ROOT is Sessions itself
        2/                          a session: what one person saw once
            session.xml             frame rate, first and last frame of the cut, the names of the other files
            P1-Rec1-2009.07.09.17.53.46_C1 trigger _C_Section_2.avi     the colour camera, 780x580
            Part_1_S_Trial1_emotion.bdf                                 32 EEG and 15 other channels, 256 Hz
            ...                     five grey cameras, sound, gaze: not read

The 527 sessions of Li et al. (CVPR 2014), which everybody judges by, are all the stimulus videos of the 27 people whose
recordings are whole: even numbers, in runs of 130 a person (``SESSIONS``). Other sessions (neutral clips, pictures) are
counted and left out. Of each video frames 306 to 2135, counted from 1, are used: 30 s (``Recording.span``). A video
that is shorter is used as far as it goes, and its notes say so.

Access: from the authors (iBUG group, Imperial College London), after a signed licence of an academic institution.

The clocks. ``vidRate`` of session.xml is the video's rate. The BDF goes on for 30 s before and after the video; its
channel Status is zero but while the video runs: its first sample that is not zero is the first frame.

The reference. R peaks of EXG2 (upper left of the chest), as the paper. The rate at a time is that of the interval
between two beats in which it lies. There is no pulse wave; ``bvp`` is reconstructed from the beats
(``signals.ecg.pulse_of_beats``: its shape and its delay are ours), for losses and metrics that want a wave. EXG1 and
EXG3 are read too: a rate that differs from theirs by more than 5 bpm is noted.

Known defects: EXG2 is bad in some sessions, EXG3 is said to be the cleanest; video is strongly compressed.

Sources: files' names were read in a list of all 3490 sessions, the 527 in two lists that agree; session.xml, Status
and the order of channels in several loaders, not in a real file. That the cut of the video is from vidBeginSmp to
vidEndSmp was read in one loader; it serves for a check alone. Sure of iBUG: from memory.
"""

from __future__ import annotations

import functools
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autohr.errors import AutoHRError, BadRecording
from autohr.files import read_limited
from autohr.lab.datasets.columns import MAX_TEXT_BYTES
from autohr.lab.datasets.ecg import detect_r_peaks, pulse_of_beats, rate_between
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing, Recording, Reference
from autohr.types import Float

DATASET = "mahnob_hci"

_RUNS = (
    *((2, 40), (132, 170), (262, 294), (392, 430), (522, 560), (652, 690), (782, 820), (912, 950), (1042, 1068)),
    *((1172, 1210), (1302, 1340), (1562, 1600), (1692, 1730), (1952, 1982), (2082, 2120), (2212, 2250), (2342, 2380)),
    *((2472, 2510), (2602, 2640), (2732, 2770), (2862, 2900), (2992, 3030), (3122, 3160), (3382, 3420), (3512, 3550)),
    *((3642, 3680), (3772, 3810)),
)
SESSIONS = tuple(number for first, last in _RUNS for number in range(first, last + 1, 2))
"""The 527, as in bob.db.hci_tagging's protocol cvpr14."""
SESSIONS_A_PERSON = 130

FPS = 61.0
SPAN = (305, 2135)
"""Frames 306 to 2135 counted from 1, at ``FPS``: from 5 s to 35 s."""
CHANNEL, OTHER_CHANNELS = "EXG2", ("EXG1", "EXG3")
DISAGREEMENT_BPM = 5.0
REFERENCE_HZ = 100.0
"""Samples per second of the reference's clock; ours. A beat's edge then lies within 5 ms."""
BEFORE_AND_AFTER_S = 10.0
"""Seconds of ECG read before and after the video, to find its first and last beats. Ours."""


def list_recordings(root: Path) -> Listing:
    """List the 527 sessions in order of number.

    Raises
    ------
    BadRecording
        No such folder, or no session in it.
    """
    root = Path(root)
    folder = root / "Sessions" if (root / "Sessions").is_dir() else root
    there = {int(p.name): p for p in folder.glob("[0-9]*") if p.name.isdecimal() and p.is_dir()}
    if not any((session / "session.xml").is_file() for session in there.values()):
        raise BadRecording(
            f"{str(root)!r} is no MAHNOB-HCI: there is no Sessions/2/session.xml or the like. "
            "Give the folder that holds Sessions/."
        )
    recordings, absent = [], []
    for number in SESSIONS:
        try:
            if number not in there:
                raise BadRecording("there is no such folder; copy it")
            recordings.append(_read(number, there[number]))
        except BadRecording as error:
            absent.append(Absent(f"{DATASET}/{_subject(number)}/{number}", f"Sessions/{number}: {error}.", False))
    others = len(there.keys() - set(SESSIONS))
    notes = (f"{others} session(s) that are not of the fixed list of {len(SESSIONS)} were left out.",) if others else ()
    return Listing(tuple(recordings), tuple(absent), notes)


def _subject(number: int) -> str:
    return f"P{(number - 2) // SESSIONS_A_PERSON + 1}"


def _read(number: int, folder: Path) -> Recording:
    """One session. What it raises is the reason why it is absent, without a full stop."""
    session = _read_session(folder / "session.xml")
    for file in (session.video, session.bdf):
        if not file.is_file():
            raise BadRecording(f"there is no {file.name}, which session.xml names; copy it")
    notes = []
    named = {match for file in (session.video, session.bdf) for match in re.findall(r"^P(?:art_)?(\d+)[-_]", file.name)}
    if named and {f"P{one}" for one in named} != {_subject(number)}:
        notes.append(f"Its files are named after participant {', '.join(sorted(named))}, not {_subject(number)[1:]}.")
    # The frames hold at 61 a second; another rate (made data has one) keeps the seconds.
    scale = 1.0 if abs(session.fps - FPS) < 2 else session.fps / FPS
    first, end = (round(frame * scale) for frame in SPAN)
    if session.n_frames is not None and session.n_frames < end:
        notes.append(f"The video ends at frame {session.n_frames}, before frame {end}.")
        end = max(session.n_frames, first + 1)
    return Recording(
        dataset=DATASET,
        subject=_subject(number),
        session=str(number),
        video=session.video,
        reference=functools.partial(read_reference, session),
        video_fps=session.fps,
        span=(first, end),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class Session:
    """Content of session.xml."""

    video: Path
    bdf: Path
    fps: float
    n_frames: int | None
    """Length of the cut video; None where it is not given."""


def _read_session(path: Path) -> Session:
    if not path.is_file():
        raise BadRecording("there is no session.xml; copy it")
    try:
        root = ElementTree.fromstring(read_limited(path, "XML file", MAX_TEXT_BYTES, BadRecording))
    except (ElementTree.ParseError, ValueError) as error:
        raise BadRecording(f"session.xml cannot be read ({error}); copy it again") from None

    def number(name: str) -> float | None:
        text = root.get(name)
        try:
            return None if text is None else float(text)
        except ValueError:
            raise BadRecording(f"session.xml says {name}={text!r}, which is not a number; copy it again") from None

    fps, begin, end = number("vidRate"), number("vidBeginSmp"), number("vidEndSmp")
    if fps is None or not 1 <= fps <= 1000:
        raise BadRecording(f"session.xml says vidRate={root.get('vidRate')!r}, which is no frame rate; copy it again")
    names: dict[str, str] = {}
    for track in root.iter():
        name = track.get("filename")
        if name and track.get("color") == "1":
            names.setdefault("video", name)
        elif name and track.get("type") == "Physiological":
            names.setdefault("bdf", name)
    for what in ("video", "bdf"):
        if what not in names:
            raise BadRecording(f"session.xml names no {'colour video' if what == 'video' else 'physiological file'}")
        if Path(names[what]).name != names[what]:
            raise BadRecording(f"session.xml names a file elsewhere, {names[what][:80]!r}")
    n_frames = None if begin is None or end is None or end <= begin else round(end - begin)
    return Session(path.parent / names["video"], path.parent / names["bdf"], fps, n_frames)


# ---------------------------------------------------------------------------------------------------------------------
# The ECG


def read_reference(session: Session) -> Reference:
    """Rate, and a reconstructed wave, from the R peaks of EXG2, on a clock that begins with the first frame.

    Raises
    ------
    AutoHRError
        Pyedflib is not installed.
    BadRecording
        The BDF is missing or damaged, lacks a channel, marks no video, or EXG2 shows no beats.
    """
    path = session.bdf
    notes = ["The wave is reconstructed from the R peaks of EXG2; only the times of its beats are measured."]
    with _open_bdf(path) as file:
        labels = [label.strip() for label in file.getSignalLabels()]
        for wanted in ("Status", CHANNEL):
            if wanted not in labels:
                raise BadRecording(f"{str(path)!r} holds no channel {wanted!r}, only {', '.join(labels)}.")
        at = labels.index("Status")
        marked = np.flatnonzero(np.rint(file.readSignal(at)))
        if not len(marked):
            raise BadRecording(
                f"The channel Status of {str(path)!r} is zero throughout: it does not say when the video ran."
            )
        fs_status = float(file.getSampleFrequency(at))
        start_s, end_s = marked[0] / fs_status, (marked[-1] + 1) / fs_status
        beats = {}
        for name in (CHANNEL, *OTHER_CHANNELS):
            if name in labels:
                beats[name] = _beats(file, labels.index(name), start_s, end_s)
    if marked[0] == 0:
        notes.append("Status is not zero from the first sample on: the video may have begun before the ECG.")
    duration_s = end_s - start_s
    if session.n_frames is not None and abs(session.n_frames / session.fps - duration_s) > 1.0:
        notes.append(
            f"Status marks {duration_s:.1f} s, session.xml a video of {session.n_frames / session.fps:.1f} s; "
            "their clocks may be shifted."
        )
    t_s = np.arange(0.0, duration_s, 1 / REFERENCE_HZ)
    rate_bpm = rate_between(beats[CHANNEL], t_s)
    if np.isfinite(rate_bpm).mean() < 0.5:
        raise BadRecording(
            f"{CHANNEL} of {str(path)!r} shows regular beats in only {100 * np.isfinite(rate_bpm).mean():.0f} % of the "
            "video; its electrode was off. Leave this session out."
        )
    unknown_s = float((~np.isfinite(rate_bpm)).sum() / REFERENCE_HZ)
    if unknown_s > 0.5:
        notes.append(
            f"The beats of {CHANNEL} disagree with their neighbours for {unknown_s:.1f} s; no rate is known there."
        )
    ours_bpm = float(np.nanmean(rate_bpm))
    for name in OTHER_CHANNELS:
        if name in beats and len(beats[name]) > 2:
            theirs_bpm = float(np.nanmean(np.append(rate_between(beats[name], t_s), np.nan)))
            if abs(theirs_bpm - ours_bpm) > DISAGREEMENT_BPM:
                notes.append(f"{CHANNEL} beats at {ours_bpm:.0f} bpm, {name} at {theirs_bpm:.0f}.")
    return Reference(t_s, pulse_of_beats(beats[CHANNEL], t_s), rate_bpm, tuple(notes))


def _beats(file: Any, channel: int, start_s: float, end_s: float) -> Float:
    """Find the R peaks (K,) around the video, on the video's clock."""
    fs = float(file.getSampleFrequency(channel))
    n_samples = int(file.getNSamples()[channel])
    first = max(0, round((start_s - BEFORE_AND_AFTER_S) * fs))
    end = min(n_samples, round((end_s + BEFORE_AND_AFTER_S) * fs))
    return detect_r_peaks(file.readSignal(channel, first, end - first), fs) + first / fs - start_s


def _open_bdf(path: Path) -> Any:
    """Return a ``pyedflib.EdfReader``, which is a context manager."""
    try:
        import pyedflib
    except ImportError:
        raise AutoHRError(
            f"{str(path)!r} needs pyedflib to be read. Install it with: pip install 'autohr[datasets]'"
        ) from None
    if not path.is_file():
        raise BadRecording(f"{str(path)!r} is missing; copy it again.")
    try:
        return pyedflib.EdfReader(str(path))
    except (OSError, ValueError) as error:
        raise BadRecording(f"{str(path)!r} cannot be read as a BDF file ({str(error)[-80:]}); copy it again.") from None


SPEC = DatasetSpec(
    name=DATASET,
    title="MAHNOB-HCI",
    list_recordings=list_recordings,
    access="from the iBUG group, Imperial College London, after a signed licence of an academic institution",
    n_recordings=len(SESSIONS),
    basis="names from a list of all sessions; session.xml, Status and channels from several loaders",
    needs=("pyedflib",),
)
