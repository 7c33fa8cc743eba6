"""Settings of the local page, with all of its limits."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

MIN_TOKEN_LENGTH = 16
"""Shortest token that a person may choose. One made here has 32 characters (192 bits)."""


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach an address of this name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_origin(origin: str) -> None:
    """Refuse an origin that is not written as browsers send it.

    Raises
    ------
    ValueError
        The text is no origin, or one that no browser sends.
    """
    try:
        parts = urlsplit(origin)
        name, port = parts.hostname or "", parts.port
    except ValueError:
        name, port = "", None
    if not name or parts.scheme not in ("http", "https") or not origin.isascii() or set("*, ") & set(name):
        raise ValueError(f"{origin!r} is no origin; give one like 'https://a.example'.")
    name = f"[{name}]" if ":" in name else name
    is_usual = port is None or port == {"http": 80, "https": 443}[parts.scheme]
    sent = f"{parts.scheme}://{name}" + ("" if is_usual else f":{port}")
    if origin != sent:
        raise ValueError(f"{origin!r} is no origin; give {sent!r}.")


@dataclass(frozen=True)
class ServiceConfig:
    """Address of the page, the method it measures with, and the limits of a client."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    token: str | None = None
    """Password of every client; required if others than this machine can reach ``host``."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of other pages that may use the interface and the socket."""
    method: str | None = None
    """One of ``autohr list methods``; None for the default."""
    weights: str | None = None
    """Weights of a network: a shipped name, or a file."""
    device: str = "cpu"

    max_sessions: int = 2
    """Cameras measured at the same time: one for each of two cores."""
    max_session_s: float = 600.0
    """Longest session of a camera; the page then shows its result and offers a new one."""
    idle_s: float = 30.0
    """Longest time without a valid frame, as of a hidden tab or an unplugged camera, before a session is ended."""
    max_frame_bytes: int = 4 * 2**20
    """Largest message. A JPEG of 1280x720 from a canvas has at most 1 MB, plain RGB of that size 2.8 MB."""
    max_frame_pixels: int = 1280 * 1280
    """Largest frame. The page sends about 640x480."""
    max_bad_messages: int = 20
    """Number of malformed messages after which a session is ended."""

    max_upload_bytes: int = 500_000_000
    """Largest file: 4 minutes of full HD from a phone (17 Mbit/s), hours from a webcam."""
    max_video_s: float = 1800.0
    """Longest uploaded video, by its header and by the frames in it."""
    max_uploads: int = 2
    """Files received or measured at the same time."""
    upload_idle_s: float = 10.0
    """Longest silence of an upload before it is ended."""
    min_upload_bytes_per_s: float = 50e3
    """Slowest upload, on average after its first 20 s: one slow client must not hold a place."""
    max_measuring_s: float = 900.0
    """Longest time that one measurement may take. AutoHR needs half the length of the video or less."""
    max_memory_bytes: int = 6 * 2**30
    """Largest address space of the measuring process, so that no file exhausts memory. 640x480 needed 2.5 GB; full HD
    and more threads need more. Not applied with a GPU, whose driver maps more than the machine has."""
    poll_s: float = 120.0
    """Longest time without a question of the page before its measurement is stopped. Hidden tabs ask once a minute."""

    keep_s: float = 900.0
    """Longest time that a result stays in memory."""
    max_kept: int = 8
    """Largest number of results in memory; the oldest is removed first."""

    max_connections: int = 64
    """Largest number of connections at a time."""
    header_s: float = 10.0
    """Longest time that a client may take to send the head of a request."""
    max_header_bytes: int = 16 * 2**10

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port={self.port} must lie between 0 and 65535.")
        if self.token is None and not is_loopback(self.host):
            raise ValueError(
                f"host={self.host!r} can be reached by others; give a token, which the page then asks for."
            )
        if self.token is not None and (len(self.token) < MIN_TOKEN_LENGTH or not self.token.isascii()):
            raise ValueError(f"token has {len(self.token)} characters; it needs at least {MIN_TOKEN_LENGTH} of ASCII.")
        for origin in self.allowed_origins:
            check_origin(origin)
        for name in ("max_sessions", "max_uploads", "max_kept", "max_connections", "max_bad_messages"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more.")
        for name, value in vars(self).items():
            if isinstance(value, float) and not value > 0:
                raise ValueError(f"{name}={value:g} must be above 0.")
