"""One camera on the socket: frames in, one acknowledgement for each, and what can be said now a few times a second.

    client -> server   a binary message for each frame (frames.py); the text {"type": "stop"} at the end
    server -> client   {"type": "hello", ...}            once
                       {"type": "taken", "number": n}    for each frame, when it was decoded and handed on
                       {"type": "refused", "why": ...}   for a message that cannot be a frame
                       {"type": "state", ...}            ``LiveState``, STATES_PER_S times a second
                       {"type": "result", ...}           at the end: the id of the ``Result`` and a summary
                       {"type": "end", "why": ...}       where no session could be held

A page keeps at most ``IN_FLIGHT`` frames unacknowledged, so that it never sends faster than they are taken; of one that
does not keep to that, the server reads one message at a time, and the rest waits at the client. Nothing is queued here.
"""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import WebSocket

from autohr.errors import AutoHRError, VideoError
from autohr.live.session import LiveConfig, LiveSession
from autohr.methods import Method
from autohr.service.config import ServiceConfig
from autohr.service.frames import parse_frame
from autohr.service.measuring import measurement_files, summary_of
from autohr.service.results import Result, Results

IN_FLIGHT = 2
"""One frame is decoded while the next one is on its way."""
FULL = 30
"""Frames waiting to be measured from which acknowledgements are held back: then the page leaves pictures out before it
codes them, and the session (which keeps 45) drops none. A second of a usual camera; a net thinks for some tenths."""
STATES_PER_S = 5
SEND_S = 10.0
"""A client that does not read for so long is let go of."""
MAX_TEXT = 1000
SOURCE = "camera"

# Codes of RFC 6455, 7.4.1, and the registry it founds: 1008 policy, 1011 our failure, 1013 try again later.
POLICY, OURS, LATER = 1008, 1011, 1013


class Gone(Exception):
    """The client has left, or does not read."""


class Ended(Exception):
    """The session is over: the result is to be told, or why there is none."""

    def __init__(self, why: str | None = None, code: int = 1000) -> None:
        super().__init__(why)
        self.why, self.code = why, code


class Cameras:
    """All sessions of a server; used from its one event loop. Decoding and measuring happen in threads."""

    def __init__(self, config: ServiceConfig, method: Method, results: Results) -> None:
        self._config, self._method, self._results = config, method, results
        self.n_sessions = 0
        self._threads = ThreadPoolExecutor(2 * config.max_sessions, thread_name_prefix="autohr-camera")

    async def serve(self, socket: WebSocket) -> None:
        """Hold one session from its first frame to its result."""
        await socket.accept()
        if self.n_sessions >= self._config.max_sessions:
            why = f"{self.n_sessions} cameras are being measured already; this server takes no more. Try again later."
            await self._tell(socket, {"type": "end", "why": why})
            await socket.close(LATER, "busy")
            return
        self.n_sessions += 1
        loop = asyncio.get_running_loop()
        session: LiveSession | None = None
        try:
            session = await loop.run_in_executor(
                self._threads, lambda: LiveSession(self._method, LiveConfig(source=SOURCE))
            )
            await self._tell(socket, self._hello())
            end = await self._hold(socket, session)
            result, told = await loop.run_in_executor(self._threads, self._result, session, end.why)
            key = self._results.keep(result)
            try:
                await self._tell(socket, {**told, "id": key})
            except Gone:
                self._results.forget(key)
                raise
            await socket.close(end.code)
        except Gone:
            pass
        except Exception:
            traceback.print_exc()
            why = "autohr itself failed; the server's terminal says more."
            try:
                await self._tell(socket, {"type": "end", "why": why})
                await socket.close(OURS)
            except Gone:
                pass
        finally:
            try:
                if session is not None:
                    await asyncio.shield(loop.run_in_executor(self._threads, session.stop))
            finally:
                self.n_sessions -= 1

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _hello(self) -> dict[str, Any]:
        return {
            "type": "hello",
            "method": self._method.name,
            "method_title": self._method.title,
            "in_flight": IN_FLIGHT,
            "max_session_s": self._config.max_session_s,
            "max_frame_pixels": self._config.max_frame_pixels,
        }

    async def _hold(self, socket: WebSocket, session: LiveSession) -> Ended:
        """Receive and tell until one of the two ends the session."""
        tasks = {
            asyncio.create_task(self._receive(socket, session)),
            asyncio.create_task(self._tell_states(socket, session)),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        # The client's own end counts before what else failed because of it.
        for kind in (Gone, Ended, Exception):
            for end in ends:
                if isinstance(end, Ended):
                    return end
                if isinstance(end, kind):
                    raise end
        raise Gone

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
                    raise Ended(f"The session ended after {self._config.max_session_s / 60:g} minutes.") from None
                raise Ended(f"No picture came for {self._config.idle_s:g} s.", POLICY) from None
            if message["type"] == "websocket.disconnect":
                raise Gone
            data, text = message.get("bytes"), message.get("text")
            try:
                if text is not None:
                    if _is_stop(text):
                        raise Ended
                    raise VideoError('A text message must be {"type": "stop"}; frames are binary.')
                frame_message = parse_frame(data or b"", self._config.max_frame_pixels)
                frame = await loop.run_in_executor(self._threads, frame_message.decode)
            except VideoError as error:
                n_bad += 1
                if n_bad >= self._config.max_bad_messages:
                    raise Ended(f"{n_bad} messages were no pictures. The last: {error}", POLICY) from None
                await self._tell(socket, {"type": "refused", "why": str(error)})
                continue
            good_s = time.monotonic()
            hold_until = loop.time() + SEND_S
            session.offer(frame, frame_message.t_ms / 1000)
            while session.n_waiting >= FULL and loop.time() < hold_until:
                await asyncio.sleep(0.02)
            await self._tell(socket, {"type": "taken", "number": frame_message.number})

    async def _tell_states(self, socket: WebSocket, session: LiveSession) -> None:
        while True:
            await asyncio.sleep(1 / STATES_PER_S)
            await self._tell(socket, {"type": "state", **session.state().as_dict()})

    def _result(self, session: LiveSession, why_ended: str | None) -> tuple[Result, dict[str, Any]]:
        """Close the session: its files, for the page to fetch, and what to tell the page."""
        files: dict[str, str] = {}
        summary, why = None, why_ended
        try:
            measurement = session.close()
        except AutoHRError as error:
            why = f"{why_ended} {error}" if why_ended else str(error)
        else:
            files, summary = measurement_files(measurement, command="autohr serve"), summary_of(measurement)
        files["session.json"], files["readings.csv"] = session.as_json(), session.as_csv()
        return Result(files), {"type": "result", "files": sorted(files), "summary": summary, "why": why}

    async def _tell(self, socket: WebSocket, message: dict[str, Any]) -> None:
        """Send, or ``Gone`` where nobody reads."""
        text = json.dumps(message, allow_nan=False)
        try:
            async with asyncio.timeout(SEND_S):
                await socket.send_text(text)
        except Exception:
            # Starlette and uvicorn raise RuntimeError, OSError or their own, by the moment at which the client left.
            raise Gone from None


def _is_stop(text: str) -> bool:
    try:
        said = json.loads(text) if len(text) <= MAX_TEXT else None
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("type") == "stop"
