"""Does a live session keep up with a camera? A synthetic face, 640x480 at 30 fps, fed in real time through LiveSession.

    python benchmarks/live.py [--duration-s 40] [--method autohr] [--json OUT]

Without a method: POS, and AutoHR if there are weights of it, shipped or given. For each:

    measured     share of the offered frames that were measured; the others were dropped, for they came too fast
    reliable     time from the first frame's offer until a reliable number could be seen
    updates      new numbers per second after that
    frame late   from the offer of a frame to its result, as ``LiveState.delay_s``
    number late  from the moment the last frame of a number's window was offered until the number could be seen
    CPU          processor seconds of the whole process per second of video, and those of decoding the file alone in the
                 same way: a camera has none. Where other programs load the machine, this is the figure to trust.
    unhurried    the same frames through ``take`` as quickly as can be: times faster than real time, decoding included
    RSS          resident memory before the first frame, after a third of the time, and at the end

Each method runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from autohr.lab.synth.video import SceneConfig, write_scene
from autohr.live.session import LiveConfig, LiveSession
from autohr.methods import METHODS, load_method, ready_methods
from autohr.video.decode import open_video, read_ahead

CRF = 14
"""Quality of the encoder, as in benchmarks/measure.py: about 4 Mbit/s, a good webcam or phone at this size."""
POLL_S = 0.005


def rss_mib() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20


def decoding_cpu_s(video: Path) -> float:
    began_s = time.process_time()
    with open_video(video) as reader:
        for _ in read_ahead(reader):
            pass
    return time.process_time() - began_s


def play(video: Path, duration_s: float, method: str, weights: str | None) -> dict[str, Any]:
    """Measure one method, fed at the video's own speed and then as fast as possible."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command sets it
    loaded = load_method(method, weights)
    late_s: list[float] = []
    number_late_s: list[float] = []
    seen_s: list[float] = []
    offered_s: list[tuple[float, float]] = []
    reliable_s = None
    n_measured, end_s = 0, None
    with LiveSession(loaded, LiveConfig(source=method)) as session, open_video(video) as reader:
        rss = [rss_mib()]
        cpu_began_s, began_s = time.process_time(), time.monotonic()

        def look() -> None:
            nonlocal n_measured, end_s, reliable_s
            state, now_s = session.state(), time.monotonic() - began_s
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
            session.offer(frame.rgb, frame.t_s, whole=frame.whole)
            if len(rss) == 1 and frame.t_s > duration_s / 3:
                rss.append(rss_mib())
        result = session.close()
        wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_began_s
        look()
        rss.append(rss_mib())
        frames = session.state().frames

    fast_began_s, fast_cpu_s = time.monotonic(), time.process_time()
    with LiveSession(loaded) as session, open_video(video) as reader:
        for frame in read_ahead(reader):
            session.take(frame.rgb, frame.t_s, whole=frame.whole)
        session.close()
    fast_s, fast_cpu_s = time.monotonic() - fast_began_s, time.process_time() - fast_cpu_s
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
        "cpu_share_of_machine": cpu_s / wall_s / (os.cpu_count() or 1),
        "decoding_cpu_s_per_s": decoding_cpu_s(video) / duration_s,
        "unhurried_times_real_time": duration_s / fast_s,
        "unhurried_cpu_s_per_s": fast_cpu_s / duration_s,
        "rss_mib": rss,
        "hr_bpm": result.face.hr_bpm,
        "reliable": result.face.reliable,
    }


def _spread(late_s: list[float]) -> dict[str, float] | None:
    return {"median": float(np.median(late_s)), "p95": float(np.percentile(late_s, 95))} if late_s else None


def _delay(late_s: dict[str, float] | None) -> str:
    return "-" if late_s is None else f"{1000 * late_s['median']:.0f} ms, 95 % within {1000 * late_s['p95']:.0f}"


def print_row(row: dict[str, Any]) -> None:
    first, per_s = row["first_reliable_s"], row["updates_per_s"]
    cells = {
        "measured": f"{100 * row['measured_share']:.1f} % of {row['offered']}, {row['dropped']} dropped",
        "reliable": "never" if first is None else f"after {first:.1f} s",
        "updates": "none" if per_s is None else f"{per_s:.2f} a second",
        "frame late": _delay(row["frame_late_s"]),
        "number late": _delay(row["number_late_s"]),
        "CPU": f"{row['cpu_s_per_s']:.2f} s per second of video, {row['decoding_cpu_s_per_s']:.2f} of it to decode; "
        f"{100 * row['cpu_share_of_machine']:.0f} % of the machine",
        "unhurried": f"{row['unhurried_times_real_time']:.1f}x real time, "
        f"{row['unhurried_cpu_s_per_s']:.2f} CPU s per second of video",
        "RSS": " -> ".join(f"{mib:.0f}" for mib in row["rss_mib"]) + " MiB",
        "answer": f"{row['hr_bpm']:.1f} bpm, {'reliable' if row['reliable'] else 'NOT reliable'}",
    }
    print(row["method"])
    for name, cell in cells.items():
        print(f"  {name:12} {cell}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration-s", type=float, default=40.0)
    parser.add_argument("--method")
    parser.add_argument("--weights", help="for a net: a name of `autohr list weights` or a .safetensors file")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    has_net = options.weights is not None or "autohr" in ready_methods()
    methods = [options.method] if options.method else ["pos", *(["autohr"] if has_net else [])]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "face.mp4"
        scene = SceneConfig(seed=3, duration_s=options.duration_s, pulse_depth=0.02, noise_sd=1.5)
        truth = write_scene(scene, video, crf=CRF)
        machine = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0], "true_bpm": truth.mean_hr_bpm}
        print(
            f"{machine['cores']} cores, load {machine['load_before']:.1f} before; true rate {truth.mean_hr_bpm:.1f} bpm"
        )
        for method in methods:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                given = options.weights if METHODS[method].is_net else None
                row = pool.apply(play, (video, options.duration_s, method, given))
            print_row(row)
            rows.append(row)
    if options.json is not None:
        options.json.write_text(json.dumps({**machine, "methods": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
