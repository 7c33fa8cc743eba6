"""Does a live session keep up with a camera? A synthetic face, 640x480 at 30 fps, played in real time.

    python benchmarks/live.py [--duration-s 40] [--method autohr] [--json OUT]

Without a method: POS, and AutoHR if there are weights of it, shipped or given. First ``autohr live`` itself plays the
file on a terminal:

    one core     processor time of the command as a share of one core, from its twelfth second on, when readings come
                 once a second; the share of decoding the file in the same way, which a camera does not need; and the
                 share of frames that were dropped: where it is not 0, all of them would need more

Then the frames go through a ``LiveSession``: on all cores, on one, and on one of which it has half of the time
(stopped and continued every ``SLICE_S``), as on a machine half as fast. For each:

    measured     share of the offered frames that were measured; the others were dropped, for they came too fast
    offered      largest delay of an offer: how far the file's playing itself fell behind
    reliable     time from the first frame's offer until a reliable number could be seen
    updates      new numbers per second after that
    frame late   from the offer of a frame to its result, as ``LiveState.delay_s``
    number late  from the moment the last frame of a number's window was offered until the number could be seen
    CPU          processor seconds of the whole process per second of video, those of decoding the file among them.
                 Where other programs load the machine, this is the figure to trust.
    said         the advice that was shown, and for how long; the notes of the answer
    RSS          resident memory before the first frame, after a third of the time, and at the end
    unhurried    on all cores: the same frames through ``take`` as quickly as can be: times faster than real time,
                 decoding included

Each of them runs in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from autohr.errors import AutoHRError
from autohr.lab.synth.video import SceneConfig, write_scene
from autohr.live.session import LiveConfig, LiveSession
from autohr.methods import METHODS, load_method, ready_methods
from autohr.video.decode import open_video, read_ahead
from measure import on_cores

CRF = 14
"""Quality of the encoder, as in benchmarks/measure.py: about 4 Mbit/s, a good webcam or phone at this size."""
POLL_S = 0.005
STEADY_FROM_S = 12.0
"""Seconds after the command's start from which its share of a core is taken: its first window of 10 s is then full."""
SLICE_S = 0.01
"""Time for which a process on half a core is stopped, and then runs: a third of the time between two frames."""
MACHINES: dict[str, tuple[int | None, bool]] = {
    "all cores": (None, False),
    "one core": (1, False),
    "half a core": (1, True),
}
"""Cores of each machine that is tried, and True where the process is held half of the time."""


def rss_mib() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20


def decoding_cpu_s(video: Path) -> float:
    began_s = time.process_time()
    with open_video(video) as reader:
        for _ in read_ahead(reader):
            pass
    return time.process_time() - began_s


def share_of_core(video: Path, options: list[str]) -> tuple[float, float]:
    """Return the share of one core that ``autohr live`` takes, and the share of the frames that it drops.

    It draws on a terminal of 100 by 30 characters.
    """
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    out = video.with_suffix(".json")
    arguments = [sys.executable, "-m", "autohr", "live", "--camera", str(video), "--json", str(out), *options]
    process = psutil.Popen(arguments, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL, env=env)
    os.close(theirs)

    def read_all() -> None:
        # Linux answers with an error when the other end is closed.
        with contextlib.suppress(OSError):
            while os.read(ours, 65536):
                pass

    reader = threading.Thread(target=read_all)
    reader.start()
    began_s = time.monotonic()
    used: list[tuple[float, float]] = []
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            used.append((time.monotonic() - began_s, times.user + times.system))
        time.sleep(0.2)
    reader.join()
    os.close(ours)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}.")
    # The last second is the summary's.
    steady = [one for one in used if STEADY_FROM_S <= one[0] <= used[-1][0] - 1]
    frames = json.loads(out.read_text(encoding="utf-8"))["frames"]
    dropped = frames["dropped"] / (frames["dropped"] + frames["read"])
    return (steady[-1][1] - steady[0][1]) / (steady[-1][0] - steady[0][0]), dropped


def on_machine(machine: str, *arguments: Any) -> dict[str, Any]:
    """Return ``play`` of these arguments in a process of its own, on one of ``MACHINES``."""
    n_cores, is_halved = MACHINES[machine]
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_send, args=(theirs, machine, *arguments))
    with on_cores(n_cores):
        process.start()
    theirs.close()
    assert process.pid is not None
    try:
        # The process is not waited for before the end of this, so its number cannot become another's.
        while is_halved and not ours.poll():
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(SLICE_S)
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(SLICE_S)
        row: dict[str, Any] = ours.recv()
    except EOFError:
        raise SystemExit(f"The process on {machine} ended early; its error stands above.") from None
    except BaseException:
        process.terminate()
        raise
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.join()
    return row


def _send(result: Connection, machine: str, *arguments: Any) -> None:
    with result:
        result.send({"machine": machine, **play(*arguments, unhurried=machine == "all cores")})


def play(video: Path, duration_s: float, method: str, weights: str | None, *, unhurried: bool) -> dict[str, Any]:
    """Measure one method, fed at the video's own speed and then, if ``unhurried``, as fast as possible."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command sets it
    loaded = load_method(method, weights)
    late_s: list[float] = []
    number_late_s: list[float] = []
    seen_s: list[float] = []
    offered_s: list[tuple[float, float]] = []
    reliable_s = None
    n_measured, end_s = 0, None
    looked_s, offer_late_s = 0.0, 0.0
    said: Counter[str] = Counter()
    with LiveSession(loaded, LiveConfig(source=method)) as session, open_video(video) as reader:
        rss = [rss_mib()]
        cpu_began_s, began_s = time.process_time(), time.monotonic()

        def look() -> None:
            nonlocal n_measured, end_s, reliable_s, looked_s
            state, now_s = session.state(), time.monotonic() - began_s
            # Countdowns and rates are one sentence, whatever their numbers.
            said.update(dict.fromkeys((re.sub(r"[0-9]+", "N", one) for one in state.advice), now_s - looked_s))
            looked_s = now_s
            if state.frames.measured > n_measured:
                n_measured = state.frames.measured
                late_s.append(state.delay_s)
            if state.end_s is not None and state.end_s != end_s:
                end_s = state.end_s
                seen_s.append(now_s)
                # Within half a frame of its end: windows lie on a clock of their own.
                number_late_s.append(now_s - next(at for t, at in reversed(offered_s) if t <= end_s - 0.5 / 30))
            if state.reliable and reliable_s is None:
                reliable_s = now_s

        for frame in read_ahead(reader):
            while (wait_s := began_s + frame.t_s - time.monotonic()) > 0:
                time.sleep(min(POLL_S, wait_s))
                look()
            offered_s.append((frame.t_s, time.monotonic() - began_s))
            offer_late_s = max(offer_late_s, offered_s[-1][1] - frame.t_s)
            session.offer(frame.rgb, frame.t_s, whole=frame.whole)
            look()
            if len(rss) == 1 and frame.t_s > duration_s / 3:
                rss.append(rss_mib())
        face, notes = None, list[str]()
        try:
            result = session.close()
            face, notes = result.face, list(result.notes)
        except AutoHRError as error:
            notes = [str(error)]
        wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_began_s
        look()
        rss.append(rss_mib())
        frames = session.state().frames

    fast: dict[str, float] = {}
    if unhurried:
        fast_began_s, fast_cpu_s = time.monotonic(), time.process_time()
        with LiveSession(loaded) as session, open_video(video) as reader:
            for frame in read_ahead(reader):
                session.take(frame.rgb, frame.t_s, whole=frame.whole)
            session.close()
        fast = {
            "unhurried_times_real_time": duration_s / (time.monotonic() - fast_began_s),
            "unhurried_cpu_s_per_s": (time.process_time() - fast_cpu_s) / duration_s,
        }
    steady = [at for at in seen_s if reliable_s is not None and at >= reliable_s]
    return {
        "method": method,
        "weights": loaded.weights,
        "duration_s": duration_s,
        "offered": frames.offered,
        "measured_share": frames.measured / frames.offered,
        "dropped": frames.dropped,
        "first_reliable_s": reliable_s,
        "updates_per_s": (len(steady) - 1) / (steady[-1] - steady[0]) if len(steady) > 1 else None,
        "frame_late_s": _spread(late_s),
        "number_late_s": _spread(number_late_s),
        "cpu_s_per_s": cpu_s / duration_s,
        "cores_used": cpu_s / wall_s,
        "decoding_cpu_s_per_s": decoding_cpu_s(video) / duration_s,
        **fast,
        "offer_late_s": offer_late_s,
        "said_s": dict(said.most_common()),
        "notes": notes,
        "rss_mib": rss,
        "hr_bpm": None if face is None else face.hr_bpm,
        "reliable": face is not None and face.reliable,
    }


def _spread(late_s: list[float]) -> dict[str, float] | None:
    return {"median": float(np.median(late_s)), "p95": float(np.percentile(late_s, 95))} if late_s else None


def _delay(late_s: dict[str, float] | None) -> str:
    return "-" if late_s is None else f"{1000 * late_s['median']:.0f} ms, 95 % within {1000 * late_s['p95']:.0f}"


def print_row(row: dict[str, Any]) -> None:
    first, per_s = row["first_reliable_s"], row["updates_per_s"]
    cells = {
        "measured": f"{100 * row['measured_share']:.1f} % of {row['offered']}, {row['dropped']} dropped",
        "offered": f"at most {1000 * row['offer_late_s']:.0f} ms late",
        "reliable": "never" if first is None else f"after {first:.1f} s",
        "updates": "none" if per_s is None else f"{per_s:.2f} a second",
        "frame late": _delay(row["frame_late_s"]),
        "number late": _delay(row["number_late_s"]),
        "CPU": f"{row['cpu_s_per_s']:.2f} s per second of video, {row['decoding_cpu_s_per_s']:.2f} of it to decode; "
        f"{row['cores_used']:.2f} cores used",
        "said": "; ".join([*(f"{sentence} ({s:.0f} s)" for sentence, s in row["said_s"].items()), *row["notes"]]),
        "RSS": " -> ".join(f"{mib:.0f}" for mib in row["rss_mib"]) + " MiB",
        "answer": "none"
        if row["hr_bpm"] is None
        else f"{row['hr_bpm']:.1f} bpm, " + ("reliable" if row["reliable"] else "NOT reliable"),
    }
    if "unhurried_times_real_time" in row:
        speed, cpu_s = row["unhurried_times_real_time"], row["unhurried_cpu_s_per_s"]
        cells["unhurried"] = f"{speed:.1f}x real time, {cpu_s:.2f} CPU s per second of video"
    print(f"{row['method']}, {row['machine']}")
    for name, cell in cells.items():
        print(f"  {name:12} {cell}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration-s", type=float, default=40.0)
    parser.add_argument("--method")
    parser.add_argument("--weights", help="for a net: a name of `autohr list weights` or a .safetensors file")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    if options.duration_s < STEADY_FROM_S + 8:
        parser.error(f"--duration-s must be at least {STEADY_FROM_S + 8:g}, so that readings come for some seconds.")
    has_net = options.weights is not None or "autohr" in ready_methods()
    methods = [options.method] if options.method else ["pos", *(["autohr"] if has_net else [])]
    rows = []
    shares: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "face.mp4"
        scene = SceneConfig(seed=3, duration_s=options.duration_s, pulse_depth=0.02, noise_sd=1.5)
        truth = write_scene(scene, video, crf=CRF)
        found = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0], "true_bpm": truth.mean_hr_bpm}
        print(f"{found['cores']} cores, load {found['load_before']:.1f} before; true rate {truth.mean_hr_bpm:.1f} bpm")
        for method in methods:
            weights = options.weights if METHODS[method].is_net else None
            given = ["--method", method, *([] if weights is None else ["--weights", weights])]
            share, dropped = share_of_core(video, given)
            decoding = decoding_cpu_s(video) / options.duration_s
            shares[method] = {"share_of_core": share, "decoding_share": decoding, "dropped_share": dropped}
            print(
                f"{method}, autohr live\n  {'one core':12} {100 * share:.0f} % of it; {100 * (share - decoding):.0f} % "
                f"without the {100 * decoding:.0f} % of decoding the file; {100 * dropped:.1f} % of the frames dropped",
                flush=True,
            )
            for machine in MACHINES:
                row = on_machine(machine, video, options.duration_s, method, weights)
                print_row(row)
                rows.append(row)
    if options.json is not None:
        options.json.write_text(json.dumps({**found, "command": shares, "methods": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
