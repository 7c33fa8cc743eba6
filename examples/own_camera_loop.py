"""Measure frames of your own: any camera that gives RGB pictures with times.

    python examples/own_camera_loop.py              the first camera; Ctrl-C ends it
    python examples/own_camera_loop.py face.mp4     a file in a camera's place

The times are in seconds; they need not be evenly spaced, but must increase.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

import autohr
from autohr.measure import summarise


def frames(source: int | str) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """Yield frames (H, W, 3), RGB, with their times in seconds. Put your own camera here."""
    capture = cv2.VideoCapture(source)
    began = time.monotonic()
    while True:
        # The time of a camera's frame is when it arrives; a file knows its own.
        grabbed, bgr = capture.read()
        if not grabbed:
            return
        t_s = time.monotonic() - began if isinstance(source, int) else capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        yield np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8), t_s


def main(source: int | str) -> None:
    """Print one line for each window of 10 s, and the rate over the whole time."""
    meter = autohr.Meter()
    readings = []
    try:
        for frame, t_s in frames(source):
            for reading in meter.push(frame, t_s):
                readings.append(reading)
                rate = reading.estimate
                trust = "reliable" if rate.reliable else rate.why_unreliable
                print(f"{reading.start_s:5.1f} to {reading.end_s:5.1f} s: {rate.hr_bpm or 0:5.1f} bpm, {trust}")
    except KeyboardInterrupt:
        pass
    readings += meter.finish()
    if readings:
        face = summarise([reading for reading in readings if reading.face_id == readings[0].face_id])
        print(f"over all: {face.hr_bpm or 0:.1f} bpm, confidence {face.confidence:.0%}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else 0)
