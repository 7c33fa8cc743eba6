"""The JSON of a measurement: one table for each object, of which ``measurement_schema`` makes a JSON Schema."""

from __future__ import annotations

from typing import Any

from autohr.types import MEASUREMENT_SCHEMA

Fields = dict[str, tuple[str | dict[str, Any], str]]
"""Name -> type ("number", "string | null", or a schema of its own) and description with the unit."""


def _object(description: str, fields: Fields) -> dict[str, Any]:
    """Return the schema of an object that has all these keys and no other."""
    properties = {}
    for name, (kind, text) in fields.items():
        if isinstance(kind, str):
            names = kind.split(" | ")
            kind = {"type": names if len(names) > 1 else names[0]}
        properties[name] = {**kind, "description": text}
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(fields),
        "additionalProperties": False,
    }


def _list_of(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
SHARE: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}

RATE: Fields = {
    "hr_bpm": ("number | null", "Heart rate in beats per minute; null, never a guess, where none could be estimated."),
    "confidence": (SHARE, "Calibrated chance, 0 to 1, that hr_bpm is within 5 beats per minute of the truth."),
    "reliable": ("boolean", "False where there is no rate, or one that must not be trusted."),
    "snr_db": ("number | null", "Power at the rate and its double over that of the rest of the band, in decibel."),
    "why_unreliable": ("string | null", "Reason why the rate is not reliable; null where it is."),
}

WINDOW: Fields = {
    "start_s": ("number", "Start of the window, in seconds from the first frame."),
    "end_s": ("number", "End of the window, in seconds from the first frame."),
    **RATE,
}

WAVE: Fields = {
    "fps": ("number", "Samples per second."),
    "start_s": ("number", "Time of the first sample, in seconds from the first frame."),
    "values": (
        _list_of({"type": ["number", "null"], "description": "One sample; null in a gap."}),
        "The wave, without a unit, of about unit standard deviation. Positive means more blood in the skin.",
    ),
}

HRV: Fields = {
    "duration_s": ("number", "Sum of the accepted intervals between beats, in seconds."),
    "n_beats": (COUNT, "Number of beats."),
    "mean_hr_bpm": ("number", "Mean heart rate of these beats, in beats per minute."),
    "sdnn_ms": ("number | null", "SDNN: standard deviation of the intervals, in milliseconds."),
    "sdnn_error_ms": ("number | null", "Error of SDNN, in milliseconds."),
    "rmssd_ms": ("number | null", "RMSSD: root mean square of successive differences, in milliseconds."),
    "rmssd_error_ms": ("number | null", "Error of RMSSD, in milliseconds."),
    "pnn50_pct": ("number | null", "pNN50: successive differences of more than 50 ms, in percent."),
    "pnn50_error_pct": ("number | null", "Error of pNN50, in percentage points."),
    "lf_ms2": ("number | null", "LF: power of the intervals from 0.04 to 0.15 Hz, in square milliseconds."),
    "lf_error_ms2": ("number | null", "Error of LF, in square milliseconds."),
    "hf_ms2": ("number | null", "HF: power of the intervals from 0.15 to 0.4 Hz, in square milliseconds."),
    "hf_error_ms2": ("number | null", "Error of HF, in square milliseconds."),
    "lf_hf": ("number | null", "Ratio of LF to HF, without a unit."),
    "lf_hf_error": ("number | null", "Error of the ratio, without a unit."),
    "withheld": ("string | null", "Figures that are too uncertain to be given, with what was found; null if none."),
}

FACE: Fields = {
    "id": (COUNT, "Number of the face, in the order of their appearance."),
    **RATE,
    "start_s": ("number", "Start of the face's first window, in seconds from the first frame."),
    "end_s": ("number", "End of the face's last window, in seconds from the first frame."),
    "windows": (_list_of(_object("The rate over one window.", WINDOW)), "Windows, in the order of their starts."),
    "bvp": (
        _or_null(_object("A pulse wave on a uniform clock.", WAVE)),
        "Pulse wave of the whole time; null for methods that give none.",
    ),
    "beats_s": (
        _list_of({"type": "number", "description": "Time of one beat, in seconds from the first frame."}),
        "Times of the beats in reliable windows; empty where their timing is not good enough.",
    ),
    "beat_error_ms": ("number | null", "Standard deviation of the beats' times between two readings, in milliseconds."),
    "why_no_beats": ("string | null", "Reason why no beats are given; null where they are."),
    "hrv": (
        _or_null(_object("Heart-rate variability; an error stands beside each figure.", HRV)),
        "Heart-rate variability by the Task Force of 1996; null where the beats do not allow it.",
    ),
    "why_no_hrv": ("string | null", "Reason why no variability is given; null where it is."),
    "resp_bpm": (
        "number | null",
        "Breaths per minute; always null so far, for no error of it could be bounded (log of 2026-11-28).",
    ),
}

FRAMES: Fields = {
    "read": (COUNT, "Frames that were decoded and looked at."),
    "face": (COUNT, "Frames in which at least one followed face was seen."),
    "repaired": (COUNT, "Frames whose time or face had to be filled in."),
    "dropped": (COUNT, "Frames that were not used: damaged, or with a time that was already taken."),
}

MEASUREMENT: Fields = {
    "schema": ({"const": MEASUREMENT_SCHEMA}, "Name and version of this layout."),
    "path": ("string", "File, address or camera as it was named; 'frames' for frames in memory."),
    "method": ("string", "Name of the method, as `autohr list methods` has it."),
    "method_title": ("string | null", "Spelling of the method's name in papers."),
    "weights": ("string | null", "Name or path of the network's weights; null for formulas."),
    "duration_s": ("number", "Time from the first measured frame to the last, in seconds."),
    "fps_mean": ("number", "Mean number of frames per second over that time."),
    "frames": (_object("Counts of the frames.", FRAMES), "Counts of the frames, by what became of them."),
    "faces": (
        _list_of(_object("The result for one face.", FACE)),
        "Faces that were measured, in the order of their appearance.",
    ),
    "main_face_id": ("integer | null", "Id of the face to take when only one is wanted; null without faces."),
    "notes": (
        _list_of({"type": "string", "description": "One sentence."}),
        "One sentence for each thing that was repaired, left out or refused.",
    ),
}


def measurement_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``Measurement.as_dict``.

    Examples
    --------
    >>> measurement_schema()["properties"]["duration_s"]["type"]
    'number'
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": MEASUREMENT_SCHEMA,
        "title": "Measurement of autohr",
        **_object("Heart rates of the faces in one video.", MEASUREMENT),
    }
