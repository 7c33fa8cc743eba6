"""Access control before every route and the socket, and the headers of every answer.

A page that anybody opens in another tab can send requests to 127.0.0.1. Three checks refuse them. The ``Host`` of a
request must be a name of this machine, so that a foreign name that was made to point here (DNS rebinding) is refused.
The ``Origin``, which browsers put on every socket and every request that changes something, must be the page's own or
an allowed one. And where others than this machine can reach the page, each request must carry the token: once in the
address, from then on in a cookie; programs send ``Authorization: Bearer TOKEN``. Pages of allowed origins never get a
cookie: they send that header, or the token in the address of the socket and of the module, which can carry no header.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from autohr.service.config import ServiceConfig, is_loopback

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "autohr_token"
SAFE_METHODS = ("GET", "HEAD")

PAGE_POLICY = (
    "default-src 'self'; connect-src 'self' ws://{host} wss://{host}; img-src 'self' blob: data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Content policy of the page: all from this server, nothing inline. For Safari the socket is not part of 'self'."""

REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox {allow}"
"""Content policy of the report: that of its own head, and no script."""
REPORT_ALLOWS = "allow-same-origin allow-popups allow-modals"

PREFLIGHT = {
    "access-control-allow-methods": "GET, POST, DELETE",
    "access-control-allow-headers": "authorization, content-type",
    "access-control-max-age": "600",
    "content-length": "0",
}
"""Answer to a browser that asks whether a page of an allowed origin may send a request."""

HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """ASGI application that checks each request before it calls ``app``."""

    def __init__(self, app: App, config: ServiceConfig) -> None:
        self._app, self._config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if not is_our_name(host, self._config):
            text = f"Refused: {host[:100]!r} is no name of this machine. Open the address that autohr serve printed."
            await _refuse(scope, receive, send, 421, text)
            return
        origin = headers.get("origin")
        is_embedded = not is_same_origin(origin, host) and origin in self._config.allowed_origins
        cross = _cross_headers(origin if is_embedded else None, self._config)
        unsafe = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        if unsafe and not is_embedded and not is_same_origin(origin, host):
            text = "Refused: the request comes from another page than autohr's own, and from no --allow-origin."
            await _refuse(scope, receive, send, 403, text, cross)
            return
        if is_embedded and scope["type"] == "http" and scope["method"] == "OPTIONS":
            # It carries no token, by the standard, and reveals nothing.
            local = {"access-control-allow-private-network": "true"}
            more = local if "access-control-request-private-network" in headers else {}
            await _send(send, 204, {**HEADERS, **cross, **PREFLIGHT, **more})
            return
        if self._config.token is not None:
            query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            in_address = _fits(query.get("token", ""), self._config.token)
            if in_address and scope["type"] == "http" and scope["method"] == "GET" and not is_embedded:
                await _redirect(scope, send, query, self._config.token)
                return
            if not in_address and not _has_token(headers, self._config.token):
                text = "Refused: the token is missing or wrong. Open the whole address that autohr serve printed."
                await _refuse(scope, receive, send, 401, text, cross)
                return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message.get("headers", ())}
                ours = {**HEADERS, **cross, "content-security-policy": PAGE_POLICY.format(host=host)}
                new = [(k.encode(), v.encode()) for k, v in ours.items() if k.encode() not in present]
                message = {**message, "headers": [*message.get("headers", ()), *new]}
            await send(message)

        if scope["type"] == "http" and scope["method"] == "HEAD":
            # The server, whose scope this is not, sends no body to HEAD.
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send_with_headers)


def is_our_name(host: str, config: ServiceConfig) -> bool:
    """Return True if a ``Host`` header, with or without its port, names this machine."""
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname, parts.port
    except ValueError:
        return False
    if not name or parts.netloc != host or (port is not None and port == 0) or set("/?#@ ") & set(host):
        return False
    if is_loopback(name) or name == config.host.strip("[]").lower():
        return True
    if is_loopback(config.host):
        return False
    if name.removesuffix(".local") == socket.gethostname().lower().removesuffix(".local"):
        return True
    try:
        # A number cannot be made to point elsewhere.
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_same_origin(origin: str | None, host: str) -> bool:
    """Return True if a request comes from our own page, or from a program, which sends no ``Origin``."""
    return origin is None or origin in (f"http://{host}", f"https://{host}")


def _cross_headers(origin: str | None, config: ServiceConfig) -> dict[str, str]:
    """Return the headers with which a page of an allowed origin may read an answer; none for another's."""
    headers = {"vary": "origin"} if config.allowed_origins else {}
    if origin is not None:
        headers |= {"access-control-allow-origin": origin, "access-control-expose-headers": "retry-after"}
    return headers


def _fits(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _cookie_value(token: str) -> str:
    """Return a hash of the token: cookies are also sent to other servers under this name."""
    return hashlib.sha256(f"{COOKIE}:{token}".encode()).hexdigest()


def _has_token(headers: dict[str, str], token: str) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and _fits(given.strip(), token):
        return True
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return False
    return cookie is not None and _fits(cookie.value, _cookie_value(token))


async def _redirect(scope: Scope, send: Send, query: dict[str, str], token: str) -> None:
    """Redirect to the address without the token, so that no history and no copied link holds it."""
    rest = urlencode({name: value for name, value in query.items() if name != "token"})
    # A path that begins with two slashes would lead to another host.
    where = "/" + scope["path"].lstrip("/\\") if scope["path"].isascii() and scope["path"].isprintable() else "/"
    cookie = f"{COOKIE}={_cookie_value(token)}; Path=/; HttpOnly; SameSite=Strict"
    if scope.get("scheme") == "https":
        cookie += "; Secure"
    await _send(
        send,
        303,
        {**HEADERS, "location": where + (f"?{rest}" if rest else ""), "set-cookie": cookie, "content-length": "0"},
    )


async def _refuse(
    scope: Scope, receive: Receive, send: Send, status: int, text: str, more: Mapping[str, str] | None = None
) -> None:
    if scope["type"] == "websocket":
        # This becomes a 403 without text, which no browser would show for a socket.
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    body = json.dumps({"error": text}).encode()
    about = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    await _send(send, status, {**HEADERS, **(more or {}), **about}, body)


async def _send(send: Send, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
