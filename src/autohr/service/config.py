"""How the local page is served, and every limit of it in one place."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

LEAST_TOKEN = 16
"""Least length of a token that a person chooses. One made here has 32 letters (192 bits)."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address of this name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class ServiceConfig:
    """Where the page listens, what it measures with, and how much of it a client may use."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    token: str | None = None
    """Asked of every client; needed where others than this machine can reach ``host``."""
    method: str | None = None
    """Of ``autohr list methods``; None for the default."""
    weights: str | None = None
    """For a net: the name of shipped weights, or a file."""
    device: str = "cpu"

    max_sessions: int = 2
    """Cameras measured at the same time: one for each of two cores."""
    max_session_s: float = 600.0
    """Length of one session of the camera; the page then shows its result and offers a new one."""
    idle_s: float = 30.0
    """A session without a good frame for so long is ended: a hidden tab, a camera that was pulled out."""
    max_frame_bytes: int = 4 * 2**20
    """Of one message. A JPEG of 1280x720 from a canvas has at most 1 MB, and 1280x720 plain RGB has 2.8 MB."""
    max_frame_pixels: int = 1280 * 1280
    """Of one frame. The page sends 640x480 or its like."""
    max_bad_messages: int = 20
    """Malformed messages after which a session is ended."""

    max_upload_bytes: int = 500_000_000
    """Of one file: 4 minutes from a phone in full HD (17 Mbit/s), hours from a webcam."""
    max_video_s: float = 1800.0
    """Length of an uploaded video."""
    max_uploads: int = 2
    """Files received or measured at the same time."""
    upload_idle_s: float = 10.0
    """An upload that sends nothing for so long is ended."""
    least_upload_bytes_per_s: float = 50e3
    """An upload slower than this on average, after its first 20 s, is ended: one slow client must not hold a place."""
    max_measuring_s: float = 900.0
    """Wall clock of one measurement. AutoHR measures at twice real time or better, so that half an hour fits."""
    max_memory_bytes: int = 6 * 2**30
    """Address space of the measuring process; a decoder led astray by a file ends here. A video of 640x480 was measured
    within 2.5 GB of it; full HD and more threads need more. Not applied with a GPU, whose driver maps more than the
    machine has."""
    poll_s: float = 120.0
    """A measurement whose page has not asked for so long is stopped. Browsers let hidden tabs ask once a minute."""

    keep_s: float = 900.0
    """How long a result stays in memory."""
    max_kept: int = 8
    """Results in memory; the oldest goes first."""

    max_connections: int = 64
    """Connections at a time; more are told to come back."""
    header_s: float = 10.0
    """Time that a client has to send the head of a request."""
    max_header_bytes: int = 16 * 2**10

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port={self.port} must lie between 0 and 65535.")
        if self.token is None and not is_loopback(self.host):
            raise ValueError(
                f"host={self.host!r} can be reached by others; give a token, which the page then asks for."
            )
        if self.token is not None and (len(self.token) < LEAST_TOKEN or not self.token.isascii()):
            raise ValueError(f"token has {len(self.token)} characters; it needs at least {LEAST_TOKEN} of ASCII.")
        for name in ("max_sessions", "max_uploads", "max_kept", "max_connections", "max_bad_messages"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more.")
        for name, value in vars(self).items():
            if isinstance(value, float) and not value > 0:
                raise ValueError(f"{name}={value:g} must be above 0.")
