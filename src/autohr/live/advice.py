"""Advice to the person in front of the camera. Every sentence has a cause that was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autohr.confidence.verdict import LEAST_FOUND, LEAST_FPS, LEAST_S, TRUSTED_S, is_codec, is_light, is_movement
from autohr.types import Reading
from autohr.video.regions import PATCH_PX

MIN_FACE_PX = 1.25 * PATCH_PX
"""Face sides below this are too far: the canonical patch then magnifies the face, and averages nothing."""
MIN_SKIN_LEVEL = 60.0
"""Skin whose lightest channel has a mean below this is too dark. A pulse is about half a percent of the skin's colour:
at 60 of 255 that is a third of one step of an 8-bit picture."""
MAX_SKIN_LEVEL = 240.0
"""Above this skin is burnt out, and the skin mask leaves it out (``video/regions.py``)."""
MAX_MOVED = 0.08
"""Way of the face's centre within a second, in face sizes, from which the head is said to move. Of drawn faces at rest
0.02 in the median and 0.04 at most; of talking ones 0.03 and 0.08; of heads that sway six times as far 0.10 and 0.28.
"""
MAX_DELAY_S = 5.0
"""Delay from which a rate is said to be late: half a window of before, in which a heart may change its pace."""
MIN_MEASURED_SHARE = 0.5
"""Share of the frames that come below which it is said that the others are left out, also of a reliable rate."""
SLOW_FPS = 2 * LEAST_FPS
"""Frames per second below which slowness is given as the reason: twice the least with which anything is read."""


@dataclass(frozen=True)
class Sight:
    """The facts about one moment of a session that advice is made of."""

    face_seen: bool = False
    face_px: float = 0.0
    """The shorter side of the face's box, in pixels of the frame."""
    skin_level: float | None = None
    """Mean of the skin's lightest channel, 0..255."""
    moved: float = 0.0
    """Way of the face's centre within the last second, in face sizes."""
    followed_s: float = 0.0
    fps_in: float = 30.0
    fps_measured: float = 30.0
    delay_s: float = 0.0
    """Time from the offer of the newest measured frame to its result."""
    reading: Reading | None = None
    """The newest one of the face, if it is recent."""


def advise(sight: Sight) -> tuple[str, ...]:
    """Return what would help, the most important first; nothing while the rate is reliable and up to date.

    Examples
    --------
    >>> advise(Sight(face_seen=True, face_px=50, followed_s=2.2))
    ('Come closer.', 'Wait: 6 more seconds for a reliable rate.')
    """
    reading = sight.reading
    estimate = None if reading is None else reading.estimate
    if estimate is not None and estimate.reliable:
        return _lateness(sight)
    if not sight.face_seen:
        return ("No face. Look at the camera.",)
    # In a shorter window the evidence is as weak as the rate.
    is_long = reading is not None and reading.end_s - reading.start_s > TRUSTED_S - 0.1
    evidence = estimate.evidence if estimate is not None and is_long else None
    is_moving = sight.moved > MAX_MOVED or (evidence is not None and is_movement(evidence))
    slow_camera = 0 < sight.fps_in < SLOW_FPS
    causes = [
        (sight.face_px < MIN_FACE_PX, "Come closer."),
        (sight.skin_level is not None and sight.skin_level < MIN_SKIN_LEVEL, "More light."),
        (sight.skin_level is not None and sight.skin_level > MAX_SKIN_LEVEL, "Less light: the skin is burnt out."),
        (is_moving, "Hold still."),
        # Not beside the former: a head that moves uncovers and shades its background in step.
        (
            not is_moving and evidence is not None and is_light(evidence),
            "The light flickers: try daylight or another lamp.",
        ),
        (
            evidence is not None and is_codec(evidence),
            "The picture is compressed too much: use a better connection or camera.",
        ),
        (reading is not None and reading.found_share < LEAST_FOUND, "Keep your face turned to the camera."),
        (
            slow_camera,
            f"The camera is slow: {sight.fps_in:.0f} frames per second. More light makes most cameras faster.",
        ),
        (
            not slow_camera and 0 < sight.fps_measured < SLOW_FPS,
            f"This computer is too slow: {sight.fps_measured:.0f} of {sight.fps_in:.0f} frames per second are "
            "measured.",
        ),
    ]
    advice = [sentence for applies, sentence in causes if applies]
    if sight.followed_s < TRUSTED_S:
        left_s = max(1, math.ceil(TRUSTED_S - sight.followed_s))
        advice.append(f"Wait: {left_s} more second{'s' * (left_s > 1)} for a reliable rate.")
    elif not advice and estimate is not None:
        advice.append("The pulse is weak: more light on the face, and hold still.")
    return tuple(advice)


def _lateness(sight: Sight) -> tuple[str, ...]:
    """Return what is to be known of a reliable rate that lags behind, or is read of few of the frames."""
    words = []
    if sight.delay_s >= MAX_DELAY_S:
        words.append(f"The rate comes {sight.delay_s:.0f} s late: this computer is too slow.")
    if 0 < sight.fps_measured <= MIN_MEASURED_SHARE * sight.fps_in:
        words.append(
            f"Only {sight.fps_measured:.0f} of {sight.fps_in:.0f} frames per second are measured: this computer is too "
            "slow."
        )
    return tuple(words)


def why_no_rate(sight: Sight) -> str:
    """Return why there is no recent reading.

    Examples
    --------
    >>> why_no_rate(Sight(face_seen=True, followed_s=2.2))
    'only 2 s of face: a number needs 4 s'
    """
    if not sight.face_seen:
        return "no face is seen"
    if sight.followed_s < LEAST_S:
        return f"only {math.floor(sight.followed_s)} s of face: a number needs {LEAST_S:g} s"
    if 0 < sight.fps_measured < LEAST_FPS:
        return f"{sight.fps_measured:.1f} frames per second; at least {LEAST_FPS:.1f} are needed"
    return "the newest reading is too old"
