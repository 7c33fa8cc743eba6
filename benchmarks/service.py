"""Test the local page under load (cameras at 30 frames per second) and under malformed input.

    python benchmarks/service.py [--method autohr] [--clients 1 2 3] [--seconds 20] [--attacks 3000] [--json OUT]
    python benchmarks/service.py --soak 50 [--at-once 2] [--seconds 12]

Load: clients that send a synthetic face of 640x480 as JPEG at 30 frames per second for ``--seconds``, each keeping two
frames on their way as the page does; a client is held where 27 frames a second (90 %) are measured and none is dropped.
Fuzz: malformed messages, heads, bodies, disconnects in the middle of a frame and clients that neither read nor write,
by kind, each followed by the question whether the server still answers. The server is a process of its own; its memory
is read before and after, and its temporary files, connections and children are counted.
Soak: camera sessions one after the other, ``--at-once`` at a time, each ended by the client, which reads the result.
The server's memory is printed after each, and the exit code is 1 unless the last is within 20 % of the third.

The clients run on the same machine and take their share of it; the load average is printed with the figures.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import logging
import os
import random
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import psutil
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.sync.client import ClientConnection, connect

from autohr.lab.synth.video import SceneConfig, render
from autohr.service.camera import IN_FLIGHT
from autohr.service.frames import HEAD, JPEG, RGB, pack_frame

FPS, WIDTH, HEIGHT = 30.0, 640, 480
HELD_FPS = 0.9 * FPS
CLIP_S = 10.0
SOAK_GROWTH = 1.2
"""Largest ratio of the memory after the last session of a soak to that after the third."""
QUALITY = 95
"""JPEG quality, as the page codes frames."""


@dataclass
class Client:
    """Counts and times of one camera client."""

    sent: int = 0
    skipped: int = 0
    """Frames left out because two were on their way."""
    round_trips_ms: list[float] = field(default_factory=list)
    last_state: dict[str, Any] = field(default_factory=dict)
    first_reliable_s: float | None = None
    delays_s: list[float] = field(default_factory=list)
    error: str | None = None


# ---------------------------------------------------------------------------------------------------------------------
# The server


@contextlib.contextmanager
def serving(method: str | None, max_sessions: int) -> Iterator[tuple[int, psutil.Process]]:
    """``autohr serve`` in a process of its own: (its port, the process)."""
    command = [sys.executable, "-m", "autohr", "serve", "--port", "0", "--max-sessions", str(max_sessions)]
    command += ["--max-upload-mb", "5", *(["--method", method] if method else [])]
    environment = {name: value for name, value in os.environ.items() if name != "AUTOHR_TOKEN"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            found = re.search(r":(\d+)/", line)
            if found is None:
                raise SystemExit(f"The server did not start: {line!r}")
            yield int(found[1]), psutil.Process(server.pid)
        finally:
            server.terminate()


def is_alive(port: int) -> bool:
    """Return True if the page is still served within 10 s, after a moment in which connections may end."""
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            link.request("GET", "/api/about")
            if link.getresponse().status == 200:
                return True
        except OSError:
            pass
        finally:
            link.close()
        time.sleep(0.2)
    return False


def leftovers() -> int:
    """Temporary files of ours."""
    return sum(file.name.startswith("autohr-") for file in Path(tempfile.gettempdir()).iterdir())


# ---------------------------------------------------------------------------------------------------------------------
# Load


def run_client(port: int, jpegs: list[bytes], seconds: float, client: Client, *, to_result: bool = False) -> None:
    """Act as a camera of 30 frames per second that keeps at most two on their way.

    ``to_result`` ends the session as the page does, and waits for the result; without it the client just leaves.
    """
    try:
        with connect(f"ws://127.0.0.1:{port}/api/camera", max_size=None, compression=None) as link:
            while json.loads(link.recv(timeout=60))["type"] != "hello":
                pass
            on_way: dict[int, float] = {}
            begin_s = time.monotonic()
            number = 0

            def listen(timeout_s: float) -> None:
                with contextlib.suppress(TimeoutError):
                    message = json.loads(link.recv(timeout=max(0.0, timeout_s)))
                    now_s = time.monotonic()
                    if message["type"] == "taken" and message["number"] in on_way:
                        client.round_trips_ms.append(1000 * (now_s - on_way.pop(message["number"])))
                    elif message["type"] == "state":
                        client.last_state = message
                        client.delays_s.append(message["delay_s"])
                        if message["reliable"] and client.first_reliable_s is None:
                            client.first_reliable_s = now_s - begin_s

            while (now_s := time.monotonic()) < begin_s + seconds:
                due_s = begin_s + number / FPS
                if now_s < due_s:
                    listen(due_s - now_s)
                    continue
                if len(on_way) < IN_FLIGHT:
                    link.send(pack_frame(jpegs[number % len(jpegs)], 1000 * number / FPS, number, (WIDTH, HEIGHT)))
                    on_way[number] = now_s
                    client.sent += 1
                else:
                    client.skipped += 1
                number += 1
                listen(0)
            if to_result:
                link.send('{"type": "stop"}')
                while json.loads(link.recv(timeout=60))["type"] != "result":
                    pass
    except Exception as error:
        client.error = f"{type(error).__name__}: {error}"


def load(method: str | None, n_clients: int, seconds: float, jpegs: list[bytes]) -> dict[str, Any]:
    with serving(method, n_clients) as (port, server):
        clients = [Client() for _ in range(n_clients)]
        threads = [threading.Thread(target=run_client, args=(port, jpegs, seconds, client)) for client in clients]
        before_mib = server.memory_info().rss / 2**20
        cpu_before = server.cpu_times()
        began_s = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = time.monotonic() - began_s
        cpu = server.cpu_times()
        used_s = cpu.user + cpu.system - cpu_before.user - cpu_before.system
        after_mib = server.memory_info().rss / 2**20
    rows = []
    for client in clients:
        counts = client.last_state.get("frames", {})
        rows.append(
            {
                "sent": client.sent,
                "skipped": client.skipped,
                "measured": counts.get("measured"),
                "dropped": counts.get("dropped"),
                "measured_fps": round(counts.get("measured", 0) / seconds, 1),
                "hr_bpm": client.last_state.get("hr_bpm"),
                "reliable": client.last_state.get("reliable"),
                "first_reliable_s": None if client.first_reliable_s is None else round(client.first_reliable_s, 1),
                "round_trip_ms": round(statistics.median(client.round_trips_ms), 1) if client.round_trips_ms else None,
                "delay_s_median": round(statistics.median(client.delays_s), 3) if client.delays_s else None,
                "error": client.error,
            }
        )
    return {
        "clients": n_clients,
        "held": sum((row["measured_fps"] or 0) >= HELD_FPS and not row["dropped"] for row in rows),
        "server_cpu_s_per_s": round(used_s / took_s, 2),
        "server_mib": [round(before_mib), round(after_mib)],
        "each": rows,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Soak


def soak(method: str | None, n_sessions: int, at_once: int, seconds: float, jpegs: list[bytes]) -> dict[str, Any]:
    """Hold camera sessions, some at once, and read the server's memory after each."""
    levels_mib: list[int] = []
    errors: list[str] = []
    left, lock = iter(range(n_sessions)), threading.Lock()
    with serving(method, at_once) as (port, server):
        start_mib = round(server.memory_info().rss / 2**20)
        print(f"soak of {n_sessions} sessions of {seconds:g} s, {at_once} at once: {start_mib} MiB at the start")

        def hold_sessions() -> None:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                client = Client()
                run_client(port, jpegs, seconds, client, to_result=True)
                # The place of the last session is free once its threads have let go.
                time.sleep(1.0)
                with lock:
                    if client.error is not None:
                        errors.append(client.error)
                    levels_mib.append(round(server.memory_info().rss / 2**20))
                    print(
                        f"   session {len(levels_mib):3}: {levels_mib[-1]} MiB, {server.num_threads()} threads, "
                        f"{client.sent} frames, {client.last_state.get('readings')} readings {client.error or ''}",
                        flush=True,
                    )

        threads = [threading.Thread(target=hold_sessions) for _ in range(at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    third = levels_mib[min(2, len(levels_mib) - 1)]
    return {
        "sessions": n_sessions,
        "at_once": at_once,
        "start_mib": start_mib,
        "levels_mib": levels_mib,
        "growth": round(levels_mib[-1] / third - 1, 3),
        "held": levels_mib[-1] <= SOAK_GROWTH * third and not errors,
        "errors": errors,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Fuzz


def bend(data: bytes, dice: random.Random) -> bytes:
    """Return the data with some bytes changed, left out, doubled or added."""
    bent = bytearray(data)
    for _ in range(dice.randint(1, 8)):
        at = dice.randrange(len(bent) + 1)
        match dice.randrange(4):
            case 0 if bent:
                bent[at % len(bent)] = dice.randrange(256)
            case 1:
                del bent[at : at + dice.randint(1, 200)]
            case 2:
                bent[at:at] = bent[at : at + dice.randint(1, 200)]
            case _:
                bent[at:at] = dice.randbytes(dice.randint(1, 50))
    return bytes(bent)


def attacker(port: int) -> ClientConnection:
    """Open a socket that waits neither for a clean end nor for anybody to read it."""
    address = f"ws://127.0.0.1:{port}/api/camera"
    link: ClientConnection = connect(address, max_size=None, compression=None, max_queue=None, close_timeout=0.2)
    return link


def bad_messages(port: int, jpeg: bytes, dice: random.Random) -> int:
    """One session of 20 malformed messages or fewer, ended by either side."""
    n = 0
    with contextlib.suppress(ConnectionClosed, TimeoutError, OSError):
        with attacker(port) as link:
            link.recv(timeout=20)
            for k in range(20):
                good = pack_frame(jpeg, 40.0 * k, k, (WIDTH, HEIGHT))
                head = struct.pack("<dIHHB3x", dice.uniform(-1e9, 1e16), k, *dice.choices(range(65536), k=2), RGB)
                text = dice.choice(['{"type":"stop"', "[" * 500, "\0", '{"type": {"stop": 1}}', "null", "9" * 5000])
                parts = (bend(good, dice), head + dice.randbytes(100), dice.randbytes(dice.randint(0, 3000)))
                link.send(text if dice.random() < 0.25 else dice.choice(parts))
                n += 1
    return n


def large_message(port: int, jpeg: bytes, dice: random.Random) -> int:
    with contextlib.suppress(ConnectionClosed, TimeoutError, OSError):
        with attacker(port) as link:
            link.recv(timeout=20)
            link.send(bytes(dice.randint(4 * 2**20, 8 * 2**20)))
            link.recv(timeout=20)
    return 1


def pixel_bomb(port: int, jpeg: bytes, dice: random.Random) -> int:
    """Send a JPEG whose header claims four thousand million pixels, and one whose message does."""
    bomb = bytearray(jpeg)
    at = bomb.index(b"\xff\xc0") + 5
    bomb[at : at + 4] = b"\xff\xff\xff\xff"
    with contextlib.suppress(ConnectionClosed, TimeoutError, OSError):
        with attacker(port) as link:
            link.recv(timeout=20)
            link.send(HEAD.pack(0.0, 0, WIDTH, HEIGHT, JPEG) + bytes(bomb))
            link.send(HEAD.pack(0.0, 1, 65535, 65535, JPEG) + bytes(bomb))
    return 2


def cut_in_a_frame(port: int, jpeg: bytes, dice: random.Random) -> int:
    """Reset the connection in the middle of a message."""
    with contextlib.suppress(ConnectionClosed, TimeoutError, OSError):
        with attacker(port) as link:
            link.recv(timeout=20)
            link.send(pack_frame(jpeg, 0.0, 0, (WIDTH, HEIGHT)))
            # FIN, binary, masked, 64-bit length: the beginning of a frame that never comes whole.
            link.socket.sendall(b"\x82\xff" + struct.pack(">Q", len(jpeg)) + b"mask" + jpeg[: dice.randint(0, 5000)])
            link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            link.socket.shutdown(socket.SHUT_RDWR)
    return 1


def odd_request(port: int, jpeg: bytes, dice: random.Random) -> int:
    """Heads that are malformed, huge, doubled, foreign or of other protocols."""
    host = f"Host: localhost:{port}\r\n"
    heads = [
        dice.randbytes(dice.randint(1, 2000)),
        b"GET / HTTP/1.1\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}{host}\r\n".encode(),
        f"GET / HTTP/1.1\r\n{host}X: {'x' * dice.randint(10_000, 300_000)}\r\n\r\n".encode(),
        (f"GET / HTTP/1.1\r\n{host}" + "".join(f"X{k}: y\r\n" for k in range(2000)) + "\r\n").encode(),
        f"GET /{'a/' * dice.randint(1, 8000)} HTTP/1.1\r\n{host}\r\n".encode(),
        f"GET /page/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1\r\n{host}\r\n".encode(),
        f"GET /api/results/..%2f..%2f/report.html HTTP/1.1\r\n{host}\r\n".encode(),
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        f"POST /api/uploads HTTP/1.1\r\n{host}Origin: http://evil.example\r\nContent-Length: 1\r\n\r\nx".encode(),
        f"POST /api/uploads HTTP/1.1\r\n{host}Content-Length: -5\r\n\r\nx".encode(),
        f"POST / HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode(),
        f"POST /api/uploads HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
        f"GET /api/camera HTTP/1.1\r\n{host}Upgrade: websocket\r\nConnection: upgrade\r\n\r\n".encode(),
        f"GET /nowhere HTTP/1.1\r\n{host}Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + dice.randbytes(200),
        f"DELETE /api/uploads/x HTTP/1.1\r\n{host}\r\n".encode(),
        f"TRACE / HTTP/1.1\r\n{host}\r\n".encode(),
    ]
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.1) as raw:
        raw.sendall(dice.choice(heads))
        raw.recv(4096)
    return 1


def odd_upload(port: int, jpeg: bytes, dice: random.Random) -> int:
    """Bodies that are no video, cut off, or longer than allowed."""
    kind = dice.randrange(4)
    length = {0: 20_000, 1: 10**12, 2: 50_000, 3: 0}[kind]
    body = dice.randbytes(min(length, 20_000))
    head = (
        f"POST /api/uploads?name={'..%2F' * 3}x%00%0a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
    )
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.sendall(head.encode() + body)
        if kind != 2:
            raw.recv(4096)
    return 1


def slow_client(port: int, jpeg: bytes, dice: random.Random) -> int:
    """Leave a head open that never ends, for a second; or act as a camera that never reads."""
    with contextlib.suppress(OSError, ConnectionClosed, TimeoutError):
        if dice.random() < 0.5:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
                for letter in b"GET / HT":
                    raw.send(bytes([letter]))
                    time.sleep(0.1)
        else:
            with attacker(port) as link:
                for k in range(60):
                    link.socket.sendall(b"\x82\x80mask" if k % 2 else b"\x89\x80mask")
                    time.sleep(0.01)
    return 1


ATTACKS: dict[str, tuple[Callable[[int, bytes, random.Random], int], float]] = {
    "malformed messages": (bad_messages, 0.5),
    "odd requests": (odd_request, 0.35),
    "odd uploads": (odd_upload, 0.02),
    "cut in a frame": (cut_in_a_frame, 0.05),
    "pixel bombs": (pixel_bomb, 0.05),
    "too large messages": (large_message, 0.01),
    "slow clients": (slow_client, 0.02),
}
"""Name -> (what, its share of all attacks)."""


def fuzz(n_attacks: int, jpeg: bytes, seed: int) -> dict[str, Any]:
    """Attacks until each kind has had its share, in random order; the server must answer after each hundred."""
    dice = random.Random(seed)
    tried: Counter[str] = Counter()
    with serving("pos", 4) as (port, server):
        for attack, _ in list(ATTACKS.values())[:4]:
            attack(port, jpeg, dice)
        is_alive(port)
        before_mib, files_before = server.memory_info().rss / 2**20, leftovers()
        deaths = checks = 0
        while any(tried[name] < share * n_attacks for name, (_, share) in ATTACKS.items()):
            name = dice.choice([name for name, (_, share) in ATTACKS.items() if tried[name] < share * n_attacks])
            with contextlib.suppress(InvalidHandshake, InvalidMessage, EOFError):
                tried[name] += ATTACKS[name][0](port, jpeg, dice)
            if sum(tried.values()) // 100 > checks:
                checks = sum(tried.values()) // 100
                if not is_alive(port):
                    deaths += 1
                    if not server.is_running() or server.status() == psutil.STATUS_ZOMBIE:
                        break
        # Sessions, uploads and their processes end within their time limits.
        end_s = time.monotonic() + 60
        while time.monotonic() < end_s and (server.children() or len(server.net_connections()) > 1):
            time.sleep(0.5)
        alive = is_alive(port)
        after_mib = server.memory_info().rss / 2**20
        left = {"children": len(server.children()), "temporary_files": leftovers() - files_before}
    return {
        "tried": dict(tried),
        "total": sum(tried.values()),
        "checks": checks,
        "not_answered": deaths,
        "alive_at_the_end": alive,
        "server_mib": [round(before_mib), round(after_mib)],
        "left": left,
    }


def main() -> None:
    # The client library tells of every connection that is cut under it; cutting them is what is done here.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", help="of the load; the default method if not given. Fuzz is with pos.")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 2], help="cameras at the same time, run by run")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--attacks", type=int, default=3000)
    parser.add_argument("--soak", type=int, metavar="N", help="hold N sessions, and neither load nor fuzz")
    parser.add_argument("--at-once", type=int, default=2, help="sessions of the soak at the same time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    scene = SceneConfig(
        seed=3, duration_s=CLIP_S, width=WIDTH, height=HEIGHT, fps=FPS, hr_bpm=72, hrv=0, pulse_depth=0.02
    )
    setting = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    jpegs = [cv2.imencode(".jpg", frame[..., ::-1], setting)[1].tobytes() for frame, _ in render(scene)]
    figures: dict[str, Any] = {"cores": os.cpu_count(), "load_average": os.getloadavg()[0], "load": []}
    kib = statistics.mean(map(len, jpegs)) / 1024
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; {WIDTH}x{HEIGHT} JPEG of {kib:.0f} KiB")
    if options.soak:
        figures["soak"] = told = soak(options.method, options.soak, options.at_once, options.seconds, jpegs)
        print(f"{'held' if told['held'] else 'FAILED'}: {100 * told['growth']:+.0f} % after the third session")
    for n_clients in options.clients if not options.soak else ():
        row = load(options.method, n_clients, options.seconds, jpegs)
        figures["load"].append(row)
        fps = " ".join(f"{one['measured_fps']:.1f}" for one in row["each"])
        print(
            f"{n_clients} clients for {options.seconds:g} s: {row['held']} held at 30; measured per second {fps}; "
            f"server {row['server_cpu_s_per_s']} cores, {row['server_mib'][0]} to {row['server_mib'][1]} MiB"
        )
        for one in row["each"]:
            print("   " + json.dumps(one))
    if options.attacks and not options.soak:
        figures["fuzz"] = found = fuzz(options.attacks, jpegs[0], options.seed)
        print(f"{found['total']} attacks, {found['checks']} questions between them, {found['not_answered']} unanswered")
        for name, count in found["tried"].items():
            print(f"   {name:20} {count}")
        print(
            f"   alive at the end: {found['alive_at_the_end']}; {found['server_mib'][0]} to "
            f"{found['server_mib'][1]} MiB; left {found['left']}"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.soak and not figures["soak"]["held"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
