"""Camera sessions over the socket: frames in; acknowledgements, states and the result out.

    client -> server   a binary message for each frame (frames.py); the text {"type": "show", "face_id": n} for the face
                       whose rate is to be shown; the text {"type": "stop"} at the end
    server -> client   {"type": "hello", ...}            once, with the version of these messages
                       {"type": "taken", "number": n}    for each frame, when it was decoded and passed on
                       {"type": "refused", "why": ...}   for a message that cannot be a frame
                       {"type": "state", ...}            ``LiveState``, STATES_PER_S times a second
                       {"type": "result", ...}           at the end: the id of the ``Result`` and a summary
                       {"type": "end", "why": ...}       if no session could be held

``docs/service.md`` has every field, the order and the close codes.

The address may end in ``?faces=n``: the number of people to follow, 1 without it.

A page keeps at most ``IN_FLIGHT`` frames unacknowledged, so that it never sends faster than they are measured. From one
that sends more, the server reads one message at a time; nothing is queued here.
"""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from fastapi import WebSocket

from autohr.errors import AutoHRError, VideoError
from autohr.live.session import LiveConfig, LiveSession
from autohr.methods import Method
from autohr.reports.live_outputs import LiveFiles
from autohr.service.config import ServiceConfig
from autohr.service.frames import parse_frame
from autohr.service.measuring import measurement_files, summary_of
from autohr.service.memory import release_memory
from autohr.service.openapi import API_VERSION
from autohr.service.results import Result, Results

IN_FLIGHT = 2
"""One frame is decoded while the next one is on its way."""
MAX_WAITING = 30
"""Number of waiting frames from which acknowledgements are held back: the page then skips pictures before it encodes
them, and the session, which keeps 45, drops none. It is a second of a usual camera; a network takes some tenths."""
STATES_PER_S = 5
SEND_S = 10.0
"""Longest time that a client may not read before its session is ended."""
MAX_TEXT = 1000
MAX_FACES = 4
"""Largest number of people that a page may have followed. Each costs as much as the first."""
SOURCE = "camera"

# Codes of RFC 6455, 7.4.1, and the registry it founds: 1008 policy, 1011 our failure, 1013 try again later.
POLICY, OURS, LATER = 1008, 1011, 1013


class ClientGone(Exception):
    """The client has left, or does not read."""


class SessionEnded(Exception):
    """The session is over: the result is to be sent, or why there is none."""

    def __init__(self, why: str | None = None, code: int = 1000) -> None:
        super().__init__(why)
        self.why, self.code = why, code


class Cameras:
    """All camera sessions of a server, used from its one event loop. Decoding and measuring happen in threads."""

    def __init__(self, config: ServiceConfig, method: Method, results: Results) -> None:
        self._config, self._method, self._results = config, method, results
        self.n_sessions = 0
        self._threads = ThreadPoolExecutor(2 * config.max_sessions, thread_name_prefix="autohr-camera")

    async def serve(self, socket: WebSocket) -> None:
        """Hold one session from its first frame to its result."""
        await socket.accept()
        if self.n_sessions >= self._config.max_sessions:
            why = f"{self.n_sessions} cameras are being measured already; this server takes no more. Try again later."
            await self._send(socket, {"type": "end", "api_version": API_VERSION, "why": why})
            await socket.close(LATER, "busy")
            return
        self.n_sessions += 1
        try:
            result, message, code = await self._measure(socket)
            key = self._results.keep(result)
            try:
                await self._send(socket, {**message, "id": key})
            except ClientGone:
                self._results.forget(key)
                raise
            await socket.close(code)
        except ClientGone:
            pass
        except Exception:
            traceback.print_exc()
            why = "autohr itself failed; the server's terminal says more."
            try:
                await self._send(socket, {"type": "end", "api_version": API_VERSION, "why": why})
                await socket.close(OURS)
            except ClientGone:
                pass

    async def _measure(self, socket: WebSocket) -> tuple[Result, dict[str, Any], int]:
        """Measure until the session ends; return its files, the message of its end and the code to close with.

        Its place is free when this is over, so that a client that hears the end may begin anew at once.
        """
        loop = asyncio.get_running_loop()
        session: LiveSession | None = None
        # Rows on the disk, in a file without a name: a session may have more readings than memory is kept for.
        files = LiveFiles(source=SOURCE, method=self._method.name, weights=self._method.weights)
        try:
            config = LiveConfig(source=SOURCE)
            n_faces = _read_number(socket.query_params.get("faces"), MAX_FACES)
            config = replace(config, meter=replace(config.meter, max_faces=n_faces))
            session = await loop.run_in_executor(
                self._threads, lambda: LiveSession(self._method, config, on_readings=files.add)
            )
            await self._send(socket, self._hello())
            end = await self._hold(socket, session)
            return *await loop.run_in_executor(self._threads, self._result, session, files, end.why), end.code
        finally:
            try:
                if session is not None:
                    await asyncio.shield(loop.run_in_executor(self._threads, session.stop))
                    session = None
                    files.finish(None)
                    await asyncio.shield(loop.run_in_executor(self._threads, release_memory))
            finally:
                self.n_sessions -= 1

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _hello(self) -> dict[str, Any]:
        return {
            "type": "hello",
            "api_version": API_VERSION,
            "method": self._method.name,
            "method_title": self._method.title,
            "in_flight": IN_FLIGHT,
            "max_faces": MAX_FACES,
            "max_session_s": self._config.max_session_s,
            "max_frame_pixels": self._config.max_frame_pixels,
        }

    async def _hold(self, socket: WebSocket, session: LiveSession) -> SessionEnded:
        """Receive frames and send states until one of the two ends the session."""
        tasks = {
            asyncio.create_task(self._receive(socket, session)),
            asyncio.create_task(self._send_states(socket, session)),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        # The client's own end counts before other failures, which it may have caused.
        for kind in (ClientGone, SessionEnded, Exception):
            for end in ends:
                if isinstance(end, SessionEnded):
                    return end
                if isinstance(end, kind):
                    raise end
        raise ClientGone

    async def _receive(self, socket: WebSocket, session: LiveSession) -> None:
        loop = asyncio.get_running_loop()
        began_s = good_s = time.monotonic()
        n_bad = 0
        while True:
            now_s = time.monotonic()
            left_s = min(began_s + self._config.max_session_s, good_s + self._config.idle_s) - now_s
            try:
                async with asyncio.timeout(max(0.0, left_s)):
                    message = await socket.receive()
            except TimeoutError:
                if time.monotonic() >= began_s + self._config.max_session_s:
                    raise SessionEnded(
                        f"The session ended after {self._config.max_session_s / 60:g} minutes."
                    ) from None
                raise SessionEnded(f"No picture came for {self._config.idle_s:g} s.", POLICY) from None
            if message["type"] == "websocket.disconnect":
                raise ClientGone
            data, text = message.get("bytes"), message.get("text")
            try:
                if text is not None:
                    wish = _read_wish(text)
                    if wish.get("type") == "stop":
                        raise SessionEnded
                    if wish.get("type") == "show" and isinstance(wish.get("face_id"), int):
                        session.show(wish["face_id"])
                        continue
                    raise VideoError(
                        'A text message must be {"type": "stop"} or {"type": "show", "face_id": 0}; frames are binary.'
                    )
                frame_message = parse_frame(data or b"", self._config.max_frame_pixels)
                frame = await loop.run_in_executor(self._threads, frame_message.decode)
            except VideoError as error:
                n_bad += 1
                if n_bad >= self._config.max_bad_messages:
                    raise SessionEnded(f"{n_bad} messages were no pictures. The last: {error}", POLICY) from None
                await self._send(socket, {"type": "refused", "why": str(error)})
                continue
            good_s = time.monotonic()
            hold_until = loop.time() + SEND_S
            session.offer(frame, frame_message.t_ms / 1000)
            while session.n_waiting >= MAX_WAITING and loop.time() < hold_until:
                await asyncio.sleep(0.02)
            await self._send(socket, {"type": "taken", "number": frame_message.number})

    async def _send_states(self, socket: WebSocket, session: LiveSession) -> None:
        while True:
            await asyncio.sleep(1 / STATES_PER_S)
            await self._send(socket, {"type": "state", **session.state().as_dict()})

    def _result(self, session: LiveSession, lines: LiveFiles, why_ended: str | None) -> tuple[Result, dict[str, Any]]:
        """Close the session; return its files, and the message with the summary."""
        files: dict[str, str] = {}
        summary, why = None, why_ended
        try:
            measurement = session.close(first=lines.first)
        except AutoHRError as error:
            why = f"{why_ended} {error}" if why_ended else str(error)
        else:
            files, summary = measurement_files(measurement, command="autohr serve"), summary_of(measurement)
            why = " ".join(filter(None, (why_ended, session.about_others()))) or None
        files["session.json"], files["readings.csv"] = session.as_json(lines.first), session.as_csv(lines.first)
        return Result(files), {"type": "result", "files": sorted(files), "summary": summary, "why": why}

    async def _send(self, socket: WebSocket, message: dict[str, Any]) -> None:
        """Send a message, or raise ``ClientGone`` if nobody reads."""
        text = json.dumps(message, allow_nan=False)
        try:
            async with asyncio.timeout(SEND_S):
                await socket.send_text(text)
        except Exception:
            # Starlette and uvicorn raise RuntimeError, OSError or their own, by the moment at which the client left.
            raise ClientGone from None


def _read_wish(text: str) -> dict[str, Any]:
    """Return the object of a text message; an empty one where it is none."""
    try:
        message = json.loads(text) if len(text) <= MAX_TEXT else None
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _read_number(text: str | None, most: int) -> int:
    """Return a number of 1 to ``most``, 1 for anything else."""
    number = int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 3 else 1
    return number if 1 <= number <= most else 1
