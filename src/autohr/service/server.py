"""Server of ``autohr serve``: a port, the page on it, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast
from urllib.parse import quote

import h11
import uvicorn
import websockets  # noqa: F401  uvicorn would serve the page without its socket, and not say so
from uvicorn.protocols.http.h11_impl import H11Protocol

from autohr.errors import AutoHRError
from autohr.methods import Method
from autohr.service.app import Service, make_app
from autohr.service.config import ServiceConfig, is_loopback
from autohr.service.memory import share_heaps
from autohr.service.tls import lan_address, qr_code

SHUTDOWN_S = 5
"""Longest time that open connections may take to end after Ctrl-C."""
STUCK_S = 30.0
"""Longest time that a client may not read its answer before the connection is closed."""


def serve(
    config: ServiceConfig,
    method: Method,
    say: Callable[[str], None] = print,
    tls: ssl.SSLContext | None = None,
    has_screen: bool = False,
) -> None:
    """Serve the page until Ctrl-C. ``say`` prints the lines for the terminal, with a QR code if it ``has_screen``.

    Raises
    ------
    AutoHRError
        The address cannot be listened on.
    """
    share_heaps()
    listening = open_port(config)

    def ready() -> None:
        say_where(config, listening, say, "http" if tls is None else "https")
        if tls is not None and has_screen and not is_loopback(config.host):
            say_code(config, listening, say)

    server, _ = make_server(config, method, ready, tls)
    with contextlib.suppress(KeyboardInterrupt), listening:
        server.run(sockets=[listening])
    say("Stopped. Nothing was kept.")


def say_where(
    config: ServiceConfig, listening: socket.socket, say: Callable[[str], None], scheme: str = "http"
) -> None:
    """Print the address to open, on a line of its own."""
    port = listening.getsockname()[1]
    name = socket.gethostname() if config.host in ("0.0.0.0", "::") else config.host
    say(f"Open  {_address(config, scheme, name, port)}  (Ctrl-C stops)")
    if not is_loopback(config.host) and scheme == "http":
        say(
            "Others who know the token can reach this page, over a connection that is not encrypted. Browsers give a "
            "camera only to https or localhost; from elsewhere files can be uploaded, or give --tls, or tunnel with: "
            f"ssh -L {port}:localhost:{port} THIS_MACHINE"
        )
    elif not is_loopback(config.host):
        say("Others who know the token can reach this page.")


def say_code(config: ServiceConfig, listening: socket.socket, say: Callable[[str], None]) -> None:
    """Print the address as a QR code for a phone in the same network."""
    name = (lan_address() or socket.gethostname()) if config.host in ("0.0.0.0", "::") else config.host
    code = qr_code(_address(config, "https", name, listening.getsockname()[1]))
    for line in (code or "For a QR code of the address: pip install 'autohr[phone]'").splitlines():
        say(line)


def _address(config: ServiceConfig, scheme: str, name: str, port: int) -> str:
    query = "" if config.token is None else f"?token={quote(config.token)}"
    name = f"[{name.strip('[]')}]" if ":" in name else name
    return f"{scheme}://{name}:{port}/{query}"


def token_for(host: str, token: str | None) -> str | None:
    """Return the given token, or a new one if others can reach this address."""
    return token or (None if is_loopback(host) else secrets.token_urlsafe(24))


def open_port(config: ServiceConfig) -> socket.socket:
    """Return a socket that listens at the config's address.

    Raises
    ------
    AutoHRError
        The address is taken, not of this machine, or not allowed.
    """
    host = config.host.strip("[]")
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.create_server(address, family=family, backlog=128)
    except OSError as error:
        raise AutoHRError(
            f"Cannot listen on {config.host}:{config.port}: {error.strerror or error}. "
            f"Another program may use the port; try --port {config.port + 1 if config.port < 65535 else 8000}, "
            "or --port 0 for a free one."
        ) from None
    return listening


class Server(uvicorn.Server):
    """Uvicorn server that calls ``ready`` when it is."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def make_server(
    config: ServiceConfig,
    method: Method,
    ready: Callable[[], None] = lambda: None,
    tls: ssl.SSLContext | None = None,
) -> tuple[Server, Service]:
    """Return the server, not yet running, and the application in it."""
    guarded, app = make_app(config, method)
    settings = uvicorn.Config(
        cast(Any, guarded),
        http=_protocol(config.header_s),
        ws="websockets-sansio",
        ws_max_size=config.max_frame_bytes,
        # Frames are JPEG: compressing them again costs time and lets small messages become large ones.
        ws_per_message_deflate=False,
        h11_max_incomplete_event_size=config.max_header_bytes,
        limit_concurrency=config.max_connections,
        timeout_graceful_shutdown=SHUTDOWN_S,
        # The access log would hold the token, and who looked when.
        access_log=False,
        log_level="error",
        server_header=False,
        proxy_headers=False,
    )
    # Uvicorn itself would make these settings from files alone.
    settings.load()
    settings.ssl = tls
    return Server(settings, ready), app


@contextlib.contextmanager
def running(config: ServiceConfig, method: Method, tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, Service]]:
    """Run a server in a thread, for tests and benchmarks; give its port and the application."""
    config = replace(config, port=0)
    up = threading.Event()
    with open_port(config) as listening:
        server, app = make_server(config, method, up.set, tls)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            if not up.wait(30):
                raise AutoHRError("The server did not start within 30 s.")
            yield listening.getsockname()[1], app
        finally:
            server.should_exit = True
            thread.join(30)


def _protocol(header_s: float) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with limits that it lacks.

    The connection is closed of a client that does not finish the head of a request within ``header_s``, or does not
    read its answer within ``STUCK_S``.
    """

    class LimitedProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._waiting = True
            self._last: object = None
            self._head_timer = self.loop.call_later(header_s, self._check_head)
            self._write_timer: asyncio.TimerHandle | None = None

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_timer.cancel()
            self.resume_writing()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._write_timer = self.loop.call_later(STUCK_S, self.transport.abort)

        def resume_writing(self) -> None:
            if self._write_timer is not None:
                self._write_timer.cancel()
                self._write_timer = None
            super().resume_writing()

        def _check_head(self) -> None:
            """Close the connection if the head of the same request was unfinished ``header_s`` ago and still is."""
            if self.transport.is_closing() or self.transport.get_protocol() is not self:
                return
            unfinished = self.conn.their_state is h11.IDLE
            if unfinished and self._waiting and self._last is self.cycle:
                self.transport.abort()
                return
            self._waiting, self._last = unfinished, self.cycle
            self._head_timer = self.loop.call_later(header_s, self._check_head)

    return LimitedProtocol
